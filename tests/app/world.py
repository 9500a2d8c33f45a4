"""One of everything that a tenant can have, made over the API and by the workers' own functions."""

from dataclasses import dataclass

from tests.app.conftest import LiveApi
from tests.app.factory import Worker, add_dataset, add_model, draw_png


@dataclass(frozen=True)
class World:
    """The ids of a tenant's things."""

    job: str
    dataset: str
    open_dataset: str
    adapter: str
    check: str
    delivery: str
    event: str
    image: str
    key: str

    @property
    def ids(self) -> list[str]:
        return [self.job, self.dataset, self.open_dataset, self.adapter, self.check, self.delivery, self.key]


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
    return World(
        job=job["id"],
        dataset=job["dataset"],
        open_dataset=opened,
        adapter=adapter,
        check=check.json()["id"],
        delivery=api.client.get(f"/jobs/{job['id']}/deliveries").json()["data"][0]["id"],
        event=api.client.get(f"/jobs/{job['id']}/events").json()["data"][0]["id"],
        image=api.client.get(f"/datasets/{finished['dataset']}/images").json()["data"][0]["sha256"],
        key=admin.client.post("/keys", json={"name": "spare"}).json()["id"],
    )


def work(api: LiveApi, job_id: str) -> None:
    worker = Worker(api, job_id)
    worker.train(5)
    worker.sample(0)
    worker.checkpoint(0)
    worker.succeed()
