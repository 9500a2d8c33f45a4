"""The tables, the session factories, and one module of queries for each group of tables.

Queries are written once, synchronously, over a ``Session``; the API calls them by ``AsyncSession.run_sync``.
They never commit: the caller's ``with session.begin()`` is the transaction.
"""
