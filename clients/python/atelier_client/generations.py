"""Generations: queue, follow, and fetch their images."""

import io
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atelier_client.calls import Calls
from atelier_client.errors import GenerationEnded, InputError
from atelier_client.models import Answer, ErrorInfo, Page
from atelier_client.transport import quote
from atelier_client.waiting import follow, retry

if TYPE_CHECKING:
    from PIL.Image import Image

WAIT_SECONDS = 30
"""Of one request: the service answers as soon as another image is drawn."""


class GeneratedImage(Answer):
    """``url`` is a path of the service."""

    index: int
    prompt: str
    seed: int
    url: str
    sha256: str
    size: int


class GeneratedSheet(Answer):
    """The images of a prompt's grid on one labelled sheet. ``url`` is a path of the service."""

    prompt: int
    url: str
    sha256: str
    size: int


class Generation(Answer):
    """``images`` are those that are drawn, of ``num_total``."""

    id: str
    status: str
    model: str
    prompts: tuple[str, ...] = ()
    num_drawn: int = 0
    num_total: int = 0
    images: tuple[GeneratedImage, ...] = ()
    sheets: tuple[GeneratedSheet, ...] = ()
    error: ErrorInfo | None = None
    waiting_reason: str | None = None
    created_at: datetime
    ended_at: datetime | None = None

    @property
    def is_terminal(self) -> bool:
        return self.status not in {"queued", "running"}


class GenerationCalls(Calls):
    def create_generation(self, spec: Mapping[str, Any]) -> Generation:
        """``spec`` is the body of ``POST /generations``; ``model`` and ``prompts`` are enough. Retries carry a key, so
        that they make one generation."""
        return self._create("/generations", Generation, spec)

    def get_generation(self, generation_id: str, *, wait_seconds: float = 0) -> Generation:
        """``wait_seconds``: for another image or the end, at most a minute."""
        params = {"wait": str(wait_seconds)} if wait_seconds else None
        return self._transport.get(f"/generations/{quote(generation_id)}", Generation, params=params)

    def list_generations(self, *, after: str | None = None) -> Iterator[Generation]:
        """Newest first, starting after an id. Pages are fetched on demand."""
        return self._list("/generations", Page[Generation], {"after": after})

    def wait_for_generation(
        self,
        generation_id: str,
        *,
        timeout_seconds: float | None = None,
        on_update: Callable[[Generation], object] = lambda _: None,
    ) -> Generation:
        """Returns it once all images are drawn; ``on_update`` is called whenever another one is. Raises
        GenerationEnded if it failed or was canceled, and WaitTimeout."""
        generation = follow(
            lambda seconds: self.get_generation(generation_id, wait_seconds=seconds),
            lambda generation: generation.num_drawn,
            longest_seconds=WAIT_SECONDS,
            timeout_seconds=timeout_seconds,
            what=f"Generation {generation_id}",
            on_update=on_update,
        )
        if generation.status != "succeeded":
            raise GenerationEnded(explain_generation(generation), generation)
        return generation

    def generate(self, spec: Mapping[str, Any], *, timeout_seconds: float | None = None) -> "list[Image]":
        """Draws, waits, and returns the images for Pillow, prompt by prompt; ``image.info["parameters"]`` says how each
        was drawn. Needs Pillow: raises InputError without it, before anything is drawn; ``generate_png`` does not."""
        open_png = find_pillow()
        return [open_png(content) for content in self.generate_png(spec, timeout_seconds=timeout_seconds)]

    def generate_png(self, spec: Mapping[str, Any], *, timeout_seconds: float | None = None) -> list[bytes]:
        """Draws, waits, and returns the images as PNG files, prompt by prompt. Raises as ``wait_for_generation``."""
        made = self.create_generation(spec)
        done = self.wait_for_generation(made.id, timeout_seconds=timeout_seconds)
        return [retry(partial(self._read, image.url)) for image in done.images]

    def download_generated_image(self, generation_id: str, index: int, target: Path) -> str:
        """Returns the file's sha256. Raises DownloadDamaged, InputError."""
        return self._download(f"/generations/{quote(generation_id)}/images/{index}.png", target)

    def download_generated_sheet(self, generation_id: str, prompt: int, target: Path) -> str:
        """``prompt``: its number. Returns the file's sha256. Raises DownloadDamaged, InputError."""
        return self._download(f"/generations/{quote(generation_id)}/sheets/{prompt}.png", target)

    def _read(self, path: str) -> bytes:
        with self._transport.stream(path) as response:
            return response.read()

    def cancel_generation(self, generation_id: str) -> Generation:
        return self._transport.ask("POST", f"/generations/{quote(generation_id)}/cancel", Generation)

    def delete_generation(self, generation_id: str) -> None:
        """Ended or not, with its images."""
        self._transport.send("DELETE", f"/generations/{quote(generation_id)}")


def find_pillow() -> "Callable[[bytes], Image]":
    """Raises InputError if Pillow is not installed."""
    try:
        from PIL import Image
    except ImportError:
        raise InputError("Images need Pillow: pip install pillow. generate_png returns PNG files without it.") from None

    def open_png(content: bytes) -> Image.Image:
        image = Image.open(io.BytesIO(content), formats=["PNG"])
        image.load()
        return image

    return open_png


def explain_generation(generation: Generation) -> str:
    if generation.error is not None:
        return f"Generation {generation.id} failed. {generation.error.title}: {generation.error.detail}"
    return f"Generation {generation.id} was {generation.status}."
