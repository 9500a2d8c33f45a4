"""`atelier generate` and the client's calls on a real API; the worker is played by the test."""

import io
import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from atelier_client import ApiError, AtelierClient, GenerationEnded, InputError
from tests.cli.conftest import Atelier
from tests.fixtures.drawing import drawer
from tests.fixtures.pictures import png
from tests.fixtures.scripted_job import MODEL

__all__ = ["drawer"]

pytestmark = pytest.mark.usefixtures("drawer")


def test_images_are_drawn_and_saved(atelier: Atelier, tmp_path: Path) -> None:
    prompts = ("a toy on red", "a toy on blue")
    done = atelier(
        "generate", *prompts, "--model", MODEL.id, "--num-images", 2, "--seed", 7, "--out", "images", "--json"
    )
    assert done.exit_code == 0, done.output
    first, *images = (json.loads(line) for line in done.stdout.splitlines() if '"waiting"' not in line)
    assert (first["event"], first["status"]) == ("generation", "queued")
    assert [(image["prompt"], image["seed"]) for image in images] == [(p, s) for p in prompts for s in (7, 8)]
    assert [Path(image["path"]).read_bytes() for image in images] == [png(index) for index in range(4)]
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == [
        f"{first['id']}-{index:02d}.png" for index in range(4)
    ]


def test_a_grid_is_asked_for_by_two_settings(atelier: Atelier) -> None:
    done = atelier("generate", "a toy", "--model", MODEL.id, "--x", "seed=1,2", "--y", "num_steps=2", "--json")
    assert done.exit_code == 0, done.output
    images = [row for row in map(json.loads, done.stdout.splitlines()) if row["event"] == "image"]
    assert [image["seed"] for image in images] == [1, 2]
    for typed, reason in (
        (("--y", "seed=1"), "--y needs --x"),
        (("--x", "seed"), "write --x weight=0.4,0.8,1.2"),
        (("--x", "seed=many"), "'many' is not a number"),
        (("--x", "seed=-1"), "-1 is not possible for seed"),
        (("--x", "colour=1"), "--x"),
    ):
        odd = atelier("generate", "a toy", "--model", MODEL.id, *typed)
        assert (odd.exit_code, reason in odd.stderr) == (2, True), odd.stderr


def test_a_failure_is_told_with_its_reason(atelier: Atelier) -> None:
    failed = atelier("generate", "fail", "--model", MODEL.id)
    assert failed.exit_code == 1
    assert "the adapter does not fit" in failed.stderr


def test_faults_are_spelled_as_options(atelier: Atelier) -> None:
    odd = atelier("generate", "a toy", "--model", MODEL.id, "--width", 65)
    assert (odd.exit_code, "--width: must be a multiple of" in odd.stderr) == (2, True), odd.stderr
    many = atelier("generate", "a toy", "--model", MODEL.id, "--num-images", 17)
    assert (many.exit_code, "--num-images" in many.stderr) == (2, True), many.stderr
    unknown = atelier("generate", "a toy", "--adapter", "ad_01j9z3k8m4x7v2q5w6e8r9t0yc:0.5")
    assert unknown.exit_code == 2, unknown.output
    weight = atelier("generate", "a toy", "--adapter", "ad_01j9z3k8m4x7v2q5w6e8r9t0yc:much")
    assert weight.exit_code == 2, weight.output


def test_the_client_returns_the_images(client: AtelierClient) -> None:
    asked = {"model": MODEL.id, "prompts": ["a toy"], "num_images": 2}
    assert client.generate_png(asked, timeout_seconds=60) == [png(0), png(1)]
    client.delete_generation(next(client.list_generations()).id)
    images = client.generate(asked, timeout_seconds=60)
    for number, image in enumerate(images):
        expected = Image.open(io.BytesIO(png(number)))
        assert (image.size, image.tobytes()) == (expected.size, expected.tobytes())
    assert len(images) == 2
    newest = next(client.list_generations())
    assert (newest.status, newest.num_drawn, newest.is_terminal) == ("succeeded", 2, True)
    client.delete_generation(newest.id)
    with pytest.raises(ApiError):
        client.get_generation(newest.id)


def test_images_need_pillow_and_files_do_not(client: AtelierClient, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"model": MODEL.id, "prompts": ["a toy"]}
    before = len(list(client.list_generations()))
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "PIL", None)
        with pytest.raises(InputError, match="pip install pillow"):
            client.generate(asked)
    assert len(list(client.list_generations())) == before, "nothing was drawn for it"
    assert len(client.generate_png(asked, timeout_seconds=60)) == 1
    client.delete_generation(next(client.list_generations()).id)


def test_the_client_says_why_there_are_none(client: AtelierClient) -> None:
    with pytest.raises(GenerationEnded, match="the adapter does not fit") as caught:
        client.generate({"model": MODEL.id, "prompts": ["fail"]}, timeout_seconds=60)
    assert caught.value.generation.status == "failed"
