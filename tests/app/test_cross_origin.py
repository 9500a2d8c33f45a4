"""Pages of other origins: refused by default, and let in by ATELIER_CORS_ORIGINS without credentials."""

from collections.abc import Callable

import httpx
import pytest
from pydantic import ValidationError

from core.settings import Settings
from tests.app.conftest import LiveApi

PAGE = "https://app.example.org"
PREFLIGHT = {
    "Origin": PAGE,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization, content-type, idempotency-key",
}


def names_of(answer: httpx.Response) -> list[str]:
    return [name for name in answer.headers if name.startswith("access-control-")]


def test_by_default_no_other_origin_is_let_in(api: LiveApi) -> None:
    assert names_of(api.client.get("/jobs", headers={"Origin": PAGE})) == []
    assert names_of(httpx.options(f"{api.url}/jobs", headers=PREFLIGHT)) == []


def test_a_named_origin_is_let_in_with_a_key_and_without_credentials(start_api: Callable[..., LiveApi]) -> None:
    api = start_api(cors_origins=f"{PAGE}, http://localhost:5173")
    asked = httpx.options(f"{api.url}/jobs", headers=PREFLIGHT)
    assert asked.status_code == 200, "a preflight carries no key"
    assert asked.headers["access-control-allow-origin"] == PAGE
    assert "PATCH" in asked.headers["access-control-allow-methods"]
    assert {"authorization", "idempotency-key", "range"} <= set(
        asked.headers["access-control-allow-headers"].lower().split(", ")
    )
    answer = api.client.get("/jobs", headers={"Origin": PAGE})
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "Origin" in answer.headers["vary"]
    assert "ETag" in answer.headers["access-control-expose-headers"]
    refused = httpx.get(f"{api.url}/jobs", headers={"Origin": PAGE})
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, PAGE)
    for response in (asked, answer, refused):
        assert "access-control-allow-credentials" not in response.headers


def test_another_origin_is_not_let_in(start_api: Callable[..., LiveApi]) -> None:
    api = start_api(cors_origins=PAGE)
    for origin in ("https://example.org", "https://app.example.org.evil.example", "http://app.example.org", "null"):
        answer = api.client.get("/jobs", headers={"Origin": origin})
        assert "access-control-allow-origin" not in answer.headers
        assert httpx.options(f"{api.url}/jobs", headers={**PREFLIGHT, "Origin": origin}).status_code == 400


def test_the_dashboard_stays_closed(start_api: Callable[..., LiveApi]) -> None:
    api = start_api(cors_origins="*")
    assert api.client.get("/jobs", headers={"Origin": PAGE}).headers["access-control-allow-origin"] == "*"
    for path in ("/ui", "/ui/login", "/ui/jobs/rows"):
        assert names_of(httpx.get(f"{api.url}{path}", headers={"Origin": PAGE})) == []


@pytest.mark.parametrize("origin", ["app.example.org", "https://app.example.org/", "ftp://a.example", "https://*"])
def test_what_is_not_an_origin_is_refused_at_the_start(origin: str) -> None:
    with pytest.raises(ValidationError, match="is not an origin"):
        Settings.model_validate({"database_url": "", "redis_url": "", "cors_origins": origin})
