"""The domain: the standard library and pydantic only."""
