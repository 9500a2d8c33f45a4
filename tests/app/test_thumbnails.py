"""Thumbnails of a dataset's images: made by the check, sent, counted, kept by revisions and deleted."""

import io
from typing import Any

from PIL import Image

from core.db.tables import Dataset
from tests.app.conftest import LiveApi
from tests.app.factory import add_dataset
from tests.app.test_jobs import refuse
from tests.app.test_revisions import crop, delete, list_images, post, revise, size_of_lists, used_bytes
from tests.app.uploader import Uploader
from tests.fixtures.pictures import encode, png


def large(seed: int, width: int = 800, height: int = 500) -> bytes:
    return png(seed, width, height)


def open_thumbnail(api: LiveApi, image: dict[str, Any]) -> Image.Image:
    answer = api.client.get(image["thumbnail_url"])
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/webp")
    assert answer.headers["content-disposition"].endswith('.webp"')
    shown = Image.open(io.BytesIO(answer.content))
    assert shown.format == "WEBP"
    shown.load()
    return shown


def sum_stored(api: LiveApi, dataset: str) -> int:
    """Of the dataset's files in storage."""
    return sum(stat.size for stat in api.storage.list(f"datasets/{dataset}/"))


def test_larger_images_have_one_and_smaller_ones_are_their_own(api: LiveApi, upload: Uploader) -> None:
    dataset = upload({"a.png": large(1), "b.png": png(2, 200, 700), "c.png": png(3, 256, 256)})
    wide, high, small = list_images(api, dataset)
    assert open_thumbnail(api, wide).size == (256, 160)
    assert open_thumbnail(api, high).size == (73, 256)
    assert small["thumbnail_url"] == small["url"]
    address = small["url"].replace(".png", ".webp")
    assert "has no thumbnail" in refuse(api.client.get(address), 404, "not-found")["detail"]
    known = {"If-None-Match": api.client.get(wide["thumbnail_url"]).headers["etag"]}
    assert api.client.get(wide["thumbnail_url"], headers=known).status_code == 304


def test_it_shows_the_image_with_its_mask(api: LiveApi, upload: Uploader) -> None:
    image = Image.new("RGBA", (600, 300), (200, 30, 30, 255))
    image.paste((200, 30, 30, 0), (0, 0, 300, 300))
    [shown] = list_images(api, upload({"a.png": encode(image)}))
    thumbnail = open_thumbnail(api, shown).convert("RGBA")
    red, green, _, alpha = thumbnail.getpixel((200, 64))  # type: ignore[misc]
    assert (red > 150, green < 80, alpha) == (True, True, 255)
    assert thumbnail.getpixel((50, 64))[3] == 0  # type: ignore[index]


def test_they_count_as_stored_and_go_with_the_last_that_shows_them(api: LiveApi, upload: Uploader) -> None:
    parent = upload({"a.png": large(1), "b.png": large(2)})
    assert len(api.list_stored(f"datasets/{parent}")) == 4
    assert used_bytes(api) == sum_stored(api, parent)
    revision = revise(api, parent, exclude=["b.png"])
    delete(api, parent)
    [image] = list_images(api, revision)
    assert len(api.list_stored(f"datasets/{parent}")) == 2
    assert open_thumbnail(api, image).size == (256, 160)
    assert used_bytes(api) == sum_stored(api, parent) + size_of_lists(api, revision)
    delete(api, revision)
    assert api.list_stored(f"datasets/{parent}") == []


def test_a_cropped_image_has_the_thumbnail_of_its_part(api: LiveApi, upload: Uploader) -> None:
    parent = upload({"a.png": large(1), "b.png": large(2)})
    boxes = {"a.png": crop(0, 0, 300, 500), "b.png": crop(0, 0, 100, 100)}
    cropped = upload.finish(post(api, parent, crop=boxes).json()["id"])
    part, small = list_images(api, cropped)
    assert open_thumbnail(api, part).size == (154, 256)
    assert small["thumbnail_url"] == small["url"]
    assert len(api.list_stored(f"datasets/{cropped}")) == 3


def test_images_from_before_there_were_any_are_shown_themselves(api: LiveApi) -> None:
    dataset = add_dataset(api)
    with api.sessions.begin() as session:
        row = session.get_one(Dataset, dataset)
        images = [{k: v for k, v in image.items() if k != "thumbnail"} for image in (row.manifest or {})["images"]]
        row.manifest = {"images": images}
    for image in list_images(api, dataset):
        assert image["thumbnail_url"] == image["url"]
        assert api.client.get(image["thumbnail_url"]).headers["content-type"] == "image/png"
