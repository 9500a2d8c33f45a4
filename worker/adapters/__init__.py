"""Checks imported adapters: the part that knows the database and the store, and nothing of tensors."""
