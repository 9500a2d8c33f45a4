"""Adapters: what jobs made and what was imported, found, changed and downloaded."""
