"""The torch part of the workers: it knows tensors and core.domain, and nothing of the database, queues or HTTP."""
