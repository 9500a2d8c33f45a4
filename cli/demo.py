"""`make demo`: starts the whole service on this machine, trains once over HTTP, and says where the results are.

The demo has a home of its own, so it does not touch a service that is in use, and can be opened again afterwards.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from atelier_client import AtelierClient, ClientError
from cli.durations import format_duration
from cli.errors import CommandError, StartError
from cli.local.home import Home, open_home
from cli.local.ports import probe_port
from cli.local.programs import ROOT
from cli.local.supervisor.process import tail
from cli.local.supervisor.service import launcher_command
from cli.local.tree import is_ready
from cli.progress import describe_end
from cli.reporting import HumanReporter, Reporter
from cli.training import JobStopped, TrainRequest, train

HOST = "127.0.0.1"
HOME = Path(".atelier-demo")
IMAGES = ROOT / "examples" / "blip"
OUT = Path("out")
SPEC = {"model": "tiny", "trigger": "blip"}

START_TIMEOUT_SECONDS = 180
STOP_TIMEOUT_SECONDS = 90

# These would make the demo use another database, storage or key instead of its own.
FOREIGN = frozenset(
    {"DATABASE_URL", "DATABASE_OWNER_URL", "REDIS_URL", "S3_ENDPOINT_URL", "S3_PUBLIC_ENDPOINT_URL"}
    | {"ATELIER_API_KEY", "ATELIER_HOME", "ATELIER_STORAGE", "ATELIER_URL"}
)


def main() -> int:
    """Returns 0 once the adapter is in ``out``, 130 after Ctrl-C."""
    reporter = HumanReporter()
    started = time.monotonic()
    try:
        home = open_home(HOME)
        with (
            running_service(home, reporter) as url,
            AtelierClient(url, home.admin_key_file.read_text().strip()) as client,
        ):
            job = train(client, TrainRequest(IMAGES, SPEC, OUT), reporter)
    except (CommandError, ClientError) as error:
        reporter.fail(str(error))
        return 1
    except (KeyboardInterrupt, JobStopped):
        reporter.fail("Interrupted; the service was stopped. `make demo` starts again.")
        return 130
    if job.status != "succeeded":
        reporter.fail(f"{describe_end(job)} The logs are in {HOME / 'log'}.")
        return 1
    print_next_steps(reporter, time.monotonic() - started)
    return 0


@contextmanager
def running_service(home: Home, reporter: Reporter) -> Iterator[str]:
    """`atelier up` as a child that dies with this process. Gives its address once it is ready.

    Raises StartError with its log's end when it does not come up.
    """
    port = probe_port(HOST, 0)
    url, log_file = f"http://{HOST}:{port}", home.log_file("up")
    reporter.say("start", f"Starting Atelier at {url} (its home is {HOME})")
    command = (sys.executable, "-m", "cli.main", "up", "--host", HOST, "--port", str(port), "--home", str(home.path))
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            launcher_command(command, None, signal.SIGTERM), cwd=ROOT, env=own_environment(), stdin=subprocess.DEVNULL,
            stdout=log, stderr=log, start_new_session=True,  # Ctrl-C reaches the demo, which then stops it in order
        )  # fmt: skip
    try:
        wait_until_ready(process, url, log_file)
        yield url
    finally:
        stop(process)


def own_environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key not in FOREIGN}


def wait_until_ready(process: subprocess.Popen[bytes], url: str, log_file: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while not is_ready(url):
        if process.poll() is not None or time.monotonic() > deadline:
            raise StartError(f"Atelier did not come up. The end of {log_file}:\n{tail(log_file)}")
        time.sleep(0.2)


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def print_next_steps(reporter: Reporter, seconds: float) -> None:
    atelier = Path(sys.executable).with_name("atelier")
    shown = atelier.relative_to(Path.cwd()) if atelier.is_relative_to(Path.cwd()) else atelier
    reporter.say(
        "done",
        f"\nDone in {format_duration(seconds)}. To see the job, its samples and its losses in the dashboard:\n\n"
        f"    {shown} up --home {HOME}\n\nand open the link that it prints.",
    )


if __name__ == "__main__":
    sys.exit(main())
