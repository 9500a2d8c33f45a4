"""LoHa and LoKr become LoRA with the same updates: as peft computes them, and as LyCORIS writes down."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoHaConfig, LoKrConfig, inject_adapter_in_model
from safetensors.torch import load_file, save_file
from torch import nn

from core.domain.adapter_import import PROGRAM_BYTES, ImportRequest
from tests.fixtures.bases import write_random_base
from worker.engine.adapter_files.importing import import_adapter
from worker.engine.adapter_files.lycoris import MAX_RANK, convert
from worker.engine.errors import BadInput
from worker.engine.families.registry import build_networks

Tensors = dict[str, torch.Tensor]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(24, 36)
        self.conv = nn.Conv2d(8, 12, 3, padding=1)


def make_by_peft(config: Any) -> tuple[Tensors, Tensors]:
    """A file's tensors, and each layer's update by peft."""
    torch.manual_seed(0)
    net = inject_adapter_in_model(config, Net(), adapter_name="default")
    tensors, updates = {}, {}
    for name in ("linear", "conv"):
        layer: Any = getattr(net, name)
        for key, param in layer.named_parameters():
            if "hada" in key or "lokr" in key:
                nn.init.normal_(param, std=0.3)
                tensors[f"{name}.{key.removesuffix('.default')}"] = param.detach().clone()
        tensors[f"{name}.alpha"] = torch.tensor(float(config.alpha))
        updates[name] = layer.get_delta_weight("default").detach()
    return tensors, updates


def read_updates(path: Path) -> Tensors:
    made = load_file(path)
    names = {key.partition(".")[0] for key in made}
    return {
        name: (made[f"{name}.lora_up.weight"].double() @ made[f"{name}.lora_down.weight"].double())
        * made[f"{name}.alpha"].double()
        / len(made[f"{name}.lora_down.weight"])
        for name in names
    }


@pytest.mark.parametrize(
    "config",
    [
        LoHaConfig(r=3, alpha=2, target_modules=["linear", "conv"]),
        LoHaConfig(r=3, alpha=2, target_modules=["linear", "conv"], use_effective_conv2d=True),
        LoKrConfig(r=1, alpha=2, target_modules=["linear", "conv"]),
        LoKrConfig(r=1, alpha=2, target_modules=["linear", "conv"], use_effective_conv2d=True),
        LoKrConfig(r=1, alpha=2, target_modules=["linear", "conv"], decompose_both=True),
    ],
    ids=["loha", "loha, tucker", "lokr", "lokr, tucker", "lokr, both"],
)
def test_the_updates_are_pefts(tmp_path: Path, config: Any) -> None:
    tensors, wanted = make_by_peft(config)
    save_file(tensors, tmp_path / "a.safetensors", {"ss_output_name": "x"})
    path, made = convert(tmp_path / "a.safetensors", tmp_path / "out")
    assert made is not None and made.num_layers == 2 and made.error < 1e-3
    assert made.kind == ("LoHa" if isinstance(config, LoHaConfig) else "LoKr")
    found = read_updates(path)
    assert found.keys() == wanted.keys()
    for name, update in wanted.items():
        flat = update.double().flatten(1)
        assert (found[name] - flat).norm() < 1e-3 * flat.norm()


def test_a_lokr_of_two_whole_matrices_has_a_scale_of_one(tmp_path: Path) -> None:
    one, two = torch.randn(4, 3), torch.randn(6, 8)
    save_file({"a.lokr_w1": one, "a.lokr_w2": two, "a.alpha": torch.tensor(0.5)}, tmp_path / "a.safetensors")
    path, made = convert(tmp_path / "a.safetensors", tmp_path / "out")
    assert made is not None and made.rank == 18
    wanted = torch.kron(one.double(), two.double())
    assert (read_updates(path)["a"] - wanted).norm() < 1e-3 * wanted.norm()


def test_a_rank_that_no_lora_here_holds_is_refused(tmp_path: Path) -> None:
    side = MAX_RANK // 8
    tensors = {"a.lokr_w1": torch.randn(16, 16), "a.lokr_w2": torch.randn(side, side)}
    save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(
        BadInput, match=f"a, a LoKr layer, has a rank of {16 * side}.*would miss [0-9.]+% of its update"
    ):
        convert(tmp_path / "a.safetensors", tmp_path / "out")


@pytest.mark.parametrize(
    "shapes",
    [
        {"hada_w1_a": (4, 2), "hada_w1_b": (2, 4), "hada_w2_a": (5, 2), "hada_w2_b": (2, 4)},
        {"lokr_w1": (4,), "lokr_w2": (4, 4)},
        {"lokr_w1": (0, 4), "lokr_w2": (4, 4)},
        {"lokr_w1": (4, 4), "lokr_w2_a": (4, 0), "lokr_w2_b": (0, 4)},
    ],
)
def test_shapes_that_do_not_fit_are_refused(tmp_path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    save_file({f"a.{key}": torch.ones(shape) for key, shape in shapes.items()}, tmp_path / "a.safetensors")
    with pytest.raises(BadInput, match="do not fit one another"):
        convert(tmp_path / "a.safetensors", tmp_path / "out")


def test_numbers_that_are_none_are_refused(tmp_path: Path) -> None:
    tensors = {"a.lokr_w1": torch.full((2, 2), torch.inf), "a.lokr_w2": torch.ones(2, 2)}
    save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(BadInput, match="NaN or infinite"):
        convert(tmp_path / "a.safetensors", tmp_path / "out")


def test_a_file_without_such_layers_stays_as_it_is(tmp_path: Path) -> None:
    save_file({"a.lora_down.weight": torch.ones(1, 4), "b.hada_w1_a": torch.ones(2, 2)}, tmp_path / "a.safetensors")
    assert convert(tmp_path / "a.safetensors", tmp_path / "out") == (tmp_path / "a.safetensors", None)


def test_an_import_takes_them_beside_a_lora(tmp_path: Path) -> None:
    """A LyCORIS file as its users have it: LoHa on attention, LoKr on a convolution, and a plain LoRA."""
    write_random_base(tmp_path / "base")
    (unet, *_) = build_networks("sd1", tmp_path / "base")
    paths = unet.list_targets("locon", "all")
    conv = next(path for path in paths if path.endswith("conv1"))
    first, second, *_ = (path for path in paths if path.endswith("to_q"))
    shape = {path: unet.module.get_submodule(path).weight.shape for path in (first, second, conv)}

    def name(path: str) -> str:
        return f"lora_unet_{path.replace('.', '_')}"

    torch.manual_seed(1)
    whole = torch.randn(shape[conv][0] // 2, shape[conv][1] // 2, 3, 3) / 10
    corner = torch.randn(2, 2)
    tensors = {
        **{f"{name(first)}.hada_w{n}_a": torch.randn(shape[first][0], 2) for n in (1, 2)},
        **{f"{name(first)}.hada_w{n}_b": torch.randn(2, shape[first][1]) for n in (1, 2)},
        f"{name(first)}.alpha": torch.tensor(1.0),
        f"{name(conv)}.lokr_w1": corner,
        f"{name(conv)}.lokr_w2": whole,
        f"{name(second)}.lora_down.weight": torch.randn(4, shape[second][1]),
        f"{name(second)}.lora_up.weight": torch.randn(shape[second][0], 4),
    }
    save_file(tensors, tmp_path / "a.safetensors")
    (tmp_path / "written").mkdir()
    answer = import_adapter(
        ImportRequest(
            family="sd1",
            model_folder=tmp_path / "base",
            file=tmp_path / "a.safetensors",
            folder=tmp_path / "written",
            memory_bytes=PROGRAM_BYTES,
        )
    )
    assert answer.findings is not None, answer.refusal
    made = answer.findings.conversion
    assert made is not None and (made.kind, made.num_layers) == ("LoHa and LoKr", 2)
    assert answer.findings.num_ignored == 0 and answer.findings.type == "locon"
    assert {tool.verdict for proof in answer.findings.proofs.values() for tool in proof.tools[:1]} == {"same"}
    kohya = load_file(answer.files["kohya"])
    down, up = (kohya[f"{name(conv)}.lora_{half}.weight"].double().flatten(1) for half in ("down", "up"))
    wanted = torch.kron(corner.double()[:, :, None, None], whole.double()).flatten(1)
    scale = float(kohya[f"{name(conv)}.alpha"]) / len(down)
    assert (up @ down * scale - wanted).norm() < 1e-3 * wanted.norm()
