"""A family's entry in the registry: all that differs between families, apart from the computation of its Base."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from core.domain.model import Family, PredictionType
from core.domain.proof import Tool
from worker.engine.families.protocol import Base, Network, NoiseSchedule
from worker.engine.families.recognition import PipelineFolder, read_config
from worker.engine.families.unet import UnetLayout


@dataclass(frozen=True)
class Part:
    """A network of a base that adapters may change: ``name`` is diffusers' for it, in folders, pipelines and files.

    ``kind`` is its class in diffusers or transformers, ``network`` wraps such a module. ``spellings``: the prefixes of
    its layers' names in adapters made elsewhere.
    """

    name: str
    kind: Any
    network: Callable[[Any], Network]
    spellings: tuple[str, ...]

    @property
    def tokenizer(self) -> str:
        """Of a text encoder: its tokenizer's name, such as ``tokenizer_2``."""
        return self.name.replace("text_encoder", "tokenizer")

    def build(self, folder: Path) -> Network:
        """On the current device, by its config in a base's folder, without the weights. Raises BadInput."""
        config = read_config(folder, f"{self.name}/config.json")
        if hasattr(self.kind, "from_config"):
            return self.network(self.kind.from_config(config))
        return self.network(self.kind(self.kind.config_class(**config)))


@dataclass(frozen=True)
class MetadataNames:
    """``base_version``: sd-scripts' ``ss_base_model_version``, by its ``get_model_version_str_for_sd1_sd2``.
    ``architecture``: modelspec's."""

    base_version: str
    architecture: str


@dataclass(frozen=True)
class Relative:
    """A checkpoint that resembles the family's and is not supported: it has a tensor whose name begins with
    ``prefix``."""

    kind: str
    advice: str
    prefix: str


@dataclass(frozen=True)
class SingleFile:
    """Checkpoints in one file.

    ``marks``: prefixes of tensors that only this family has, all of them. ``text_prefix``: that of all its text
    encoders. ``pipeline``: diffusers' class with ``from_single_file``; ``options``: its arguments beside the parts.
    ``published``: the prediction types of the published bases, with their resolutions in pixels; the first is that of
    the family's config.
    """

    marks: tuple[str, ...]
    text_prefix: str
    pipeline: Any
    options: Mapping[str, Any]
    published: Mapping[PredictionType, int]
    relatives: tuple[Relative, ...] = ()


@dataclass(frozen=True)
class ToolRules:
    """The family in other tools, written from their code. The load proof checks the exporter by these rules, so they
    share nothing with the names that the exporter writes.

    ``text_names``: for each tool, its flat prefixes of text encoders' layers -> the part. ``reads_original``: the tools
    that know the U-Net's layers also by their names in the original code. ``notes``: what else to say of a tool.
    ``published``: the layout of the published bases. ``comfyui_depths``: the numbers of transformer blocks that ComfyUI
    knows; None if it does not look. ``fused_qkv``: the part whose query, key and value are one matrix in A1111.
    ``a1111_version`` and ``a1111_v2``: the beginning of ``ss_base_model_version``, or the value of ``ss_v2``, by which
    A1111 takes a file for this family; a family without either gets the rest.
    """

    text_names: Mapping[Tool, Mapping[str, str]]
    published: UnetLayout
    reads_original: frozenset[Tool] = frozenset()
    comfyui_depths: tuple[list[int], ...] | None = None
    fused_qkv: str | None = None
    a1111_version: str | None = None
    a1111_v2: str | None = None
    notes: Mapping[Tool, str] = field(default_factory=dict)


@dataclass(frozen=True)
class FamilySpec:
    """``recognise`` raises BadInput for a folder that resembles the family's bases and cannot be used. ``base``: the
    class of what ``load`` returns, made from a folder and its denoiser. ``lora_loader``: diffusers' mixin that reads
    adapters for its pipelines. ``ss_v2``: sd-scripts' mark of SD 2.x in metadata. ``v_metadata``: the names for bases
    that predict v, if they have their own."""

    name: Family
    recognise: Callable[[PipelineFolder], bool]
    load: Callable[[Path, torch.device, torch.dtype], Base]
    base: Callable[[Path, Network, NoiseSchedule, torch.device], Base]
    denoiser: Part
    text_encoders: tuple[Part, ...]
    lora_loader: Any
    metadata: MetadataNames
    single_file: SingleFile
    tools: ToolRules
    v_metadata: MetadataNames | None = None
    ss_v2: bool = False

    @property
    def parts(self) -> tuple[Part, ...]:
        return (self.denoiser, *self.text_encoders)

    def build(self, folder: Path) -> list[Network]:
        """A base's networks without weights, on the meta device: the denoiser, then the text encoders."""
        with torch.device("meta"):
            return [part.build(folder) for part in self.parts]

    def metadata_of(self, prediction_type: PredictionType) -> MetadataNames:
        return self.v_metadata or self.metadata if prediction_type == "v_prediction" else self.metadata
