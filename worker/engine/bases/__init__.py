"""Brings base models in: inspects, converts and registers folders, single files and repositories of the Hub."""
