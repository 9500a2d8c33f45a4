"""The edits that make a revision of a dataset, in the order in which they apply."""

import unicodedata
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field

from core.domain.dataset import MAX_CAPTION_CHARS, MIN_SIDE
from core.domain.numbers import StrictBool, StrictInt, StrictNumbers
from core.domain.phrases import PATTERN, check_phrase

MAX_RULES = 20
MAX_TAGS = 50
MAX_NAMES = 10_000
MAX_SOURCES = 10
MAX_SIDE = 1_000_000
_ONE_LINE = r"^[^\x00-\x1f\x7f]*$"
_TAG = r"^[^\x00-\x1f\x7f,]*[^\x00-\x1f\x7f\s,][^\x00-\x1f\x7f,]*$"


def check_affix(text: str) -> str:
    """As a phrase, but with the spaces around it. Raises ValueError."""
    check_phrase(text)
    return text


def check_tag(text: str) -> str:
    """Raises ValueError."""
    if "," in text:
        raise ValueError("is several tags: list each one by itself")
    return check_phrase(text)


def check_line(text: str) -> str:
    """Raises ValueError."""
    if any(unicodedata.category(char) == "Cc" for char in text if ord(char) < 0x80):
        raise ValueError("must be one line, without control characters such as tabs")
    return text


ImageName = Annotated[str, Field(min_length=1, max_length=1000, pattern=_ONE_LINE)]
CaptionText = Annotated[
    str,
    Field(min_length=1, max_length=MAX_CAPTION_CHARS, json_schema_extra={"pattern": PATTERN}),
    AfterValidator(check_phrase),
]
Affix = Annotated[
    str, Field(min_length=1, max_length=200, json_schema_extra={"pattern": PATTERN}), AfterValidator(check_affix)
]
Tag = Annotated[
    str, Field(min_length=1, max_length=200, json_schema_extra={"pattern": _TAG}), AfterValidator(check_tag)
]
Find = Annotated[
    str, Field(min_length=1, max_length=200, json_schema_extra={"pattern": _ONE_LINE}), AfterValidator(check_line)
]
Replacement = Annotated[
    str, Field(max_length=200, json_schema_extra={"pattern": _ONE_LINE}), AfterValidator(check_line)
]
Side = Annotated[StrictInt, Field(ge=MIN_SIDE, le=MAX_SIDE)]
Offset = Annotated[StrictInt, Field(ge=0, le=MAX_SIDE)]


class Edit(StrictNumbers):
    """A part of a request: immutable, and without undeclared fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Replacing(Edit):
    """A text to find in captions, and its replacement. It is literal, not a pattern."""

    find: Find = Field(description="The text to find.")
    replace: Replacement = Field("", description="The text in its place; by default none.")
    whole_word: StrictBool = Field(False, description="Not within a word: `cat` is not found in `catalogue`.")
    ignore_case: StrictBool = Field(False, description="Upper and lower case count as the same.")


class AddedTags(Edit):
    """Tags to add where a caption does not have them."""

    tags: Annotated[tuple[Tag, ...], Field(min_length=1, max_length=MAX_TAGS)] = Field(
        description="One tag each, without commas."
    )
    position: Literal["front", "back"] = Field("back", description="Before or after the caption.")


class Box(Edit):
    """A part of an image, in pixels of the stored image, from its upper left corner."""

    left: Offset = Field(description="Pixels left of the box.")
    top: Offset = Field(description="Pixels above the box.")
    width: Side = Field(description="Width in pixels.")
    height: Side = Field(description="Height in pixels.")


class Inclusion(Edit):
    """Images of another ready dataset, as they are there, with their captions."""

    dataset: Annotated[str, Field(min_length=1, max_length=100, pattern=_ONE_LINE)] = Field(
        description="The dataset's id, `ds_…`."
    )
    images: Annotated[tuple[ImageName, ...] | None, Field(min_length=1, max_length=MAX_NAMES)] = Field(
        None, description="By name or SHA-256; by default all."
    )


class Edits(Edit):
    """Applied in this order. Names are those of the dataset's images.

    Texts in captions (``find_replace`` to ``suffix``) apply to the subject's images and not to regularisation images.
    """

    exclude: Annotated[tuple[ImageName, ...], Field(max_length=MAX_NAMES)] = Field(
        (), description="Images to leave out, by name or SHA-256."
    )
    captions: Annotated[dict[ImageName, CaptionText | None], Field(max_length=MAX_NAMES)] = Field(
        default_factory=dict, description="New captions by image; null removes one."
    )
    find_replace: Annotated[tuple[Replacing, ...], Field(max_length=MAX_RULES)] = Field(
        (), description="Replacements in captions, one after another."
    )
    remove_tags: Annotated[tuple[Tag, ...], Field(max_length=MAX_TAGS)] = Field(
        (), description="Tags to remove from captions that are lists separated by commas, in any case."
    )
    add_tags: AddedTags | None = Field(
        None, description="Tags to add to captions; an image without a caption gets them as its caption."
    )
    prefix: Affix | None = Field(
        None, description="Put directly before each caption, with its spaces; images without a caption stay so."
    )
    suffix: Affix | None = Field(None, description="Put directly after each caption, as `prefix`.")
    crop: Annotated[dict[ImageName, Box], Field(max_length=MAX_NAMES)] = Field(
        default_factory=dict, description="The part of each image to keep, by image."
    )
    include: Annotated[tuple[Inclusion, ...], Field(max_length=MAX_SOURCES)] = Field(
        (), description="Images to take in. Identical images are taken once; a taken name gets a number."
    )
