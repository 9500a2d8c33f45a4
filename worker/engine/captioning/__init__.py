"""Captioners: models that write captions for images."""
