"""The answer of stores that clients cannot reach: no addresses, so the API passes the bytes on."""

from core.storage.keys import check_key
from core.storage.protocol import PresignedUpload


class WithoutAddresses:
    """What a directory and memory have in common."""

    def download_url(self, key: str, **_: object) -> str | None:
        check_key(key)
        return None

    def upload_url(self, key: str, **_: object) -> PresignedUpload | None:
        check_key(key)
        return None
