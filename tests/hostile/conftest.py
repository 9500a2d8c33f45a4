"""The API of tests/app, and a decoder, for what users may send that nobody honest would."""

from tests.app.conftest import admin, api, other, shared_api, start_api
from tests.worker.datasets.conftest import folder, sandbox

__all__ = ["admin", "api", "folder", "other", "sandbox", "shared_api", "start_api"]
