"""Adapters as updates of a base's layers: added up, cut to a rank, compared."""
