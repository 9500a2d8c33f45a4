"""Fit and overlap, against the dense updates."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from core.domain.adapter_check import RELATED, CheckInput, CheckRequest, CheckResult, describe_pair, relate
from core.domain.adapter_import import PROGRAM_BYTES
from tests.fixtures.bases import write_random_base
from tests.worker.engine.adapter_files.merging.test_merge import base, deltas, draw, layers, networks, write
from worker.engine.adapter_files.merging.checking import check_adapters
from worker.engine.adapter_files.proof.adapters import read_adapter
from worker.engine.adapter_files.proof.layers import BaseLayers
from worker.engine.families.protocol import Network
from worker.engine.families.registry import build_networks

__all__ = ["base", "layers", "networks"]


def run(base: Path, files: dict[str, Path], *, same_base: bool = True) -> CheckResult:
    inputs = tuple(
        CheckInput(id=f"ad_{name}", name=name, file=file, same_base=same_base) for name, file in files.items()
    )
    order = CheckRequest(family="sd1", model="toy", model_folder=base, inputs=inputs, memory_bytes=PROGRAM_BYTES)
    answer = check_adapters(order)
    assert answer.result is not None, answer.refusal
    return answer.result


def test_cosines_are_those_of_the_dense_updates(
    tmp_path: Path, base: Path, networks: list[Network], layers: BaseLayers
) -> None:
    """Of unlike ranks, alphas, kernels and layers."""
    drawn = {
        "a": draw(networks, 1, kind="locon", rank=6),
        "b": draw(networks, 2, rank=3, alpha=9.0, targets="attention"),
    }
    files = {name: write(modules, tmp_path / name) for name, modules in drawn.items()}
    found = run(base, files)
    first, second = (deltas(read_adapter(path, layers)) for path in files.values())
    [pair] = found.pairs
    common = {f"{layer.part}.{layer.path}": layer for layer in first if layer in second}
    assert {row.layer for row in pair.layers} == set(common) and 0 < len(common) < len(first)
    norms = [float(sum(float(delta.norm() ** 2) for delta in one.values()) ** 0.5) for one in (first, second)]
    for row in pair.layers:
        one, two = first[common[row.layer]], second[common[row.layer]]
        assert row.cosine == pytest.approx(float((one * two).sum() / one.norm() / two.norm()), abs=2e-6)
        assert row.contribution == pytest.approx(float((one * two).sum()) / norms[0] / norms[1], abs=2e-6)
    assert pair.cosine == pytest.approx(sum(row.contribution for row in pair.layers), abs=1e-4)
    assert [one.norm for one in found.adapters] == pytest.approx(norms, rel=1e-5)
    assert [one.num_layers for one in found.adapters] == [len(first), len(second)]
    assert found.fits and pair.relation == "independent" and "nearly independent" in found.summary
    sizes = {row.layer: row.ranks for row in found.differences}
    read = [read_adapter(path, layers) for path in files.values()]
    ranks = [{f"{row.layer.part}.{row.layer.path}": len(row.down) for row in rows} for rows in read]
    pairs_of_ranks = {layer: tuple(one.get(layer) for one in ranks) for layer in {*ranks[0], *ranks[1]}}
    assert sizes == {layer: both for layer, both in pairs_of_ranks.items() if both[0] != both[1]}
    assert {(6, 3), (6, None), (3, None)} & set(sizes.values()) >= {(6, 3), (6, None)}


def test_what_is_the_same_reinforces_and_what_is_opposite_fights(
    tmp_path: Path, base: Path, networks: list[Network]
) -> None:
    rows = draw(networks, 1)
    opposite = [replace(row, up=-row.up) for row in rows]
    files = {"a": write(rows, tmp_path / "a"), "b": write(rows, tmp_path / "b"), "c": write(opposite, tmp_path / "c")}
    found = run(base, files)
    assert [pair.adapters for pair in found.pairs] == [("ad_a", "ad_b"), ("ad_a", "ad_c"), ("ad_b", "ad_c")]
    assert [pair.cosine for pair in found.pairs] == [1, -1, -1]
    assert [pair.relation for pair in found.pairs] == ["reinforce", "fight", "fight"]
    assert found.differences == ()
    assert "a and b reinforce each other" in found.summary and "a and c fight" in found.summary


def test_adapters_without_a_common_layer_are_independent(tmp_path: Path, base: Path, networks: list[Network]) -> None:
    rows = draw(networks, 1)
    half = [row for row in rows if row.network is networks[0]]
    other = [row for row in rows if row.network is not networks[0]]
    [pair] = run(base, {"a": write(half, tmp_path / "a"), "b": write(other, tmp_path / "b")}).pairs
    assert (pair.cosine, pair.relation, pair.layers) == (0, "independent", ())
    assert pair.sentence == "a and b are independent: there is no layer that both change."


def test_what_does_not_fit_is_named_layer_by_layer(tmp_path: Path, base: Path, networks: list[Network]) -> None:
    rows = draw(networks, 1)
    wide = [replace(row, up=torch.cat([row.up, row.up])) if "to_q" in row.path else row for row in rows]
    found = run(base, {"a": write(rows, tmp_path / "a"), "wide": write(wide, tmp_path / "w")})
    good, bad = found.adapters
    assert (good.fits, bad.fits, found.fits) == (True, False, False)
    assert len(bad.misfits) == sum("to_q" in row.path for row in rows) and "to_q" in bad.misfits[0].layer
    assert "the base's layer is" in bad.misfits[0].detail and bad.reason is not None
    assert (bad.num_layers, bad.norm, found.pairs[0].relation) == (0, None, "unknown")
    assert found.summary.startswith("wide does not fit toy.")
    assert found.differences == ()


def test_another_family_does_not_fit(tmp_path: Path, base: Path) -> None:
    write_random_base(tmp_path / "sdxl", family="sdxl")
    modules = draw(build_networks("sdxl", tmp_path / "sdxl"), 1)
    found = run(base, {"xl": write(modules, tmp_path / "a")}, same_base=False)
    [one] = found.adapters
    assert not one.fits and one.reason is not None and "sdxl" in one.reason
    assert found.pairs == () and found.summary == "xl does not fit toy."


def test_a_dora_fits_and_is_not_compared(tmp_path: Path, base: Path, networks: list[Network]) -> None:
    rows = [row for row in draw(networks, 1) if row.up.ndim == 2]
    dora = [replace(row, magnitude=torch.ones(len(row.up))) for row in rows]
    found = run(base, {"a": write(rows, tmp_path / "a"), "d": write(dora, tmp_path / "d")}, same_base=False)
    assert [(one.fits, one.norm is None) for one in found.adapters] == [(True, False), (True, True)]
    assert found.pairs[0].relation == "unknown" and "DoRA" in found.pairs[0].sentence
    assert "2 adapters are for another base of the same shape." in found.summary


@pytest.mark.parametrize(
    ("cosine", "relation"),
    [
        (0.0, "independent"),
        (RELATED - 1e-6, "independent"),
        (RELATED, "reinforce"),
        (-RELATED, "fight"),
        (None, "unknown"),
    ],
)
def test_the_thresholds_are_as_documented(cosine: float, relation: str) -> None:
    assert relate(cosine) == relation
    assert describe_pair("a", "b", cosine, 3)
