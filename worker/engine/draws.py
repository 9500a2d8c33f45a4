"""Every random draw of a training, keyed by (seed, step, stream).

No draw depends on previous draws, so a run that resumes at step n draws the same as an undisturbed one. All are made on
the CPU and then moved, so they are the same on every device.
"""

import hashlib

import torch


def generator(seed: int, step: int, stream: str) -> torch.Generator:
    """A fresh CPU generator. ``stream`` names the use, such as "noise" or "timesteps"."""
    return torch.Generator().manual_seed(_mix(seed, step, stream))


def seed_torch(seed: int, step: int) -> None:
    """Sets torch's own generators, on every device, for one micro-batch: layers such as dropout use no others."""
    torch.manual_seed(_mix(seed, step, "torch"))


def _mix(seed: int, step: int, stream: str) -> int:
    digest = hashlib.sha256(f"{seed}:{step}:{stream}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
