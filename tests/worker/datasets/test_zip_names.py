"""What the entries of a ZIP are called: by its flag, by the Unicode path field, or by a guess that is said."""

import json
import struct
import zlib
from pathlib import Path

import pytest

from core.domain.errors import ArchiveRejected
from core.storage import MemoryStorage
from tests.fixtures.pictures import png
from tests.worker.datasets.hostile import tar_of
from tests.worker.datasets.test_examination import receive
from worker.datasets.archives import Contents, ExpandLimits, expand_archive
from worker.datasets.examination import Examination
from worker.datasets.findings import Findings
from worker.datasets.sandbox import Sandbox

LIMITS = ExpandLimits(max_total_bytes=1 << 20, max_file_bytes=1 << 20)
Entry = tuple[bytes, bytes, bytes, int]
"""Name, contents, extra field, flags."""


def stored_zip(*entries: Entry) -> bytes:
    body, directory = b"", b""
    for name, data, extra, flags in entries:
        sizes = struct.pack("<3L2H", zlib.crc32(data), len(data), len(data), len(name), len(extra))
        at = len(body)
        body += struct.pack("<4s5H", b"PK\3\4", 20, flags, 0, 0, 33) + sizes + name + extra + data
        directory += struct.pack("<4s6H", b"PK\1\2", 20, 20, flags, 0, 0, 33) + sizes
        directory += struct.pack("<3H2L", 0, 0, 0, 0, at) + name + extra
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, len(entries), len(entries), len(directory), len(body), 0)
    return body + directory + end


def plain(name: bytes, data: bytes = b"x") -> Entry:
    return name, data, b"", 0


def unicode_path(stated: str, raw: bytes, version: int = 1) -> bytes:
    field = struct.pack("<BL", version, zlib.crc32(raw)) + stated.encode()
    return struct.pack("<2H", 0x7075, len(field)) + field


def expand(data: bytes, tmp_path: Path, filename: str = "set.zip") -> Contents:
    (tmp_path / "archive").write_bytes(data)
    (tmp_path / "folder").mkdir()
    return expand_archive(tmp_path / "archive", filename, tmp_path / "folder", LIMITS)


def names_of(contents: Contents) -> list[str]:
    return [entry.name for entry in contents.entries]


def test_the_flag_for_utf_8_is_believed(tmp_path: Path) -> None:
    contents = expand(stored_zip(("ͼƬ.png".encode(), b"x", b"", 0x800)), tmp_path)
    assert (names_of(contents), contents.names_read_as) == (["ͼƬ.png"], None)


def test_utf_8_without_the_flag_is_utf_8(tmp_path: Path) -> None:
    """As Finder and many libraries pack, with accents apart from their letters."""
    contents = expand(stored_zip(plain("cafe\u0301.png".encode()), plain("写真.png".encode())), tmp_path)
    assert (names_of(contents), contents.names_read_as) == (["caf\u00e9.png", "写真.png"], None)


def test_the_unicode_path_field_goes_before_every_guess(tmp_path: Path) -> None:
    raw = "표지.png".encode("cp949")
    contents = expand(stored_zip((raw, b"x", b"\xff\xff\2\0ab" + unicode_path("표지.png", raw), 0)), tmp_path)
    assert (names_of(contents), contents.names_read_as) == (["표지.png"], None)


@pytest.mark.parametrize(
    "extra",
    [
        unicode_path("other.png", b"a name from before it was renamed"),
        unicode_path("other.png", "кот.png".encode("cp866"), version=2),
        struct.pack("<2H", 0x7075, 5) + struct.pack("<BL", 1, zlib.crc32("кот.png".encode("cp866"))),
        struct.pack("<2HBL", 0x7075, 6, 1, zlib.crc32("кот.png".encode("cp866"))) + b"\xff",
        b"\x75",
    ],
)
def test_a_unicode_path_field_that_does_not_fit_is_passed_over(extra: bytes, tmp_path: Path) -> None:
    contents = expand(stored_zip(("кот.png".encode("cp866"), b"x", extra, 0)), tmp_path)
    assert names_of(contents) == ["кот.png"]
    assert contents.names_read_as == "code page 866 (Cyrillic, DOS)"


@pytest.mark.parametrize("filename", ["set.zip", "set.tar"])
def test_names_of_another_encoding_are_guessed_together(filename: str, tmp_path: Path) -> None:
    names = ["写真/猫.png", "写真/猫.txt", "plain.png"]
    raw = [name.encode("cp932") for name in names]
    data = stored_zip(*map(plain, raw))
    if filename == "set.tar":
        data = tar_of(*((name.decode("utf-8", "surrogateescape"), b"x") for name in raw), kind=0)
    contents = expand(data, tmp_path, filename)

    assert names_of(contents) == names
    assert contents.names_read_as == "Shift-JIS (Japanese)"


def test_a_second_byte_that_looks_like_a_backslash_leads_nowhere(tmp_path: Path) -> None:
    contents = expand(stored_zip(plain("表\u30bd能.png".encode("cp932"))), tmp_path)
    assert names_of(contents) == ["表ソ能.png"]


def examine(data: bytes, sandbox: Sandbox, tmp_path: Path) -> Findings:
    storage = MemoryStorage()
    examination = Examination("ds_1", storage, sandbox, tmp_path, max_images=9, check=lambda: None)
    examination.run(receive(storage, {"set.zip": data}))
    return examination.findings


@pytest.mark.parametrize("codec", ["utf-8", "cp932", "gbk"])
def test_rows_of_metadata_find_their_pictures(codec: str, sandbox: Sandbox, tmp_path: Path) -> None:
    row = json.dumps({"file_name": "小猫写真.png", "text": "my caption"}, ensure_ascii=False).encode()
    data = stored_zip(plain("小猫写真.png".encode(codec), png(1)), plain(b"metadata.jsonl", row))
    findings = examine(data, sandbox, tmp_path)

    assert [(image.name, image.caption) for image in findings.images] == [("小猫写真.png", "my caption")]


def test_a_guess_is_said_in_the_report(sandbox: Sandbox, tmp_path: Path) -> None:
    data = stored_zip(plain("写真.png".encode("cp932"), png(1)), plain(b"b.png", png(2)))
    (warning,) = [w for w in examine(data, sandbox, tmp_path).report().warnings if w.code == "names-guessed"]

    assert "set.zip" in warning.message and "Shift-JIS (Japanese)" in warning.message
    assert warning.files == ("写真.png",)


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        ("../a.png", "leads out"),
        ("a/../../b.png", "leads out"),
        ("/etc/passwd", "absolute"),
        ("C:\\a.png", "absolute"),
        ("a\nb.png", "control"),
        ("a.png\0.exe", "control"),
        ("ok.png", "are the same"),
        ("OK.PNG", "are the same"),
        ("b.zip", "another archive"),
        ("n" * 501 + ".png", "characters"),
    ],
)
def test_a_name_from_the_unicode_path_field_is_held_to_the_same_rules(stated: str, words: str, tmp_path: Path) -> None:
    data = stored_zip(plain(b"ok.png"), (b"harmless.png", b"x", unicode_path(stated, b"harmless.png"), 0))
    with pytest.raises(ArchiveRejected, match=words):
        expand(data, tmp_path)


def test_names_that_fall_together_once_they_are_read_are_refused(tmp_path: Path) -> None:
    data = stored_zip(("caf\u00e9.png".encode(), b"x", b"", 0x800), plain("cafe\u0301.png".encode()))
    with pytest.raises(ArchiveRejected, match="are the same"):
        expand(data, tmp_path)
