"""The device and its numerics: precision, threads, determinism, and accelerate's process-wide state."""

import ctypes
import os
import platform
import resource
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from core.domain.memory import Setting, choose_numerics
from core.domain.memory_choices import choose_setting, usable_bytes
from core.domain.model import ModelInfo
from core.domain.plan import TrainPlan
from worker.engine.cores import choose_threads, count_usable_cores

LARGE_BASE_PARAMETERS = 100_000_000
ROOMY_DEVICE_BYTES = 20 * 1024**3
"""What checkpointing is chosen by for a base whose memory was not traced."""
MEMORY_INFO = Path("/proc/meminfo")
CGROUP_LIMIT, CGROUP_USE = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


class Runtime(BaseModel):
    """The first attempt's findings. Later attempts keep to them: they decide the adapter's bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device_type: str
    device_name: str
    precision: Literal["bf16", "fp16", "fp32"]
    gradient_checkpointing: bool
    cpu_threads: int
    versions: dict[str, str]
    samples_per_pass: int | None = None  # None: a micro-batch goes through the network as a whole
    memory_reduced: bool = Field(False, validation_alias=AliasChoices("memory_reduced", "lightened"))
    """After the device ran out of memory. ``lightened``: the name in jobs of version 0.1.0."""

    @property
    def dtype(self) -> torch.dtype:
        return _DTYPES[self.precision]

    @property
    def encoding_precision(self) -> Literal["bf16", "fp32"]:
        """Of images to latents: Stable Diffusion's autoencoders overflow in fp16."""
        return "bf16" if self.precision == "bf16" else "fp32"

    def autocast(self) -> torch.autocast | nullcontext[None]:
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device_type, self.dtype)

    def split(self, count: int) -> list[slice]:
        """The passes in which this many samples go through the network; their gradients add up to the whole's."""
        size = self.samples_per_pass or count
        return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def choose_runtime(plan: TrainPlan, device: torch.device, model: ModelInfo, cpu_threads: int) -> Runtime:
    """Turns the plan's device-bound `auto`s into values for this device. The same plan, base and device always get the
    same, but for the number of CPU threads (0: by the cores that are free now); the job keeps them on its next device
    too."""
    precision = choose_precision(device) if plan.precision == "auto" else plan.precision
    setting = _choose_setting(plan, device, model, precision)
    return Runtime(
        device_type=device.type,
        device_name=name_device(device),
        precision=precision,
        gradient_checkpointing=setting.checkpointing,
        samples_per_pass=setting.samples_per_pass,
        cpu_threads=_choose_threads(device, cpu_threads),
        versions=_find_versions(),
    )


def generation_runtime(device: torch.device, cpu_threads: int) -> Runtime:
    """For drawing alone, with the precision that ``auto`` gives a training: both use the same warm base."""
    return Runtime(
        device_type=device.type,
        device_name=name_device(device),
        precision=choose_precision(device),
        gradient_checkpointing=False,
        cpu_threads=_choose_threads(device, cpu_threads),
        versions=_find_versions(),
    )


def _choose_threads(device: torch.device, requested: int) -> int:
    return choose_threads(requested) if device.type == "cpu" else requested or count_usable_cores()


def runs_as_recorded(runtime: Runtime, device: torch.device) -> bool:
    """Whether this device and these versions are those of the job's first attempt."""
    return (runtime.device_name, runtime.versions) == (name_device(device), _find_versions())


def _find_versions() -> dict[str, str]:
    return {name: version(name) for name in ("torch", "diffusers", "peft", "accelerate", "transformers")}


def name_device(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_cpu_model()} ({torch.backends.cpu.get_cpu_capability()})"


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo") as lines:  # noqa: PTH123
            return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def choose_precision(device: torch.device) -> Literal["bf16", "fp16", "fp32"]:
    """bf16 if the hardware has it; fp16 with a scaler on older GPUs; fp32 on older CPUs."""
    if _has_bf16(device):
        return "bf16"
    return "fp16" if device.type == "cuda" else "fp32"


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())


def warn_of_emulation(runtime: Runtime, device: torch.device) -> str | None:
    """If a plan requires what ``auto`` would not choose: the numbers are right, but it may take a hundred times as
    long."""
    has_it = {"bf16": _has_bf16(device), "fp16": device.type == "cuda", "fp32": True}
    if has_it[runtime.precision]:
        return None
    return f"{runtime.device_name} has no hardware for {runtime.precision}: it is emulated, which is slow."


def _choose_setting(plan: TrainPlan, device: torch.device, model: ModelInfo, precision: str) -> Setting:
    """By the memory that the base was traced to take. Checkpointing costs about a third of the speed."""
    kind: Literal["cpu", "cuda"] = "cuda" if device.type == "cuda" else "cpu"
    numerics = choose_numerics(kind, precision)
    if model.memory is None or device.type not in {"cpu", "cuda"}:
        return Setting(numerics, _guess_checkpointing(plan, device, model.num_parameters))
    return choose_setting(plan, model, kind, numerics, usable_bytes(kind, total_memory_bytes(device)))


def _guess_checkpointing(plan: TrainPlan, device: torch.device, num_parameters: int) -> bool:
    """For a base without a table: on for a large one on a device of less than 20 GB."""
    if plan.gradient_checkpointing != "auto":
        return plan.gradient_checkpointing
    if num_parameters < LARGE_BASE_PARAMETERS:
        return False
    if device.type != "cuda":
        return True
    return bool(torch.cuda.get_device_properties(device).total_memory < ROOMY_DEVICE_BYTES)


def reduce_memory(runtime: Runtime, plan: TrainPlan) -> tuple[Runtime, str] | None:
    """The next thing to try after the device ran out of memory, and its message; None if nothing is left to try."""
    if runtime.memory_reduced:
        return None
    if not runtime.gradient_checkpointing and plan.gradient_checkpointing == "auto":
        changes: dict[str, object] = {"gradient_checkpointing": True}
        how = "with gradient checkpointing"
    elif max(plan.batch_size, plan.class_images_per_batch) > 1 and runtime.samples_per_pass != 1:
        changes, how = {"samples_per_pass": 1}, "with one sample at a time, the effective batch being the same"
    else:
        return None
    reduced = runtime.model_copy(update={**changes, "memory_reduced": True})
    return reduced, f"The device ran out of memory: retrying {how}."


def is_out_of_memory(error: BaseException) -> bool:
    """torch has its own error for devices; its CPU allocator's is a plain RuntimeError."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "DefaultCPUAllocator" in str(error)


def open_accelerator(runtime: Runtime) -> Accelerator:
    """A new accelerator on a device with reproducible results; its memory peak is reset. accelerate's state is a
    process-wide singleton that remembers the last job's precision: a warm trainer drops it."""
    be_deterministic(runtime)
    AcceleratorState._reset_state(reset_partial_state=True)
    precision = "no" if runtime.precision == "fp32" else runtime.precision
    accelerator = Accelerator(cpu=runtime.device_type == "cpu", mixed_precision=precision)
    reset_peak(accelerator.device)
    return accelerator


def be_deterministic(runtime: Runtime) -> None:
    """The same operations in the same order: algorithms, cuBLAS workspace, and the number of CPU threads. torch then
    also fills memory before it is written, for code that reads uninitialized memory; that is turned off: it takes some
    hundredths of a small step, and resumed runs would not end with the same bytes if there were such code."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # as documented
    torch.backends.cudnn.benchmark = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.set_num_threads(runtime.cpu_threads)


def set_checkpointing(network: Any, *, on: bool) -> None:
    """For one of diffusers' networks, which may still have a previous job's setting."""
    if on:
        network.enable_gradient_checkpointing()
    else:
        network.disable_gradient_checkpointing()


def peak_memory_bytes(device: torch.device) -> int:
    """The device's since the last ``reset_peak``; on a CPU this process's since its start."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def total_memory_bytes(device: torch.device) -> int:
    """The device's memory; on a CPU the machine's, or the container's if that is less."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(machine, int(CGROUP_LIMIT.read_text()))
    except (OSError, ValueError):  # no cgroup of version 2, or "max"
        return machine


def available_memory_bytes(device: torch.device) -> int:
    """What nobody uses now, of the device or the machine."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = MEMORY_INFO.read_text().splitlines()
        machine = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):  # macOS
        return total_memory_bytes(device)
    try:
        return min(machine, int(CGROUP_LIMIT.read_text()) - int(CGROUP_USE.read_text()) + _count_cached_files())
    except (OSError, ValueError):  # no cgroup of version 2, or "max"
        return machine


def _count_cached_files() -> int:
    """Bytes that count as the container's use, and are given back as soon as somebody wants them."""
    lines = (CGROUP_USE.parent / "memory.stat").read_text().splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith("inactive_file ")), 0)


def reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def free_memory(device: torch.device) -> None:
    """What freed tensors leave behind is given back. glibc keeps it otherwise: a text encoder's half a gigabyte, which
    then counts beside the next network."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
