"""Settings, read once from the environment, and only here."""

import functools
import os
import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import unquote, urlsplit

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from core.domain.limits import MAX_COUNT, Limits
from core.domain.receivers import AllowList


def _parse_allow_list(value: object) -> object:
    return AllowList.parse(value) if isinstance(value, str) else value


_ORIGIN = re.compile(r"https?://[A-Za-z0-9.:\[\]-]+")


def _parse_origins(value: object) -> object:
    """`*`, or origins as browsers send them: scheme, host and a port other than the scheme's, separated by commas."""
    if not isinstance(value, str):
        return value
    origins = tuple(part for part in (part.strip() for part in value.split(",")) if part)
    for origin in origins:
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            raise ValueError(f"{origin!r} is not an origin: write it as https://app.example.org, without a path")
    return origins


def _empty_as_none(value: object) -> object:
    """Compose files pass on variables that are not set as empty ones."""
    return None if value == "" else value


def _parse_hub_url(value: object) -> object:
    """Where adapters are published; `none` turns publishing off."""
    if not isinstance(value, str):
        return value
    text = value.strip().rstrip("/")
    if text.lower() in {"", "none"}:
        return None
    if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", text):
        raise ValueError("the Hub's address starts with http:// or https://, and has neither a query nor a password")
    return text


def _parse_limit(value: object) -> object:
    """`none` lifts a default limit."""
    return None if isinstance(value, str) and value.strip().lower() in {"", "none"} else value


Limit = Annotated[Annotated[int, Field(ge=0, le=MAX_COUNT)] | None, BeforeValidator(_parse_limit)]


SECRET_ENDINGS = ("KEY", "SECRET", "PASSWORD", "TOKEN")


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

    device: Annotated[str, Field(alias="ATELIER_DEVICE")] = "cpu"
    slot: Annotated[int, Field(alias="ATELIER_SLOT")] = 0
    cpu_threads: Annotated[int, Field(alias="ATELIER_CPU_THREADS", ge=0)] = 0

    lease_seconds: Annotated[float, Field(alias="ATELIER_LEASE_SECONDS", gt=0)] = 30.0
    heartbeat_seconds: Annotated[float, Field(alias="ATELIER_HEARTBEAT_SECONDS", gt=0)] = 5.0
    ring_seconds: Annotated[float, Field(alias="ATELIER_RING_SECONDS", gt=0)] = 15.0
    sweep_seconds: Annotated[float, Field(alias="ATELIER_SWEEP_SECONDS", gt=0)] = 5.0
    collect_seconds: Annotated[float, Field(alias="ATELIER_COLLECT_SECONDS", gt=0)] = 6 * 3600.0
    stall_seconds: Annotated[float, Field(alias="ATELIER_STALL_SECONDS", gt=0)] = 300.0

    webhook_allow: Annotated[
        AllowList, NoDecode, BeforeValidator(_parse_allow_list), Field(alias="ATELIER_WEBHOOK_ALLOW")
    ] = AllowList()
    webhook_timeout_seconds: Annotated[float, Field(alias="ATELIER_WEBHOOK_TIMEOUT_SECONDS", gt=0)] = 15.0
    webhook_delay_scale: Annotated[float, Field(alias="ATELIER_WEBHOOK_DELAY_SCALE", gt=0)] = 1.0

    fetch_allow: Annotated[
        AllowList, NoDecode, BeforeValidator(_parse_allow_list), Field(alias="ATELIER_FETCH_ALLOW")
    ] = AllowList()
    fetch_timeout_seconds: Annotated[float, Field(alias="ATELIER_FETCH_TIMEOUT_SECONDS", gt=0)] = 60.0

    cors_origins: Annotated[
        tuple[str, ...], NoDecode, BeforeValidator(_parse_origins), Field(alias="ATELIER_CORS_ORIGINS")
    ] = ()

    hub_url: Annotated[str | None, BeforeValidator(_parse_hub_url), Field(alias="ATELIER_HUB_URL")] = (
        "https://huggingface.co"
    )
    hub_token: Annotated[SecretStr | None, BeforeValidator(_empty_as_none), Field(alias="ATELIER_HUB_TOKEN")] = None

    max_upload_bytes: Annotated[int, Field(alias="ATELIER_MAX_UPLOAD_BYTES")] = 2 * 1024**3
    max_file_bytes: Annotated[int, Field(alias="ATELIER_MAX_FILE_BYTES")] = 64 * 1024**2
    max_adapter_bytes: Annotated[int, Field(alias="ATELIER_MAX_ADAPTER_BYTES")] = 2 * 1024**3
    max_images: Annotated[int, Field(alias="ATELIER_MAX_IMAGES")] = 5_000
    max_pixels: Annotated[int, Field(alias="ATELIER_MAX_PIXELS")] = 64 * 1024**2

    # The limits of tenants without limits of their own.
    quota_running_jobs: Annotated[Limit, Field(alias="ATELIER_QUOTA_RUNNING_JOBS")] = None
    quota_queued_jobs: Annotated[Limit, Field(alias="ATELIER_QUOTA_QUEUED_JOBS")] = 1_000
    quota_stored_bytes: Annotated[Limit, Field(alias="ATELIER_QUOTA_STORED_BYTES")] = None
    quota_steps_per_day: Annotated[Limit, Field(alias="ATELIER_QUOTA_STEPS_PER_DAY")] = None
    quota_images_per_dataset: Annotated[Limit, Field(alias="ATELIER_QUOTA_IMAGES_PER_DATASET")] = None
    quota_rank: Annotated[Limit, Field(alias="ATELIER_QUOTA_RANK")] = None
    quota_resolution: Annotated[Limit, Field(alias="ATELIER_QUOTA_RESOLUTION")] = None

    rate_per_minute: Annotated[int, Field(alias="ATELIER_RATE_PER_MINUTE", ge=1)] = 600
    rate_burst: Annotated[int, Field(alias="ATELIER_RATE_BURST", ge=1)] = 200
    failures_per_minute: Annotated[int, Field(alias="ATELIER_FAILED_KEYS_PER_MINUTE", ge=1)] = 30
    body_seconds: Annotated[float, Field(alias="ATELIER_BODY_SECONDS", gt=0)] = 30.0
    body_bytes_per_second: Annotated[int, Field(alias="ATELIER_BODY_BYTES_PER_SECOND", ge=1)] = 1_024
    uploads_per_tenant: Annotated[int, Field(alias="ATELIER_UPLOADS_PER_TENANT", ge=1)] = 16

    @functools.cached_property
    def default_limits(self) -> Limits:
        return Limits.model_validate({name: getattr(self, f"quota_{name}") for name in Limits.model_fields})

    @property
    def storage_location(self) -> str:
        return self.storage or str(self.home / "storage")

    @property
    def models_path(self) -> Path:
        """The operator's models; the bundled ones are in the repository's ``models``."""
        return self.models_dir or self.home / "models"


class LogSettings(BaseSettings):
    """Separate, since a process logs before it knows whether all other settings are there."""

    model_config = SettingsConfigDict(frozen=True, populate_by_name=True, extra="ignore")

    format: Annotated[Literal["json", "text"], Field(alias="ATELIER_LOG_FORMAT")] = "json"
    level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], Field(alias="ATELIER_LOG_LEVEL")] = "INFO"


def find_secrets() -> list[str]:
    """The values in this process's environment that no log may show."""
    named = [value for name, value in os.environ.items() if name.upper().endswith(SECRET_ENDINGS)]
    addresses = [value for name, value in os.environ.items() if name.upper().endswith("URL")]
    return named + [unquote(password) for url in addresses if (password := _password_of(url))]


def _password_of(url: str) -> str | None:
    try:
        return urlsplit(url).password
    except ValueError:
        return None


@functools.cache
def load_settings() -> Settings:
    """Raises pydantic.ValidationError, naming the variables that are missing."""
    return Settings()
