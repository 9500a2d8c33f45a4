"""Adapters: trained or imported, found, changed and downloaded."""
