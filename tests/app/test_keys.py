"""The life of a key: made, shown once, listed, rotated, revoked, expired; and what is no key at all."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx
import pytest
import sqlalchemy as sa
from starlette.datastructures import Headers

from app.middleware.gate import read_key
from core.db.tables import ApiKey
from core.domain.errors import Unauthenticated
from core.domain.keys import check_api_key_format, hash_api_key, make_api_key
from tests.app.conftest import LiveApi, open_client

DAY = timedelta(days=1)


def make(admin: LiveApi, **body: object) -> dict[str, str]:
    answer = admin.client.post("/keys", json={"name": "a key", **body})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def is_good(api: LiveApi, secret: str) -> bool:
    answer = httpx.get(f"{api.url}/jobs", headers={"Authorization": f"Bearer {secret}"})
    assert answer.status_code in {200, 401}
    return answer.status_code == 200


def change(api: LiveApi, key_id: str, **values: object) -> None:
    with api.sessions.begin() as session:
        session.execute(sa.update(ApiKey).where(ApiKey.id == key_id).values(**values))


def test_a_key_is_shown_once_and_kept_as_a_hash(admin: LiveApi) -> None:
    made = make(admin, scopes=["read"])
    secret = made["secret"]
    assert check_api_key_format(secret)
    assert (made["prefix"], made["scopes"], made["tenant"]) == (secret[:8], ["read"], admin.tenant_id)
    assert is_good(admin, secret)
    listed = admin.client.get("/keys").text
    assert made["id"] in listed
    assert secret not in listed and hash_api_key(secret) not in listed
    with admin.sessions() as session:
        row = session.get_one(ApiKey, made["id"])
        assert secret not in str(vars(row).values())


def test_keys_are_paged_newest_first(admin: LiveApi) -> None:
    made = [make(admin)["id"] for _ in range(3)]
    first = admin.client.get("/keys?limit=2").json()
    assert [key["id"] for key in first["data"]] == [made[2], made[1]]
    assert first["has_more"] is True
    rest = admin.client.get(f"/keys?after={first['last_id']}").json()
    assert rest["data"][0]["id"] == made[0]
    assert rest["has_more"] is False


def test_a_revoked_key_is_worth_nothing_and_stays_listed(admin: LiveApi) -> None:
    made = make(admin)
    for _ in range(2):
        assert admin.client.delete(f"/keys/{made['id']}").status_code == 204
    assert not is_good(admin, made["secret"])
    assert admin.client.get("/keys").json()["data"][0]["revoked_at"] is not None


def test_a_key_ends_when_it_was_to(admin: LiveApi) -> None:
    made = make(admin, expires_at=(datetime.now(UTC) + DAY).isoformat())
    assert is_good(admin, made["secret"])
    change(admin, made["id"], expires_at=sa.func.clock_timestamp())
    assert not is_good(admin, made["secret"])


@pytest.mark.parametrize(
    "body",
    [
        {"expires_at": "2001-01-01T00:00:00Z"},
        {"expires_at": "2101-01-01T00:00:00"},
        {"expires_at": "9999-12-31T23:59:59-00:01"},
        {"scopes": []},
        {"scopes": ["root"]},
        {"scopes": ["read"] * 4},
        {"name": ""},
        {"name": "x" * 101},
        {"name": "a\x00b"},
        {"secret": "atl_mine"},
    ],
)
def test_a_malformed_body_is_refused_where_it_is_wrong(admin: LiveApi, body: dict[str, object]) -> None:
    answer = admin.client.post("/keys", json={"name": "k", **body})
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/invalid-request")
    assert next(iter(answer.json()["errors"])).startswith(f"/{next(iter(body))}")


def test_a_rotated_key_stays_valid_for_the_overlap(admin: LiveApi) -> None:
    old = make(admin, scopes=["read"])
    new = admin.client.post(f"/keys/{old['id']}/rotate", json={"overlap_seconds": 600}).json()
    assert new["id"] != old["id"]
    assert (new["name"], new["scopes"], new["expires_at"]) == (old["name"], ["read"], None)
    assert is_good(admin, old["secret"]) and is_good(admin, new["secret"])
    shown = next(key for key in admin.client.get("/keys").json()["data"] if key["id"] == old["id"])
    left = datetime.fromisoformat(shown["expires_at"]) - datetime.now(UTC)
    assert timedelta(seconds=400) < left <= timedelta(seconds=600)
    change(admin, old["id"], expires_at=sa.func.clock_timestamp())
    assert not is_good(admin, old["secret"]) and is_good(admin, new["secret"])


def test_a_rotation_without_overlap_ends_the_old_key_at_once(admin: LiveApi) -> None:
    old = make(admin)
    new = admin.client.post(f"/keys/{old['id']}/rotate", json={"overlap_seconds": 0}).json()
    assert not is_good(admin, old["secret"]) and is_good(admin, new["secret"])
    again = admin.client.post(f"/keys/{old['id']}/rotate")
    assert (again.status_code, again.json()["type"]) == (409, "/problems/wrong-state")


def test_a_rotation_lengthens_no_life(admin: LiveApi) -> None:
    end = (datetime.now(UTC) + timedelta(seconds=900)).replace(microsecond=0)
    old = make(admin, expires_at=end.isoformat())
    new = admin.client.post(f"/keys/{old['id']}/rotate", json={"overlap_seconds": 3600}).json()
    with admin.sessions() as session:
        rows = [session.get_one(ApiKey, key["id"]) for key in (old, new)]
    assert [row.expires_at for row in rows] == [end, end]


@pytest.mark.parametrize("seconds", ["-1", "86401", "1e400", '"soon"', "null", "NaN"])
def test_an_overlap_lasts_a_day_at_most(admin: LiveApi, seconds: str) -> None:
    content, kind = f'{{"overlap_seconds": {seconds}}}', {"Content-Type": "application/json"}
    answer = admin.client.post(f"/keys/{make(admin)['id']}/rotate", content=content, headers=kind)
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/invalid-request")


def test_use_is_noted_once_a_minute(admin: LiveApi) -> None:
    made = make(admin)

    def read() -> datetime | None:
        with admin.sessions() as session:
            return session.get_one(ApiKey, made["id"]).last_used_at

    assert read() is None
    assert is_good(admin, made["secret"])
    first = read()
    assert first is not None
    assert is_good(admin, made["secret"])
    assert read() == first
    change(admin, made["id"], last_used_at=first - timedelta(seconds=59))
    assert is_good(admin, made["secret"])
    assert read() == first - timedelta(seconds=59)
    change(admin, made["id"], last_used_at=first - timedelta(seconds=61))
    assert is_good(admin, made["secret"])
    assert (read() or first) >= first


def test_a_request_does_not_wait_for_the_note_of_its_use(admin: LiveApi) -> None:
    made = make(admin)
    with admin.sessions.begin() as session:
        session.execute(sa.select(ApiKey).where(ApiKey.id == made["id"]).with_for_update())
        assert is_good(admin, made["secret"])


def test_the_operator_makes_tenants_and_their_first_keys(start_api: Callable[..., LiveApi]) -> None:
    operator = start_api()
    tenant = operator.client.post("/tenants", json={"name": "the illustrators"}).json()
    assert tenant["id"].startswith("ten_")
    made = make(operator, scopes=["admin"], tenant=tenant["id"])
    assert made["tenant"] == tenant["id"]
    with open_client(operator.url, made["secret"]) as client:
        assert [key["id"] for key in client.get("/keys").json()["data"]] == [made["id"]]
        assert [entry["action"] for entry in client.get("/audit").json()["data"]] == ["key.created"]
        assert client.get("/tenants").status_code == 403
        theirs = client.post("/keys", json={"name": "mine"}).json()
    query = {"tenant": tenant["id"]}
    by_query = operator.client.post("/keys", params=query, json={"name": "by the query"}).json()
    assert by_query["tenant"] == tenant["id"]
    assert operator.client.delete(f"/keys/{by_query['id']}", params=query).status_code == 204
    two = operator.client.post("/keys", params=query, json={"name": "x", "tenant": "ten_default"})
    assert (two.status_code, two.json()["type"]) == (422, "/problems/invalid-request")
    found = operator.client.get("/keys", params={"tenant": tenant["id"]}).json()["data"]
    assert [key["id"] for key in found] == [by_query["id"], theirs["id"], made["id"]]
    gone = operator.client.delete(f"/keys/{theirs['id']}", params={"tenant": tenant["id"]})
    assert gone.status_code == 204
    assert not is_good(operator, theirs["secret"])
    assert [row["id"] for row in operator.client.get("/tenants").json()["data"]] == ["ten_default", tenant["id"]]


def test_a_tenant_that_is_none_gets_no_key(start_api: Callable[..., LiveApi]) -> None:
    answer = start_api().client.post("/keys", json={"name": "k", "tenant": "ten_none"})
    assert (answer.status_code, list(answer.json()["errors"])) == (404, ["/tenant"])


def test_an_admin_makes_keys_of_its_own_tenant_alone(admin: LiveApi, other: LiveApi) -> None:
    for tenant in (other.tenant_id, "ten_none"):
        answers = [
            admin.client.post("/keys", json={"name": "k", "tenant": tenant}),
            admin.client.get("/keys", params={"tenant": tenant}),
            admin.client.get("/audit", params={"tenant": tenant}),
            admin.client.delete("/keys/key_none", params={"tenant": tenant}),
        ]
        assert [answer.status_code for answer in answers] == [403] * 4


def test_the_operators_own_key_is_not_taken_from_under_the_service(start_api: Callable[..., LiveApi]) -> None:
    operator = start_api()
    own = operator.client.get("/keys").json()["data"][0]["id"]
    for answer in (operator.client.delete(f"/keys/{own}"), operator.client.post(f"/keys/{own}/rotate")):
        assert (answer.status_code, answer.json()["type"]) == (409, "/problems/wrong-state")
    assert operator.client.get("/jobs").status_code == 200


def test_tenants_are_paged(start_api: Callable[..., LiveApi]) -> None:
    operator = start_api()
    for number in range(3):
        operator.client.post("/tenants", json={"name": f"{number}"})
    page = operator.client.get("/tenants?limit=2").json()
    assert [row["name"] for row in page["data"]] == ["default", "2"]
    rest = operator.client.get(f"/tenants?after={page['last_id']}").json()
    assert [row["name"] for row in rest["data"]] == ["1", "0"]


# --- what is no key -------------------------------------------------------------------------------------------


def list_hostile(good: str, stale: list[str]) -> dict[str, list[bytes]]:
    """Name -> the values of the Authorization headers of one request; ``stale``: keys that were good once."""
    body, end = good[:-6], good[-6:]
    swapped = good.swapcase()
    keys = {
        "wrong checksum": body + ("aaaaaa" if end != "aaaaaa" else "bbbbbb"),
        "last digit": good[:-1] + ("a" if good[-1] != "a" else "b"),
        "first digit": "atl_" + ("a" if good[4] != "a" else "b") + good[5:],
        "no checksum": body,
        "wrong prefix": "atx_" + good[4:],
        "no prefix": good[4:],
        "prefix in capitals": "ATL_" + good[4:],
        "other case": swapped,
        "all lower": good.lower(),
        "all upper": good.upper(),
        "truncated": good[:-1],
        "half": good[: len(good) // 2],
        "prefix alone": "atl_",
        "longer": good + "a",
        "doubled": good + good,
        "a list": f"{good},{good}",
        "a space within": good[:20] + " " + good[20:],
        "quoted": f'"{good}"',
        "in brackets": f"<{good}>",
        "a wildcard": "atl_%",
        "sql": "atl_' OR '1'='1",
        "a path": "../../admin.key",
        "a template": "${ATELIER_API_KEY}",
        "null": "null",
        "the hash": hash_api_key(good),
        "very long": "atl_" + "a" * 6000,
        "unknown": make_api_key(),
    }
    values = {name: [f"Bearer {key}".encode()] for name, key in keys.items()}
    values |= {f"no longer valid {number}": [f"Bearer {key}".encode()] for number, key in enumerate(stale)}
    return values | {
        "no value": [b""],
        "scheme alone": [b"Bearer"],
        "basic": [f"Basic {good}".encode()],
        "token": [f"Token {good}".encode()],
        "no scheme": [good.encode()],
        "scheme joined": [f"Bearer{good}".encode()],
        "scheme with a colon": [f"Bearer: {good}".encode()],
        "scheme twice": [f"Bearer Bearer {good}".encode()],
        "umlaut": [b"Bearer \xe4tl_" + good[4:].encode()],
        "utf-8": [f"Bearer {good[:-1]}é".encode()],
        "full-width letters": ["Bearer ａｔｌ＿".encode() + good[4:].encode()],
        "zero-width space": [f"Bearer {good}\u200b".encode()],
        "bytes that are no text": [b"Bearer \xff\xfe" + good.encode()],
        "two headers, the good one first": [f"Bearer {good}".encode(), f"Bearer {make_api_key()}".encode()],
        "two headers, the good one last": [f"Bearer {make_api_key()}".encode(), f"Bearer {good}".encode()],
        "two good headers": [f"Bearer {good}".encode()] * 2,
    }


def test_what_is_no_key_opens_nothing(admin: LiveApi) -> None:
    good, revoked, expired = make(admin), make(admin), make(admin)
    admin.client.delete(f"/keys/{revoked['id']}")
    change(admin, expired["id"], expires_at=sa.func.clock_timestamp())
    hostile = list_hostile(good["secret"], [revoked["secret"], expired["secret"]])
    assert len(hostile) >= 40
    with httpx.Client(base_url=admin.url) as client:
        for name, values in hostile.items():
            answer = client.get("/jobs", headers=[(b"authorization", value) for value in values])
            assert (answer.status_code, answer.json()["type"]) == (401, "/problems/unauthenticated"), name
            assert answer.headers["www-authenticate"].startswith("Bearer"), name
            assert good["secret"] not in answer.text, name
    assert is_good(admin, good["secret"])


@pytest.mark.parametrize("character", ["\x00", "\n", "\r\n", "\t", "\x7f", "\x85", "\u2028"])
def test_no_character_slips_in_that_http_would_not_carry(character: str) -> None:
    """The server refuses most of these itself; whatever stands before it may not."""
    good = make_api_key()
    for value in (good + character, good[:10] + character + good[10:], character + good):
        raw = f"Bearer {value}x".encode()
        try:
            key = read_key(Headers(raw=[(b"authorization", raw)]))
        except Unauthenticated:
            continue
        assert not check_api_key_format(key)
