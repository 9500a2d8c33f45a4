"""Settings, read once from the environment. Nothing else reads it."""

import functools
from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Each field's alias is the variable's name."""

    model_config = SettingsConfigDict(frozen=True, populate_by_name=True, extra="ignore")

    home: Annotated[Path, Field(alias="ATELIER_HOME")] = Path(".atelier")
    database_url: Annotated[str, Field(alias="DATABASE_URL")]
    redis_url: Annotated[str, Field(alias="REDIS_URL")]
    storage: Annotated[str, Field(alias="ATELIER_STORAGE")] = ""
    s3_endpoint_url: Annotated[str | None, Field(alias="S3_ENDPOINT_URL")] = None
    s3_public_endpoint_url: Annotated[str | None, Field(alias="S3_PUBLIC_ENDPOINT_URL")] = None
    api_key: Annotated[SecretStr | None, Field(alias="ATELIER_API_KEY")] = None
    models_dir: Annotated[Path | None, Field(alias="ATELIER_MODELS")] = None
    allow_http: Annotated[bool, Field(alias="ATELIER_ALLOW_HTTP")] = False

    device: Annotated[str, Field(alias="ATELIER_DEVICE")] = "cpu"
    slot: Annotated[int, Field(alias="ATELIER_SLOT")] = 0
    cpu_threads: Annotated[int, Field(alias="ATELIER_CPU_THREADS", ge=0)] = 0

    lease_seconds: Annotated[float, Field(alias="ATELIER_LEASE_SECONDS", gt=0)] = 30.0
    heartbeat_seconds: Annotated[float, Field(alias="ATELIER_HEARTBEAT_SECONDS", gt=0)] = 5.0
    ring_seconds: Annotated[float, Field(alias="ATELIER_RING_SECONDS", gt=0)] = 15.0
    sweep_seconds: Annotated[float, Field(alias="ATELIER_SWEEP_SECONDS", gt=0)] = 5.0
    stall_seconds: Annotated[float, Field(alias="ATELIER_STALL_SECONDS", gt=0)] = 300.0

    max_upload_bytes: Annotated[int, Field(alias="ATELIER_MAX_UPLOAD_BYTES")] = 2 * 1024**3
    max_file_bytes: Annotated[int, Field(alias="ATELIER_MAX_FILE_BYTES")] = 64 * 1024**2
    max_images: Annotated[int, Field(alias="ATELIER_MAX_IMAGES")] = 5_000
    max_pixels: Annotated[int, Field(alias="ATELIER_MAX_PIXELS")] = 64 * 1024**2

    @property
    def storage_location(self) -> str:
        return self.storage or str(self.home / "storage")

    @property
    def models_path(self) -> Path:
        """The operator's models; the bundled ones lie in the repository's ``models``."""
        return self.models_dir or self.home / "models"


@functools.cache
def load_settings() -> Settings:
    """Raises pydantic.ValidationError, naming the variables that are missing."""
    return Settings()
