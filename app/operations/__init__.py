"""The service's health, and its workers."""
