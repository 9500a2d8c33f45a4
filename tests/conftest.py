"""Fixtures that every test may use."""

from hypothesis import settings

pytest_plugins = ["tests.fixtures.broker", "tests.fixtures.database", "tests.fixtures.stores"]

settings.register_profile("untimed", deadline=None)  # a loaded machine is no bug
settings.load_profile("untimed")
