"""Imports base models: inspects, converts and registers folders, single files and repositories of the Hub."""
