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


def list_entries(caller: Caller) -> list[Entry]:
    return [entry for entry in ENTRIES if allows(caller.scopes, entry.needs)]
