"""Counts of a dataset's files by result, which must add up."""

from typing import Self

from pydantic import Field, model_validator

from core.domain.base import Frozen


class FileCounts(Frozen):
    """Every file counts once; files in archives count instead of the archives themselves."""

    received: int = Field(description="All files, including those in archives; the sum of the others.")
    images: int = Field(description="Files that became images of the set.")
    captions: int = Field(description="Caption files and metadata files that were read.")
    masks: int = Field(description="Files that were read as masks of images.")
    left_out: int = Field(description="Files that were not used; `left_out` gives the reasons.")
    litter: int = Field(description="System files such as .DS_Store and Thumbs.db.")
    unexamined: int = Field(0, description="For a rejected set: files that were not examined.")

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        known = self.images + self.captions + self.masks + self.left_out + self.litter + self.unexamined
        if self.received != known:
            raise ValueError(f"{self.received} files were received, but {known} are accounted for")
        return self
