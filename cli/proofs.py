"""The load proof of an adapter's files, in a few lines: which tools apply it, and why others do not."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from core.domain.counts import counted

MAX_REASONS = 3
"""Of one tool and file; a reason may name a layer, and so be one of hundreds."""

Field = tuple[str, str]
Proofs = Mapping[str, Mapping[str, Any]]


def describe_proofs(proofs: Proofs) -> list[Field]:
    """A line of verdicts for each format, then the reasons, each once."""
    lines = [f"{name} file: {', '.join(map(_describe_verdict, proof['tools']))}" for name, proof in proofs.items()]
    reasons = [
        reason for name, proof in proofs.items() for tool in proof["tools"] for reason in _list_reasons(name, tool)
    ]
    labels = ["load proof", *[""] * (len(lines) - 1)]
    return [*zip(labels, lines, strict=False), *(("reason", text) for text in dict.fromkeys(reasons))]


def _describe_verdict(tool: Mapping[str, Any]) -> str:
    """Such as ``a1111 partial (591 of 594 keys)``. Proofs of earlier versions have no verdict."""
    word = tool.get("verdict") or ("loads" if tool["loads"] else "does not load")
    keys = f" ({tool['num_resolved']} of {counted(tool['num_keys'], 'key')})" if word == "partial" else ""
    return f"{tool['tool']} {word}{keys}"


def _list_reasons(name: str, tool: Mapping[str, Any]) -> Iterator[str]:
    """The notes, and the reasons of the dropped keys, those of most keys first."""
    yield from tool.get("notes", ())
    if not tool.get("opens_base", True):
        return  # a note says so, and nothing else matters
    reasons = Counter(one["reason"] for one in tool.get("dropped", ())).most_common(MAX_REASONS)
    where = f"{tool['tool']}, {name} file"
    for reason, count in reasons:
        yield f"{where}, {counted(count, 'key')}: {reason}"
    rest = tool["num_keys"] - tool["num_resolved"] - sum(count for _, count in reasons)
    if reasons and rest > 0:
        yield f"{where}, and {counted(rest, 'more key')}"
