"""One file per model family, registered in registry.py; docs/ARCHITECTURE.md says how to add one."""

from worker.engine.families.registry import load_base

__all__ = ["load_base"]
