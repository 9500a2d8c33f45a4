"""One training from its plan to its files."""

from collections.abc import Mapping
from pathlib import Path

from core.domain.outcome import describe_cut
from core.domain.plan import TrainPlan
from core.domain.states import Phase
from worker.engine.adapter_files.proof.layers import read_layers
from worker.engine.adapters import detach
from worker.engine.device import Runtime, open_accelerator, runs_as_recorded
from worker.engine.families.protocol import Base
from worker.engine.observer import Observer
from worker.engine.training.caching import fill_cache, start_caching
from worker.engine.training.checkpoint import load_checkpoint
from worker.engine.training.init_adapter import load_init_adapter
from worker.engine.training.loop import Run
from worker.engine.training.optim import refuse_unavailable
from worker.engine.training.output import TrainResult
from worker.engine.training.prior import open_prior


def train(
    plan: TrainPlan,
    runtime: Runtime,
    base: Base,
    files: Mapping[str, Path],
    observer: Observer,
    workdir: Path,
    resume_from: Path | None = None,
    cache_folder: Path | None = None,
    shared_cache: Path | None = None,
) -> TrainResult:
    """Trains one adapter. ``files`` maps the sha256 of an image, and of the init adapter, to its local file.
    ``cache_folder`` keeps encoded images and texts for later attempts and for the tenant's other jobs, unless the job
    began on another machine or version (then, and by default, they are in ``workdir``); ``shared_cache`` keeps what the
    base draws, for all jobs.

    Raises Stopped when the observer asks for it, and TrainingError if the run cannot end well. The adapter is removed
    from the base at the end.
    """
    accelerator = open_accelerator(runtime)
    refuse_unavailable(plan, accelerator.device)
    observer.phase(Phase.CACHING)
    own_cache = workdir / "cache"
    encodings = cache_folder if cache_folder and runs_as_recorded(runtime, accelerator.device) else own_cache
    progress = start_caching(plan, observer)
    cache = fill_cache(base, plan, runtime, files, encodings, workdir / "conditioning", progress)
    if cache.num_cut and resume_from is None:
        observer.notice(describe_cut(cache.num_cut, plan))
    try:
        with runtime.autocast():
            prior = open_prior(base, plan, runtime, cache, shared_cache or own_cache, progress)
        init_adapter = plan.init_adapter if resume_from is None else None
        layers = read_layers(plan.family, base.folder) if init_adapter else None
        run = Run(plan, runtime, base, cache, prior, accelerator, observer, workdir)
        if resume_from is not None:
            load_checkpoint(run.state, plan, resume_from)
        elif init_adapter and layers:
            load_init_adapter(files[init_adapter.sha256], layers, run.networks, run.state.params, plan)
        run.draw_base_samples()
        run.run_steps()
        return run.finish()
    finally:
        detach(base.denoiser)
