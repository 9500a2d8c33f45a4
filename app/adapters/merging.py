"""Requests for an adapter that is made from others: a merge of several, or a resize of one."""

from collections.abc import Sequence

from sqlalchemy.orm import Session

from app.adapters.schemas import AdapterMerge, AdapterResize, WeightedAdapter
from app.adapters.service import MAX_NAME_CHARS
from core.db import adapter_merges, quotas
from core.db.tables import Adapter
from core.domain.adapter_merge import Merge, MergeSource
from core.domain.audit import Action
from core.domain.errors import InvalidRequest, NotFound, WrongState
from core.domain.limits import Limits
from core.domain.states import AdapterStatus
from core.settings import Settings

MAX_TRIGGER_CHARS = 100


def insert_merge(session: Session, settings: Settings, tenant_id: str, asked: AdapterMerge) -> Adapter:
    """Raises InvalidRequest, NotFound, WrongState, QuotaExceeded."""
    _refuse_contradictions(asked)
    limits = quotas.lock_limits(session, tenant_id, settings.default_limits)
    places = [f"/adapters/{number}/id" for number in range(len(asked.adapters))]
    sources = _find_sources(session, tenant_id, [one.id for one in asked.adapters], places)
    _refuse_unlike_bases(sources, places)
    _check_rank(limits, asked.rank or sum(row.rank or 0 for row in sources), asked)
    merge = _describe(asked, sources, settings)
    adapter = adapter_merges.insert_merge(
        session,
        sources,
        merge,
        name=asked.name or _shorten(" + ".join(row.name for row in sources), MAX_NAME_CHARS),
        trigger=asked.trigger or _join_triggers(sources),
        tags=asked.tags,
        action=Action.ADAPTER_MERGED,
    )
    quotas.check_storage(session, tenant_id, limits)
    return adapter


def insert_resize(
    session: Session, settings: Settings, tenant_id: str, adapter_id: str, asked: AdapterResize
) -> Adapter:
    """Raises InvalidRequest, NotFound, WrongState, QuotaExceeded."""
    limits = quotas.lock_limits(session, tenant_id, settings.default_limits)
    [row] = sources = _find_sources(session, tenant_id, [adapter_id], [""])
    if row.rank is not None and asked.rank >= row.rank:
        message = f"must be less than {row.rank}, the rank of {adapter_id}"
        raise InvalidRequest(f"The rank {message}.", {"/rank": [message]})
    stack = AdapterMerge(adapters=(WeightedAdapter(id=adapter_id, weight=1.0),), method="svd", rank=asked.rank)
    ending = f" (rank {asked.rank})"
    adapter = adapter_merges.insert_merge(
        session,
        sources,
        _describe(stack, sources, settings),
        name=asked.name or _shorten(row.name, MAX_NAME_CHARS - len(ending)) + ending,
        trigger=row.trigger,
        tags=row.tags,
        action=Action.ADAPTER_RESIZED,
    )
    quotas.check_storage(session, tenant_id, limits)
    return adapter


def _refuse_contradictions(asked: AdapterMerge) -> None:
    """What no schema says."""
    if (asked.rank is None) != (asked.method == "concat"):
        message = "is needed for the method svd" if asked.rank is None else "is for the method svd alone"
        raise InvalidRequest(f"rank {message}; concat adds the ranks up.", {"/rank": [message]})
    seen = set[str]()
    for number, one in enumerate(asked.adapters):
        if one.weight == 0:
            message = "must not be 0: leave the adapter out"
            raise InvalidRequest(f"A weight {message}.", {f"/adapters/{number}/weight": [message]})
        if one.id in seen:
            message = "is in the stack twice: add its weights up"
            raise InvalidRequest(f"{one.id} {message}.", {f"/adapters/{number}/id": [message]})
        seen.add(one.id)


def _find_sources(session: Session, tenant_id: str, ids: Sequence[str], places: Sequence[str]) -> list[Adapter]:
    """In this order, kept from deletion. ``places``: the JSON pointers of the ids; empty for one in the path."""
    found = adapter_merges.keep_sources(session, tenant_id, ids)
    for adapter_id, place in zip(ids, places, strict=True):
        if adapter_id not in found:
            raise _refuse(NotFound, f"There is no adapter {adapter_id}.", place)
        _refuse_unusable(found[adapter_id], place)
    return [found[adapter_id] for adapter_id in ids]


def _refuse_unusable(row: Adapter, place: str) -> None:
    if row.status != AdapterStatus.READY:
        raise _refuse(WrongState, f"Adapter {row.id} is {row.status}: only ready adapters can be merged.", place)
    if row.type == "dora":
        raise _refuse(
            InvalidRequest,
            f"Adapter {row.id} is a DoRA, whose magnitudes scale the base's own weights: such updates cannot be added "
            "up or cut to a rank. Use it beside the others in a stack.",
            place,
        )


def _refuse(
    kind: type[NotFound] | type[WrongState] | type[InvalidRequest], detail: str, place: str
) -> NotFound | WrongState | InvalidRequest:
    return kind(detail, {place: [detail]} if place else None)


def _refuse_unlike_bases(sources: Sequence[Adapter], places: Sequence[str]) -> None:
    first = sources[0]
    for row, place in zip(sources, places, strict=True):
        if row.model_sha256 != first.model_sha256:
            versions = " (another version of it)" if row.model_id == first.model_id else ""
            raise _refuse(
                InvalidRequest,
                f"Adapter {row.id} is for the base {row.model_id}{versions}, and {first.id} for {first.model_id}: only "
                "adapters for the same base can be merged.",
                place,
            )


def _check_rank(limits: Limits, rank: int, asked: AdapterMerge) -> None:
    if limits.rank is not None and rank > limits.rank:
        field, advice = ("/rank", "lower it") if asked.rank else ("/method", "use svd with a rank")
        message = f"gives an adapter of rank {rank}; your limit is {limits.rank}: {advice}"
        raise InvalidRequest(f"The merge {message}.", {field: [message]})


def _describe(asked: AdapterMerge, sources: Sequence[Adapter], settings: Settings) -> Merge:
    """Raises InvalidRequest for a stack that would be too large a file."""
    sizes = [{name: int(file["size"]) for name, file in row.files.items()} for row in sources]
    if (largest := sum(size["kohya"] for size in sizes)) > settings.max_adapter_bytes:
        message = f"have {largest:,} bytes together; the limit for adapters is {settings.max_adapter_bytes:,}"
        raise InvalidRequest(f"The adapters {message}.", {"/adapters": [message]})
    return Merge(
        method=asked.method,
        rank=asked.rank,
        sources=tuple(
            MergeSource(id=row.id, name=row.name, weight=one.weight)
            for row, one in zip(sources, asked.adapters, strict=True)
        ),
        expected_bytes=sum(sum(size.values()) for size in sizes),
    )


def _join_triggers(sources: Sequence[Adapter]) -> str:
    """As many whole ones as fit: a part of one invokes nothing."""
    joined = ""
    for trigger in dict.fromkeys(row.trigger for row in sources if row.trigger):
        longer = f"{joined}, {trigger}" if joined else trigger
        joined = longer if len(longer) <= MAX_TRIGGER_CHARS else joined
    return joined


def _shorten(text: str, max_chars: int) -> str:
    return text if len(text) <= max_chars else f"{text[: max_chars - 1]}…"
