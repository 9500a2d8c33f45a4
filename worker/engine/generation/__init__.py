"""Images from a base and its adapters."""
