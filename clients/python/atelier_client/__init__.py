"""The Python client of Atelier, the self-hosted LoRA training service."""

from atelier_client.aio.client import AsyncAtelierClient
from atelier_client.aio.training import Training as AsyncTraining
from atelier_client.client import AtelierClient
from atelier_client.errors import (
    AdapterUnusable,
    ApiError,
    CaptionerUnusable,
    CaptioningEnded,
    ClientError,
    ConnectionFailed,
    CoverRejected,
    DatasetUnusable,
    DownloadDamaged,
    GenerationEnded,
    InputError,
    JobEnded,
    ModelUnusable,
    Problem,
    PromotionFailed,
    PublicationFailed,
    SamplesNotDrawn,
    UnexpectedAnswer,
    WaitTimeout,
)
from atelier_client.training import Training
from atelier_client.uploads import Selection, select_files
from atelier_client.watching import Update

__all__ = [
    "AdapterUnusable",
    "ApiError",
    "AsyncAtelierClient",
    "AsyncTraining",
    "AtelierClient",
    "CaptionerUnusable",
    "CaptioningEnded",
    "ClientError",
    "ConnectionFailed",
    "CoverRejected",
    "DatasetUnusable",
    "DownloadDamaged",
    "GenerationEnded",
    "InputError",
    "JobEnded",
    "ModelUnusable",
    "Problem",
    "PromotionFailed",
    "PublicationFailed",
    "SamplesNotDrawn",
    "Selection",
    "Training",
    "UnexpectedAnswer",
    "Update",
    "WaitTimeout",
    "select_files",
]
