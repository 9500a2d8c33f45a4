"""The random base for the engine's tests. Not a plugin of all tests: it imports torch."""

from tests.fixtures.bench import bench, pictures, random_base

__all__ = ["bench", "pictures", "random_base"]
