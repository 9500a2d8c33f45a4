"""Captioners: models that write captions. Their registration, and what is known of a registered one."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from core.domain.base import Frozen
from core.domain.registration import HUB_ID_PATTERN

FOLDER = "captioners"
"""Below the models directory: where captioners of the Hub are put."""

CaptionerKind = Literal["image-to-text", "tagger"]
"""``image-to-text``: a transformers model that writes sentences; ``tagger``: an ONNX model that scores a list of tags,
as the WD taggers do."""

DEFAULT_THRESHOLD = 0.35
CHARACTER_THRESHOLD = 0.85
"""Of tags that name characters, at least: as in the WD taggers' own demonstration."""


class CaptionerSource(Frozen):
    """A folder below the models directory, or a Hub id: exactly one of the two."""

    path: str | None = None
    hub_id: Annotated[str | None, Field(pattern=HUB_ID_PATTERN)] = None
    description: str = ""


class CaptionerInfo(Frozen):
    """What a worker found when it loaded the captioner. ``sha256`` is of the names and contents of its files."""

    kind: CaptionerKind
    architecture: str = Field(description="The model's class, such as `BlipForConditionalGeneration`; `onnx`.")
    takes_prompt: bool = Field(description="Whether a prompt changes what it writes.")
    num_parameters: int | None = Field(None, description="Null for an ONNX model.")
    num_tags: int | None = Field(None, description="The length of a tagger's list.")
    size: int = Field(description="Bytes of its files.")
    sha256: str = Field(description="Of the names and contents of its files.")


class CaptionerOrder(Frozen):
    """The first line to the program that captions. Without ``sha256`` the captioner is being registered: it is tried
    out, and its files are hashed; else it must be the one that was registered.

    ``device``: torch's name of it; ``cpu_threads``: 0 for one for each core.
    """

    folder: Path
    device: str
    cpu_threads: int = 0
    sha256: str | None = None
    kind: CaptionerKind | None = None
    prompt: str | None = None
    threshold: float = DEFAULT_THRESHOLD


class CaptionerReply(Frozen):
    """A line from that program: to the order ``info``, to the path of an image its ``caption``. ``refusal`` ends it: in
    words for the owner."""

    info: CaptionerInfo | None = None
    caption: str | None = None
    refusal: str | None = None


class FetchOrder(Frozen):
    """The order to the program that fetches a captioner from the Hub into ``folder``, which does not exist yet."""

    hub_id: str
    folder: Path


class FetchResult(Frozen):
    refusal: str | None = None
    done: bool = False
