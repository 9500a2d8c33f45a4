"""The Python client of Atelier's HTTP contract. It knows httpx, and nothing else of the house."""

from client.client import AtelierClient
from client.errors import (
    AdapterUnusable,
    ApiError,
    ClientError,
    ConnectionFailed,
    DatasetUnusable,
    DownloadDamaged,
    InputError,
    JobEnded,
    ModelUnusable,
    Problem,
    UnexpectedAnswer,
    WaitTimeout,
)
from client.uploads import Selection, select_files
from client.watching import Update

__all__ = [
    "AdapterUnusable",
    "ApiError",
    "AtelierClient",
    "ClientError",
    "ConnectionFailed",
    "DatasetUnusable",
    "DownloadDamaged",
    "InputError",
    "JobEnded",
    "ModelUnusable",
    "Problem",
    "Selection",
    "UnexpectedAnswer",
    "Update",
    "WaitTimeout",
    "select_files",
]
