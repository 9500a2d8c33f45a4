"""Counts the bytes of live tensors, fake or real; and CUDA's autocast where it differs from the CPU's."""

import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within it, every tensor that an operation makes is counted until its storage is freed, also those that autograd
    saves. ``known`` are tensors from before, which are not counted: weights.

    What an operation takes inside itself, such as a convolution's workspace, is not seen.
    """

    def __init__(self, known: Iterable[torch.Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._known = {_key(tensor) for tensor in known}
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        for leaf in (made,) if isinstance(made, torch.Tensor) else tree_leaves(made):
            if isinstance(leaf, torch.Tensor):
                self._add(leaf)
        return made

    def _add(self, tensor: torch.Tensor) -> None:
        storage, key = tensor.untyped_storage(), _key(tensor)
        if key in self._sizes or key in self._known:
            return
        self._sizes[key] = storage.nbytes()
        self.live += self._sizes[key]
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._free, key).atexit = False

    def _free(self, key: int) -> None:
        self.live -= self._sizes.pop(key)


def _key(tensor: torch.Tensor) -> int:
    key: int = tensor.untyped_storage()._cdata
    return key


NORMALIZATIONS = (torch.nn.GroupNorm, torch.nn.LayerNorm)


def normalize_in_fp32(module: torch.nn.Module) -> None:
    """As CUDA's autocast does; the CPU's leaves these layers in the precision of their input. (PyTorch built for CPUs
    cannot trace CUDA itself.) Their weights must be in fp32."""
    for child in module.modules():
        if isinstance(child, NORMALIZATIONS):
            child.register_forward_pre_hook(lambda _, args: tuple(arg.float() for arg in args))
