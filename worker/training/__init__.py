"""The training engine: torch lives here and only here. Knows core.domain, and nothing of queues or databases."""
