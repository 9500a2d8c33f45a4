"""Who did what, for admins."""
