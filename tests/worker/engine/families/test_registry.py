"""The registry: what every family states, and that a family is named in its own file alone."""

import json
import re
import subprocess
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch

from core.domain.model import FAMILY_FACTS, PARTS, Family, ModelInfo, name_families
from core.domain.proof import Tool
from tests.fixtures.bases import write_random_base
from worker.engine.adapter_files.proof.spellings import split_prefix
from worker.engine.bases.single_file import CONFIGS
from worker.engine.errors import BadInput
from worker.engine.families.registry import FAMILIES, build_networks, find_family, load_base

ROOT = Path(__file__).parents[4]
PRODUCT = ("app", "cli", "clients", "core", "scripts", "worker")  # benches name the bases that they build


def test_every_family_is_registered_under_its_name() -> None:
    assert list(FAMILIES) == list(FAMILY_FACTS) == list(get_args(Family))
    assert all(spec.name == name for name, spec in FAMILIES.items())
    assert name_families() == "SD 1.x, SD 2.x and SDXL"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_named_in_its_file_and_its_entries_alone(family: str) -> None:
    """A sub-folder of configs has its name too. ``--id sd15`` and the like are other words."""
    listed = subprocess.run(["git", "ls-files", *PRODUCT], cwd=ROOT, capture_output=True, text=True, check=True)
    word = re.compile(rf"(?<![a-z0-9_-]){family}(?![0-9])", re.IGNORECASE)
    found = {name for name in listed.stdout.split() if name.endswith(".py") and word.search((ROOT / name).read_text())}
    own = {f"worker/engine/families/{family}.py", "worker/engine/families/registry.py", "core/domain/model.py"}
    derived = {"worker/engine/families/sd2.py"} if family == "sd1" else set()  # which is sd1 but for its text encoder
    assert found == own | derived


@pytest.mark.parametrize("family", FAMILIES)
def test_the_networks_are_built_without_weights(family: Family) -> None:
    spec, networks = FAMILIES[family], build_networks(family, CONFIGS / family)
    assert [network.diffusers_prefix for network in networks] == [part.name for part in spec.parts]
    assert {part.name for part in spec.parts} < set(FAMILY_FACTS[family].parts) <= set(PARTS)
    assert all(param.is_meta for network in networks for param in network.module.parameters())
    assert [type(network.module) for network in networks] == [part.kind for part in spec.parts]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_tool_has_names_for_every_text_encoder(family: str) -> None:
    spec = FAMILIES[family]
    encoders = {part.name for part in spec.text_encoders}
    assert set(spec.tools.text_names) == set(get_args(Tool))
    assert all(set(names.values()) == encoders for names in spec.tools.text_names.values())
    for names in spec.tools.text_names.values():
        assert all(split_prefix(f"{prefix}_text_model_x") == (part, "text_model_x") for prefix, part in names.items())


def test_a_spelling_belongs_to_one_part_whatever_the_family() -> None:
    owners = defaultdict(set)
    for spec in FAMILIES.values():
        for part in spec.parts:
            for prefix in part.spellings:
                owners[prefix].add(part.name)
    assert all(len(parts) == 1 for parts in owners.values())
    assert len(owners) == 22


def test_a_folder_of_another_family_is_refused_by_name() -> None:
    assert find_family(CONFIGS / "sd2") == "sd2"
    with pytest.raises(BadInput, match="is of the family sd2, not sd1"):
        build_networks("sd1", CONFIGS / "sd2")


def test_metadata_names_follow_the_prediction_type() -> None:
    """sd-scripts' get_model_version_str_for_sd1_sd2, and modelspec's two published variants of 2.x."""
    named = {
        (family, kind): FAMILIES[family].metadata_of(kind).base_version
        for family in FAMILIES
        for kind in ("epsilon", "v_prediction", "flow")
    }
    assert named == {
        ("sd1", "epsilon"): "sd_v1",
        ("sd1", "v_prediction"): "sd_v1_v",
        ("sd1", "flow"): "sd_v1",
        ("sd2", "epsilon"): "sd_v2",
        ("sd2", "v_prediction"): "sd_v2_v",
        ("sd2", "flow"): "sd_v2",
        ("sdxl", "epsilon"): "sdxl_base_v1-0",
        ("sdxl", "v_prediction"): "sdxl_base_v1-0",
        ("sdxl", "flow"): "sdxl_base_v1-0",
    }
    assert FAMILIES["sd2"].metadata_of("v_prediction").architecture == "stable-diffusion-v2-768-v/lora"


def test_building_leaves_the_default_device_alone() -> None:
    build_networks("sd1", CONFIGS / "sd1")
    assert torch.get_default_device() == torch.device("cpu")


def test_a_refusal_counts_only_if_no_other_family_recognises_the_folder(
    random_base: tuple[Path, ModelInfo], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_folder: object) -> bool:
        raise BadInput("not for this family")

    picky = replace(FAMILIES["sd2"], recognise=refuse)
    monkeypatch.setattr("worker.engine.families.registry.FAMILIES", {"picky": picky, "sd1": FAMILIES["sd1"]})
    assert find_family(random_base[0]) == "sd1"
    monkeypatch.setattr("worker.engine.families.registry.FAMILIES", {"picky": picky})
    with pytest.raises(BadInput, match="not for this family"):
        find_family(random_base[0])


@pytest.mark.parametrize(
    "config", [{"shift": "x"}, {"base_shift": None}, {"base_image_seq_len": 4096, "max_image_seq_len": 4096}]
)
def test_a_flow_scheduler_without_a_usable_shift_is_refused_when_the_base_is_opened(
    tmp_path: Path, config: dict[str, object]
) -> None:
    write_random_base(tmp_path, "flow")
    path = tmp_path / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    with pytest.raises(BadInput, match="cannot be read as a base"):
        load_base("sd1", tmp_path, torch.device("cpu"), torch.float32)
