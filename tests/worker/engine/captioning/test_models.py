"""What each kind of captioner is loaded as, and what it writes; tiny models of the published ones' classes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.domain.captioner import CaptionerOrder
from tests.fixtures.captioners import (
    SIDE,
    write_blip,
    write_blip2,
    write_chat_model,
    write_florence2,
    write_tagger,
)
from worker.engine.captioning.opening import open_captioner
from worker.engine.captioning.tagger import Tagger, prepare
from worker.engine.errors import BadInput

IMAGE = Image.linear_gradient("L").resize((80, 50)).convert("RGB")


def order(folder: Path, **how: object) -> CaptionerOrder:
    return CaptionerOrder.model_validate({"folder": folder, "device": "cpu", "cpu_threads": 1, **how})


@pytest.mark.parametrize(
    ("write", "architecture", "prompt"),
    [
        (write_blip, "BlipForConditionalGeneration", "a photo of"),
        (write_blip2, "Blip2ForConditionalGeneration", "What does the image describe ?"),
        (write_florence2, "Florence2ForConditionalGeneration", "<DETAILED_CAPTION>"),
        (write_chat_model, "LlavaForConditionalGeneration", "What is red ?"),
    ],
)
def test_models_of_transformers(tmp_path: Path, write: Callable[[Path], Path], architecture: str, prompt: str) -> None:
    folder = write(tmp_path / "model")
    model, info = open_captioner(order(folder))
    assert (info.kind, info.architecture, info.takes_prompt) == ("image-to-text", architecture, True)
    assert (info.num_tags, info.size) == (None, sum(file.stat().st_size for file in folder.iterdir()))
    written = model.caption(IMAGE)
    assert "<" not in written and "[" not in written, "special tokens are left out"
    assert model.caption(IMAGE) == written, "nothing is drawn at random"
    prompted, same = open_captioner(order(folder, prompt=prompt, sha256=info.sha256))
    assert same.sha256 == info.sha256
    answer = prompted.caption(IMAGE)
    assert answer.startswith(prompt) is (write is write_blip), answer
    assert answer != written


def test_another_image_another_caption(tmp_path: Path) -> None:
    model, _ = open_captioner(order(write_blip(tmp_path / "model")))
    images = [Image.new("RGB", (64, 64), color) for color in ("red", "blue", "white", "black")]
    assert len({model.caption(image) for image in [*images, IMAGE]}) > 1


def test_a_tagger_lists_tags_by_their_scores(tmp_path: Path) -> None:
    folder = write_tagger(tmp_path / "tags")
    model, info = open_captioner(order(folder, threshold=0.5))
    assert (info.kind, info.architecture, info.takes_prompt, info.num_tags) == ("tagger", "onnx", False, 6)
    red = Image.new("RGB", (64, 64), "red")
    assert model.caption(red) == "red theme", "no rating, no underscore"
    assert model.caption(Image.new("RGB", (64, 64), (255, 200, 0))) == "red theme, green theme"
    white = model.caption(Image.new("RGB", (64, 64), "white"))
    assert white == "blip (toy), red theme, green theme, blue theme", "characters first, and they need more"
    eager, _ = open_captioner(order(folder, threshold=0.01, sha256=info.sha256))
    assert "^_^" in eager.caption(red), "a face keeps its underscore"
    assert "blip" not in eager.caption(red)


def test_images_are_prepared_as_the_taggers_own_code_does() -> None:
    """A white square around it, blue first, 0 to 255."""
    pixels = prepare(Image.new("RGB", (64, 32), (10, 20, 30)), 64)
    assert pixels.shape == (1, 64, 64, 3) and pixels.dtype == np.float32
    assert pixels[0, 32, 32].tolist() == [30, 20, 10]
    assert pixels[0, 0, 0].tolist() == [255, 255, 255]


def refuse(folder: Path, says: str, **how: object) -> None:
    with pytest.raises(BadInput) as caught:
        open_captioner(order(folder, **how))
    assert says in str(caught.value), str(caught.value)


def test_what_is_not_a_captioner_says_what_it_lacks(tmp_path: Path) -> None:
    refuse(tmp_path / "none", "There is no folder none")
    (tmp_path / "empty").mkdir()
    refuse(tmp_path / "empty", "neither a config.json nor a model.onnx")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "config.json").write_text("[]")
    refuse(tmp_path / "odd", "does not say which model_type")
    (tmp_path / "odd" / "config.json").write_text('{"model_type": "bert"}')
    refuse(tmp_path / "odd", "odd is a bert, which transformers does not know")
    (tmp_path / "odd" / "config.json").write_text('{"model_type": "blip"}')
    (tmp_path / "odd" / "pytorch_model.bin").write_bytes(b"\x80\x02")
    refuse(tmp_path / "odd", "has no .safetensors weights")


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    """transformers would draw the missing ones at random, and caption with noise."""
    folder = write_blip(tmp_path / "model")
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace('"num_hidden_layers": 1', '"num_hidden_layers": 2'))
    refuse(folder, "Its weights do not fit its configuration")
    (folder / "config.json").write_text(config)
    (folder / "model.safetensors").write_bytes(b"\xff" * 100)
    refuse(folder, "transformers cannot load it")


def test_code_of_a_repository_is_not_run(tmp_path: Path) -> None:
    folder = write_blip(tmp_path / "model")
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    config = (folder / "config.json").read_text()
    names = '{"AutoConfig": "evil.Evil", "AutoModelForImageTextToText": "evil.Evil"}'
    (folder / "config.json").write_text(config.replace("{", f'{{"auto_map": {names},', 1))
    open_captioner(order(folder))
    assert not (tmp_path / "ran").exists()


def test_other_files_than_the_registered_ones_are_refused(tmp_path: Path) -> None:
    folder = write_tagger(tmp_path / "tags")
    _, info = open_captioner(order(folder))
    (folder / "notes.md").write_text("not part of it")
    open_captioner(order(folder, sha256=info.sha256))
    (folder / "selected_tags.csv").write_text((folder / "selected_tags.csv").read_text() + "\n")
    refuse(folder, "are not those that were registered", sha256=info.sha256)


def test_files_that_are_not_a_tagger(tmp_path: Path) -> None:
    alone = write_tagger(tmp_path / "alone")
    (alone / "selected_tags.csv").unlink()
    refuse(alone, "no selected_tags.csv")
    broken = write_tagger(tmp_path / "broken")
    (broken / "model.onnx").write_bytes(b"not protobuf")
    refuse(broken, "model.onnx is not an ONNX model")
    refuse(write_tagger(tmp_path / "short", num_outputs=5), "scores 5 tags, but selected_tags.csv lists 6")
    refuse(write_tagger(tmp_path / "logits", sigmoid=False), "probabilities from 0 to 1")
    for number, text in enumerate(
        ("", "name,category\n", "a,b\n1,2\n", "name,category\ncat,x\n", "name,category\n,0\n")
    ):
        folder = write_tagger(tmp_path / f"tags{number}")
        (folder / "selected_tags.csv").write_text(text)
        refuse(folder, "selected_tags.csv")


def test_the_side_is_the_models_own(tmp_path: Path) -> None:
    tagger = Tagger(write_tagger(tmp_path / "tags"), device="cpu", cpu_threads=1, threshold=0.5)
    assert tagger._side == SIDE
