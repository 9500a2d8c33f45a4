"""The scope that each route requires: one table, checked before anything else of a request is read."""

from collections.abc import Iterable
from typing import Literal

from app.auth.service import Caller
from core.domain.errors import Forbidden
from core.domain.keys import Scope

Requirement = Scope | Literal["operator"]

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

REQUIREMENTS: dict[str, tuple[Requirement, Requirement]] = {
    # the path's first part: (to read, to change)
    "datasets": ("read", "jobs"),
    "models": ("read", "operator"),
    "captioners": ("read", "operator"),
    "captionings": ("read", "jobs"),
    "jobs": ("read", "jobs"),
    "adapters": ("read", "jobs"),
    "generations": ("read", "jobs"),
    "activity": ("read", "read"),
    "webhooks": ("jobs", "jobs"),  # reading the secret is enough to sign
    "workers": ("read", "read"),
    "usage": ("read", "admin"),
    "metrics": ("read", "read"),
    "keys": ("admin", "admin"),
    "audit": ("admin", "admin"),
    "tenants": ("operator", "operator"),
}
"""Lists every route that needs a key; a test checks this. Any other path is answered with 404."""


def find_requirement(method: str, path: str) -> Requirement | None:
    """None if there is no such route."""
    needs = REQUIREMENTS.get(path.lstrip("/").partition("/")[0])
    return needs and needs[method not in SAFE_METHODS]


def require(caller: Caller, need: Requirement | None) -> None:
    """Raises Forbidden, naming the scope."""
    if need == "operator":
        require_operator(caller)
    elif need is not None and not allows(caller.scopes, need):
        has = ", ".join(sorted(caller.scopes)) or "none"
        raise Forbidden(f"This needs a key with the scope {need}; yours has: {has}. Ask one of your admins for one.")


def require_operator(caller: Caller) -> None:
    """Raises Forbidden."""
    if not caller.is_operator:
        raise Forbidden("This needs the operator's own admin key, in the file admin.key of the service's home.")


def allows(scopes: Iterable[str], need: Scope) -> bool:
    """`admin` includes the others; `read` and `jobs` do not include each other."""
    return not {need, "admin"}.isdisjoint(scopes)
