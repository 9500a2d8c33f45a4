"""The pages in the menu: what a visitor's key does not allow is not shown."""

from dataclasses import dataclass

from app.auth.scopes import allows
from app.auth.service import Caller
from core.domain.keys import Scope


@dataclass(frozen=True)
class Entry:
    """``section``: the name by which a page says where it is; its text is ``nav.<section>``."""

    section: str
    path: str
    needs: Scope = "read"


ENTRIES = (
    Entry("home", "/ui"),
    Entry("new", "/ui/new", "jobs"),
    Entry("jobs", "/ui/jobs"),
    Entry("datasets", "/ui/datasets"),
    Entry("adapters", "/ui/adapters"),
    Entry("playground", "/ui/playground"),
)


SERVICE_ENTRIES = (
    Entry("models", "/ui/models"),
    Entry("workers", "/ui/workers"),
    Entry("webhooks", "/ui/webhooks", "jobs"),
    Entry("usage", "/ui/usage"),
    Entry("keys", "/ui/keys", "admin"),
    Entry("audit", "/ui/audit", "admin"),
)
"""The pages about the service itself: tabs under one entry of the menu."""


def list_service_entries(caller: Caller) -> list[Entry]:
    return [entry for entry in SERVICE_ENTRIES if allows(caller.scopes, entry.needs)]


def list_entries(caller: Caller) -> list[Entry]:
    return [entry for entry in ENTRIES if allows(caller.scopes, entry.needs)]
