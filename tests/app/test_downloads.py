"""What a job leaves: metrics, checkpoints, samples, and the adapter in both formats."""

import hashlib

import pytest

from core.domain.artifacts import job_prefix
from tests.app.conftest import LiveApi
from tests.app.factory import Worker, draw_png, submit
from tests.app.test_jobs import refuse


def test_the_adapter_in_both_formats(api: LiveApi) -> None:
    job = submit(api, name="Käthe's toy / v1")
    contents = Worker(api, job["id"]).succeed()
    for query, name, suffix in (
        ("", "kohya", ".safetensors"),
        ("?format=kohya", "kohya", ".safetensors"),
        ("?format=diffusers", "diffusers", ".diffusers.safetensors"),
    ):
        answer = api.client.get(f"/jobs/{job['id']}/adapter{query}")
        assert (answer.status_code, answer.content) == (200, contents[name])
        assert answer.headers["content-disposition"] == (
            f"attachment; filename=\"Kathe-s-toy-v1{suffix}\"; filename*=UTF-8''K%C3%A4the%27s%20toy%20-%20v1{suffix}"
        )
        assert answer.headers["etag"] == f'"{hashlib.sha256(contents[name]).hexdigest()}"'
        assert answer.headers["content-length"] == str(len(contents[name]))
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_an_adapter_that_the_client_has_is_not_sent_again(api: LiveApi) -> None:
    job = submit(api)
    Worker(api, job["id"]).succeed()
    url = f"/jobs/{job['id']}/adapter"
    tag = api.client.get(url).headers["etag"]
    answer = api.client.get(url, headers={"If-None-Match": tag})
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
    assert api.client.get(url, headers={"If-None-Match": '"other"'}).status_code == 200


def test_before_it_exists_and_in_no_known_format(api: LiveApi) -> None:
    job = submit(api)
    for words in ("once the job has succeeded", "it ended without an adapter"):
        problem = refuse(api.client.get(f"/jobs/{job['id']}/adapter"), 409, "wrong-state")
        assert words in problem["detail"]
        api.client.post(f"/jobs/{job['id']}/cancel")
    problem = refuse(api.client.get(f"/jobs/{job['id']}/adapter?format=onnx"), 422, "invalid-request")
    assert list(problem["errors"]) == ["/query/format"]


def test_a_file_that_storage_has_lost(api: LiveApi) -> None:
    job = submit(api)
    Worker(api, job["id"]).succeed()
    api.storage.delete_prefix(job_prefix(job["id"]))
    problem = refuse(api.client.get(f"/jobs/{job['id']}/adapter"), 404, "not-found")
    assert "storage" in problem["detail"]


def test_checkpoints(api: LiveApi) -> None:
    job = submit(api)
    url = f"/jobs/{job['id']}/checkpoints"
    assert api.client.get(url).json()["data"] == []
    worker = Worker(api, job["id"])
    contents = {step: worker.checkpoint(step) for step in (2, 4, 6)}
    page = api.client.get(url).json()
    assert [row["step"] for row in page["data"]] == [4, 6]
    for row in page["data"]:
        answer = api.client.get(row["url"])
        assert answer.content == contents[row["step"]]
        assert (row["size"], row["sha256"]) == (len(answer.content), hashlib.sha256(answer.content).hexdigest())
        assert f"-step-{row['step']}.safetensors" in answer.headers["content-disposition"]
    refuse(api.client.get(f"{url}/2/download"), 404, "not-found")


def test_samples(api: LiveApi) -> None:
    job = submit(api)
    worker = Worker(api, job["id"])
    for step in (0, 5):
        worker.sample(step)
    url = f"/jobs/{job['id']}/samples"
    page = api.client.get(url).json()
    assert [row["step"] for row in page["data"]] == [0, 5]
    sample = page["data"][1]
    assert (sample["images"][0]["prompt"], sample["images"][0]["seed"]) == ("a toy", 0)
    assert "key" not in sample["images"][0]
    assert "key" not in sample["grid"]
    assert api.client.get(sample["images"][0]["url"]).content == draw_png(5)
    grid = api.client.get(f"{url}/5/grid.png")
    assert (grid.content, grid.headers["content-type"]) == (draw_png(105), "image/png")
    assert sample["grid"]["url"] == f"{url}/5/grid.png"
    for path in ("7/grid.png", "5/1.png", "-1/grid.png", "5/x.png", f"{10**30}/grid.png"):
        refuse(api.client.get(f"{url}/{path}"), 404, "not-found")


def test_metrics_page_by_page(api: LiveApi) -> None:
    job = submit(api)
    Worker(api, job["id"]).train(7)
    url = f"/jobs/{job['id']}/metrics"
    page = api.client.get(url).json()
    assert [row["step"] for row in page["data"]] == list(range(1, 8))
    assert page["data"][1] == {
        "step": 2, "attempt": 1, "loss": 0.5, "validation_loss": None, "learning_rate": pytest.approx(1e-4),
        "seconds_per_step": 0.2,
    }  # fmt: skip
    first = api.client.get(f"{url}?limit=5").json()
    assert (len(first["data"]), first["has_more"], first["last_id"]) == (5, True, "5")
    rest = api.client.get(f"{url}?after=5").json()
    assert ([row["step"] for row in rest["data"]], rest["has_more"]) == ([6, 7], False)
    thinned = api.client.get(f"{url}?points=3").json()
    assert ([row["step"] for row in thinned["data"]], thinned["has_more"]) == ([1, 4, 7], False)
    assert [row["step"] for row in api.client.get(f"{url}?points=2&after=3").json()["data"]] == [4, 6, 7]
    for points in ("1", "10001", "x"):
        refuse(api.client.get(url, params={"points": points}), 422, "invalid-request")
    for after in ("x", "-1", "1e3", str(10**30), "\u0663"):
        refuse(api.client.get(url, params={"after": after}), 422, "invalid-request")
