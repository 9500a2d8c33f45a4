"""Nothing vanishes: files in are images, captions, masks, left out and litter, whatever was sent."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from core.domain.dataset import is_archive_name
from core.domain.errors import DatasetRejected, UserError
from core.domain.file_counts import FileCounts
from core.domain.filenames import is_os_metadata
from core.storage import MemoryStorage
from tests.fixtures.pictures import draw, encode, png
from tests.worker.datasets.hostile import tar_of, zip_of
from tests.worker.datasets.test_examination import receive
from worker.datasets.examination import Examination
from worker.datasets.findings import Findings
from worker.datasets.ledger import Fate, Ledger
from worker.datasets.sandbox import Sandbox

PICTURE, MASK = png(1), encode(Image.new("L", draw(1).size, 200))


def examine(files: dict[str, bytes], sandbox: Sandbox, folder: Path) -> Findings:
    storage = MemoryStorage()
    work = Examination("ds_1", storage, sandbox, folder, max_images=100, check=lambda: None)
    try:
        work.run(receive(storage, files))
    except UserError:
        pass
    else:
        assert work.findings.report().files.unexamined == 0  # type: ignore[union-attr]
    return work.findings


def counts(**numbers: int) -> FileCounts:
    nothing = dict.fromkeys(("images", "captions", "masks", "left_out", "litter"), 0)
    return FileCounts(received=sum(numbers.values()), **{**nothing, **numbers})


def test_every_kind_of_file_is_counted(sandbox: Sandbox, tmp_path: Path) -> None:
    files = {
        "a.png": PICTURE, "a.txt": b"a", "a.mask.png": MASK, "b.png": png(2), "broken.png": b"x", "stray.txt": b"x",
        "stray.mask.png": MASK, "metadata.jsonl": b"", "notes.doc": b"x", "Thumbs.db": b"x",
        "more.zip": zip_of(
            ("c.png", png(3)), ("c.txt", b"c"), ("Icon\r", b""), ("__MACOSX/._c.png", b"x"), ("d.doc", b"")
        ),
        "Icon\r": b"",
    }  # fmt: skip
    report = examine(files, sandbox, tmp_path).report()

    assert report.files == counts(images=3, captions=4, masks=1, left_out=4, litter=4)
    assert report.num_files == 12, "litter is not among them"


def test_names_that_begin_with_a_dot_become_images(sandbox: Sandbox, tmp_path: Path) -> None:
    files = {"...and then.png": png(1), ".hack/a.png": png(2), "b.png": png(3)}
    packed = {"set.tar": tar_of((".hack/a.png", png(4)), (".a.png", png(5)), ("x/...b.png", png(6)))}

    assert examine(files, sandbox, make(tmp_path, "loose")).report().files == counts(images=3)
    assert examine(packed, sandbox, make(tmp_path, "packed")).report().files == counts(images=3)


def make(tmp_path: Path, name: str) -> Path:
    (tmp_path / name).mkdir()
    return tmp_path / name


def test_a_picture_named_like_a_hidden_twin_is_a_picture(sandbox: Sandbox, tmp_path: Path) -> None:
    twin = b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(100)
    for name, files in {
        "loose": {"._a.png": png(1), "._b.png": twin, "c.png": png(2)},
        "packed": {"set.zip": zip_of(("._a.png", png(1)), ("._b.png", twin), ("c.png", png(2)))},
    }.items():
        assert examine(files, sandbox, make(tmp_path, name)).report().files == counts(images=2, litter=1)


def test_composed_and_decomposed_names_are_one_name_loose_as_in_archives(sandbox: Sandbox, tmp_path: Path) -> None:
    composed, apart = "caf\u00e9", "cafe\u0301"
    for number, files in enumerate(
        (
            {f"{composed}.png": PICTURE, f"{apart}.txt": b"my caption", f"{apart}.mask.png": MASK},
            {f"{apart}.png": PICTURE, f"{composed}.txt": b"my caption", f"{composed}.mask.png": MASK},
            {
                "set.zip": zip_of(
                    (f"{apart}.png", PICTURE), (f"{composed}.txt", b"my caption"), (f"{composed}.mask.png", MASK)
                )
            },
            {f"{apart}.png": PICTURE, "metadata.jsonl": b'{"file_name": "caf\\u00e9.png", "text": "my caption"}'},
        )
    ):
        findings = examine(files, sandbox, make(tmp_path, str(number)))
        assert [(image.name, image.caption) for image in findings.images] == [(f"{composed}.png", "my caption")]
        assert findings.images[0].masked == (number < 3)


def test_two_files_of_one_name_are_both_accounted_for(sandbox: Sandbox, tmp_path: Path) -> None:
    """As two Unicode forms of it, and as a folder that is called like an archive."""
    files = {
        "caf\u00e9.png": png(1), "cafe\u0301.png": png(2), "set.zip": zip_of(("a.png", png(3)), ("b.png", png(4))),
        "set.zip/a.png": png(5),
    }  # fmt: skip
    findings = examine(files, sandbox, tmp_path)

    assert [image.name for image in findings.images] == ["caf\u00e9.png", "set.zip/a.png", "set.zip/b.png"]
    assert findings.report().files == counts(images=3, left_out=2)
    assert {(item.file, item.reason) for item in findings.left_out} == {
        ("caf\u00e9.png (2)", "Another file of the set has the same name. Rename one of them."),
        ("set.zip/a.png (2)", "Another file of the set has the same name. Rename one of them."),
    }


def test_a_second_mask_for_one_image_is_left_out(sandbox: Sandbox, tmp_path: Path) -> None:
    files = {"a.png": PICTURE, "a.mask.png": MASK, "a.mask.jpg": encode(Image.new("L", draw(1).size, 9), "JPEG")}
    report = examine(files, sandbox, tmp_path).report()

    assert report.files == counts(images=1, masks=1, left_out=1)


def test_a_rejected_set_says_how_many_files_were_not_looked_at(sandbox: Sandbox, tmp_path: Path) -> None:
    storage = MemoryStorage()
    work = Examination("ds_1", storage, sandbox, tmp_path, max_images=1, check=lambda: None)
    with pytest.raises(DatasetRejected):
        work.run(receive(storage, {"a.png": png(1), "b.png": png(2), "c.doc": b"", ".DS_Store": b""}))

    assert work.findings.report().files == counts(unexamined=2, left_out=1, litter=1)


# --- the ledger itself -----------------------------------------------------------------------------------------


def test_what_nobody_settled_is_left_out_and_said() -> None:
    findings = Findings()
    findings.ledger.enter("forgotten.png")
    findings.settle_rest()

    assert [(item.file, item.reason) for item in findings.left_out] == [
        ("forgotten.png", "Nothing in the set uses it.")
    ]
    assert findings.report().files == counts(left_out=1)


def test_a_file_is_counted_once_however_often_it_is_settled() -> None:
    ledger = Ledger()
    ledger.enter("a.txt")
    ledger.settle(["a.txt", "a.txt"], Fate.CAPTION)
    ledger.settle(["a.txt"], Fate.MASK)
    assert ledger.count() == counts(captions=1)
    ledger.settle(["a.txt"], Fate.LEFT_OUT)
    assert ledger.count() == counts(left_out=1)


def test_numbers_that_do_not_add_up_are_no_report() -> None:
    with pytest.raises(ValidationError, match="but 3"):
        FileCounts(received=4, images=1, captions=1, masks=0, left_out=0, litter=1)


# --- anything ------------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(
    [
        "a.png", "a.txt", "a.mask.png", "b.jpg", "b.txt", "B.HEIC", ".a.png", "...c.png", "._a.png", "Icon\r",
        "d/a.png", "d/a.txt", ".DS_Store", "__MACOSX/a.png", "metadata.jsonl", "d/metadata.jsonl", "notes.doc",
        "noname", "x.mask.png", "caf\u00e9.png", "cafe\u0301.png", "cafe\u0301.txt", "s.zip/a.png", "@eaDir/a.png",
        "a.gif", "d/.hack/a.png",
    ]
)  # fmt: skip
DATA = st.sampled_from(
    [PICTURE, png(2), png(3), MASK, b"", b"text", b'{"file_name": "a.png", "text": "x"}', b"\xff" * 70_000]
)
ENTRIES = st.dictionaries(NAMES, DATA, max_size=8)


def pack(kind: Callable[..., bytes], entries: dict[str, bytes]) -> bytes:
    return kind(*entries.items())


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(loose=ENTRIES, zipped=st.none() | ENTRIES, tarred=st.none() | ENTRIES)
def test_files_in_are_files_accounted_for(
    loose: dict[str, bytes],
    zipped: dict[str, bytes] | None,
    tarred: dict[str, bytes] | None,
    sandbox: Sandbox,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    files = dict(loose)
    if zipped is not None:
        files["s.zip"] = pack(zip_of, zipped)
    if tarred is not None:
        files["t.tar"] = pack(tar_of, tarred)
    findings = examine(files, sandbox, tmp_path_factory.mktemp("any"))
    report = findings.report()
    assert report.files is not None
    assert report.num_files == report.files.received - report.files.litter
    assert report.files.images == report.num_images == len(findings.images)
    assert report.files.left_out == len({item.file for item in report.left_out}) == len(report.left_out)
    in_archives = len(zipped or ()) + len(tarred or ())
    if report.files.unexamined == 0:
        assert report.files.received == sum(not is_archive_name(name) for name in files) + in_archives
    else:
        assert report.files.received >= len(loose), "an archive that was refused counts as one"
    litter = [name for group in (loose, zipped or {}, tarred or {}) for name in group if is_os_metadata(name)]
    assert report.files.litter <= len(litter)
