"""Made from ``atelier_client.generations`` by ``scripts/make_async_client.py``: change that, and run it again."""

from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atelier_client.aio.calls import Calls
from atelier_client.aio.waiting import follow, retry
from atelier_client.errors import GenerationEnded
from atelier_client.generations import WAIT_SECONDS, Generation, explain_generation, find_pillow
from atelier_client.models import Page
from atelier_client.transport import quote

if TYPE_CHECKING:
    from PIL.Image import Image


class GenerationCalls(Calls):
    async def create_generation(self, spec: Mapping[str, Any]) -> Generation:
        """``spec`` is the body of ``POST /generations``; ``model`` and ``prompts`` are enough. Retries carry a key, so
        that they make one generation."""
        return await self._create("/generations", Generation, spec)

    async def get_generation(self, generation_id: str, *, wait_seconds: float = 0) -> Generation:
        """``wait_seconds``: for another image or the end, at most a minute."""
        params = {"wait": str(wait_seconds)} if wait_seconds else None
        return await self._transport.get(f"/generations/{quote(generation_id)}", Generation, params=params)

    def list_generations(self, *, after: str | None = None) -> AsyncIterator[Generation]:
        """Newest first, starting after an id. Pages are fetched on demand."""
        return self._list("/generations", Page[Generation], {"after": after})

    async def wait_for_generation(
        self,
        generation_id: str,
        *,
        timeout_seconds: float | None = None,
        on_update: Callable[[Generation], object] = lambda _: None,
    ) -> Generation:
        """Returns it once all images are drawn; ``on_update`` is called whenever another one is. Raises
        GenerationEnded if it failed or was canceled, and WaitTimeout."""
        generation = await follow(
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

    async def generate(self, spec: Mapping[str, Any], *, timeout_seconds: float | None = None) -> "list[Image]":
        """Draws, waits, and returns the images for Pillow, prompt by prompt; ``image.info["parameters"]`` says how each
        was drawn. Needs Pillow: raises InputError without it, before anything is drawn; ``generate_png`` does not."""
        open_png = find_pillow()
        return [open_png(content) for content in await self.generate_png(spec, timeout_seconds=timeout_seconds)]

    async def generate_png(self, spec: Mapping[str, Any], *, timeout_seconds: float | None = None) -> list[bytes]:
        """Draws, waits, and returns the images as PNG files, prompt by prompt. Raises as ``wait_for_generation``."""
        made = await self.create_generation(spec)
        done = await self.wait_for_generation(made.id, timeout_seconds=timeout_seconds)
        return [await retry(partial(self._read, image.url)) for image in done.images]

    async def download_generated_image(self, generation_id: str, index: int, target: Path) -> str:
        """Returns the file's sha256. Raises DownloadDamaged, InputError."""
        return await self._download(f"/generations/{quote(generation_id)}/images/{index}.png", target)

    async def download_generated_sheet(self, generation_id: str, prompt: int, target: Path) -> str:
        """``prompt``: its number. Returns the file's sha256. Raises DownloadDamaged, InputError."""
        return await self._download(f"/generations/{quote(generation_id)}/sheets/{prompt}.png", target)

    async def _read(self, path: str) -> bytes:
        async with self._transport.stream(path) as response:
            return await response.aread()

    async def cancel_generation(self, generation_id: str) -> Generation:
        return await self._transport.ask("POST", f"/generations/{quote(generation_id)}/cancel", Generation)

    async def delete_generation(self, generation_id: str) -> None:
        """Ended or not, with its images."""
        await self._transport.send("DELETE", f"/generations/{quote(generation_id)}")
