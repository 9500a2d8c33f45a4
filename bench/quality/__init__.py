"""How well adapters are learned on the bundled base: ``make bench-quality``."""
