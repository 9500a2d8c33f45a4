"""Programs that create the files that the repository ships: the bundled base model and the example images."""
