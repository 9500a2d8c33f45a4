"""The API under load, on a real PostgreSQL and Valkey of its own."""
