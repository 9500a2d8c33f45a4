"""What became of the files of a dataset, in numbers that must add up."""

from typing import Self

from pydantic import Field, model_validator

from core.domain.base import Frozen


class FileCounts(Frozen):
    """Every file counts once, those in archives instead of the archives themselves."""

    received: int = Field(description="All files, those in archives among them; the sum of the others.")
    images: int = Field(description="Files that became images of the set.")
    captions: int = Field(description="Caption files and metadata files that were read.")
    masks: int = Field(description="Files that were read as the mask of an image.")
    left_out: int = Field(description="Files of which `left_out` says why they were not used.")
    litter: int = Field(description="Files that operating systems leave in folders, such as .DS_Store and Thumbs.db.")
    unexamined: int = Field(0, description="Of a rejected set: files that were not looked at any more.")

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        known = self.images + self.captions + self.masks + self.left_out + self.litter + self.unexamined
        if self.received != known:
            raise ValueError(f"{self.received} files were received, and it is known of {known} what became of them")
        return self
