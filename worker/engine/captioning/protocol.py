"""What every captioner can do."""

from typing import Protocol

from PIL import Image

from core.domain.captioner import CaptionerKind


class OpenCaptioner(Protocol):
    """A loaded captioner."""

    @property
    def kind(self) -> CaptionerKind: ...

    @property
    def architecture(self) -> str: ...

    @property
    def takes_prompt(self) -> bool: ...

    @property
    def num_parameters(self) -> int | None: ...

    @property
    def num_tags(self) -> int | None: ...

    def caption(self, image: Image.Image) -> str:
        """``image``: RGB, of any size. Returns what the model wrote, untouched."""
