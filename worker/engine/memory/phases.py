"""The phases of a job on a base, run on fake tensors: shapes and dtypes without data, so without memory or arithmetic.

Each phase runs the code of a real job as far as that holds memory: the networks, autocast, peft, checkpointing and
autograd. The results are the peaks in bytes of all that is not a network's weights.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch._subclasses import FakeTensorMode

from core.domain.memory_table import Numerics
from core.domain.tokens import TOKENS_PER_CHUNK
from worker.engine.adapters import inject
from worker.engine.device import set_checkpointing
from worker.engine.families.noise import load_noise_schedule
from worker.engine.families.protocol import Base, Conditioning, Network, SizeConditioning
from worker.engine.families.recognition import read_config
from worker.engine.families.spec import FamilySpec, Part
from worker.engine.memory.live_bytes import NORMALIZATIONS, LiveBytes, normalize_in_fp32

CPU = torch.device("cpu")


class FakeBase:
    """A base's networks on fake tensors. Sizes are in pixels. Not for two threads."""

    def __init__(self, spec: FamilySpec, folder: Path, numerics: Numerics) -> None:
        self._spec, self._folder, self._numerics = spec, folder, numerics
        self._dtype = torch.float32 if numerics == "fp32" else torch.bfloat16
        self._mode = FakeTensorMode()

    @property
    def bytes_per_cast(self) -> int:
        """Of a weight in fp32 that autocast copies."""
        return 0 if self._numerics == "fp32" else 2

    # --- networks ---

    def open_denoiser(self, adapter: str, rank: int) -> Base:
        """``adapter``: type and targets, as in a card's ``adapter_dims``."""
        network = self._build(self._spec.denoiser, self._dtype, adapter, rank)
        return self._spec.base(self._folder, network, load_noise_schedule(self._folder), CPU)

    def open_text_encoder(self, part: Part, adapter: str | None = None, rank: int = 0) -> torch.nn.Module:
        """Frozen, or with an adapter."""
        module: torch.nn.Module = self._build(part, torch.float32, adapter, rank).module
        return module

    def open_vae(self) -> Any:
        with torch.device("meta"):
            vae = AutoencoderKL.from_config(read_config(self._folder, "vae/config.json"))
        return self._fill(vae.requires_grad_(False).eval(), torch.float32)

    def _build(self, part: Part, dtype: torch.dtype, adapter: str | None, rank: int) -> Network:
        with torch.device("meta"):
            network = part.build(self._folder)
            network.module.requires_grad_(False)
            if adapter is not None:
                kind, targets = adapter.split("/")
                inject(network, kind, targets, rank=rank)
        self._fill(network.module, dtype)
        return network

    def _fill(self, module: Any, dtype: torch.dtype) -> Any:
        """Fake weights instead of those on the meta device: trained ones in fp32, others in ``dtype``."""
        by_cuda = self._numerics == "cuda16"
        if by_cuda:
            normalize_in_fp32(module)
        with self._mode:
            for child in module.modules():
                frozen = torch.float32 if by_cuda and isinstance(child, NORMALIZATIONS) else dtype
                _replace(child, frozen)
        return module

    def find_largest_layer(self) -> int:
        """Its number of weights."""
        with torch.device("meta"):
            denoiser = self._spec.denoiser.build(self._folder).module
        largest: int = max(param.numel() for param in denoiser.parameters())
        return largest

    # --- phases ---

    def trace_step(self, base: Base, resolution: int, *, checkpointing: bool, batch: int = 1) -> int:
        """A micro-batch forward and backward."""
        module = base.denoiser.module.train()
        set_checkpointing(module, on=checkpointing)
        with self._counting(module) as counter:
            with self._autocast():
                loss = _predict(base, resolution, batch).square().mean()
            torch.autograd.backward(loss)
        _forget_gradients(module)
        return counter.peak

    @torch.no_grad()
    def trace_prediction(self, base: Base, resolution: int, *, batch: int = 1) -> int:
        """The forward pass alone."""
        module = base.denoiser.module.eval()
        with self._counting(module) as counter, self._autocast():
            _predict(base, resolution, batch)
        return counter.peak

    @torch.no_grad()
    def trace_encoding(self, resolution: int) -> int:
        """One image to latents, in fp32: the most that it takes, for jobs in bf16 encode in bf16."""
        vae = self.open_vae()
        with self._counting(vae) as counter:
            vae.encode(torch.empty(1, 3, resolution, resolution))
        return counter.peak

    @torch.no_grad()
    def trace_decoding(self, resolution: int) -> int:
        vae = self.open_vae()
        side = resolution // 2 ** (len(vae.config.block_out_channels) - 1)
        with self._counting(vae) as counter, self._autocast():
            vae.decode(torch.empty(1, vae.config.latent_channels, side, side))
        return counter.peak

    @torch.no_grad()
    def trace_text_encoding(self, encoder: Any) -> int:
        """One text of one chunk: outside of autocast, as the cache is filled."""
        with self._counting(encoder) as counter:
            _read(encoder, 1)
        return counter.peak

    def trace_text_step(self, encoder: Any, batch: int) -> int:
        """As many texts of one chunk forward and backward."""
        with self._counting(encoder) as counter:
            with self._autocast():
                loss = _read(encoder, batch).float().square().mean()
            torch.autograd.backward(loss)
        _forget_gradients(encoder)
        return counter.peak

    @contextmanager
    def _counting(self, module: torch.nn.Module) -> Iterator[LiveBytes]:
        with self._mode, LiveBytes([*module.parameters(), *module.buffers()]) as counter:
            yield counter

    def _autocast(self) -> AbstractContextManager[object]:
        return nullcontext() if self._numerics == "fp32" else torch.autocast("cpu", self._dtype)


def count_weights(module: torch.nn.Module, *, trained: bool = False) -> int:
    """The parameters, or only the trained ones."""
    return sum(param.numel() for param in module.parameters() if param.requires_grad or not trained)


def _replace(child: torch.nn.Module, frozen: torch.dtype) -> None:
    """Its own weights by empty ones on the current device."""
    for name, param in [*child.named_parameters(recurse=False)]:
        empty = torch.empty(param.shape, dtype=torch.float32 if param.requires_grad else frozen)
        setattr(child, name, torch.nn.Parameter(empty, requires_grad=param.requires_grad))
    for name, buffer in [*child.named_buffers(recurse=False)]:
        child.register_buffer(name, torch.empty(buffer.shape, dtype=buffer.dtype))


def _predict(base: Base, resolution: int, batch: int) -> torch.Tensor:
    side = resolution // base.latent_factor
    noisy = torch.empty(batch, base.denoiser.module.config.in_channels, side, side)
    return base.predict(noisy, torch.zeros(batch, dtype=torch.long), [_condition(base)] * batch).float()


def _condition(base: Base) -> Conditioning:
    """One sample's, of a text of one chunk."""
    config = base.denoiser.module.config
    size = base.encode_size_conditioning(SizeConditioning((8, 8), (0, 0), (8, 8)))
    row = {"states": torch.empty(TOKENS_PER_CHUNK + 2, config.cross_attention_dim)}
    if config.addition_embed_type == "text_time":
        numbers = sum(tensor.numel() for tensor in size.values()) * config.addition_time_embed_dim
        row["pooled"] = torch.empty(config.projection_class_embeddings_input_dim - numbers)
    return {**row, **{name: torch.empty(tensor.shape) for name, tensor in size.items()}}


def _read(encoder: Any, batch: int) -> torch.Tensor:
    """The last states of texts that fill the encoder's input."""
    ids = torch.zeros(batch, encoder.config.max_position_embeddings, dtype=torch.long)
    last: torch.Tensor = encoder(ids, output_hidden_states=True).hidden_states[-1]
    return last


def _forget_gradients(module: torch.nn.Module) -> None:
    for param in module.parameters():
        param.grad = None
