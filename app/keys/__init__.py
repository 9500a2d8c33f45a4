"""API keys, as admins create, list, rotate and revoke them."""
