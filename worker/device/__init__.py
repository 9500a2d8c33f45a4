"""A device slot: its trainer process, and what goes over the pipes to it and back."""
