"""The random base for the engine's tests. Not a plugin of all tests: it imports torch."""

from tests.fixtures.bases import random_base

__all__ = ["random_base"]
