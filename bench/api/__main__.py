"""The API under load, with PostgreSQL, Valkey and the load generator on the same machine, over loopback.

    python -m bench.api [--jobs 100000] [--connections 32] [--seconds 20] [--uploads 32] [--upload-mib 256]
                        [--clients 2000] [--followed-jobs 20] [--events 20] [--out out/api.md] [--write DOCUMENT]

Uploads need their sum in disk. One API process; rates and quotas are lifted.
"""

import argparse
import os
import resource
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench.api.routes import measure_routes
from bench.api.stack import open_stack
from bench.api.streams import allow_files, measure_streams
from bench.api.uploads import measure_uploads
from bench.report import write_report

MARKER = "api"


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=100_000, help="in the list")
    parser.add_argument("--connections", type=int, default=32, help="of the load generator")
    parser.add_argument("--seconds", type=float, default=20, help="for each route")
    parser.add_argument("--uploads", type=int, default=32, help="at once")
    parser.add_argument("--upload-mib", type=int, default=256, help="MiB of each")
    parser.add_argument("--clients", type=int, default=2000, help="that follow jobs")
    parser.add_argument("--followed-jobs", type=int, default=20)
    parser.add_argument("--events", type=int, default=20, help="of each followed job")
    parser.add_argument("--out", type=Path, default=Path("out/api.md"), metavar="PATH")
    parser.add_argument("--write", type=Path, metavar="PATH", help="a document with markers for this section")
    return parser.parse_args(arguments)


def measure(args: argparse.Namespace) -> list[str]:
    """Lines of Markdown."""
    allow_files(args.clients)  # the API inherits it
    with open_stack(args.jobs, args.uploads) as stack:
        streams = measure_streams(stack, args.clients, args.followed_jobs, args.events).describe()
        routes = measure_routes(stack, args.jobs, args.connections, args.seconds)
        uploads = measure_uploads(stack, args.uploads, args.upload_mib * 1024**2).describe()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    how = f"{args.connections} connections, {args.seconds:g} s each"
    head = f"{cores} cores for all, {datetime.now(UTC):%Y-%m-%d}; {how}."
    return [head, "", *routes, "", *streams, "", *uploads]


def main() -> None:
    args = parse()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        lines = measure(args)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    write_report(lines, args.out, args.write, MARKER)


if __name__ == "__main__":
    main()
