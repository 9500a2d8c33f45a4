"""What folders and names say in the layouts of kohya's sd-scripts and OneTrainer."""

import pytest

from core.domain.layouts import Layout, Place, read_layout


def places(*pictures: str) -> dict[str, Place]:
    return read_layout(pictures).places


def masks(*pictures: str) -> dict[str, str]:
    return read_layout(pictures).masks


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("a.png", Place()),
        ("blip/a.png", Place()),
        ("10_blip toy/a.png", Place(repeats=10, class_text="blip toy")),
        ("img/3_my_blip toy/a.png", Place(repeats=3, class_text="my_blip toy")),
        ("10_blip/close/a.png", Place(repeats=10, class_text="blip")),
        ("5_set/2_blip/a.png", Place(repeats=2, class_text="blip")),
        ("reg/1_toy/a.png", Place("class", 1, "toy")),
        ("set/Reg/a.png", Place("class")),
        ("regularization_images/a.png", Place("class")),
        ("reg.zip/1_toy/a.png", Place("class", 1, "toy")),
        ("4_blip.tar.gz/a.png", Place(repeats=4, class_text="blip")),
        ("2023_summer/a.png", Place()),
        ("regal/a.png", Place()),
        ("10_/a.png", Place()),
        ("x10_blip/a.png", Place()),
        ("10_blip.png", Place()),
        ("DCIM/100_PANA/P1000001.JPG", Place()),
        ("103_0615/a.png", Place()),
        ("100_blip/a.png", Place(repeats=100, class_text="blip")),
    ],
)
def test_folders_say_repeats_class_and_role(name: str, place: Place) -> None:
    assert places(name) == {name: place}


def test_a_folder_with_no_repeats_is_left_out_as_kohya_does() -> None:
    layout = read_layout(["0_old/a.png", "0_old/a.mask.png", "1_new/b.png"])
    assert layout.images == ["1_new/b.png"]
    assert set(layout.left_out) == {"0_old/a.png", "0_old/a.mask.png"}
    assert "0 repeats" in layout.left_out["0_old/a.png"]


def test_the_layout_is_reported() -> None:
    notes = read_layout(["img/10_blip toy/a.png", "img/10_blip toy/b.png", "reg/1_toy/c.png", "2024_x/d.png"]).notes
    assert notes == [
        '"img/10_blip toy" is read in kohya\'s layout: 2 images (10 repeats each; "blip toy" as the caption of those '
        "without one).",
        '"reg/1_toy" has 1 image for regularisation (1 repeat each; "toy" as the caption of those without one): not '
        "trained as the subject, but used as the class images of prior preservation.",
        '"2024_x" is not read in kohya\'s layout: more than 1,000 repeats are implausible.',
    ]
    assert read_layout(["a.png", "blip/b.png"]).notes == []


# --- masks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", ["a.mask.png", "a-masklabel.png", "a-MaskLabel.png", "a.mask.webp"])
def test_a_mask_is_named_after_its_image(mask: str) -> None:
    layout = read_layout(["a.jpg", mask, "b.png"])
    assert (layout.images, layout.masks, layout.left_out) == (["a.jpg", "b.png"], {"a.jpg": mask}, {})
    assert layout.notes == [f"1 image has a mask of their own, such as {mask}."]


def test_a_mask_without_its_image_and_a_conditioning_image_are_left_out() -> None:
    layout = read_layout(["b.png", "a-masklabel.png", "b-condlabel.png"])
    assert layout.images == ["b.png"]
    assert "no image matches it" in layout.left_out["a-masklabel.png"]
    assert "conditioning image of OneTrainer" in layout.left_out["b-condlabel.png"]


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("a.jpg", "mask/a.png"),
        ("img/a.jpg", "masks/a.png"),
        ("img/a.jpg", "img/mask/a.png"),
        ("img/10_blip/a.png", "mask/10_blip/a.png"),
        ("img/10_blip/a.png", "masks/a.png"),
        ("blip/a.png", "blip_mask/a.png"),
        ("set/blip/a.png", "set/blip-masks/a.png"),
        ("img.zip/a.png", "mask.zip/a.png"),
    ],
)
def test_a_folder_of_masks_has_them_under_the_names_of_the_images(image: str, mask: str) -> None:
    layout = read_layout([image, mask, "other/b.png"])
    assert layout.masks == {image: mask}
    assert set(layout.images) == {image, "other/b.png"}


def test_in_a_folder_of_masks_those_without_an_image_are_left_out() -> None:
    layout = read_layout(["img/a.png", "mask/a.png", "mask/z.png"])
    assert (layout.images, list(layout.left_out)) == (["img/a.png"], ["mask/z.png"])


def test_images_that_show_masks_stay_images() -> None:
    names = ["masks/venice-1.png", "masks/venice-2.png", "faces/a.png"]
    assert read_layout(names) == Layout({name: Place() for name in names}, {}, {}, [])


def test_a_mask_that_could_belong_to_two_images_belongs_to_the_one_beside() -> None:
    assert masks("blip/a.png", "toy/a.png", "blip_mask/a.png") == {"blip/a.png": "blip_mask/a.png"}
    assert masks("blip/a.png", "toy/a.png", "mask/a.png") == {}


def test_a_mask_by_name_comes_before_one_in_a_folder() -> None:
    layout = read_layout(["a.png", "a.mask.png", "mask/a.png"])
    assert (layout.masks, layout.left_out) == ({"a.png": "a.mask.png"}, {"mask/a.png": "Its image has another mask."})
