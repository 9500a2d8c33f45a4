"""``python -m tests.chaos faults|production|stops|generations``: one chaos run each, reported into a document.

    python -m tests.chaos faults --faults 200 --jobs 60 --seed 1 --write docs/reliability.md
    python -m tests.chaos production --faults 10
    python -m tests.chaos stops --cancels 100 --pauses 50
    python -m tests.chaos generations --jobs 10 --generations 40 --faults 12

Exits with 1 when a promise was broken, or a cell of the matrix stayed empty.
"""

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from tests.chaos.audit import audit, read_events
from tests.chaos.campaign import Campaign, Plan
from tests.chaos.faults import KILLS, Cell, plan_faults, plan_kills
from tests.chaos.generations import (
    check_drawn,
    draw_drawn,
    draw_undisturbed,
    list_drawn_violations,
    make_bodies,
    read_drawn,
)
from tests.chaos.report import (
    count_outages,
    describe_run,
    draw_kills,
    draw_matrix,
    draw_recovery,
    draw_verdict,
    find_empty_cells,
    list_violations,
    measure_recovery,
    write_between_markers,
)
from tests.chaos.scene import JOB_PHASES
from tests.chaos.specs import SPECS
from tests.chaos.stack import PRODUCTION, SCALED, Stack, Timers, running_stack
from tests.chaos.stops import StopRequests, draw_stops, plan_stops
from tests.chaos.undisturbed import run_undisturbed, upload_dataset

RECOVERY_SECONDS = 45.0
STOP_SECONDS = 25.0

Result = tuple[list[str], list[str]]
"""The report, and what speaks against the service."""


def main() -> int:
    args = _parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends its processes first
    run: Callable[[argparse.Namespace, Stack], Result] = {
        "faults": run_faults, "production": run_production, "stops": run_stops, "generations": run_generations,
    }[args.mode]  # fmt: skip
    timers: Timers = PRODUCTION if args.mode == "production" else SCALED
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    folder.chmod(0o711)  # a root user's PostgreSQL, which is not root's, passes through
    began = time.monotonic()
    with running_stack(folder, timers) as stack:
        lines, against = run(args, stack)
    command = f"python -m tests.chaos {' '.join(_command(args))}"
    report = [*describe_run(command, args.seed, time.monotonic() - began), *lines]
    print("\n".join([*report, "", *against]))
    if args.write:
        write_between_markers(args.write, f"chaos {args.mode}", [*report, *against])
    if not against and not args.keep:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        print(f"Logs: {folder}/home/log")
    return 1 if against else 0


def run_faults(args: argparse.Namespace, stack: Stack) -> Result:
    return _run_campaign(args, stack, Plan(args.seed, plan_faults(args.seed, args.faults), args.jobs))


def run_production(args: argparse.Namespace, stack: Stack) -> Result:
    """Kills alone, of what trains: how long until the job is queued again."""
    cells = [Cell(KILLS[n % len(KILLS)], JOB_PHASES[(n + args.seed) % len(JOB_PHASES)]) for n in range(args.faults)]
    plan = Plan(args.seed, cells, args.jobs, gap_seconds=(1, 5), cancel_share=0, pause_share=0)
    return _run_campaign(args, stack, plan)


def run_generations(args: argparse.Namespace, stack: Stack) -> Result:
    """Kills alone, of what trains and draws. Whatever is compared has the bytes of what nothing disturbed."""
    dataset_id = upload_dataset(stack)
    undisturbed = run_undisturbed(stack, dataset_id, tuple(SPECS))
    bodies = make_bodies(stack)
    images = draw_undisturbed(stack, bodies)
    print(f"undisturbed runs of {len(undisturbed)} specs and {len(images)} generations are done", flush=True)
    cells = plan_kills(args.seed, args.faults)
    plan = Plan(
        args.seed, cells, args.jobs, cancel_share=0, pause_share=0, num_generations=args.generations, bodies=bodies
    )
    campaign = Campaign(stack, plan, dataset_id, say=lambda line: print(line, flush=True))
    campaign.run()
    found = audit(stack, campaign.ledger.jobs, campaign.ledger.datasets, undisturbed)
    drawn = check_drawn(campaign.ledger.generations, read_drawn(stack), images, len(images))
    against = list_violations(found) + list_drawn_violations(drawn)
    against += [f"- not succeeded: {one.job_id}" for one in found.outcomes if one.status != "succeeded"]
    lines = [*draw_verdict(found), *draw_drawn(drawn), *draw_kills(campaign.faults)]
    return lines, against


def _run_campaign(args: argparse.Namespace, stack: Stack, plan: Plan) -> Result:
    dataset_id = upload_dataset(stack)
    undisturbed = run_undisturbed(stack, dataset_id, plan.specs)
    print(f"undisturbed runs of {len(undisturbed)} specs are done", flush=True)
    campaign = Campaign(stack, plan, dataset_id, say=lambda line: print(line, flush=True))
    campaign.run()
    found = audit(stack, campaign.ledger.jobs, campaign.ledger.datasets, undisturbed)
    with stack.sessions() as session:
        events = read_events(session)
    if args.record:
        args.record.write_text(json.dumps([asdict(fault) for fault in campaign.faults], indent=1))
    against = list_violations(found)
    failed = [outcome.job_id for outcome in found.outcomes if outcome.status == "failed"]
    against += [f"- failed: {job_id}" for job_id in failed]
    lines = [*draw_verdict(found), f"- Faults: {len(campaign.faults)}."]
    lines += [f"- What the clients repeated over: {count_outages(campaign.ledger.outages)}.", ""]
    if args.mode == "faults":
        against += [f"- never struck: {kind} in {phase}" for kind, phase in find_empty_cells(campaign.faults)]
        lines += [*draw_matrix(campaign.faults), ""]
    else:
        for rows in measure_recovery(campaign.faults, events).values():
            late = [fault for fault, queued, _ in rows if queued > RECOVERY_SECONDS]
            against += [f"- recovered late: {fault.job_id} after {fault.kind} in {fault.phase}" for fault in late]
    return [*lines, *draw_recovery(campaign.faults, events)], against


def run_stops(args: argparse.Namespace, stack: Stack) -> Result:
    dataset_id = upload_dataset(stack)
    undisturbed = run_undisturbed(stack, dataset_id, tuple(SPECS))
    stops = StopRequests(
        stack, dataset_id, plan_stops(args.seed, args.cancels, args.pauses), lambda line: print(line, flush=True)
    )
    stops.run()
    found = audit(stack, stops.ledger.jobs, [], undisturbed)
    with stack.sessions() as session:
        granted = stops.measure(read_events(session))
    against = list_violations(found)
    against += [f"- late: {one.kind} of {one.job_id} in {one.phase}" for one in granted if one.seconds > STOP_SECONDS]
    return [*draw_verdict(found), "", *draw_stops(granted)], against


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("mode", choices=("faults", "production", "stops", "generations"))
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=60)
    parser.add_argument("--generations", type=int, default=40)
    parser.add_argument("--cancels", type=int, default=100)
    parser.add_argument("--pauses", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", type=Path, help="a document with markers for this mode")
    parser.add_argument("--record", type=Path, help="a JSON file for the faults")
    parser.add_argument("--keep", action="store_true", help="keep the logs of a good run too")
    return parser.parse_args()


def _command(args: argparse.Namespace) -> list[str]:
    if args.mode == "stops":
        return [args.mode, "--cancels", str(args.cancels), "--pauses", str(args.pauses)]
    generations = ["--generations", str(args.generations)] if args.mode == "generations" else []
    return [args.mode, "--faults", str(args.faults), "--jobs", str(args.jobs), *generations]


if __name__ == "__main__":
    sys.exit(main())
