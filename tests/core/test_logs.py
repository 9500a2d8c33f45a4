"""What a process writes to its log, as a process: each line one JSON object, and no secret in any."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from core.domain.keys import make_api_key
from core.domain.webhooks import make_secret
from core.logs import Redactor

SAY = """
import logging, sys, threading, warnings
from core.logs import configure_logging
configure_logging("tester")
log = logging.getLogger("atelier.test")
log.info("é: %s\\nand a second line", sys.argv[1], extra={"job": "job_1"})
logging.getLogger("uvicorn.error").warning("from uvicorn")
warnings.warn("from warnings")
try:
    raise ValueError(sys.argv[1])
except ValueError:
    log.exception("caught")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
raise RuntimeError(sys.argv[1])
"""

KEY, SECRET = make_api_key(), make_secret()
SHAPES = {
    "key": (KEY, KEY),
    "key in an address": (f"GET /jobs?k={KEY.replace('_', '%5F')}", KEY[4:]),
    "key with a dash": ("the key atl_aB3-dE_6hIjK.", "aB3-dE_6hIjK"),
    "key in a header": (f"Authorization: Bearer {KEY}", KEY),
    "any bearer": ("authorization: bearer eyJhbGciOi.abc", "eyJhbGciOi.abc"),
    "basic": ("Authorization: Basic dXNlcjpwYXNzd29yZA==", "dXNlcjpwYXNzd29yZA"),
    "webhook secret": (f"signed with {SECRET}", SECRET),
    "database": ("postgresql+psycopg://atelier:hunter2hunter@db:5432/x", "hunter2hunter"),
    "broker": ("redis://:hunter2hunter@valkey/0", "hunter2hunter"),
    "login link": ("GET /ui/login?token=u7yN2xQ HTTP/1.1", "u7yN2xQ"),
    "presigned": ("https://s3/x?X-Amz-Credential=AKIA1%2Fx&X-Amz-Signature=beef77&partNumber=1", "beef77"),
    "presigned by whom": ("https://s3/x?X-Amz-Credential=AKIA1%2Fx&X-Amz-Signature=beef77", "AKIA1"),
    "session over loopback": ("cookie: atelier-8000=Zm9vYmFy; theme=dark", "Zm9vYmFy"),
    "session": ("cookie: __Host-session=Zm9vYmFy; theme=dark", "Zm9vYmFy"),
}


def run(said: str, **environment: str) -> list[str]:
    env = {**os.environ, **environment}
    ended = subprocess.run([sys.executable, "-c", SAY, said], env=env, capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stdout == ""
    return ended.stderr.splitlines()


def read(lines: list[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("name", SHAPES)
def test_what_looks_like_a_secret_is_taken_out(name: str) -> None:
    text, secret = SHAPES[name]
    redacted = Redactor([]).redact(f"before {text} after")
    assert secret not in redacted
    assert redacted.startswith("before ")
    assert redacted.endswith(" after")


@pytest.mark.parametrize(
    "text",
    ["job_01j9z4m6p8r0t2v4x6z8b0d2f4", "http://127.0.0.1:8000/jobs?after=x", "a basic sketch of a cat, 12 images"],
)
def test_other_words_are_left_alone(text: str) -> None:
    assert Redactor(["short"]).redact(text) == text


@pytest.mark.parametrize(
    "part", ["a.", "a+", "__host-", "x-amz-", "&token", "authorization basic ", "atelier-1", "a://b:"]
)
def test_what_anybody_sends_costs_time_by_its_length_alone(part: str) -> None:
    """A million characters: where the time grew with their square, this would not end."""
    assert Redactor(["other secret"]).redact(part * (1_000_000 // len(part)))


def test_each_line_is_one_object_with_where_and_when() -> None:
    info, uvicorn, warning, caught, thread, uncaught = read(run("something"))
    assert info["message"] == "é: something\nand a second line"
    assert (info["level"], info["role"], info["logger"], info["job"]) == ("INFO", "tester", "atelier.test", "job_1")
    assert info["time"].endswith("+00:00")
    assert isinstance(info["pid"], int)
    assert (uvicorn["level"], uvicorn["logger"]) == ("WARNING", "uvicorn.error")
    assert "from warnings" in warning["message"]
    assert "exception" not in info
    assert "ValueError: something" in caught["exception"]
    assert (thread["level"], "ZeroDivisionError" in thread["exception"]) == ("CRITICAL", True)
    assert (uncaught["level"], "RuntimeError: something" in uncaught["exception"]) == ("CRITICAL", True)


@pytest.mark.parametrize("style", ["json", "text"])
def test_no_line_has_a_secret_of_the_environments_or_of_a_known_shape(style: str) -> None:
    given = {
        "ATELIER_API_KEY": "no-shape-at-all",
        "AWS_SECRET_ACCESS_KEY": "wJalr/XUt+nFEMI",
        "DATABASE_URL": "postgresql://me:p%40ss-phrase@db/x",
    }
    secrets = ["no-shape-at-all", "wJalr/XUt+nFEMI", "p@ss-phrase", KEY]
    lines = run(" | ".join(secrets), ATELIER_LOG_FORMAT=style, **given)
    assert sum("[redacted] | [redacted] | [redacted] | [redacted]" in line for line in lines) >= 3
    assert not [line for line in lines for secret in secrets if secret in line]


def test_text_is_for_people_and_the_level_is_heeded() -> None:
    first, *_ = run("something", ATELIER_LOG_FORMAT="text", ATELIER_LOG_LEVEL="WARNING")
    assert first.endswith("WARNING uvicorn.error: from uvicorn")
