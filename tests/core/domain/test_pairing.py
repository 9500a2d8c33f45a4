"""A caption belongs to the image that it names, by path, however the path is written; and nothing is lost silently."""

import unicodedata

import pytest

from core.domain.metadata import Row
from core.domain.pairing import Pairing, pair_captions


def pair(
    images: list[str], *names: str, source: str = "metadata.jsonl", archives: dict[str, str] | None = None
) -> Pairing:
    rows = [Row(source, line, name, f"caption {line}") for line, name in enumerate(names, start=1)]
    return pair_captions(images, {}, rows, archives)


def reasons(found: Pairing) -> dict[str, str]:
    return {item.row.file_name: item.reason for item in found.unmatched}


# --- caption files -----------------------------------------------------------------------------------------


def test_a_text_file_beside_the_image_wins_over_metadata() -> None:
    rows = [Row("metadata.jsonl", 1, "a.png", "from metadata"), Row("metadata.jsonl", 2, "c.webp", "third")]
    found = pair_captions(
        ["a.png", "sub/b.jpg", "c.webp", "d.png"],
        {"a.txt": "from text\n", "sub/b.txt": "  two   words ", "z.txt": "nobody's"},
        rows,
    )
    assert found.captions == {"a.png": "from text", "sub/b.jpg": "two words", "c.webp": "third", "d.png": None}
    assert found.unused == ["z.txt"]
    assert found.unmatched == found.guesses == []


@pytest.mark.parametrize("text", ["a.txt", "a.caption", "a.png.txt", "A.TXT", "a.CAPTION"])
def test_a_caption_file_is_named_after_its_image(text: str) -> None:
    found = pair_captions(["a.png"], {text: "a toy"})
    assert (found.captions, found.unused) == ({"a.png": "a toy"}, [])


def test_the_first_caption_file_that_is_not_empty_is_used_and_the_other_reported() -> None:
    both = pair_captions(["a.png"], {"a.caption": "one", "a.txt": "two"})
    assert (both.captions, both.unused) == ({"a.png": "two"}, ["a.caption"])
    empty = pair_captions(["a.png"], {"a.caption": "one", "a.txt": ""})
    assert (empty.captions, empty.unused) == ({"a.png": "one"}, [])


def test_accents_pair_however_a_system_composes_them() -> None:
    name = "café"
    for image, text in (("NFC", "NFD"), ("NFD", "NFC")):
        found = pair_captions(
            [unicodedata.normalize(image, f"{name}.png")], {unicodedata.normalize(text, f"{name}.txt"): "x"}
        )
        assert list(found.captions.values()) == ["x"] and found.unused == []


def test_two_caption_files_that_differ_in_case_alone_caption_nothing_by_case() -> None:
    found = pair_captions(["ab.png"], {"AB.txt": "one", "Ab.txt": "two"})
    assert (found.captions, found.unused) == ({"ab.png": None}, ["AB.txt", "Ab.txt"])


# --- rows --------------------------------------------------------------------------------------------------


def test_a_row_captions_the_file_that_it_names_and_no_other_of_that_name() -> None:
    found = pair(["a.png", "dogs/a.png", "cats/b.png"], "a.png", "b.png")
    assert found.captions == {"a.png": "caption 1", "dogs/a.png": None, "cats/b.png": None}
    assert reasons(found) == {"b.png": "no image of the set has this path"}


def test_a_path_longer_than_any_file_has_is_not_looked_for() -> None:
    """Each of its folders would be: a megabyte of them would take a worker's hour."""
    found = pair(["z.png"], "b/" * 500_000 + "z.png")
    assert found.captions == {"z.png": None} and len(found.unmatched) == 1


def test_a_row_for_a_folder_does_not_caption_the_top() -> None:
    found = pair(["a.png", "dogs/b.png"], "dogs/a.png", "../a.png")
    assert found.captions == {"a.png": None, "dogs/b.png": None}
    assert set(reasons(found)) == {"dogs/a.png", "../a.png"}


def test_file_names_are_relative_to_their_metadata() -> None:
    rows = [Row("one/metadata.jsonl", 1, "a.png", "first"), Row("two/metadata.jsonl", 1, "a.png", "second")]
    found = pair_captions(["one/a.png", "two/a.png", "a.png"], {}, rows)
    assert found.captions == {"one/a.png": "first", "two/a.png": "second", "a.png": None}
    up = pair(["a.png", "sub/a.png"], "../a.png", source="sub/metadata.jsonl")
    assert up.captions == {"a.png": "caption 1", "sub/a.png": None}


@pytest.mark.parametrize(
    ("image", "written"),
    [
        ("b.png", "./b.png"),
        ("b.png", ".\\b.png"),
        ("sub/b.png", "sub\\b.png"),
        ("sub/b.png", "sub//./b.png"),
        ("sub/b.png", "other/../sub/b.png"),
        ("my e.png", "my%20e.png"),
        ("m%20e.png", "m%20e.png"),
        ("img/mü.png", "img/mü.png"),
        ("img/mü.png", "img\\mü.png"),
        ("b.png", "/b.png"),
        ("b.png", "file:///b.png"),
    ],
)
def test_other_ways_of_writing_a_path_are_the_same_path(image: str, written: str) -> None:
    found = pair([image, "other/x.png"], written)
    assert found.captions[image] == "caption 1"
    assert found.unmatched == found.guesses == []


@pytest.mark.parametrize(
    ("image", "written"),
    [
        ("D.PNG", "d.png"),
        ("f.png", "f"),
        ("c.png", "train/c.png"),
        ("g.png", "C:\\set\\g.png"),
        ("sub/g.png", "/home/me/set/sub/g.png"),
    ],
)
def test_a_path_that_fits_only_one_image_is_used_and_reported(image: str, written: str) -> None:
    found = pair([image, "other.png"], written)
    assert found.captions == {image: "caption 1", "other.png": None}
    assert [(guess.row.file_name, guess.image) for guess in found.guesses] == [(written, image)]


def test_where_several_images_could_be_meant_none_is() -> None:
    found = pair(["f.png", "f.jpg", "Ab.png", "aB.png"], "f", "AB.png")
    assert set(found.captions.values()) == {None}
    assert len(found.unmatched) == 2


def test_where_several_guesses_are_one_image_none_is_taken() -> None:
    found = pair(["a.png"], "cats/a.png", "dogs/a.png")
    assert found.captions == {"a.png": None}
    assert set(reasons(found)) == {"cats/a.png", "dogs/a.png"}


def test_a_row_that_names_its_image_by_path_comes_before_guesses_and_aliases() -> None:
    found = pair(["a.png"], "A.PNG", "a.png", "set/a.png", archives={"": "set.zip"})
    assert found.captions == {"a.png": "caption 2"}
    assert reasons(found) == dict.fromkeys(["A.PNG", "set/a.png"], "another row names the same image")


def test_of_several_rows_for_an_image_the_nearest_file_and_then_the_last_row_counts() -> None:
    rows = [
        Row("metadata.jsonl", 1, "sub/a.png", "far"),
        Row("sub/metadata.jsonl", 1, "a.png", "first"),
        Row("sub/metadata.jsonl", 2, "a.png", "last"),
    ]
    found = pair_captions(["sub/a.png"], {}, rows)
    assert found.captions == {"sub/a.png": "last"}
    assert [item.row.caption for item in found.unmatched] == ["far", "first"]


# --- archives ----------------------------------------------------------------------------------------------


def test_a_row_may_begin_with_the_folder_that_the_metadata_lies_in() -> None:
    found = pair(["train/a.png", "test/a.png"], "train/a.png", source="train/metadata.jsonl")
    assert found.captions == {"train/a.png": "caption 1", "test/a.png": None}
    assert found.guesses == []


def test_a_row_may_begin_with_the_archives_name() -> None:
    assert pair(["a.png"], "train/a.png", archives={"": "train.zip"}).guesses == []
    several = {"cats.zip/": "cats.zip", "dogs.tar.gz/": "dogs.tar.gz"}
    images = ["cats.zip/a.png", "dogs.tar.gz/a.png"]
    assert pair(images, "dogs/a.png", archives=several).captions == {images[0]: None, images[1]: "caption 1"}
    within = pair(images, "cats/a.png", source="cats.zip/metadata.jsonl", archives=several)
    assert within.captions == {images[0]: "caption 1", images[1]: None}


def test_metadata_beside_an_archive_names_what_is_in_it() -> None:
    one = {"set.zip/": "set.zip"}
    assert pair(["set.zip/a.png"], "a.png", archives=one).captions == {"set.zip/a.png": "caption 1"}
    assert pair(["set.zip/blip/a.png"], "a.png", archives=one).captions == {"set.zip/blip/a.png": "caption 1"}
    two_folders = ["set.zip/a.png", "set.zip/dogs/a.png"]
    assert pair(two_folders, "a.png", archives=one).captions == {two_folders[0]: "caption 1", two_folders[1]: None}


def test_metadata_beside_two_archives_with_such_a_file_captions_neither() -> None:
    several = {"cats.zip/": "cats.zip", "dogs.zip/": "dogs.zip"}
    found = pair(["cats.zip/a.png", "dogs.zip/a.png"], "a.png", archives=several)
    assert set(found.captions.values()) == {None} and len(found.unmatched) == 1
