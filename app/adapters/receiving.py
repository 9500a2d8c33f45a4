"""Receives an import's multipart body: the file goes into storage as it arrives; the fields are few and short."""

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from app.adapters.schemas import AdapterImport
from app.multipart import PartStart, data_of, read_events, read_field
from app.services import Services
from app.storing import storing
from core.domain.artifacts import Artifact, adapter_upload_key
from core.domain.errors import InvalidRequest, TooLarge, UnsupportedWeights, WeightsRejected
from core.domain.weights import HEAD_BYTES, LENGTH_BYTES, measure_head, read_header

FILE_FIELD, TAGS_FIELD = "file", "tags"
SUFFIX = ".safetensors"
MAX_FIELD_BYTES, MAX_FIELDS = 2000, 40
_one_header = threading.Lock()
"""The largest takes some 100 MB while it is parsed, so only a few are parsed at the same time."""


@dataclass(frozen=True)
class ReceivedAdapter:
    """A file in storage, with the fields sent beside it. ``filename`` without its folders."""

    upload: Artifact
    filename: str
    asked: AdapterImport


@dataclass
class _Form:
    file: tuple[str, Artifact] | None = None
    num_fields: int = 0
    fields: dict[str, object] = field(default_factory=dict)


async def receive_adapter(
    services: Services, adapter_id: str, body: AsyncIterator[bytes], content_type: str
) -> ReceivedAdapter:
    """Raises InvalidRequest, UnsupportedWeights, WeightsRejected, TooLarge; the caller removes anything that was
    stored by then."""
    form, events = _Form(), read_events(body, content_type)
    async for event in events:
        assert isinstance(event, PartStart)
        if event.filename:
            await _take_file(services, adapter_id, form, event, data_of(events))
        else:
            await _take_field(form, event.field, data_of(events))
    if form.file is None:
        raise InvalidRequest(
            f"The body has no file: send one, as the multipart field `{FILE_FIELD}`.",
            {f"/{FILE_FIELD}": ["is required"]},
        )
    return ReceivedAdapter(form.file[1], form.file[0], parse_fields(form.fields))


async def _take_file(
    services: Services, adapter_id: str, form: _Form, start: PartStart, chunks: AsyncIterator[bytes]
) -> None:
    filename = (start.filename or "").replace("\\", "/").rpartition("/")[2]
    if start.field != FILE_FIELD or form.file is not None:
        message = f"Send one file, as the multipart field `{FILE_FIELD}`."
        raise InvalidRequest(message, {f"/{FILE_FIELD}": ["must be one file"]})
    if not filename.lower().endswith(SUFFIX):
        raise UnsupportedWeights(
            f"Adapters must be {SUFFIX} files. Formats that can run code when they are opened (.pt, .ckpt, .bin) "
            "are not read.",
            {f"/{FILE_FIELD}": [f"must be a {SUFFIX} file"]},
        )
    form.file = filename, await _store(services, adapter_id, chunks)


async def _store(services: Services, adapter_id: str, chunks: AsyncIterator[bytes]) -> Artifact:
    limit, size, head = services.settings.max_adapter_bytes, 0, bytearray()
    async with storing(services.storage, adapter_upload_key(adapter_id), services.upload_slots) as writer:
        async for chunk in chunks:
            size += len(chunk)
            if size > limit:
                raise TooLarge(f"The file is larger than {limit:,} bytes, the limit for adapters.")
            wanted = measure_head(bytes(head[:LENGTH_BYTES])) if len(head) >= LENGTH_BYTES else HEAD_BYTES
            head += chunk[: max(0, wanted - len(head))]
            await writer.write(chunk)
    await asyncio.to_thread(check_header, bytes(head), size)
    stored = writer.stored
    return Artifact(key=stored.key, sha256=stored.sha256, size=stored.size)


def check_header(head: bytes, file_bytes: int) -> None:
    """Raises UnsupportedWeights or WeightsRejected."""
    try:
        with _one_header:
            read_header(head, file_bytes)
    except (UnsupportedWeights, WeightsRejected) as error:
        raise type(error)(error.detail, {f"/{FILE_FIELD}": [error.detail]}) from None


async def _take_field(form: _Form, name: str, chunks: AsyncIterator[bytes]) -> None:
    """Tags come in one field, separated by commas, or in several. Excess fields are refused as they arrive."""
    form.num_fields += 1
    if name not in {FILE_FIELD, *AdapterImport.model_fields}:
        taken = ", ".join(AdapterImport.model_fields)
        raise InvalidRequest(f"Allowed fields beside the file: {taken}.", {f"/{name[:80]}": ["unknown field"]})
    if form.num_fields > MAX_FIELDS:
        message = f"At most {MAX_FIELDS} fields are allowed beside the file: send all tags in one, separated by commas."
        raise InvalidRequest(message, {f"/{name}": [message]})
    text = (await read_field(name, chunks, MAX_FIELD_BYTES)).decode(errors="replace")
    if name == TAGS_FIELD:
        known = form.fields.setdefault(TAGS_FIELD, [])
        assert isinstance(known, list)
        known += [tag for tag in text.split(",") if tag.strip()]
    elif text and name != FILE_FIELD:  # an empty one is a form's file input that was left empty
        form.fields[name] = text


def parse_fields(fields: Mapping[str, object]) -> AdapterImport:
    """As the framework does for JSON bodies."""
    try:
        return AdapterImport.model_validate(fields)
    except ValidationError as error:
        findings = [{**finding, "loc": ("body", *finding["loc"])} for finding in error.errors(include_url=False)]
        raise RequestValidationError(findings, body=dict(fields)) from None
