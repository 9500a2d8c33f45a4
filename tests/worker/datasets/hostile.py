"""Builds archives that no honest program makes. Each case: an id, the file's name, its bytes, words of the refusal."""

import bz2
import gzip
import io
import lzma
import random
import stat
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from tests.fixtures.pictures import png

PICTURE = png()


@dataclass(frozen=True)
class Case:
    """``content``: the bytes, or what packs them, where that takes long: each process that runs tests makes all cases,
    and runs some."""

    id: str
    filename: str
    content: bytes | Callable[[], bytes]
    words: str

    @property
    def data(self) -> bytes:
        return self.content if isinstance(self.content, bytes) else self.content()


def zip_of(*entries: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return buffer.getvalue()


def tar_of(*members: tuple[str | tarfile.TarInfo, bytes], kind: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=kind) as archive:
        for name, data in members:
            member = tarfile.TarInfo(name) if isinstance(name, str) else name
            member.size = member.size or len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def raw_zip(locals_: list[tuple[bytes, bytes, int]], directory: list[tuple[bytes, int, int, int, int]]) -> bytes:
    """By hand. Locals: name, data, method. Directory: name, index of the local, method, packed and real size."""
    body, offsets = b"", []
    for name, data, method in locals_:
        offsets.append(len(body))
        header = struct.pack(
            "<4s5H3L2H", b"PK\3\4", 20, 0, method, 0, 33, zlib.crc32(data), len(data), len(data), len(name), 0
        )
        body += header + name + data
    start, central = len(body), b""
    for name, index, method, packed, real in directory:
        central += struct.pack(
            "<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, method, 0, 33, zlib.crc32(locals_[index][1]), packed, real,
            len(name), 0, 0, 0, 0, 0, offsets[index],
        ) + name  # fmt: skip
    return (
        body
        + central
        + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, len(directory), len(directory), len(central), start, 0)
    )


def zip_entry(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


def tar_entry(name: str, kind: bytes, **fields: object) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = kind
    for field, value in fields.items():
        setattr(member, field, value)
    return member


# --- names ---------------------------------------------------------------------------------------------

_OUTSIDE = (
    "../x.png", "../../etc/passwd", "a/../../x.png", "a/..", "..", "..\\x.png", "a\\..\\..\\x.png", "./../x.png",
    "a/b/../../../x.png", "__MACOSX/../../x.png", ".hidden/../x.png",
)  # fmt: skip
_ABSOLUTE = (
    "/etc/passwd",
    "/x.png",
    "//server/share/x.png",
    "\\x.png",
    "\\\\server\\x.png",
    "C:\\x.png",
    "c:x.png",
    "D:/x.png",
)
_CONTROL = ("a\nb.png", "a\x1b[2Jb.png", "a\x7f.png", "a\x85b.png", "\rx.png", "tab\t.png")
_SAME = (
    ("a.png", "A.png"), ("a.png", "a.PNG"), ("caf\u00e9.png", "cafe\u0301.png"), ("stra\u00dfe.png", "STRASSE.png"),
    ("a/b.png", "A/B.png"), ("a/b.png", "a//b.png"), ("a/b.png", "./a/b.png"), ("a/b.png", "a\\b.png"),
    ("\u212b.png", "\u00c5.png"), ("same.png", "same.png"), ("\u0130.png", "i\u0307.png"), ("x.txt", "X.TXT"),
)  # fmt: skip
_NESTED = ("b.zip", "b.tar", "b.tar.gz", "b.tgz", "b.TAR.XZ", "b.7z", "b.rar", "b.gz", "b.png.bz2", "b.zst")


def name_cases() -> Iterator[Case]:
    for kind, make in (("zip", zip_of), ("tar", tar_of)):
        yield from _bad_names(kind, make)
        for first, second in _SAME:
            data = make(("ok.png", PICTURE), (first, PICTURE), (second, PICTURE))
            yield Case(f"{kind}-same-{first!a}-{second!a}", f"set.{kind}", data, "only in case or Unicode form")


def _bad_names(kind: str, make: Callable[..., bytes]) -> Iterator[Case]:
    bad = [(_OUTSIDE, "leads out"), (_ABSOLUTE, "absolute"), (_CONTROL, "control"), (_NESTED, "another archive")]
    for names, words in [*bad, (("n" * 501 + ".png",), "characters")]:
        for name in names:
            yield Case(f"{kind}-{name[:30]!a}", f"set.{kind}", make(("a.png", PICTURE), (name, b"x")), words)


def nul_cases() -> Iterator[Case]:
    """A name that ends, for some readers, at a NUL."""
    for name in (b"a.png\0.exe", b"\0a.png", b"a\0/../b.png"):
        yield Case(f"zip-nul-{name!r}", "set.zip", _zip_with(name), "control")
    yield Case("tar-no-name", "set.tar", tar_of(("ok.png", PICTURE), ("", b"x")), "without a name")
    yield Case("zip-no-name", "set.zip", _zip_with(b""), "without a name")
    for path in ("a.png\0.exe", "a\0/../b.png"):
        member = tarfile.TarInfo("a.png")
        member.pax_headers = {"path": path}
        yield Case(f"tar-nul-{path!a}", "set.tar", tar_of((member, b"")), "control")


def _zip_with(name: bytes) -> bytes:
    """A good picture, and one of this name."""
    names, size = (b"ok.png", name), len(PICTURE)
    return raw_zip([(n, PICTURE, 0) for n in names], [(n, at, 0, size, size) for at, n in enumerate(names)])


# --- kinds of entries -------------------------------------------------------------------------------------

_SPECIAL = {
    "symlink": stat.S_IFLNK,
    "fifo": stat.S_IFIFO,
    "char": stat.S_IFCHR,
    "block": stat.S_IFBLK,
    "socket": stat.S_IFSOCK,
}
_TAR_SPECIAL = {
    "symlink": tarfile.SYMTYPE, "hardlink": tarfile.LNKTYPE, "fifo": tarfile.FIFOTYPE, "char": tarfile.CHRTYPE,
    "block": tarfile.BLKTYPE,
}  # fmt: skip


def special_cases() -> Iterator[Case]:
    for name, mode in _SPECIAL.items():
        for path in ("a.png", "link", "__MACOSX/a.png", ".hidden"):
            data = zip_of(("ok.png", PICTURE), (zip_entry(path, mode | 0o777), b"/etc/passwd"))
            yield Case(f"zip-{name}-{path}", "set.zip", data, "link or device")
    for name, kind in _TAR_SPECIAL.items():
        for path in ("a.png", "link", ".hidden"):
            data = tar_of(("ok.png", PICTURE), (tar_entry(path, kind, linkname="/etc/passwd"), b""))
            yield Case(f"tar-{name}-{path}", "set.tar", data, "link, device")
    sparse = tar_entry("a.png", tarfile.GNUTYPE_SPARSE)
    yield Case("tar-sparse", "set.tar", tar_of((sparse, PICTURE)), "sparse")
    pax = tarfile.TarInfo("a.png")
    pax.pax_headers = {"GNU.sparse.map": "0,1", "GNU.sparse.size": "1000000000000"}
    yield Case("tar-pax-sparse", "set.tar", tar_of((pax, PICTURE)), "sparse")
    yield Case("tar-unknown-type", "set.tar", tar_of((tar_entry("a.png", b"Z"), b"")), "")


# --- bombs ------------------------------------------------------------------------------------------------

ZEROS = bytes(6 << 20)


def bomb_cases() -> Iterator[Case]:
    """The limits of the tests: 4 MiB altogether, 1 MiB a file, 100 times the archive and 1 MiB."""
    megabyte = bytes(900 << 10)
    six = [(f"{i}.png", megabyte) for i in range(6)]
    yield Case("zip-total", "set.zip", partial(zip_of, *six, method=zipfile.ZIP_STORED), "bytes. Split")
    yield Case("zip-ratio", "set.zip", partial(zip_of, *six[:3]), "100 times")
    many = [(f"{i}.txt", b"") for i in range(10_001)]
    yield Case("zip-many", "set.zip", partial(zip_of, ("a.png", PICTURE), *many[1:]), "more than 10,000")
    folders = [(f"{i}/", b"") for i in range(10_001)]
    yield Case("zip-many-folders", "set.zip", partial(zip_of, *folders), "more than 10,000")
    yield Case("tar-many", "set.tar", partial(tar_of, *many, kind=tarfile.USTAR_FORMAT), "more than 10,000")
    for suffix in _PACKERS:
        filename = f"set.{suffix}"
        yield Case(f"{suffix}-ratio", filename, partial(_pack, suffix, _zeros_tar), "100 times")
        yield Case(f"{suffix}-zeros", filename, partial(_pack, suffix, lambda: ZEROS), "100 times")
        yield Case(f"{suffix}-total", filename, partial(_pack, suffix, _noise_tar), "bytes. Split")
        packed = partial(_pack, suffix, lambda: tar_of(("a.png", PICTURE)))
        yield Case(f"{suffix}-twice", filename, partial(_pack, suffix, packed), "damaged")
    yield Case("tar-total", "set.tar", _noise_tar, "bytes. Split")
    yield Case("tar.xz-dictionary", "set.tar.xz", _huge_dictionary_xz, "damaged")
    yield from overlap_cases()
    yield from header_cases()


_PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "tar.gz": partial(gzip.compress, compresslevel=1),
    "tgz": partial(gzip.compress, compresslevel=1),
    "tar.bz2": partial(bz2.compress, compresslevel=1),
    "tar.xz": partial(lzma.compress, preset=0),
}


def _pack(suffix: str, make: Callable[[], bytes]) -> bytes:
    return _PACKERS[suffix](make())


def _zeros_tar() -> bytes:
    return tar_of(("a.png", ZEROS))


def _noise_tar() -> bytes:
    rng = random.Random(0)
    return tar_of(*((f"{i}.png", rng.randbytes(900 << 10)) for i in range(6)))


def _huge_dictionary_xz() -> bytes:
    """A few bytes that ask for a dictionary of 1.5 GiB."""
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 20}]
    data = bytearray(lzma.compress(tar_of(("a.png", PICTURE)), filters=filters))
    # The block header: size, flags, filter id 0x21, its size 1, the dictionary's size, padding, CRC32.
    at = data.index(b"\x21\x01", 12) + 2
    data[at] = 39  # 3 GiB
    length = (data[12] + 1) * 4
    data[12 + length - 4 : 12 + length] = struct.pack("<L", zlib.crc32(bytes(data[12 : 12 + length - 4])))
    return bytes(data)


def overlap_cases() -> Iterator[Case]:
    """As in CVE-2024-0450: many entries of the directory over the same bytes."""
    size = len(PICTURE)
    for copies in (2, 3, 50, 5000):
        directory = [(b"%d.png" % i, 0, 0, size, size) for i in range(copies)]
        data = raw_zip([(b"0.png", PICTURE, 0)], directory)
        yield Case(f"zip-overlap-same-{copies}", "set.zip", data, "overlap")
    two = [(b"0.png", PICTURE, 0), (b"1.png", PICTURE, 0)]
    reaching = raw_zip(two, [(b"0.png", 0, 0, size + 40, size + 40), (b"1.png", 1, 0, size, size)])
    yield Case("zip-overlap-next", "set.zip", reaching, "overlap")
    into_directory = raw_zip(two, [(b"0.png", 0, 0, size, size), (b"1.png", 1, 0, size + 9, size + 9)])
    yield Case("zip-overlap-directory", "set.zip", into_directory, "overlap")
    yield Case("zip-overlap-quoted", "set.zip", _quoted_overlap, "overlap")


def _quoted_overlap() -> bytes:
    """The better bomb: each entry's stored data is the next one's header and data."""
    inner = zip_of(("1.png", ZEROS))
    local = inner[: inner.index(b"PK\1\2")]
    outer = raw_zip([(b"0.png", local, 0)], [(b"0.png", 0, 0, len(local), len(local))])
    start = outer.index(b"PK\1\2")
    packed = len(local) - 30 - len(b"1.png")
    second = struct.pack(
        "<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 8, 0, 33, zlib.crc32(ZEROS), packed, len(ZEROS), 5, 0, 0, 0, 0, 0, 35
    )
    directory = outer[start : outer.index(b"PK\5\6")] + second + b"1.png"
    return outer[:start] + directory + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 2, 2, len(directory), start, 0)


def header_cases() -> Iterator[Case]:
    """Lengths that lie."""
    for size in (-1, -512, -(1 << 40), 1 << 40, 1 << 70):
        member = tarfile.TarInfo("a.png")
        member.size = size
        header = member.tobuf(tarfile.GNU_FORMAT)
        yield Case(f"tar-size{size}", "set.tar", header + bytes(10240), "")
    for kind in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE):
        member = tarfile.TarInfo("long")
        member.type, member.size = kind, 3 << 20
        data = member.tobuf(tarfile.GNU_FORMAT) + b"9" * (3 << 20) + tar_of(("a.png", PICTURE))
        yield Case(f"tar-header-{kind!r}", "set.tar", data, "implausibly large")
    for claimed in (10**3, 10**9, 2**32 - 2):
        liar = raw_zip([(b"a.png", PICTURE, 0)], [(b"a.png", 0, 0, len(PICTURE), claimed)])
        yield Case(f"zip-real-size-{claimed}", "set.zip", liar, "not as long" if claimed < 1 << 20 else "left out")
    yield Case("zip-understated", "set.zip", _understated, "damaged")
    yield Case("zip-directory-8MiB", "set.zip", _large_directory, "implausibly large")


def _understated() -> bytes:
    packed = zlib.compress(ZEROS)[2:-4]
    return raw_zip([(b"a.png", packed, 8)], [(b"a.png", 0, 8, len(packed), 100)])


def _large_directory() -> bytes:
    directory = b"PK\1\2" * (2 << 20)
    return directory + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(directory), 0, 0)


# --- broken and wrong -------------------------------------------------------------------------------------


def broken_cases() -> Iterator[Case]:
    good = {"zip": zip_of(("a.png", PICTURE), ("b.png", png(1))), "tar": tar_of(("a.png", PICTURE), ("b.png", png(1)))}
    good |= {
        "tar.gz": gzip.compress(good["tar"]),
        "tar.bz2": bz2.compress(good["tar"]),
        "tar.xz": lzma.compress(good["tar"]),
    }
    for kind, data in good.items():
        for part in (10, 600, 1024, 1100) if kind == "tar" else (10, len(data) // 3, len(data) // 2):
            yield Case(f"{kind}-cut-{part}", f"set.{kind}", data[:part], "")
        yield Case(f"{kind}-nothing", f"set.{kind}", b"", "")
        yield Case(f"{kind}-text", f"set.{kind}", b"this is no archive\n" * 100, "")
    yield Case("tar-damaged-middle", "set.tar", _damage_second_header(good["tar"]), "damaged in the middle")
    yield Case("zip-damaged-data", "set.zip", _flip(good["zip"], good["zip"].index(b"PK\3\4") + 60), "damaged")
    encrypted = bytearray(good["zip"])
    encrypted[good["zip"].index(b"PK\1\2") + 8] |= 1
    yield Case("zip-encrypted", "set.zip", bytes(encrypted), "password")
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        yield Case(f"zip-method-{method}", "set.zip", zip_of(("a.png", PICTURE), method=method), "usual one")
    yield Case("tar-named-zip", "set.zip", good["tar"], "not a ZIP")
    yield Case("zip-named-tar", "set.tar", good["zip"], "")


def _flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


def _damage_second_header(tar: bytes) -> bytes:
    at = tar.index(b"b.png")
    return _flip(tar, at + 150)


def all_cases() -> list[Case]:
    return [*BOMBS, *NAMES_AND_KINDS, *broken_cases()]


_NAMES = list(name_cases())
BOMBS = [*bomb_cases(), *(case for case in _NAMES if case.words == "another archive")]
"""Too much in too little, entries over each other, and archives within."""
NAMES_AND_KINDS = [*(case for case in _NAMES if case.words != "another archive"), *nul_cases(), *special_cases()]
"""What leads out of the archive, is no plain file, or has a name that is another's."""
