"""What each spec ends in when nothing goes wrong."""

import shutil
import threading
import time
from collections.abc import Sequence

from tests.chaos.audit import Bytes, read_bytes
from tests.chaos.clients import Ledger, StubbornClient
from tests.chaos.specs import NUM_PICTURES, pictures
from tests.chaos.stack import Stack

TIMEOUT_SECONDS = 900.0
TERMINAL = {"succeeded", "failed", "canceled"}


def upload_dataset(stack: Stack) -> str:
    """The dataset of all jobs, ready."""
    client = open_client(stack)
    try:
        dataset_id = client.upload(pictures(NUM_PICTURES)).dataset_id
        await_status(stack, client, f"/datasets/{dataset_id}", {"ready"})
    finally:
        client.close()
    return dataset_id


def run_undisturbed(stack: Stack, dataset_id: str, specs: Sequence[str]) -> dict[str, Bytes]:
    """One job of each spec. What later jobs could take over from them is removed: they are to make it anew."""
    client = open_client(stack)
    try:
        jobs = [client.post_job(f"undisturbed-{spec}", spec, dataset_id) for spec in specs]
        for posted in jobs:
            job = await_status(stack, client, f"/jobs/{posted.job_id}", TERMINAL)
            assert job == "succeeded", (posted.spec, job, stack.tail("train-0"), stack.tail("train-1"))
    finally:
        client.close()
    shutil.rmtree(stack.home.path / "cache", ignore_errors=True)
    with stack.sessions() as session:
        return {posted.spec: read_bytes(session, posted.job_id) for posted in jobs}


def open_client(stack: Stack) -> StubbornClient:
    return StubbornClient(stack.url, stack.api_key, Ledger(), threading.Event())


def await_status(stack: Stack, client: StubbornClient, path: str, wanted: set[str]) -> str:
    """Keeps the stack meanwhile."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while (status := str(client.get(path)["status"])) not in wanted:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{path} is still {status}")
        stack.keep_for(0.3)
    return status
