"""Generations beside the trainings of a chaos run: what is posted, and whether each was drawn once, complete
and the same."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from core.db.tables import Generation
from core.domain.generation import GenerationPlan
from tests.chaos.audit import hash_object
from tests.chaos.clients import PostedGeneration
from tests.chaos.history import Violation
from tests.chaos.stack import Stack
from tests.chaos.undisturbed import await_status, open_client

ENDED = {"succeeded", "failed", "canceled"}
MAY_FAIL = "infrastructure"
"""What a generation fails with whose trainer was killed while it drew nothing else; any other failure is a fault."""

Body = dict[str, Any]
Images = dict[str, str]
"""Index -> sha256."""


def make_bodies(stack: Stack) -> dict[str, Body]:
    """Of three shapes, with the adapters of the two newest trainings. Each request is one of these."""
    client = open_client(stack)
    try:
        first, second = (row["id"] for row in client.get("/adapters?limit=2")["data"])
    finally:
        client.close()
    common = {"model": "tiny", "num_steps": 4, "guidance_scale": 3}
    stacked = [{"id": first, "weight": 0.8}, {"id": second, "weight": 0.5}]
    return {
        "base": {**common, "prompts": ["a small lemon on green"], "num_images": 6, "guidance_scale": 1},
        "stack": {**common, "prompts": ["a large blip on blue", "a small blip"], "num_images": 3, "adapters": stacked},
        "grid": {
            **common,
            "prompts": ["a large blip on blue"],
            "adapters": [{"id": first}],
            "grid": {"x": {"field": "weight", "values": [0, 0.5, 1]}, "y": {"field": "seed", "values": [1, 2]}},
        },
    }


def draw_undisturbed(stack: Stack, bodies: Mapping[str, Body]) -> dict[str, Images]:
    """One of each shape while no job runs."""
    client = open_client(stack)
    try:
        posted = [client.post_generation(shape, body) for shape, body in bodies.items()]
        for one in posted:
            status = await_status(stack, client, f"/generations/{one.generation_id}", ENDED)
            assert status == "succeeded", (one.shape, status, stack.tail("train-0"), stack.tail("train-1"))
    finally:
        client.close()
    rows = {row.id: row for row in read_drawn(stack)}
    return {one.shape: rows[one.generation_id].images for one in posted}


@dataclass(frozen=True)
class Drawn:
    """A generation's row after the run. ``images``: what it names; ``stored``: what lies in the store under that."""

    id: str
    status: str
    attempt: int
    reason: str | None
    num_total: int
    images: Images
    stored: Mapping[str, str | None]


def read_drawn(stack: Stack) -> list[Drawn]:
    with stack.sessions() as session:
        rows = session.execute(select(Generation).order_by(Generation.id)).scalars().all()
        return [
            Drawn(
                id=row.id,
                status=row.status,
                attempt=row.attempt,
                reason=row.error and row.error["type"].removeprefix("/problems/"),
                num_total=_count_files(GenerationPlan.model_validate(row.plan)),
                images={name: image["sha256"] for name, image in row.images.items()},
                stored={name: hash_object(stack, image["key"]) for name, image in row.images.items()},
            )
            for row in rows
        ]


def _count_files(plan: GenerationPlan) -> int:
    """Images, and for each prompt of a grid its sheet."""
    return plan.total + (len(plan.prompts) if plan.grid else 0)


@dataclass(frozen=True)
class DrawnAudit:
    """``different``: (generation, image) whose bytes are not the undisturbed one's."""

    rows: list[Drawn]
    violations: list[Violation]
    num_compared: int
    different: list[tuple[str, str]]


def check_drawn(
    posted: Iterable[PostedGeneration], rows: Sequence[Drawn], undisturbed: Mapping[str, Images], num_before: int
) -> DrawnAudit:
    """``num_before``: of the rows, those that were drawn for ``undisturbed``."""
    posted, found = list(posted), {row.id: row for row in rows}
    violations, different, num_compared = list[Violation](), list[tuple[str, str]](), 0
    if len(rows) > num_before + len(posted):
        violations.append(Violation("doubled generation", "", f"{len(rows) - num_before} of {len(posted)} requests"))
    for one in posted:
        row = found.get(one.generation_id)
        if row is None:
            violations.append(Violation("lost generation", one.generation_id, "is gone"))
            continue
        violations += _check_row(row)
        if row.status == "succeeded":
            num_compared += 1
            names = row.images.keys() | undisturbed[one.shape].keys()
            different += [
                (row.id, name) for name in sorted(names) if row.images.get(name) != undisturbed[one.shape].get(name)
            ]
    return DrawnAudit(list(rows), violations, num_compared, different)


def _check_row(row: Drawn) -> list[Violation]:
    found = []
    if row.status not in ENDED:
        found.append(Violation("lost generation", row.id, f"is {row.status}"))
    if row.status == "failed" and row.reason != MAY_FAIL:
        found.append(Violation("failed generation", row.id, str(row.reason)))
    if row.status == "succeeded" and len(row.images) != row.num_total:
        found.append(Violation("part of a generation", row.id, f"has {len(row.images)} of {row.num_total} images"))
    for name, sha256 in row.images.items():
        if row.stored[name] != sha256:
            found.append(Violation("damaged file", row.id, f"image {name}"))
    return found


def draw_drawn(found: DrawnAudit) -> list[str]:
    """Its lines of the report."""
    broken = Counter(violation.promise.partition(" ")[0] for violation in found.violations)
    ended = Counter(row.status for row in found.rows)
    ends = ", ".join(f"{number} {status}" for status, number in sorted(ended.items()))
    attempts = [row.attempt for row in found.rows]
    different = {generation_id for generation_id, _ in found.different}
    return [
        f"- Generations: {len(found.rows)} ({ends}), the undisturbed ones among them.",
        f"- Their attempts: {sum(attempts)}, at most {max(attempts)} for one; "
        f"{sum(number > 1 for number in attempts)} were drawn anew.",
        f"- Lost: {broken['lost']}. Doubled: {broken['doubled']}. Incomplete or damaged: "
        f"{broken['part'] + broken['damaged']}. Failed for another reason than a kill: {broken['failed']}.",
        f"- Images byte-identical to those drawn undisturbed: {found.num_compared - len(different)} of "
        f"{found.num_compared} succeeded generations.",
    ]


def list_drawn_violations(found: DrawnAudit) -> list[str]:
    broken = [f"- {violation.promise}: {violation.job_id} {violation.detail}" for violation in found.violations]
    return [*broken, *(f"- other bytes: {generation_id} image {name}" for generation_id, name in found.different)]
