"""An adapter of what a fine-tuned base has learned: exact where its rank is enough, else the best of that rank."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from core.domain.adapter_import import PROGRAM_BYTES
from core.domain.adapter_merge import ExtractionRequest, MergeResult
from tests.fixtures.bases import write_random_base
from worker.engine.adapter_files.merging.extraction import REST, extract_adapter
from worker.engine.adapter_files.proof.adapters import read_adapter
from worker.engine.adapter_files.proof.layers import full_text_path, read_layers
from worker.engine.hashes import hash_folder

RANK = 3


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bases") / "base"
    write_random_base(folder)
    return folder


@pytest.fixture(autouse=True)
def without_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program limits its memory; this process runs other tests."""
    monkeypatch.setattr("worker.engine.adapter_files.answering.limit_memory", lambda _: None)


def tune(base: Path, folder: Path, rank: int = RANK, *, norms: float = 0.0) -> dict[str, torch.Tensor]:
    """A copy whose attention, convolutions and text encoder changed by updates of this rank; the updates."""
    shutil.copytree(base, folder)
    updates = {}
    rng = torch.Generator().manual_seed(4)
    for part, marks in (("unet", ("to_q.", "conv1.")), ("text_encoder", ("_proj.",))):
        (file,) = (folder / part).glob("*.safetensors")
        weights = load_file(file)
        for key, weight in weights.items():
            if key.endswith(".weight") and any(mark in key for mark in marks):
                flat = weight.flatten(1)
                up, down = (torch.randn(*shape, generator=rng) for shape in ((len(flat), rank), (rank, flat.shape[1])))
                update = (up @ down * 0.1).view_as(weight)
                path = key.removesuffix(".weight")
                updates[f"{part}.{path if part == 'unet' else full_text_path(path)}"] = update
                weights[key] = weight + update.to(weight.dtype)
            elif norms and "norm" in key:
                weights[key] = weight + norms
        save_file(weights, file, {"format": "pt"})
    return updates


def extract(
    base: Path, tuned: Path, folder: Path, rank: int = RANK, known: Mapping[str, str] | None = None
) -> MergeResult:
    """``known``: hashes of other files than these."""
    folder.mkdir()
    sums = {"model_sha256": hash_folder(base), "tuned_sha256": hash_folder(tuned), **(known or {})}
    return extract_adapter(
        ExtractionRequest(
            family="sd1", model_folder=base, tuned_folder=tuned, rank=rank, name="tuned", trigger="zap",
            made_from="tuned", resolution=64, folder=folder, memory_bytes=PROGRAM_BYTES, **sums,
        )
    )  # fmt: skip


def test_what_has_the_rank_comes_back(base: Path, tmp_path: Path) -> None:
    updates = tune(base, tmp_path / "tuned")
    made = extract(base, tmp_path / "tuned", tmp_path / "out")
    assert made.findings is not None and made.error is not None, made.refusal
    assert (made.findings.type, made.findings.rank, made.findings.trigger) == ("locon", RANK, "zap")
    verdicts = {tool.tool: tool.verdict for tool in made.findings.proofs["kohya"].tools}
    assert verdicts["diffusers"] == "same"
    assert made.error.total < 2e-3
    read = read_adapter(made.files["kohya"], read_layers("sd1", base))
    found = {
        f"{module.layer.part}.{module.layer.path}": (module.up.float().flatten(1) @ module.down.float().flatten(1))
        * module.alpha
        / len(module.down)
        for module in read
    }
    assert found.keys() == updates.keys()
    for name, update in updates.items():
        assert (found[name] - update.flatten(1)).norm() < 2e-3 * update.norm(), name


def test_a_lower_rank_misses_what_the_best_approximation_misses(base: Path, tmp_path: Path) -> None:
    updates = tune(base, tmp_path / "tuned", rank=6)
    made = extract(base, tmp_path / "tuned", tmp_path / "out", rank=2)
    assert made.error is not None
    errors = {row.layer: row.error for row in made.error.layers}
    for name, update in updates.items():
        values = torch.linalg.svdvals(update.flatten(1))
        assert errors[name] == pytest.approx(float(values[2:].norm() / values.norm()), abs=5e-3), name


def test_what_no_adapter_holds_counts_in_the_error(base: Path, tmp_path: Path) -> None:
    tune(base, tmp_path / "tuned", norms=0.5)
    made = extract(base, tmp_path / "tuned", tmp_path / "out")
    assert made.error is not None and made.error.total > 0.01
    assert made.error.layers[0].layer == REST and made.error.layers[0].error == 1


def test_files_that_changed_since_they_were_registered_are_refused(base: Path, tmp_path: Path) -> None:
    tune(base, tmp_path / "tuned")
    for number, (name, folder) in enumerate((("model_sha256", base), ("tuned_sha256", tmp_path / "tuned"))):
        made = extract(base, tmp_path / "tuned", tmp_path / f"out{number}", known={name: "0" * 64})
        assert made.findings is None and not made.files
        assert made.refusal is not None and f"files of the base {folder.name} are not those" in made.refusal


def test_what_was_not_tuned_from_it_is_refused(base: Path, tmp_path: Path) -> None:
    same = extract(base, base, tmp_path / "same")
    assert same.refusal is not None and "do not differ in any layer" in same.refusal
    tune(base, tmp_path / "other")
    (file,) = (tmp_path / "other" / "unet").glob("*.safetensors")
    weights = load_file(file)
    save_file({key: tensor for key, tensor in weights.items() if "to_q" not in key}, file)
    other = extract(base, tmp_path / "other", tmp_path / "out")
    assert other.refusal is not None and "have other weights in unet" in other.refusal
    save_file({key: torch.full_like(tensor, torch.nan) for key, tensor in weights.items()}, file)
    broken = extract(base, tmp_path / "other", tmp_path / "broken")
    assert broken.refusal is not None and "NaN" in broken.refusal
