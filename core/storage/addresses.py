"""Stores that clients cannot reach return no addresses, so the API transfers the bytes."""

from core.storage.keys import check_key
from core.storage.protocol import PresignedUpload


class WithoutAddresses:
    """The base of the directory and memory stores."""

    def download_url(self, key: str, **_: object) -> str | None:
        check_key(key)
        return None

    def upload_url(self, key: str, **_: object) -> PresignedUpload | None:
        check_key(key)
        return None
