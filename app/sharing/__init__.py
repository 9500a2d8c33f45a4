"""Links that show one adapter to people without a key."""
