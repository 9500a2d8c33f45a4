"""Rows and files as the workers leave them, written by the workers' own functions."""

import hashlib
import io
from collections.abc import Callable
from typing import Any

from PIL import Image
from sqlalchemy.orm import Session

from core.db import captioners, datasets, job_claims, job_output_claims, models
from core.db.job_claims import Claim
from core.db.tables import Dataset, Job
from core.domain.artifacts import ADAPTER_FORMATS, AdapterFormat, Artifact, attempt_key, image_key, thumbnail_key
from core.domain.captioner import CaptionerInfo, CaptionerKind, CaptionerSource
from core.domain.dataset import DatasetManifest, ManifestImage, write_report
from core.domain.ids import new_id
from core.domain.model import FAMILY_DEFAULTS, Calibration, ModelInfo
from core.domain.states import DatasetStatus
from core.queue import progress_channel
from tests.app.conftest import LiveApi
from worker.jobs.reports import describe_progress

LEASE_SECONDS = 3600.0

MODEL = ModelInfo(
    id="toy",
    family="sd1",
    resolution=64,
    resolution_step=8,
    sha256="0" * 64,
    num_parameters=1000,
    adapter_dims={
        f"{kind}/{targets}": 4000 for kind in ("lora", "locon") for targets in ("attention", "attention_ff", "all")
    },
    defaults=FAMILY_DEFAULTS["sd1"],
    calibration=Calibration(
        device="cpu x2",
        resolution=64,
        seconds_per_sample=0.02,
        start_seconds=5.0,
        seconds_per_image=0.5,
        base_memory_bytes=10**9,
        memory_bytes_per_sample=10**7,
    ),
    description="A base that is not there.",
    example_prompts=("a {trigger} on a blue background",),
)

MEASURED = {"seconds_per_sample": 0.02, "seconds_per_image": 0.5, "start_seconds": 4.0}


def draw_png(seed: int = 0, size: int = 64) -> bytes:
    """A picture of its own for each seed."""
    image = Image.new("RGB", (size, size), (seed * 37 % 256, seed * 91 % 256, seed * 53 % 256))
    image.paste((255, 255, 255), (seed % 8 * 4, 8, seed % 8 * 4 + 20, 40))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def add_model(api: LiveApi, info: ModelInfo = MODEL) -> str:
    with api.sessions.begin() as session:
        return models.upsert_model(session, info, location="/nowhere").id


def add_captioner(api: LiveApi, captioner_id: str = "tags", kind: CaptionerKind = "tagger") -> str:
    """As a worker leaves it."""
    info = CaptionerInfo(kind=kind, architecture="Toy", takes_prompt=kind != "tagger", size=1, sha256="1" * 64)
    with api.sessions.begin() as session:
        row = captioners.request_captioner(
            session, captioner_id, CaptionerSource(path=captioner_id), location="nowhere"
        )
        row.status, row.info = "ready", info.model_dump(mode="json")
    return captioner_id


def add_dataset(api: LiveApi, *, num_images: int = 3, captions: bool = True, thumbnails: bool = False) -> str:
    """A ready dataset, its images in storage."""
    dataset_id = new_id("ds")
    manifest = DatasetManifest(
        images=tuple(_store_image(api, dataset_id, n, captions, thumbnails) for n in range(num_images))
    )
    with api.sessions.begin() as session:
        row = datasets.insert_dataset(
            session, dataset_id=dataset_id, tenant_id=api.tenant_id, name="toys", status=DatasetStatus.READY
        )
        row.manifest, row.manifest_sha256 = manifest.model_dump(mode="json"), manifest.content_hash()
        row.report = write_report(num_images, manifest, [], []).model_dump(mode="json")
    return dataset_id


def _store_image(api: LiveApi, dataset_id: str, number: int, captions: bool, thumbnail: bool) -> ManifestImage:
    content = draw_png(number)
    sha256 = hashlib.sha256(content).hexdigest()
    api.storage.put(image_key(dataset_id, sha256), content)
    return ManifestImage(
        name=f"toys/{number}.png",
        key=image_key(dataset_id, sha256),
        sha256=sha256,
        size=len(content),
        width=64,
        height=64,
        caption=f"toy number {number}" if captions else None,
        dhash=f"{number:016x}",
        sharpness=50.0,
        thumbnail=_store_thumbnail(api, dataset_id, sha256) if thumbnail else None,
    )


def _store_thumbnail(api: LiveApi, dataset_id: str, sha256: str) -> Artifact:
    stored = api.storage.put(thumbnail_key(dataset_id, sha256), b"RIFF of a test")
    return Artifact(key=stored.key, sha256=stored.sha256, size=stored.size)


def set_status(api: LiveApi, dataset_id: str, status: DatasetStatus) -> None:
    with api.sessions.begin() as session:
        session.get_one(Dataset, dataset_id).status = status


def submit(api: LiveApi, **spec: Any) -> dict[str, Any]:
    """A queued job by HTTP, on a model and a dataset of its own."""
    body = {"model": add_model(api), "dataset": add_dataset(api), "trigger": "toy", "steps": 10, **spec}
    answer = api.client.post("/jobs", json=body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


class Worker:
    """Does what a worker does, step by step, and tells it as a worker does."""

    def __init__(self, api: LiveApi, job_id: str) -> None:
        self.api, self.job_id = api, job_id
        self.claim = Claim(job_id, self.write(self._claim).attempt)

    def _claim(self, session: Session) -> Job:
        """Other tests' jobs wait in the same queue: this one goes first, whosoever turn it is."""
        waiting = session.get_one(Job, self.job_id)
        waiting.priority = 1_000_000
        session.flush()
        job = job_claims.claim_of(session, waiting.tenant_id, slot=f"test:{self.job_id}", lease_seconds=LEASE_SECONDS)
        assert job is not None
        assert job.id == self.job_id
        return job

    def write(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with self.api.sessions.begin() as session:
            result = work(session, *args, **kwargs)
        self.api.broker.publish(progress_channel(self.job_id), b"")
        return result

    def train(self, num_steps: int) -> None:
        rows = [
            {"step": step, "loss": 1 / step, "learning_rate": 1e-4, "seconds_per_step": 0.2}
            for step in range(1, num_steps + 1)
        ]
        progress = describe_progress(step=num_steps, num_steps=10, loss=1 / num_steps, seconds_per_step=0.2, unit=None)
        self.write(job_claims.add_metrics, self.claim, rows)
        self.write(job_claims.renew_lease, self.claim, lease_seconds=LEASE_SECONDS, progress=progress)

    def checkpoint(self, step: int) -> bytes:
        content = f"state after step {step}".encode()
        artifact = self.store(f"checkpoint-{step}.safetensors", content)
        self.write(job_claims.add_checkpoint, self.claim, step=step, loss=0.1, artifact=artifact, keep=2)
        return content

    def sample(self, step: int) -> None:
        picture = self.store(f"samples/{step}-0.png", draw_png(step))
        images = [{"prompt": "a toy", "seed": 0, **picture.model_dump()}]
        grid = self.store(f"samples/grid-{step}.png", draw_png(step + 100))
        self.write(job_claims.add_sample, self.claim, step=step, images=images, grid=grid)

    def keep_adapter(self, step: int, *, alone: bool = False) -> dict[str, bytes]:
        """The adapter of a step, beside the job's own."""
        contents: dict[AdapterFormat, bytes] = {
            name: f"{name} of step {step}".encode() * 999 for name in ADAPTER_FORMATS
        }
        files = {name: self.store(f"step-{step}-{name}.safetensors", data) for name, data in contents.items()}
        self.write(job_output_claims.keep_adapter, self.claim, step=step, files=files, alone=alone)
        return {str(name): data for name, data in contents.items()}

    def draw_requested(self, request_id: str, step: int) -> bytes:
        content = draw_png(step + 200)
        image = self.store(f"samples/{request_id}-00.png", content)
        images = [{"prompt": "a toy", "seed": 0, **image.model_dump()}]
        self.write(job_output_claims.add_requested_samples, self.claim, request_id=request_id, step=step, images=images)
        return content

    def notice(self, message: str) -> None:
        self.write(job_claims.add_notice, self.claim, message)

    def succeed(self) -> dict[str, bytes]:
        contents = {"kohya": b"kohya's weights" * 9999, "diffusers": b"diffusers' weights" * 9999}
        artifacts = {f"adapter-{name}": self.store(f"{name}.safetensors", data) for name, data in contents.items()}
        result = {
            "adapter": {name: artifact.model_dump(exclude={"key"}) for name, artifact in artifacts.items()},
            "samples": 10,
            "metrics": {"loss": 0.05, "step": 10, "num_parameters": 64_000},
            "measured": {
                "seconds_per_sample": 0.02,
                "seconds_per_image": 0.5,
                "start_seconds": 4.0,
                "peak_memory_bytes": 10**9,
            },
        }
        self.write(job_claims.succeed, self.claim, result=result, artifacts=artifacts)
        return contents

    def store(self, name: str, content: bytes) -> Artifact:
        stored = self.api.storage.put(attempt_key(self.claim.job_id, self.claim.attempt, name), content)
        return Artifact(key=stored.key, sha256=stored.sha256, size=stored.size)
