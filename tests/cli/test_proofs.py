"""A load proof of thousands of lines, summarized in a few."""

import json
from typing import Any

from atelier_client.models import Adapter, Job
from cli import tables
from cli.proofs import describe_proofs
from core.domain.proof import DroppedKey, LoadProof, Tool, ToolProof, Verdict
from tests.cli.test_tables import make_job


def prove(tool: Tool, verdict: Verdict | None, *reasons: str, lost: int = 0, **fields: Any) -> ToolProof:
    dropped = tuple(DroppedKey(key=f"k{number}", reason=reason) for number, reason in enumerate(reasons))
    return ToolProof(
        tool=tool, required=True, loads=not lost, verdict=verdict, num_keys=594, num_resolved=594 - lost,
        dropped=dropped, **fields,
    )  # fmt: skip


def proofs(*tools: ToolProof) -> dict[str, Any]:
    proof = LoadProof(format="kohya", family="sd1", tools=tools)
    return {"kohya": json.loads(proof.model_dump_json())}


def test_each_tool_has_its_word() -> None:
    assert describe_proofs(proofs(prove("diffusers", "same"), prove("a1111", "wrong"), prove("comfyui", None))) == [
        ("load proof", "kohya file: diffusers same, a1111 wrong, comfyui loads")
    ]


def test_reasons_are_grouped_and_counted() -> None:
    rows = describe_proofs(proofs(prove("a1111", "partial", *["no such layer"] * 3, "another shape", lost=4)))
    assert rows == [
        ("load proof", "kohya file: a1111 partial (590 of 594 keys)"),
        ("reason", "a1111, kohya file, 3 keys: no such layer"),
        ("reason", "a1111, kohya file, 1 key: another shape"),
    ]


def test_many_reasons_and_keys_that_the_proof_does_not_list_are_counted() -> None:
    rows = describe_proofs(proofs(prove("a1111", "nothing", *map(str, range(20)), lost=594)))
    assert len(rows) == 5
    assert rows[-1] == ("reason", "a1111, kohya file, and 591 more keys")


def test_a_tool_that_cannot_open_the_base_has_one_reason_for_all_files() -> None:
    why = "comfyui opens no such base"
    shown = proofs(prove("comfyui", "nothing", *[why] * 20, lost=594, opens_base=False, notes=(why,)))
    assert describe_proofs({**shown, "diffusers": shown["kohya"]}) == [
        ("load proof", "kohya file: comfyui nothing"),
        ("", "diffusers file: comfyui nothing"),
        ("reason", why),
    ]


def test_jobs_and_adapters_show_it(capsys: Any) -> None:
    job: Job = make_job(status="succeeded", result={"proofs": proofs(prove("diffusers", "same"))})
    tables.print_job(job.model_copy(update={"plan": {"adapter_type": "locon", "rank": 4}}))
    shown = capsys.readouterr().out
    assert "adapter_type locon, rank 4" in shown
    assert "kohya file: diffusers same" in shown
    fields = {
        "id": "ad_1",
        "status": "ready",
        "source": "import",
        "name": "x",
        "model": "m",
        "created_at": job.created_at,
    }
    tables.print_adapter(Adapter.model_validate({**fields, "proofs": proofs(prove("a1111", "differs"))}))
    assert "kohya file: a1111 differs" in capsys.readouterr().out
