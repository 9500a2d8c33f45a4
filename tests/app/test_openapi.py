"""The document: complete, stable, with examples that are true to their schemas."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import pydantic
import pytest
from fastapi.routing import APIRoute
from sqlalchemy import select

from app.main import ROUTERS
from app.problems import MEDIA_TYPE
from app.validation import list_query
from core.db.tables import WebhookDelivery
from core.domain.events import EventType
from core.domain.plan import NOT_IN_OUTLINE, TrainPlan
from tests.app.conftest import LiveApi
from tests.app.factory import Worker, submit
from tests.fixtures.document import read_document

DOCUMENT = read_document()
OPERATIONS = [
    (path, method, operation) for path, methods in DOCUMENT["paths"].items() for method, operation in methods.items()
]

CONTRACT = """
POST /datasets · GET /datasets · GET /datasets/{} · DELETE /datasets/{} · PUT /datasets/{}/files/{}
POST /datasets/{}/uploads · POST /datasets/{}/finalize · GET /datasets/{}/images
POST /datasets/{}/revisions · GET /datasets/{}/download
GET /models · GET /models/{} · POST /models
POST /jobs · GET /jobs · GET /jobs/{} · DELETE /jobs/{} · POST /jobs/{}/cancel · POST /jobs/{}/pause
GET /jobs/{}/deliveries · POST /jobs/{}/deliveries/{}/redeliver · GET /webhooks/secret · POST /webhooks/secret/rotate
POST /jobs/{}/deliveries/test · GET /webhooks/deliveries
POST /jobs/{}/resume · GET /jobs/{}/events · GET /jobs/{}/metrics · GET /jobs/{}/checkpoints · GET /jobs/{}/samples
GET /jobs/{}/samples/{}/grid.png · GET /jobs/{}/adapter
GET /adapters · POST /adapters · GET /adapters/{} · PATCH /adapters/{} · DELETE /adapters/{}
GET /adapters/{}/download · POST /adapters/merge · POST /adapters/extract · POST /adapters/{}/resize
POST /adapters/check · GET /adapters/checks/{}
POST /adapters/{}/publish · GET /adapters/{}/publications · GET /adapters/{}/publications/{}
POST /adapters/{}/links · GET /adapters/{}/links · DELETE /adapters/{}/links/{} · GET /adapters/{}/cover.png
GET /healthz · GET /readyz · GET /workers
POST /keys · GET /keys · DELETE /keys/{} · POST /keys/{}/rotate · POST /tenants · GET /tenants · GET /audit
"""


def resolve(schema: dict[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref")
    return DOCUMENT["components"]["schemas"][reference.rpartition("/")[2]] if reference else schema


def list_bodies() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every body and answer: where it stands, and its media type object."""
    for path, method, operation in OPERATIONS:
        places = [("request", operation.get("requestBody", {})), *operation["responses"].items()]
        for place, described in places:
            for media_type, content in described.get("content", {}).items():
                yield f"{method} {path} {place} {media_type}", content


def list_examples(content: dict[str, Any]) -> list[Any]:
    schema = resolve(content["schema"])
    examples = [content["example"]] if "example" in content else []
    examples += [example["value"] for example in content.get("examples", {}).values()]
    examples += schema.get("examples", [])
    if not examples and "data" in schema.get("properties", {}):  # a page: its items have the examples
        items = resolve(schema["properties"]["data"]["items"])
        examples += [{"object": "list", "data": items.get("examples", []), "has_more": False}] * bool(
            items.get("examples")
        )
    return examples


def test_the_contracts_calls_are_there() -> None:
    import re

    there = {f"{method.upper()} {re.sub(r'{[^}]*}', '{}', path)}" for path, method, _ in OPERATIONS}
    wanted = {call.strip() for line in CONTRACT.strip().splitlines() for call in line.split("·")}
    assert wanted - there == set()


def test_operation_ids_are_the_functions_names() -> None:
    ids = [operation["operationId"] for _, _, operation in OPERATIONS]
    assert len(ids) == len(set(ids))
    assert {"create_dataset", "create_job", "get_job", "list_jobs", "download_adapter", "get_readiness"} <= set(ids)
    assert all(name.replace("_", "").isalpha() for name in ids)
    assert all(operation["tags"] for _, _, operation in OPERATIONS)


def test_every_body_and_answer_has_an_example_that_is_true() -> None:
    for place, content in list_bodies():
        schema = content["schema"]
        if schema.get("format") == "binary":
            continue
        examples = list_examples(content)
        assert examples, place
        for example in examples:
            document = {**schema, "components": DOCUMENT["components"]}
            jsonschema.Draft202012Validator(document).validate(example)


def test_every_call_declares_its_problems() -> None:
    for path, method, operation in OPERATIONS:
        if path in {"/healthz", "/readyz"}:
            continue
        responses = operation["responses"]
        assert {"401", "503"} <= set(responses), (method, path)
        if "{" in path:
            assert "404" in responses, (method, path)
        for status, response in responses.items():
            if status[0] in "45":
                assert list(response["content"]) == [MEDIA_TYPE], (method, path, status)
                assert response["content"][MEDIA_TYPE]["schema"] == {"$ref": "#/components/schemas/Problem"}


def test_no_internals_are_described() -> None:
    text = json.dumps(DOCUMENT)
    for word in ("HTTPValidationError", "lease_until", "storage_key"):
        assert word not in text
    assert not any(path.startswith("/ui") for path in DOCUMENT["paths"])


def test_everything_is_described() -> None:
    """In the document itself, so that generated clients and their editors say it."""
    webhooks = [operation for methods in DOCUMENT["webhooks"].values() for operation in methods.values()]
    for operation in (*(operation for _, _, operation in OPERATIONS), *webhooks):
        name = operation["operationId"]
        assert operation["description"] and operation["summary"], name
        assert all(parameter["description"] for parameter in operation.get("parameters", ())), name
        assert all(response["description"] for response in operation["responses"].values()), name
    for name, schema in DOCUMENT["components"]["schemas"].items():
        assert schema["description"], name
        undescribed = [field for field, one in schema.get("properties", {}).items() if not one.get("description")]
        assert undescribed == [], f"{name}: describe them where they are declared, or in app/glossary.py"


def test_what_is_sent_has_its_defaults_in_words() -> None:
    fields = DOCUMENT["components"]["schemas"]["JobRequest"]["properties"]
    assert not any("default" in field for field in fields.values())
    assert fields["flip"]["description"].endswith("Default: false.")


def test_a_jobs_plan_is_typed_and_is_the_trainers_own() -> None:
    shown = set(DOCUMENT["components"]["schemas"]["Plan"]["properties"])
    assert shown == {*TrainPlan.model_fields, "num_images"} - set(NOT_IN_OUTLINE)


def test_every_event_has_its_webhook() -> None:
    assert list(DOCUMENT["webhooks"]) == [kind.value for kind in EventType]
    for methods in DOCUMENT["webhooks"].values():
        body = methods["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert body == {"$ref": "#/components/schemas/WebhookMessage"}
        headers = {one["name"] for one in methods["post"]["parameters"] if one["in"] == "header"}
        assert headers == {"webhook-id", "webhook-timestamp", "webhook-signature"}


def test_real_messages_are_as_the_document_says(api: LiveApi) -> None:
    job = submit(api, webhook={"url": "https://example.com/", "events": [kind.value for kind in EventType]})
    worker = Worker(api, job["id"])
    worker.checkpoint(2)
    worker.sample(3)
    worker.notice("so it is")
    worker.succeed()
    canceled = submit(api, webhook={"url": "https://example.com/"})
    api.client.post(f"/jobs/{canceled['id']}/cancel")
    with api.sessions() as session:
        query = select(WebhookDelivery.body).where(WebhookDelivery.job_id.in_((job["id"], canceled["id"])))
        messages = [json.loads(body) for body in session.execute(query).scalars()]
    assert len(messages) >= 8
    schema = {"$ref": "#/components/schemas/WebhookMessage", "components": close(DOCUMENT["components"])}
    for message in messages:
        jsonschema.Draft202012Validator(schema).validate(message)


def close(components: dict[str, Any]) -> dict[str, Any]:
    """The same schemas, and nothing beside what they describe."""
    objects = {
        name: {**schema, "additionalProperties": False} if "properties" in schema else schema
        for name, schema in components["schemas"].items()
    }
    return {"schemas": objects}


def test_examples_have_what_real_answers_have(api: LiveApi) -> None:
    """They were recorded by scripts/record_examples.py: to be run again when this fails."""
    job = submit(api)
    worker = Worker(api, job["id"])
    worker.train(3)
    worker.checkpoint(2)
    worker.sample(3)
    worker.succeed()
    url, body = f"/jobs/{job['id']}", {"model": job["model"], "dataset": job["dataset"], "trigger": "toy"}
    real = {
        "DryRun": api.client.post("/jobs?dry_run=true", json=body).json(),
        "JobOut": api.client.get(url).json(),
        "ModelOut": api.client.get(f"/models/{job['model']}").json(),
        "EventOut": api.client.get(f"{url}/events").json()["data"][0],
        "MetricOut": api.client.get(f"{url}/metrics").json()["data"][0],
        "CheckpointOut": api.client.get(f"{url}/checkpoints").json()["data"][0],
        "SampleOut": api.client.get(f"{url}/samples").json()["data"][0],
    }
    for name, answer in real.items():
        [example] = DOCUMENT["components"]["schemas"][name]["examples"]
        assert sorted(example) == sorted(answer), name
        for part in ("plan", "estimate", "urls", "defaults"):
            assert sorted(example.get(part, ())) == sorted(answer.get(part, ())), (name, part)


def test_the_served_document_is_this_one(api: LiveApi) -> None:
    served = httpx.get(f"{api.url}/openapi.json", timeout=60).json()
    assert served == json.loads(json.dumps(DOCUMENT))
    assert served["openapi"].startswith("3.1")
    assert served["components"]["securitySchemes"]["api_key"]["scheme"] == "bearer"


def test_the_example_of_a_job_request_makes_a_job(api: LiveApi) -> None:
    from tests.app.factory import add_dataset, add_model

    example = resolve(DOCUMENT["paths"]["/jobs"]["post"]["requestBody"]["content"]["application/json"]["schema"])[
        "examples"
    ][0]
    body = {**example, "model": add_model(api), "dataset": add_dataset(api)}
    assert api.client.post("/jobs", json=body).status_code == 201


@pytest.mark.parametrize("name", ["JobOut", "DatasetOut", "ModelOut", "EventOut", "Problem"])
def test_answers_are_described_in_full(name: str) -> None:
    assert DOCUMENT["components"]["schemas"][name]["properties"]


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("JobRequest", {"steps": 5, "epochs": None}, {"steps": 5, "epochs": 1}),
        ("JobRequest", {"flip": None, "adapter": None}, {"flip": 1}),
        ("JobRequest", {"validation": {"fraction": 0.5}}, {"validation": {"fraction": 0.6}}),
        ("JobRequest", {"webhook": {"url": "https://a.example"}}, {"webhook": {"url": "ftp://a.example"}}),
        ("JobRequest", {"captions": {"template": None}}, {"webhook": {"url": "https://a.example", "events": []}}),
        ("ModelRegistration", {"path": "a", "hub_id": None}, {"path": "a", "hub_id": "a/b"}),
        ("ModelRegistration", {"hub_id": "a/b"}, {}),
    ],
)
def test_the_document_says_what_goes_together(name: str, good: dict[str, Any], bad: dict[str, Any]) -> None:
    """As the service does, so that clients need not ask it."""
    from app.jobs.schemas import JobRequest
    from app.models.schemas import ModelRegistration

    model = {"JobRequest": JobRequest, "ModelRegistration": ModelRegistration}[name]
    needed = {"model": "tiny", "dataset": "ds_1"} if name == "JobRequest" else {}
    schema = jsonschema.Draft202012Validator(
        {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    )
    schema.validate({**needed, **good})
    model.model_validate({**needed, **good})
    assert not schema.is_valid({**needed, **bad})
    with pytest.raises(pydantic.ValidationError):
        model.model_validate({**needed, **bad})


def test_metrics_continue_after_a_step(api: LiveApi) -> None:
    parameters = {one["name"]: one for one in DOCUMENT["paths"]["/jobs/{job_id}/metrics"]["get"]["parameters"]}
    assert parameters["after"]["schema"]["anyOf"][0]["type"] == "integer"
    for after in ("", "x", "-1", "1.5", "100001"):
        answer = api.client.get(f"/jobs/job_none/metrics?after={after}")
        assert (answer.status_code, list(answer.json()["errors"])) == (422, ["/query/after"])


def test_the_querys_parameters_are_those_that_requests_are_held_against() -> None:
    routes = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    known = {
        (route.path_format, method.lower()): list_query(route.dependant) for route in routes for method in route.methods
    }
    for path, method, operation in OPERATIONS:
        documented = {place["name"] for place in operation.get("parameters", ()) if place["in"] == "query"}
        assert known[path, method] == documented, f"{method} {path}"
