"""Media types and content codings of requests (RFC 9110, 8.3, 8.4 and 12.5.1), and answers that are event streams."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.datastructures import Headers
from starlette.responses import Response

from core.domain.errors import UnsupportedMedia

JSON = "application/json"
MULTIPART = "multipart/form-data"
EVENT_STREAM = "text/event-stream"
KEEPALIVE_SECONDS = 15
SEND_SECONDS = 60
"""A reader that takes nothing for so long is disconnected."""
TEXT: Mapping[str, Any] = {"type": "string"}


class UnsupportedCoding(UnsupportedMedia):
    """A compressed body: shown as unsupported-media; Accept-Encoding lists the supported codings."""


def send_events(messages: AsyncIterator[ServerSentEvent | bytes]) -> EventSourceResponse:
    return EventSourceResponse(messages, ping=KEEPALIVE_SECONDS, send_timeout=SEND_SECONDS)


def end_events() -> Response:
    """For a reader that has the last event already: browsers connect again after any other answer."""
    return Response(status_code=204)


def describe_events(example: str, schema: Mapping[str, Any] = TEXT) -> dict[int | str, dict[str, Any]]:
    """For the OpenAPI document: the answers of a route that can be an event stream."""
    return {
        200: {"content": {EVENT_STREAM: {"schema": schema, "example": example}}},
        204: {"description": "A stream that is opened again after its last event: there is nothing more to come."},
    }


def media_type_of(headers: Headers) -> str:
    """The body's media type, in lower case and without parameters; empty if none is given."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def accepts(headers: Headers, media_type: str) -> bool:
    """Whether the client accepts this very type by name; `*/*` comes from clients without a preference."""
    ranges = ",".join(headers.getlist("accept")).lower().split(",")
    return any(_is_wanted(*one.partition(";")[::2], media_type) for one in ranges)


def _is_wanted(name: str, parameters: str, media_type: str) -> bool:
    refused = any(one.strip() in {"q=0", "q=0.0", "q=0.00", "q=0.000"} for one in parameters.split(";"))
    return name.strip() == media_type and not refused


def refuse_coding(headers: Headers) -> None:
    """Bytes are counted and checked as they arrive, so nothing is unpacked on the way. Raises UnsupportedCoding."""
    codings = {coding.strip().lower() for coding in ",".join(headers.getlist("content-encoding")).split(",")}
    if unknown := sorted(codings - {"", "identity"}):
        raise UnsupportedCoding(
            f"The body has Content-Encoding: {', '.join(unknown)[:80]}, which is not supported. Send it "
            "uncompressed, without that header; send a .zip or .tar.gz of images as a file."
        )
