"""Media types and content codings of requests (RFC 9110, 8.3, 8.4 and 12.5.1)."""

from starlette.datastructures import Headers

from core.domain.errors import UnsupportedMedia

JSON = "application/json"
MULTIPART = "multipart/form-data"
EVENT_STREAM = "text/event-stream"


class UnsupportedCoding(UnsupportedMedia):
    """A compressed body: shown as unsupported-media, with what is taken in Accept-Encoding."""


def media_type_of(headers: Headers) -> str:
    """Of the body, in lower case and without parameters; empty where none is named."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def accepts(headers: Headers, media_type: str) -> bool:
    """Whether the answer is asked for by this very name; `*/*` is what clients send that do not care."""
    ranges = ",".join(headers.getlist("accept")).lower().split(",")
    return any(_is_wanted(*one.partition(";")[::2], media_type) for one in ranges)


def _is_wanted(name: str, parameters: str, media_type: str) -> bool:
    refused = any(one.strip() in {"q=0", "q=0.0", "q=0.00", "q=0.000"} for one in parameters.split(";"))
    return name.strip() == media_type and not refused


def refuse_coding(headers: Headers) -> None:
    """Bytes are counted and looked at as they come, so nothing is unpacked on the way. Raises UnsupportedCoding."""
    codings = {coding.strip().lower() for coding in ",".join(headers.getlist("content-encoding")).split(",")}
    if unknown := sorted(codings - {"", "identity"}):
        raise UnsupportedCoding(
            f"The body is sent with Content-Encoding: {', '.join(unknown)[:80]}, which is not unpacked here. Send it "
            "uncompressed, without that header; a .zip or .tar.gz of images goes up as a file, as it is."
        )
