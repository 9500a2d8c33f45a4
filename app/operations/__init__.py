"""Is the service well, and who works for it."""
