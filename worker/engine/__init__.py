"""The torch part of the workers: it knows tensors and core.domain, but not the database, queues or HTTP."""
