"""Adapter files: written for other tools, read from them, and proved to load in them."""
