"""Made from ``atelier_client.downloads`` by ``scripts/make_async_client.py``: change that, and run it again."""

import hashlib
from pathlib import Path

import httpx

from atelier_client.downloads import announced_sha256, replace_whole
from atelier_client.errors import DownloadDamaged


async def save(response: httpx.Response, target: Path) -> str:
    """Streams an open response into ``target``; returns the bytes' sha256.

    Raises DownloadDamaged if the sha256 differs from the ETag's, InputError if the target cannot be written.
    """
    digest = hashlib.sha256()
    with replace_whole(target) as file:
        async for block in response.aiter_bytes():
            digest.update(block)
            file.write(block)
        expected = announced_sha256(response)
        if expected is not None and digest.hexdigest() != expected:
            raise DownloadDamaged(f"{target.name} arrived damaged, and nothing was kept of it. Download it again.")
    return digest.hexdigest()
