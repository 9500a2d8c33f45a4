"""The Python client of Atelier, the self-hosted LoRA training service."""

from atelier_client.client import AtelierClient
from atelier_client.errors import (
    AdapterUnusable,
    ApiError,
    CaptionerUnusable,
    CaptioningEnded,
    ClientError,
    ConnectionFailed,
    DatasetUnusable,
    DownloadDamaged,
    GenerationEnded,
    InputError,
    JobEnded,
    ModelUnusable,
    Problem,
    PromotionFailed,
    SamplesNotDrawn,
    UnexpectedAnswer,
    WaitTimeout,
)
from atelier_client.uploads import Selection, select_files
from atelier_client.watching import Update

__all__ = [
    "AdapterUnusable",
    "ApiError",
    "AtelierClient",
    "CaptionerUnusable",
    "CaptioningEnded",
    "ClientError",
    "ConnectionFailed",
    "DatasetUnusable",
    "DownloadDamaged",
    "GenerationEnded",
    "InputError",
    "JobEnded",
    "ModelUnusable",
    "Problem",
    "PromotionFailed",
    "SamplesNotDrawn",
    "Selection",
    "UnexpectedAnswer",
    "Update",
    "WaitTimeout",
    "select_files",
]
