"""Prepares registered bases: the part that knows the database, and nothing of tensors."""
