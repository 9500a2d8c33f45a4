"""The API is light: importing it brings in neither torch nor a worker, and reads no settings."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROBE = "import app.main, json, sys; print(json.dumps(sorted(sys.modules)))"


def test_importing_the_api_brings_in_no_torch_and_no_worker() -> None:
    result = subprocess.run(
        [sys.executable, "-c", PROBE], cwd=ROOT, env={"PATH": "/usr/bin"}, capture_output=True, text=True, check=True
    )
    modules = {name.partition(".")[0] for name in json.loads(result.stdout)}
    assert "app" in modules
    assert modules.isdisjoint(
        {"torch", "diffusers", "peft", "accelerate", "transformers", "worker", "cli", "atelier_client"}
    )


def test_starting_without_settings_names_what_is_missing() -> None:
    command = [sys.executable, "-m", "uvicorn", "app.main:app", "--port", "0"]
    result = subprocess.run(command, cwd=ROOT, env={"PATH": "/usr/bin"}, capture_output=True, text=True, timeout=120)
    assert result.returncode != 0
    assert "DATABASE_URL" in result.stderr
    assert "REDIS_URL" in result.stderr
