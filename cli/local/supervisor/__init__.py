"""Starts processes, watches them, restarts them, and ends them as a whole tree."""
