"""Datasets, as the API receives and shows them."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from app.errors import ErrorOut
from core.db.datasets import Totals
from core.db.tables import Dataset, DatasetFile
from core.domain.dataset import DatasetReport, ManifestImage, Role, choose_bucket, list_cut_sides
from core.domain.edits import Edits
from core.domain.model import ModelInfo
from core.domain.numbers import StrictInt, StrictNumbers
from core.domain.phrases import Phrase
from core.domain.sources import MAX_URLS, SourceUrl
from core.domain.states import DatasetStatus

_DATASET_ID = "ds_01j9z3h2b6n4c8d0f2g4h6j8ka"
_SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_URL = f"/datasets/{_DATASET_ID}"
_TIME = "2026-01-31T12:00:00Z"


def example(value: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [value]})


class DatasetRequest(BaseModel):
    """An open dataset, to fill file by file and then finalize; or, with ``urls``, one whose files a worker fetches."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"name": "my cat"}]})

    name: Phrase | None = None
    urls: Annotated[list[SourceUrl], Field(min_length=1, max_length=MAX_URLS)] | None = Field(
        None,
        description="Addresses on the public internet of images, captions and archives, as they would be uploaded. "
        "Each file is called by the last part of its address's path. Those that cannot be fetched are listed in the "
        "report.",
    )


class RevisionRequest(Edits):
    """The edits that make a new dataset of a ready one; at least one must change something."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "exclude": ["cat-7.png"],
                    "captions": {"cat-1.png": "a cat on a sofa"},
                    "find_replace": [{"find": "kitten", "replace": "cat", "whole_word": True}],
                    "prefix": "a photo of ",
                }
            ]
        }
    )

    name: Phrase | None = Field(None, description="The name of the new dataset; by default its parent's.")


class DatasetUrls(BaseModel):
    self: str
    images: str
    finalize: str
    revisions: str
    download: str


class DatasetOut(BaseModel):
    """``report`` describes the result for every file after validation; ``error`` says why the set was rejected.

    A ready dataset never changes: ``manifest_sha256`` is the hash of its images and captions.
    """

    model_config = example(
        {
            "id": _DATASET_ID,
            "object": "dataset",
            "name": "blip",
            "status": "ready",
            "created_at": _TIME,
            "validated_at": _TIME,
            "num_files": 24,
            "size": 412_312,
            "files_sha256": _SHA256,
            "num_sources": None,
            "num_images": 12,
            "manifest_sha256": _SHA256,
            "report": {
                "num_files": 24,
                "num_images": 12,
                "left_out": [],
                "warnings": [],
                "notes": [],
                "files": {
                    "received": 25,
                    "images": 12,
                    "captions": 12,
                    "masks": 0,
                    "left_out": 0,
                    "litter": 1,
                    "unexamined": 0,
                },
            },
            "error": None,
            "waiting_reason": None,
            "parent": None,
            "urls": {
                "self": _URL,
                "images": f"{_URL}/images",
                "finalize": f"{_URL}/finalize",
                "revisions": f"{_URL}/revisions",
                "download": f"{_URL}/download",
            },
        }
    )

    id: str
    object: Literal["dataset"] = "dataset"
    name: str | None
    status: DatasetStatus
    created_at: datetime
    validated_at: datetime | None
    num_files: int = Field(description="Files received; an archive counts as one. A revision has none.")
    size: int = Field(description="Bytes received.")
    files_sha256: str | None = Field(
        description="Of the files received: SHA-256 over each name and each file's SHA-256 in hexadecimal, both "
        "followed by a line feed, in the order of the names as UTF-8. Equal files give equal hashes; null without any."
    )
    num_sources: int | None = Field(
        description="Addresses that its files are being fetched from; null once that has ended, and for other datasets."
    )
    num_images: int | None = Field(description="Usable images; null before validation.")
    manifest_sha256: str | None
    report: DatasetReport | None
    error: ErrorOut | None
    waiting_reason: str | None = Field(description="Why validation is deferred, through no fault of the dataset.")
    parent: str | None = Field(
        description="The dataset that this is a revision of; null if it is none, or if that was deleted."
    )
    urls: DatasetUrls

    @classmethod
    def of(cls, dataset: Dataset, totals: Totals) -> Self:
        url = f"/datasets/{dataset.id}"
        report = DatasetReport.model_validate(dataset.report) if dataset.report else None
        return cls(
            id=dataset.id,
            name=dataset.name,
            status=DatasetStatus(dataset.status),
            created_at=dataset.created_at,
            validated_at=dataset.validated_at,
            num_files=totals.num_files,
            size=totals.num_bytes,
            files_sha256=totals.files_sha256,
            num_sources=None if dataset.sources is None else len(dataset.sources),
            num_images=report.num_images if report else None,
            manifest_sha256=dataset.manifest_sha256,
            report=report,
            error=ErrorOut.model_validate(dataset.error) if dataset.error else None,
            waiting_reason=dataset.waiting_reason,
            parent=dataset.parent_id,
            urls=DatasetUrls(
                self=url,
                images=f"{url}/images",
                finalize=f"{url}/finalize",
                revisions=f"{url}/revisions",
                download=f"{url}/download",
            ),
        )


class FileOut(BaseModel):
    """A file of an open dataset, as it was uploaded. ``size`` in bytes."""

    model_config = example(
        {"object": "file", "filename": "cat-1.png", "size": 34_012, "sha256": _SHA256, "created_at": _TIME}
    )

    object: Literal["file"] = "file"
    filename: str
    size: int
    sha256: str
    created_at: datetime

    @classmethod
    def of(cls, file: DatasetFile) -> Self:
        return cls(filename=file.filename, size=file.size, sha256=file.sha256, created_at=file.created_at)


class TrainedSize(BaseModel):
    """The size at which a base is trained with an image at the base's own resolution, in pixels. The image is scaled to
    cover it, and cropped at the centre."""

    width: int
    height: int
    cut_width: float = Field(description="The fraction of the image's width that is cropped away, on both sides alike.")
    cut_height: float = Field(description="The same of its height.")

    @classmethod
    def of(cls, image: ManifestImage, model: ModelInfo) -> Self:
        bucket = choose_bucket(image.width, image.height, model.resolution, model.resolution_step)
        cut_width, cut_height = list_cut_sides(image.width, image.height, bucket)
        return cls(
            width=bucket.width, height=bucket.height, cut_width=round(cut_width, 4), cut_height=round(cut_height, 4)
        )


class ImageOut(BaseModel):
    """A usable image: upright, without metadata, as PNG. ``width`` and ``height`` in pixels, ``size`` in bytes."""

    model_config = example(
        {
            "name": "cat-1.png",
            "url": f"{_URL}/images/{_SHA256}.png",
            "thumbnail_url": f"{_URL}/images/{_SHA256}.webp",
            "sha256": _SHA256,
            "size": 34_012,
            "width": 512,
            "height": 512,
            "caption": "a cat on a sofa",
            "sharpness": 180.2,
            "role": "subject",
            "repeats": 1,
            "bucket": None,
        }
    )

    name: str
    url: str
    thumbnail_url: str = Field(
        description="A WebP of at most 256 pixels a side; the same as `url` if the image is no larger, or was stored "
        "before there were thumbnails."
    )
    sha256: str
    size: int
    width: int
    height: int
    caption: str | None
    sharpness: float = Field(description="Variance of the Laplacian; a low value means blur.")
    role: Role = Field(description="`class`: a regularisation image, which prior preservation uses.")
    repeats: int = Field(description="How often it occurs in an epoch.")
    bucket: TrainedSize | None = Field(description="How `model` is trained with it; null without `model`.")

    @classmethod
    def of(cls, dataset_id: str, image: ManifestImage, model: ModelInfo | None = None) -> Self:
        """``model``: the base to show the training size for."""
        address = f"/datasets/{dataset_id}/images/{image.sha256}"
        thumbnail_url = f"{address}.webp" if image.thumbnail else f"{address}.png"
        bucket = TrainedSize.of(image, model) if model else None
        described = image.model_dump(include=set(cls.model_fields))
        return cls(url=f"{address}.png", thumbnail_url=thumbnail_url, bucket=bucket, **described)


class AnnouncedFile(StrictNumbers):
    """A file to upload: ``size`` in bytes, ``sha256`` in hexadecimal."""

    model_config = ConfigDict(extra="forbid")

    filename: Annotated[str, Field(min_length=1, max_length=255)]
    size: Annotated[StrictInt, Field(ge=1)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class UploadsRequest(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"files": [{"filename": "cat-1.png", "size": 34_012, "sha256": _SHA256}]}]},
    )

    files: Annotated[list[AnnouncedFile], Field(min_length=1, max_length=1000)]


class UploadOut(BaseModel):
    """Send the file's bytes by ``method`` to ``url``, with all of ``headers``, before ``expires_at``."""

    model_config = example(
        {
            "filename": "cat-1.png",
            "method": "PUT",
            "url": "https://bucket.example/datasets/…?X-Amz-Signature=…",
            "headers": {"Content-Length": "34012"},
            "expires_at": _TIME,
        }
    )

    filename: str
    method: str
    url: str
    headers: dict[str, str]
    expires_at: datetime
