"""Pretrains ``tiny``, the bundled base: ``python -m scripts.pretrain_tiny``."""
