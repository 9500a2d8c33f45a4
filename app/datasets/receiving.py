"""Stores the bytes of uploaded files, and checks their ends as they pass."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from pydantic import TypeAdapter

from app.datasets.names import Kind, check_name, find_collision, kind_of
from app.datasets.screening import HeadAndTail, is_judged_by_its_end, precheck
from app.multipart import PartStart, data_of, read_events, read_field
from app.services import Services
from app.storing import Writer, storing
from core.db.datasets import NewFile
from core.domain.artifacts import upload_key
from core.domain.counts import counted
from core.domain.errors import DatasetRejected, InvalidRequest, TooLarge, UserError
from core.domain.image_formats import ACCEPTED
from core.domain.phrases import Phrase
from core.settings import Settings

MAX_FIELD_BYTES = 1000
FILES_FIELD = "files"
NAME_FIELD = "name"

_NAME: TypeAdapter[str] = TypeAdapter(Phrase)


@dataclass(frozen=True)
class ReceivedUpload:
    """A file in storage, with any certain fault."""

    file: NewFile
    fault: UserError | None

    @property
    def kind(self) -> Kind:
        return kind_of(self.file.filename)


@dataclass
class Form:
    """The contents of a multipart body."""

    files: list[ReceivedUpload] = field(default_factory=list)
    name: str | None = None


def max_files(settings: Settings) -> int:
    """Each image may have its caption, and there may be one metadata.jsonl."""
    return 2 * settings.max_images + 1


def max_bytes_of(kind: Kind, settings: Settings) -> int:
    return settings.max_upload_bytes if kind == "archive" else settings.max_file_bytes


async def receive_file(
    services: Services, dataset_id: str, filename: str, chunks: AsyncIterator[bytes]
) -> ReceivedUpload:
    """Stores one file under a key of our own. Raises TooLarge; faults of its contents are recorded."""
    file_id, head_and_tail = uuid.uuid4().hex, HeadAndTail(keeps_tail=is_judged_by_its_end(filename))
    limit = max_bytes_of(kind_of(filename), services.settings)
    async with storing(services.storage, upload_key(dataset_id, file_id), services.upload_slots) as writer:
        async for chunk in chunks:
            await _pass_on(writer, head_and_tail, chunk, filename, limit)
    stored = writer.stored
    file = NewFile(id=file_id, filename=filename, key=stored.key, sha256=stored.sha256, size=stored.size)
    return ReceivedUpload(file, await asyncio.to_thread(precheck, filename, head_and_tail))


async def _pass_on(writer: Writer, head_and_tail: HeadAndTail, chunk: bytes, filename: str, limit: int) -> None:
    head_and_tail.see(chunk)
    if head_and_tail.size > limit:
        raise TooLarge(f"{filename} is larger than {limit:,} bytes, the limit for one such file.")
    await writer.write(chunk)


async def receive_form(services: Services, dataset_id: str, body: AsyncIterator[bytes], content_type: str) -> Form:
    """Raises InvalidRequest or TooLarge; the caller removes anything that was stored by then."""
    form, events = Form(), read_events(body, content_type)
    async for event in events:
        assert isinstance(event, PartStart)
        if event.filename:
            await _take_file(services, dataset_id, form, event.field, check_name(event.filename), data_of(events))
        else:
            await _take_field(form, event, data_of(events))
    return form


async def _take_file(
    services: Services, dataset_id: str, form: Form, field_name: str, filename: str, chunks: AsyncIterator[bytes]
) -> None:
    if field_name != FILES_FIELD:
        raise _unknown_field(field_name)
    if len(form.files) >= max_files(services.settings):
        raise TooLarge(f"A set may have at most {max_files(services.settings):,} files.")
    form.files.append(await receive_file(services, dataset_id, filename, chunks))


async def _take_field(form: Form, start: PartStart, chunks: AsyncIterator[bytes]) -> None:
    value = await read_field(start.field, chunks, MAX_FIELD_BYTES)
    if start.field == NAME_FIELD:
        form.name = _decode_name(value)
    elif start.field != FILES_FIELD or value:  # a browser's empty file input sends `files` without a name
        raise _unknown_field(start.field)


def _decode_name(value: bytes) -> str | None:
    """An empty name means none. Raises InvalidRequest."""
    try:
        return _NAME.validate_python(value.decode()) if value else None
    except ValueError:  # pydantic's own and UnicodeDecodeError
        message = "must be at most 200 characters of UTF-8, without control characters"
        raise InvalidRequest(f"The name {message}.", {f"/{NAME_FIELD}": [message]}) from None


def _unknown_field(name: str) -> InvalidRequest:
    shown = name[:80].encode("unicode_escape").decode()
    return InvalidRequest(
        f"Unknown field {shown!r}: send each file as `{FILES_FIELD}` (with its file name), and a `{NAME_FIELD}`.",
        {f"/{shown}": ["there is no such field"]},
    )


def check_form(files: list[ReceivedUpload]) -> None:
    """Refuses at once a set that cannot become a dataset. The report covers single bad files among good ones.

    Raises InvalidRequest for no files or colliding names, and the files' own faults if no good file is left.
    """
    if not files:
        raise InvalidRequest(
            f"The body has no file: send at least one, as the multipart field `{FILES_FIELD}`.",
            {f"/{FILES_FIELD}": ["is required"]},
        )
    if collision := find_collision(received.file.filename for received in files):
        first, second = collision
        raise InvalidRequest(
            f"{first} and {second} are the same name on many systems. Rename one of them.",
            {f"/{FILES_FIELD}": [f"{second} collides with {first}"]},
        )
    if not any(received.kind != "caption" and received.fault is None for received in files):
        raise _refuse_all(files)


def _refuse_all(files: list[ReceivedUpload]) -> UserError:
    faults = {received.file.filename: received.fault for received in files if received.fault is not None}
    if not faults:
        return DatasetRejected(
            f"None of the files is an image, there are only captions. Send the images too: {ACCEPTED}.",
            {f"/{FILES_FIELD}": ["no image"]},
        )
    first = next(iter(faults.values()))
    more = f" The same goes for {counted(len(faults) - 1, 'more file')}." if len(faults) > 1 else ""
    errors = {f"/{FILES_FIELD}/{name.replace('~', '~0').replace('/', '~1')}": [f.detail] for name, f in faults.items()}
    return type(first)(first.detail + more, errors)
