"""Captionings of datasets."""
