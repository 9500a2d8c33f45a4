"""Adapter files: written for other tools, read from them, and verified to load in them."""
