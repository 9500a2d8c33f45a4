"""Ids as people type them: a prefix is enough, and a wrong or ambiguous one is refused."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from cli.errors import UsageError
from cli.ids import ID_CHARS, find_id, shorten_ids
from core.domain.ids import new_id


@dataclass(frozen=True)
class Thing:
    id: str


A, B, C = (f"job_{start}{'7' * (ID_CHARS - len(start))}" for start in ("01m8mvss", "01m8mvkz2", "01m8mvkz1"))
NEWEST_FIRST = sorted((A, B, C), reverse=True)


def list_after(after: str | None) -> Iterator[Thing]:
    """As the service does: keyset pages, newest first."""
    return (Thing(one) for one in NEWEST_FIRST if after is None or one < after)


@pytest.mark.parametrize("typed", [A, A[:12], A[4:11], "01m8mvs", "job_01m8mvs", "01M8MVS", A.removeprefix("job_")])
def test_a_prefix_of_an_id_is_enough(typed: str) -> None:
    assert find_id(typed, "job", list_after) == A


def test_an_ambiguous_prefix_names_all_matches() -> None:
    with pytest.raises(UsageError, match="Several jobs begin with 01m8mvkz") as caught:
        find_id("01m8mvkz", "job", list_after)
    assert B in caught.value.message and C in caught.value.message and A not in caught.value.message


def test_an_unknown_prefix_is_an_error() -> None:
    with pytest.raises(UsageError, match="There is no job 01m8mvkz9"):
        find_id("01m8mvkz9", "job", list_after)


@pytest.mark.parametrize("typed", ["../jobs", "a b", "é", A + "7"])
def test_what_could_not_begin_an_id_is_left_to_the_service(typed: str) -> None:
    assert find_id(typed, "job", list_after) == typed


@pytest.mark.parametrize("typed", ["", "job_", "JOB_"])
def test_the_kind_alone_is_not_enough_of_an_id(typed: str) -> None:
    with pytest.raises(UsageError, match=r"Every job's id begins with job_: type .*atelier jobs"):
        find_id(typed, "job", list_after)


def test_nothing_is_read_behind_the_ids_that_begin_so() -> None:
    read: list[str] = []

    def watched(after: str | None) -> Iterator[Thing]:
        for thing in list_after(after):
            read.append(thing.id)
            yield thing

    assert find_id("01m8mvkz2", "job", watched) == B
    assert A not in read, "newer ones are left out by where the list begins"
    assert len(read) == 2, "the first older one ends it"


def test_short_ids_are_found_again_and_as_short_as_possible() -> None:
    short = shorten_ids([A, B, C])
    assert short == {A: "job_01m8mvss77", B: "job_01m8mvkz27", C: "job_01m8mvkz17"}
    assert [find_id(one, "job", list_after) for one in short.values()] == [A, B, C]


def test_a_short_id_is_found_again_among_those_that_the_table_did_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """``--limit`` and filters leave out others, made in the same second."""
    clock = iter(range(1_764_000_000_000_000_000, 1_764_000_001_000_000_000, 5_000_000))
    with monkeypatch.context() as patched:
        patched.setattr("core.domain.ids.time.time_ns", lambda: next(clock))
        all_ids = sorted((new_id("job") for _ in range(200)), reverse=True)

    def list_all(after: str | None) -> Iterator[Thing]:
        return (Thing(one) for one in all_ids if after is None or one < after)

    for shown in all_ids:
        (short,) = shorten_ids([shown]).values()
        assert find_id(short, "job", list_all) == shown


def test_of_two_of_one_millisecond_both_are_named() -> None:
    twins = [f"job_01m8mvss77{end}{'7' * 15}" for end in "ba"]
    (short,) = shorten_ids(twins[:1]).values()
    with pytest.raises(UsageError, match=f"Several jobs begin with {short}: {twins[0]}, {twins[1]}. Type more"):
        find_id(short, "job", lambda _: map(Thing, twins))


def test_short_ids_of_one_second_are_longer() -> None:
    ids = [new_id("ds") for _ in range(50)]
    assert len(set(shorten_ids(ids).values())) == 50


@pytest.mark.parametrize("names", [["tiny", "sdxl-base"], ["my_base_with_a_long_name", "my_base_with_another"], []])
def test_names_stay_whole(names: list[str]) -> None:
    assert shorten_ids(names) == {name: name for name in names}
