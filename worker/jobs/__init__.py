"""A training job on a worker: claimed, run attempt by attempt, and committed."""
