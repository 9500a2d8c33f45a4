"""API keys, as admins make, list, rotate and revoke them."""
