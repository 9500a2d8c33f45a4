"""The service's own state, as the API shows it."""

from datetime import datetime
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from core.db.workers import SeenWorker

PartName = Literal["database", "broker", "storage"]


class Health(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "ok"}]})

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """``checks`` has ``ok`` for each part, or its problem."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"status": "ready", "checks": {"database": "ok", "broker": "ok", "storage": "ok"}}]
        }
    )

    status: Literal["ready", "unavailable"]
    checks: dict[PartName, str]


class WorkerOut(BaseModel):
    """A training worker with a heartbeat within the last minute."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "host-1/cpu/0",
                    "object": "worker",
                    "device": "cpu",
                    "device_name": "cpu x2",
                    "memory_bytes": 25_000_000_000,
                    "job": "job_01j9z0000000000000000000000",
                    "warm_models": ["tiny"],
                    "seen_at": "2026-01-31T12:00:00Z",
                }
            ]
        }
    )

    id: str
    object: Literal["worker"] = "worker"
    device: str
    device_name: str
    memory_bytes: int | None = Field(description="The device's whole memory; null until its first job.")
    job: str | None = Field(description="The job it runs, if it is yours.")
    warm_models: list[str] = Field(description="The base models that it holds in memory, the last used last.")
    seen_at: datetime

    @classmethod
    def of(cls, row: SeenWorker) -> Self:
        return cls(
            id=row.id,
            device=row.device,
            device_name=row.device_name,
            memory_bytes=row.memory_bytes,
            job=row.job_id,
            warm_models=list(row.warm_models),
            seen_at=row.seen_at,
        )
