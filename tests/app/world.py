"""One of everything that a tenant can have, made over the API and by the workers' own functions."""

from dataclasses import dataclass

from core.db import captioning_claims, generation_claims
from core.db.captioning_claims import CaptioningClaim
from core.db.datasets import NewRevision
from core.db.generation_claims import GenerationClaim
from core.domain.artifacts import Artifact, generation_key
from core.domain.captioning import CaptioningPlan, caption_dataset
from core.domain.dataset import DatasetManifest
from core.domain.generation import name_sheet
from tests.app.conftest import LiveApi
from tests.app.factory import Worker, add_captioner, add_dataset, add_model, draw_png


@dataclass(frozen=True)
class World:
    """The ids of a tenant's things."""

    job: str
    dataset: str
    open_dataset: str
    adapter: str
    generation: str
    captioning: str
    check: str
    publication: str
    link: str
    cover: str
    delivery: str
    event: str
    request: str
    image: str
    key: str

    @property
    def ids(self) -> list[str]:
        return [
            self.job,
            self.dataset,
            self.open_dataset,
            self.adapter,
            self.generation,
            self.captioning,
            self.check,
            self.publication,
            self.link,
            self.cover,
            self.delivery,
            self.request,
            self.key,
        ]


def build(api: LiveApi, admin: LiveApi) -> World:
    """``admin``: the same tenant's, with every scope. The job has succeeded, and another waits."""
    body = {"model": add_model(api), "dataset": add_dataset(api, thumbnails=True), "trigger": "toy", "steps": 10}
    body["datasets"] = [{"id": add_dataset(api, thumbnails=True), "trigger": "other"}]
    body["webhook"] = {"url": "https://example.com/hook"}
    made = [api.client.post("/jobs", json=body, headers={"Idempotency-Key": key}) for key in ("one", "two")]
    job = made[0].json()
    request = work(api, job["id"])
    opened = api.client.post("/datasets", json={"name": "open"}).json()["id"]
    put = api.client.put(f"/datasets/{opened}/files/a.png", content=draw_png())
    assert put.status_code in {200, 201}, put.text
    api.client.get("/webhooks/secret")
    assert api.client.post("/ui/tokens").status_code == 201
    finished = api.client.get(f"/jobs/{job['id']}").json()
    assert api.client.post(f"/jobs/{job['id']}/promote?wait=0", json={"step": 5}).status_code == 202
    adapter = api.client.get("/adapters").json()["data"][0]["id"]
    check = api.client.post("/adapters/check?wait=0", json={"adapters": [adapter]})
    assert check.status_code == 202, check.text
    published = api.client.post(f"/adapters/{adapter}/publish", json={"repo_id": "studio/toy", "token": "hf_of_a_test"})
    assert published.status_code == 202, published.text
    linked = api.client.post(f"/adapters/{adapter}/links", json={})
    assert linked.status_code == 201, linked.text
    api.client.patch(f"/adapters/{adapter}", json={"cover": {"step": 0}}).raise_for_status()
    sent = api.client.put(f"/adapters/{adapter}/cover", content=draw_png(3))
    assert sent.status_code == 202, sent.text
    return World(
        job=job["id"],
        dataset=job["dataset"],
        open_dataset=opened,
        adapter=adapter,
        generation=draw(api, body["model"]),
        captioning=caption(api, job["dataset"]),
        check=check.json()["id"],
        publication=published.json()["id"],
        link=linked.json()["id"],
        cover=sent.json()["id"],
        delivery=api.client.get(f"/jobs/{job['id']}/deliveries").json()["data"][0]["id"],
        request=request,
        event=api.client.get(f"/jobs/{job['id']}/events").json()["data"][0]["id"],
        image=api.client.get(f"/datasets/{finished['dataset']}/images").json()["data"][0]["sha256"],
        key=admin.client.post("/keys", json={"name": "spare"}).json()["id"],
    )


def draw(api: LiveApi, model: object) -> str:
    """A generation of one image, drawn as a worker does it."""
    asked = {"model": model, "prompts": ["a toy"], "grid": {"x": {"field": "seed", "values": [0]}}}
    made = api.client.post("/generations", json=asked).raise_for_status().json()
    draw_as_a_worker(api, made["id"])
    return str(made["id"])


def claim_generation(api: LiveApi, generation_id: str, lease_seconds: float = 3600) -> GenerationClaim:
    """Others, of other tests, are claimed before it."""
    with api.sessions.begin() as session:
        while (claim := generation_claims.claim_generation(session, lease_seconds=lease_seconds)) is not None:
            if claim.id == generation_id:
                return claim
    raise AssertionError(f"{generation_id} does not wait")


def draw_as_a_worker(api: LiveApi, generation_id: str, num_images: int = 1) -> None:
    claim = claim_generation(api, generation_id)
    with api.sessions.begin() as session:
        for index in range(num_images):
            stored = api.storage.put(generation_key(claim.id, claim.attempt, f"{index:02d}.png"), draw_png(index))
            image = Artifact(key=stored.key, sha256=stored.sha256, size=stored.size)
            generation_claims.add_image(session, claim, str(index), image)
        if claim.plan["grid"]:
            generation_claims.add_image(session, claim, name_sheet(0), image)
        assert generation_claims.succeed(session, claim)


def caption(api: LiveApi, dataset_id: str) -> str:
    """A captioning of the dataset that has ended, as a worker does it."""
    asked = {"captioner": add_captioner(api)}
    made = api.client.post(f"/datasets/{dataset_id}/captions", json=asked).raise_for_status().json()
    caption_as_a_worker(api, made["id"])
    return str(made["id"])


def claim_captioning(api: LiveApi, captioning_id: str, lease_seconds: float = 3600) -> CaptioningClaim:
    """Others, of other tests, are claimed before it."""
    with api.sessions.begin() as session:
        while (claim := captioning_claims.claim_captioning(session, lease_seconds=lease_seconds)) is not None:
            if claim.id == captioning_id:
                return claim
    raise AssertionError(f"{captioning_id} does not wait")


def caption_as_a_worker(api: LiveApi, captioning_id: str, words: str = "red, round") -> None:
    """The same ``words`` for each image."""
    claim = claim_captioning(api, captioning_id)
    plan, manifest = CaptioningPlan.model_validate(claim.plan), DatasetManifest.model_validate(claim.manifest)
    images = plan.choose_images(manifest)
    written = {image.sha256: words for image in images}
    revision = caption_dataset(claim.dataset_id, manifest, plan, written)
    with api.sessions.begin() as session:
        keyed = {plan.key_of(sha256): words for sha256 in written}
        captioning_claims.keep_words(session, claim, keyed, num_done=len(images))
        new = revision and NewRevision.of(revision)
        assert captioning_claims.succeed(session, claim, plan.name or claim.dataset_name, new)


def work(api: LiveApi, job_id: str) -> str:
    """Returns the id of samples that were requested."""
    worker = Worker(api, job_id)
    worker.train(5)
    worker.sample(0)
    worker.checkpoint(0)
    request = api.client.post(f"/jobs/{job_id}/samples", json={"prompts": ["a toy"]}).raise_for_status().json()["id"]
    worker.draw_requested(request, 5)
    worker.keep_adapter(5)
    worker.succeed()
    return str(request)
