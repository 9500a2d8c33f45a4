"""One of everything that a tenant can have, made over the API and by the workers' own functions."""

from dataclasses import dataclass

from core.db import generation_claims
from core.db.generation_claims import GenerationClaim
from core.domain.artifacts import Artifact, generation_key
from tests.app.conftest import LiveApi
from tests.app.factory import Worker, add_dataset, add_model, draw_png


@dataclass(frozen=True)
class World:
    """The ids of a tenant's things."""

    job: str
    dataset: str
    open_dataset: str
    adapter: str
    generation: str
    check: str
    publication: str
    link: str
    cover: str
    delivery: str
    event: str
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
            self.check,
            self.publication,
            self.link,
            self.cover,
            self.delivery,
            self.key,
        ]


def build(api: LiveApi, admin: LiveApi) -> World:
    """``admin``: the same tenant's, with every scope. The job has succeeded, and another waits."""
    body = {"model": add_model(api), "dataset": add_dataset(api), "trigger": "toy", "steps": 10}
    body["webhook"] = {"url": "https://example.com/hook"}
    made = [api.client.post("/jobs", json=body, headers={"Idempotency-Key": key}) for key in ("one", "two")]
    job = made[0].json()
    work(api, job["id"])
    opened = api.client.post("/datasets", json={"name": "open"}).json()["id"]
    put = api.client.put(f"/datasets/{opened}/files/a.png", content=draw_png())
    assert put.status_code in {200, 201}, put.text
    api.client.get("/webhooks/secret")
    assert api.client.post("/ui/tokens").status_code == 201
    finished = api.client.get(f"/jobs/{job['id']}").json()
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
        check=check.json()["id"],
        publication=published.json()["id"],
        link=linked.json()["id"],
        cover=sent.json()["id"],
        delivery=api.client.get(f"/jobs/{job['id']}/deliveries").json()["data"][0]["id"],
        event=api.client.get(f"/jobs/{job['id']}/events").json()["data"][0]["id"],
        image=api.client.get(f"/datasets/{finished['dataset']}/images").json()["data"][0]["sha256"],
        key=admin.client.post("/keys", json={"name": "spare"}).json()["id"],
    )


def draw(api: LiveApi, model: object) -> str:
    """A generation of one image, drawn as a worker does it."""
    made = api.client.post("/generations", json={"model": model, "prompts": ["a toy"]}).raise_for_status().json()
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
            generation_claims.add_image(session, claim, index, image)
        assert generation_claims.succeed(session, claim)


def work(api: LiveApi, job_id: str) -> None:
    worker = Worker(api, job_id)
    worker.train(5)
    worker.sample(0)
    worker.checkpoint(0)
    worker.succeed()
