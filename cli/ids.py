"""Ids as people type them: whole, or a prefix that only one of them has."""

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from atelier_client import AtelierClient
from cli.errors import UsageError
from cli.invocation import hint

KINDS = {"job": "job", "ds": "dataset", "ad": "adapter", "key": "key", "ten": "tenant"}
ID_CHARS = 26
"""Of a ULID, after the kind and an underscore."""
SHORTEST_CHARS = 10
"""Of a short id: a ULID's time, to the millisecond. So it is almost always the only one that begins so, even among
those that a table does not show; of two made in one millisecond, ``find_id`` names both."""
MAX_SHOWN = 5


class HasId(Protocol):
    @property
    def id(self) -> str: ...


Lister = Callable[[str | None], Iterator[HasId]]
"""What is there, newest first, from after an id on."""


def find_job(client: AtelierClient, typed: str) -> str:
    return find_id(typed, "job", lambda after: client.list_jobs(after=after))


def find_dataset(client: AtelierClient, typed: str) -> str:
    return find_id(typed, "ds", lambda after: client.list_datasets(after=after))


def find_adapter(client: AtelierClient, typed: str) -> str:
    return find_id(typed, "ad", lambda after: client.list_adapters(after=after))


def find_tenant(client: AtelierClient, typed: str | None) -> str | None:
    return None if typed is None else find_id(typed, "ten", lambda _: client.list_tenants())


def find_key(client: AtelierClient, typed: str, tenant: str | None) -> str:
    return find_id(typed, "key", lambda _: client.list_keys(tenant=tenant))


def find_model(client: AtelierClient, typed: str) -> str:
    """A model's id is a name: it counts whole before it counts as the prefix of another's."""
    known = [model.id for model in client.list_models()]
    matching = [one for one in known if typed and one.startswith(typed)]
    return typed if typed in known else _choose(typed, "model", matching)


def find_captioner(client: AtelierClient, typed: str) -> str:
    """As ``find_model``."""
    known = [captioner.id for captioner in client.list_captioners()]
    matching = [one for one in known if typed and one.startswith(typed)]
    return typed if typed in known else _choose(typed, "captioner", matching)


def find_id(typed: str, kind: str, list_after: Lister) -> str:
    """The one id that begins so; the kind and its underscore may be left out. Raises UsageError for none or several,
    and for a kind alone.

    What is as long as an id, or could not begin one, is returned as it is: the service answers for it.
    """
    start = typed.lower().removeprefix(f"{kind}_")
    if not start:
        every = f"Every {KINDS[kind]}'s id begins with {kind}_: type some characters more of it"
        raise UsageError(f"{every}. Those there are: {hint(f'{KINDS[kind]}s')}")
    if len(start) == ID_CHARS:
        return f"{kind}_{start}"
    if len(start) > ID_CHARS or not re.fullmatch(r"[0-9a-z]+", start):
        return typed
    found = itertools.islice(_list_with_prefix(f"{kind}_{start}", kind, list_after), MAX_SHOWN + 1)
    return _choose(typed, KINDS[kind], list(found))


def _list_with_prefix(start: str, kind: str, list_after: Lister) -> Iterator[str]:
    """Ids sort by time, and lists are sorted: nothing needs to be read before or behind the ids that begin so."""
    last_possible = start.ljust(len(kind) + 1 + ID_CHARS, "z")
    for item in list_after(last_possible):
        if item.id.startswith(start):
            yield item.id
        elif item.id < start:
            return


def _choose(typed: str, noun: str, found: Sequence[str]) -> str:
    if len(found) == 1:
        return found[0]
    if not found:
        raise UsageError(f"There is no {noun} {typed}. Those there are: {hint(f'{noun}s')}")
    more = " and more" if len(found) > MAX_SHOWN else ""
    raise UsageError(f"Several {noun}s begin with {typed}: {', '.join(found[:MAX_SHOWN])}{more}. Type more of the id.")


def shorten_ids(ids: Sequence[str]) -> dict[str, str]:
    """Each id's shortest prefix that none of the others has. Names stay whole."""
    all_generated = all(re.fullmatch(rf"({'|'.join(KINDS)})_[0-9a-z]{{{ID_CHARS}}}", one) for one in ids)
    for length in range(SHORTEST_CHARS, ID_CHARS if all_generated else 0):
        short = {one: _cut(one, length) for one in ids}
        if len(set(short.values())) == len(set(ids)):
            return short
    return {one: one for one in ids}


def _cut(whole: str, length: int) -> str:
    kind, _, rest = whole.partition("_")
    return f"{kind}_{rest[:length]}"
