"""POST /datasets with files: what is taken, what is refused at once, and that neither leaves a trace it should not."""

import io
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pillow_heif
import sqlalchemy as sa
from PIL import Image

from core.db.tables import Dataset, DatasetFile
from core.domain.image_formats import SUFFIXES
from tests.app.conftest import LiveApi
from tests.app.factory import draw_png
from tests.app.test_jobs import refuse

Files = list[tuple[str, bytes]]


def post(api: LiveApi, files: Files, **fields: str) -> httpx.Response:
    return api.client.post("/datasets", files=[("files", file) for file in files], data=fields)


def pack_zip(entries: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def pack_tar(entries: dict[str, bytes], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in entries.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def list_rows(api: LiveApi, dataset_id: str) -> dict[str, DatasetFile]:
    with api.sessions() as session:
        rows = session.scalars(sa.select(DatasetFile).where(DatasetFile.dataset_id == dataset_id))
        return {row.filename: row for row in rows}


def count_datasets(api: LiveApi) -> int:
    with api.sessions() as session:
        mine = Dataset.tenant_id == api.tenant_id
        return session.scalar(sa.select(sa.func.count()).select_from(Dataset).where(mine)) or 0


def test_images_and_captions_are_taken_and_await_validation(api: LiveApi) -> None:
    files = [
        ("a.png", draw_png(1)),
        ("a.txt", b"a toy"),
        ("metadata.jsonl", b"{}"),
        ("sub folder/\u00fc.PNG", draw_png(2)),
    ]
    answer = post(api, files, name="my toys")
    assert answer.status_code == 202
    dataset = answer.json()
    assert answer.headers["location"] == dataset["urls"]["self"] == f"/datasets/{dataset['id']}"
    assert (dataset["object"], dataset["status"], dataset["name"]) == ("dataset", "validating", "my toys")
    assert (dataset["num_files"], dataset["size"]) == (4, sum(len(content) for _, content in files))
    assert (dataset["num_images"], dataset["report"], dataset["error"]) == (None, None, None)
    assert dataset["id"].startswith("ds_")
    rows = list_rows(api, dataset["id"])
    assert set(rows) == {name for name, _ in files}
    for name, content in files:
        assert api.storage.read(rows[name].key) == content
        assert rows[name].size == len(content)
    assert api.client.get(dataset["urls"]["self"]).json() == dataset
    api.wait_for_ring("cpu")


def test_user_names_enter_no_storage_key(api: LiveApi) -> None:
    dataset = post(api, [("secret-name.png", draw_png())]).json()
    keys = api.list_stored(f"datasets/{dataset['id']}")
    assert len(keys) == 1
    assert "secret" not in keys[0]


def test_archives_of_every_kind_are_taken(api: LiveApi) -> None:
    entries = {"folder/a.png": draw_png(), "folder/a.txt": b"a toy"}
    archives = [("a.zip", pack_zip(entries)), ("A.ZIP", pack_zip(entries)), ("a.tar", pack_tar(entries))]
    archives += [(f"a.tar.{kind}", pack_tar(entries, f"w:{kind}")) for kind in ("gz", "bz2", "xz")]
    archives += [("a.tgz", pack_tar(entries, "w:gz"))]
    for archive in archives:
        assert post(api, [archive]).status_code == 202, archive[0]
    assert post(api, [archives[0], ("loose.png", draw_png())]).status_code == 202


def test_images_of_every_kind_are_taken(api: LiveApi) -> None:
    pillow_heif.register_heif_opener()
    for kind, suffixes in SUFFIXES.items():
        buffer = io.BytesIO()
        Image.new("RGB", (32, 32), "red").save(buffer, kind)
        for suffix in suffixes:
            assert post(api, [(f"a{suffix}", buffer.getvalue())]).status_code == 202, suffix
        assert post(api, [("a.PNG", buffer.getvalue())]).status_code == 202, "recognized by content, not by name"


def test_refusals_at_once(api: LiveApi) -> None:
    """Each names the file, says what to do, and leaves nothing behind."""
    text = b"this is no picture at all"
    cases: list[tuple[Files, str, str]] = [
        ([("cat.png", text)], "image-rejected", "cat.png"),
        ([("cat.png", b"")], "image-rejected", "cat.png"),
        ([("a.png", text), ("b.jpg", b"%PDF-1.7" + text)], "image-rejected", "a.png"),
        ([("cat.zip", b"")], "archive-rejected", "cat.zip"),
        ([("cat.zip", text)], "archive-rejected", "cat.zip"),
        ([("cat.zip", pack_zip({}))], "archive-rejected", "cat.zip"),
        ([("cat.zip", pack_zip({"a.png": draw_png()})[:-30])], "archive-rejected", "cat.zip"),
        ([("cat.zip", pack_zip({"a.txt": text, "notes/b.pdf": text}))], "dataset-rejected", "cat.zip"),
        ([("cat.zip", pack_zip({"__MACOSX/._a.png": text}))], "dataset-rejected", "cat.zip"),
        ([("cat.tar", b"")], "archive-rejected", "cat.tar"),
        ([("cat.tar", text)], "archive-rejected", "cat.tar"),
        ([("cat.tar", pack_tar({}))], "archive-rejected", "cat.tar"),
        ([("cat.tar.gz", pack_tar({}, "w:gz"))], "archive-rejected", "cat.tar.gz"),
        ([("cat.tar.gz", text)], "archive-rejected", "cat.tar.gz"),
        ([("cat.tar", pack_tar({"a.txt": text}))], "dataset-rejected", "cat.tar"),
        ([("a.txt", text), ("metadata.jsonl", b"")], "dataset-rejected", "captions"),
        ([("a.txt", text), ("cat.png", text)], "image-rejected", "cat.png"),
    ]
    for files, slug, named in cases:
        problem = refuse(post(api, files), 422, slug)
        assert named in problem["detail"], problem
        assert problem["errors"]
        assert len(problem["detail"]) > 30
    for name in ("cat.psd", "cat", "weights.safetensors", ".png", "cat.png.exe", "cat.rar"):
        problem = refuse(post(api, [(name, text)]), 415, "unsupported-media")
        assert name in problem["detail"]
        assert ".png" in problem["detail"]
    assert count_datasets(api) == 0


def test_what_was_refused_is_not_in_storage(own_api: LiveApi) -> None:
    post(own_api, [("cat.png", b"text")])
    post(own_api, [("a.png", draw_png()), ("A.png", draw_png())])
    own_api.client.post("/datasets", files=[("file", ("a.png", draw_png()))])
    assert own_api.list_stored() == []


def test_one_bad_file_among_good_ones_is_left_to_the_report(api: LiveApi) -> None:
    answer = post(api, [("good.png", draw_png()), ("bad.png", b"text"), ("notes.pdf", b"%PDF"), ("empty.jpg", b"")])
    assert (answer.status_code, answer.json()["num_files"]) == (202, 4)


def test_no_file_at_all(api: LiveApi) -> None:
    boundary = {"Content-Type": "multipart/form-data; boundary=x"}
    empty_input = b'--x\r\nContent-Disposition: form-data; name="files"; filename=""\r\n\r\n\r\n--x--\r\n'
    for answer in (
        api.client.post("/datasets", content=b"--x--\r\n", headers=boundary),
        api.client.post("/datasets", content=empty_input, headers=boundary),
        api.client.post("/datasets", files={"name": (None, "a name")}),
    ):
        problem = refuse(answer, 422, "invalid-request")
        assert list(problem["errors"]) == ["/files"]


def test_bodies_that_are_malformed(api: LiveApi) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    cases: list[tuple[str, bytes]] = [
        ("multipart/form-data", part),
        ("multipart/form-data; boundary=", part),
        ("multipart/form-data; boundary=" + "x" * 5000, part),
        ("multipart/form-data; boundary=x", b""),
        ("multipart/form-data; boundary=x", b"no boundary here"),
        ("multipart/form-data; boundary=x", part + draw_png()),
        ("multipart/form-data; boundary=x", b"--x\r\n" + b"A: b\r\n" * 1000 + b"\r\n\r\n--x--"),
        ("multipart/form-data; boundary=x", b"--x\r\nA: " + b"b" * 100_000 + b"\r\n\r\n\r\n--x--"),
        ("multipart/form-data; boundary=x", part.replace(b"a.png", b"\xff.png") + b"\r\n--x--\r\n"),
        ("multipart/form-data; boundary=x", part.replace(b'name="files"', b'name="other"') + b"\r\n--x--\r\n"),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\nno headers\r\n--x--\r\n"),
    ]
    for content_type, content in cases:
        answer = api.client.post("/datasets", content=content, headers={"Content-Type": content_type})
        refuse(answer, 422, "invalid-request")


def test_other_media_types(api: LiveApi) -> None:
    for content_type in ("image/png", "application/zip", "text/plain", ""):
        answer = api.client.post("/datasets", content=draw_png(), headers={"Content-Type": content_type})
        assert "multipart/form-data" in refuse(answer, 415, "unsupported-media")["detail"]


def test_names_of_files_that_are_not_taken(api: LiveApi) -> None:
    names = ["../a.png", "/a.png", "a/../b.png", "a//b.png", "./a.png", "a\\b.png", "x" * 252 + ".png", "a\x07.png"]
    for name in names:
        header = f'Content-Disposition: form-data; name="files"; filename="{name}"'.encode()
        content = b"--x\r\n" + header + b"\r\n\r\n" + draw_png() + b"\r\n--x--\r\n"
        answer = api.client.post(
            "/datasets", content=content, headers={"Content-Type": "multipart/form-data; boundary=x"}
        )
        assert "name" in refuse(answer, 422, "invalid-request")["detail"], name


def test_names_that_collide(api: LiveApi) -> None:
    for first, second in (("a.png", "a.png"), ("a.png", "A.PNG"), ("\u00e9.png", "e\u0301.png")):
        problem = refuse(post(api, [(first, draw_png(1)), (second, draw_png(2))]), 422, "invalid-request")
        assert second in problem["detail"]


def test_dataset_names_that_are_not_taken(api: LiveApi) -> None:
    for name in ("x" * 201, "a\nb", "a\x00b"):
        problem = refuse(post(api, [("a.png", draw_png())], name=name), 422, "invalid-request")
        assert list(problem["errors"]) == ["/name"]
    refuse(post(api, [("a.png", draw_png())], name="x" * 2000), 413, "too-large")
    assert post(api, [("a.png", draw_png())], name="").json()["name"] is None


def test_limits_hold_while_the_body_streams(start_api: Callable[..., LiveApi]) -> None:
    api = start_api(max_file_bytes=100_000, max_upload_bytes=1_000_000, max_images=2)
    png = draw_png()
    problem = refuse(post(api, [("big.png", png + bytes(100_000))]), 413, "too-large")
    assert "big.png" in problem["detail"]
    refuse(post(api, [("big.zip", bytes(1_000_001))]), 413, "too-large")
    refuse(post(api, [(f"{number}.txt", b"x") for number in range(6)]), 413, "too-large")

    def endless() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.zip"\r\n\r\n'
        for _ in range(100):
            yield bytes(100_000)

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    refuse(api.client.post("/datasets", content=endless(), headers=headers), 413, "too-large")
    assert api.list_stored() == []
    assert post(api, [("a.zip", pack_zip({"a.png": png}) + bytes(0))]).status_code == 202


def test_a_client_that_hangs_up_leaves_nothing(own_api: LiveApi) -> None:
    import socket
    from urllib.parse import urlsplit

    from tests.fixtures.servers import wait_for

    address = urlsplit(own_api.url)
    head = (
        f"POST /datasets HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {own_api.api_key}\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 10000000\r\n\r\n"
        '--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    )
    temporary = own_api.settings.home / "storage" / ".tmp"
    with socket.create_connection((address.hostname or "", address.port or 0)) as connection:
        connection.sendall(head.encode() + draw_png() + bytes(500_000))
        wait_for(lambda: list(temporary.iterdir()))
    wait_for(lambda: not list(temporary.iterdir()))
    assert own_api.list_stored() == []
    assert count_datasets(own_api) == 0


def test_uploads_at_the_same_time(api: LiveApi) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def send(number: int) -> Any:
        files = [("files", (f"{n}.png", draw_png(number * 10 + n))) for n in range(5)]
        return httpx.post(f"{api.url}/datasets", files=files, headers=api.headers, timeout=120).status_code

    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(send, range(12))) == [202] * 12


def test_a_name_that_nobody_sees_costs_no_upload(api: LiveApi) -> None:
    """macOS's file for a folder's icon ends in a carriage return, which browsers send as %0D."""
    assert post(api, [("set/a.png", draw_png()), ("set/Icon\r", b"")]).status_code == 202
    assert post(api, [("Icon\r", b""), ("a.png", draw_png())]).status_code == 202
    refuse(post(api, [("Icon\r.png", draw_png())]), 422, "invalid-request")
