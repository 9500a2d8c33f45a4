"""PostgreSQL and Valkey from wheels, run as our own children. Everything else only sees their addresses."""
