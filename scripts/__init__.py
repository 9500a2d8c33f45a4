"""Programs that make what the repository ships: the bundled base model and the example pictures."""
