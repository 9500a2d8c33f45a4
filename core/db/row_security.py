"""The tenant of a transaction: row-level security lets it see and write only the rows of that tenant.

These are settings of the transaction and end with it, so that a pooled connection carries nothing over. Without
them the API's role sees nothing. The workers' role sees every tenant's rows, and needs none (migrations/env.py).

- ``atelier.tenant`` opens the rows of that tenant.
- ``atelier.presented`` is the hash of a key or token: it opens its one row, while the tenant is still unknown.
- ``atelier.operator`` opens the list of tenants.
"""

from dataclasses import dataclass

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

_ACTOR = "actor"
_ACT = text("SELECT set_config('atelier.tenant', :tenant, true), set_config('atelier.operator', :operator, true)")


@dataclass(frozen=True)
class Actor:
    """The actor, for the audit log. ``address``: the client's."""

    tenant_id: str
    key_id: str
    address: str
    is_operator: bool = False


def act_as(session: Session, actor: Actor) -> None:
    """For the rest of the transaction; its actions are recorded under this name."""
    name_actor(session, actor)
    settings = {"tenant": actor.tenant_id, "operator": "on" if actor.is_operator else ""}
    session.connection().execute(_ACT, settings)


def name_actor(session: Session, actor: Actor) -> None:
    """For the audit log, where the transaction acts for the actor's tenant already."""
    session.info[_ACTOR] = actor


def act_for(session: Session, tenant_id: str) -> None:
    """Changes the tenant, and keeps the actor: for actions of the service itself, and of the operator."""
    _set(session, "atelier.tenant", tenant_id)


def present(session: Session, sha256: str) -> None:
    """Shows the hash of a secret, which opens the row that has it."""
    _set(session, "atelier.presented", sha256)


def find_actor(session: Session) -> Actor | None:
    """None for workers and for actions of the service itself."""
    actor: Actor | None = session.info.get(_ACTOR)
    return actor


def _set(session: Session, name: str, value: str) -> None:
    session.execute(select(func.set_config(name, value, True)))
