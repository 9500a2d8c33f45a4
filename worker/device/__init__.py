"""A device slot: its trainer process, and the messages over the pipes to it and back."""
