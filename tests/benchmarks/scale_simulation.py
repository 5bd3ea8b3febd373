"""What a million, a hundred million and a billion photos take: hours, dollars, what breaks first.

A discrete-event simulation of the deployed job. Workers take batches, subject to the limits of each
service; compaction merges the parts. From a million photos on, several workers move as one group,
with the exact distribution of their mean, so that a billion photos take a second too. It touches
no network and the same seed gives the same answer.

    python tests/benchmarks/scale_simulation.py           print the tables
    python tests/benchmarks/scale_simulation.py --write   and put them into the documents
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np

ROOT: Final = Path(__file__).parents[2]


# --- the figures, all of them --------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """Service times in seconds, measured on the development machine: x86_64, one vCPU each."""

    decode: float = 0.0055
    """A 1,024 px JPEG to model input, 256 px."""
    infer: float = 0.0052
    """One photo, 256 px model, one thread."""
    merge_row: float = 7e-6
    """Compaction: a row that is read, kept and written again."""
    merge_new: float = 16e-6
    """Compaction: a row that is new. Both while the machine had other work."""
    row_bytes: int = 600
    cold_start: float = 0.5


@dataclass(frozen=True)
class Assumed:
    """Not measured: no AWS account stood behind these. Seconds, unless it says otherwise."""

    fetch: float = 0.040
    """GetObject of 150 kB in the same region, first byte to last."""
    put: float = 0.060
    """A part, conditional write."""
    spread: float = 0.15
    """Standard deviation over mean of a batch's time."""
    list_page: float = 0.1
    """One ListObjectsV2 page of 1,000 keys; pages of one listing follow each other."""
    s3_bytes_a_second: float = 80e6
    """One stream between S3 and a function."""
    log_bytes: int = 1500
    """Log lines and metrics of one invocation."""


@dataclass(frozen=True)
class Limits:
    """AWS's public quotas, defaults of a commercial region, as of November 2026."""

    gets_a_prefix: int = 5500  # a second
    puts_a_prefix: int = 3500  # a second
    lambda_ramp: int = 1000  # environments, every 10 seconds, each function
    queue_start: int = 5  # concurrent batches when the mapping wakes up
    queue_ramp: int = 300  # concurrent batches more, every minute
    queue_concurrency: int = 1000  # MaximumConcurrency
    in_flight: int = 120_000  # messages, standard queue
    map_children: int = 10_000  # at once, Distributed Map
    put_bytes: float = 5 * 2**30  # one PutObject
    function_seconds: int = 900


@dataclass(frozen=True)
class Prices:
    """AWS's public prices in dollars, us-east-1, as of November 2026, without free tiers."""

    arm_gb_second: float = 0.0000133334
    x86_gb_second: float = 0.0000166667
    invocation: float = 0.20e-6
    get: float = 0.0004e-3
    put_or_list: float = 0.005e-3
    queue_request: float = 0.40e-6
    express_request: float = 1.00e-6
    express_gb_second: float = 0.00001667
    transition: float = 0.025e-3
    log_gb: float = 0.50


MEASURED: Final = Measured()
ASSUMED: Final = Assumed()
LIMITS: Final = Limits()
PRICES: Final = Prices()
MEMORY_GB: Final = 1769 / 1024  # one vCPU: the function's size in template.yaml
THREADS: Final = 16  # as in template.yaml
MAX_PARTS: Final = 10_000  # that one compaction takes: handler/settings.py
SHARE: Final = 0.05  # of the table, that pays for rewriting it: handler/compaction.py
MAX_AGE: Final = 86_400.0  # CompactAfterSeconds
DIVIDE_BYTES: Final = 4 * 2**30  # a larger table becomes shards: handler/compaction.py
RESERVED_SHARE: Final = 0.1  # of a compaction's time: handler/app.py
EXPRESS_GB: Final = 64 / 1024  # Step Functions bills in steps of 64 MB

MAX_EVENTS: Final = 100_000


# --- the simulation ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scenario:
    """One way to label `photos`. The defaults are those of template.yaml."""

    name: str
    photos: int
    concurrency: int = 50
    batch: int = 100
    prefixes: int = 1
    """S3 partitions that the photos' keys are spread over."""
    executions: int = 1
    """Backfills started side by side, each on its own prefix: each lists by itself."""
    stacks: int = 1
    """Stacks, each with its own manifest; the workers of all are counted together."""
    compact_every: float = 900.0
    queue: bool = False
    """The photos come through the queue instead of a backfill."""


@dataclass
class Compaction:
    """Result of compacting one stack's parts."""

    runs: int = 0
    seconds: float = 0.0
    longest: float = 0.0
    rows: int = 0
    parts_merged: int = 0
    parts_left: int = 0
    most_waiting: int = 0
    stopped_at: int = 0
    """Rows of the manifest that could not be written any more."""
    stopped_by: str = ""
    finished: float = 0.0
    divided: bool = False
    """Whether the table became shards."""
    written: int = 0
    """Rows that were written, each time that they were."""


_STATIONS: Final = ("listing", "S3 GET per prefix", "S3 PUT per prefix")
_LIST, _GET, _PUT = _STATIONS


@dataclass
class Outcome:
    """What a scenario came to. Times in seconds of simulated time."""

    scenario: Scenario
    labelled: int = 0
    batches: int = 0
    seconds: float = 0.0
    billed: float = 0.0
    """Function seconds."""
    most_workers: int = 0
    waited: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_STATIONS, 0.0))
    """Worker seconds that were spent waiting for each station."""
    part_times: list[tuple[float, int]] = field(default_factory=list)
    compaction: Compaction = field(default_factory=Compaction)

    @property
    def bound_by(self) -> str:
        """The station that most of the waiting is for; the workers if there is hardly any."""
        station, waited = max(self.waited.items(), key=lambda item: item[1])
        return station if waited > 0.1 * (self.billed + self.waited[_LIST]) else "workers"


class Station:
    """Something that serves `rate` requests per second, in the order they come."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._free = 0.0

    def served(self, now: float, requests: int) -> float:
        """When the last of `requests` that are made at `now` is served."""
        self._free = max(self._free, now) + requests / self._rate
        return self._free


def labelling_seconds(photos: float) -> float:
    """One batch's time if nothing is short: that of the slower of core and network."""
    core = photos * (MEASURED.decode + MEASURED.infer)
    network = photos * ASSUMED.fetch / THREADS
    return max(core, network) + ASSUMED.fetch


def workers_allowed(scenario: Scenario) -> int:
    """Workers at once, when the ramp is over."""
    if scenario.queue:
        in_flight = scenario.stacks * LIMITS.in_flight // scenario.batch
        return min(scenario.concurrency, scenario.stacks * LIMITS.queue_concurrency, in_flight)
    return min(scenario.concurrency, scenario.executions * LIMITS.map_children)


def starts_at(scenario: Scenario, worker: int) -> float:
    """When the ramp lets the `worker`th worker (from 1) begin."""
    lambda_allows = 10.0 * ((worker - 1) // (LIMITS.lambda_ramp * scenario.stacks))
    if not scenario.queue:
        return lambda_allows
    ahead = max(0, worker - LIMITS.queue_start * scenario.stacks)
    return max(lambda_allows, 60.0 * ahead / (LIMITS.queue_ramp * scenario.stacks))


def simulate(scenario: Scenario, seed: int = 42) -> Outcome:
    """Run a scenario to its end."""
    rng = np.random.default_rng(seed)
    outcome = Outcome(scenario)
    left = math.ceil(scenario.photos / scenario.batch)
    workers = min(workers_allowed(scenario), left)
    # Workers move in groups, large enough that the run has about MAX_EVENTS events at most.
    together = min(workers, math.ceil(left / MAX_EVENTS))
    # Listing runs ahead of the workers: the n-th key is known at n / rate.
    listing_rate = math.inf if scenario.queue else scenario.executions * 1000 / ASSUMED.list_page
    gets = Station(LIMITS.gets_a_prefix * scenario.prefixes)
    puts = Station(LIMITS.puts_a_prefix * scenario.stacks)
    shape = 1 / ASSUMED.spread**2

    sizes = [together] * (workers // together) + [workers % together] * (workers % together > 0)
    firsts = itertools.accumulate(sizes)
    # (when, worker group, the batches that it has fetched and labelled by then, since when)
    events = [(starts_at(scenario, last), group, 0, 0.0) for group, last in enumerate(firsts)]
    heapq.heapify(events)
    photos_left, busy, cold = scenario.photos, 0, set(range(len(sizes)))
    while events:
        now, group, labelled, start = heapq.heappop(events)
        if labelled:
            end = puts.served(now, labelled)
            outcome.waited[_PUT] += labelled * (end - now)
            outcome.billed += labelled * (end + ASSUMED.put - start)
            outcome.seconds = max(outcome.seconds, end + ASSUMED.put)
            outcome.part_times.append((end + ASSUMED.put, labelled))
            busy -= labelled
            heapq.heappush(events, (end + ASSUMED.put, group, 0, 0.0))
            continue
        taken = min(sizes[group], left)
        if not taken:
            continue
        photos = min(taken * scenario.batch, photos_left)
        left, photos_left, busy = left - taken, photos_left - photos, busy + taken
        start = max(now, (scenario.photos - photos_left) / listing_rate)
        # The mean of `taken` gamma variables is one as well, with `taken` times the shape.
        work = labelling_seconds(photos / taken) * rng.gamma(shape * taken) / (shape * taken)
        if group in cold:
            cold.remove(group)
            work += MEASURED.cold_start
        end = max(start + work, gets.served(start, photos))
        outcome.waited[_LIST] += taken * (start - now)
        outcome.waited[_GET] += taken * (end - start - work)
        outcome.labelled += photos
        outcome.batches += taken
        outcome.most_workers = max(outcome.most_workers, busy)
        heapq.heappush(events, (end, group, taken, start))
    outcome.compaction = compact(outcome)
    return outcome


def run_seconds(before: int, after: int, parts: int) -> float:
    """Seconds in which a compaction makes a table of `after` rows from one of `before`."""
    return (
        before * MEASURED.merge_row
        + (after - before) * MEASURED.merge_new
        + (before + after) * MEASURED.row_bytes / ASSUMED.s3_bytes_a_second
        + parts * ASSUMED.fetch / THREADS
    )


def compact(outcome: Outcome) -> Compaction:
    """Merge one stack's share of the parts, run after run, until none is left or it must stop."""
    scenario = outcome.scenario
    times, counts = map(np.array, zip(*sorted(outcome.part_times), strict=True))
    # A stack gets its share of every moment's parts, in whole parts at the end.
    written = np.floor(np.cumsum(counts) / scenario.stacks).astype(int)
    total_parts = math.ceil(outcome.batches / scenario.stacks)
    total_rows = math.ceil(outcome.labelled / scenario.stacks)
    written[-1] = total_parts
    done = Compaction(parts_left=total_parts)
    now = 0.0
    while done.parts_left:
        tick = (math.floor(now / scenario.compact_every) + 1) * scenario.compact_every
        seen = int(np.searchsorted(times, tick, side="right"))
        waiting = (int(written[seen - 1]) if seen else 0) - done.parts_merged
        now = tick
        done.most_waiting = max(done.most_waiting, waiting)
        if not waiting:
            continue
        oldest = float(times[np.searchsorted(written, done.parts_merged, side="right")])
        if waiting * scenario.batch <= SHARE * done.rows and tick - oldest < MAX_AGE:
            continue
        waiting = min(waiting, MAX_PARTS)
        there = done.parts_merged + waiting
        rows = min(there * scenario.batch, total_rows)
        seconds = run_seconds(done.rows, rows, waiting)
        done.divided = done.divided or rows * MEASURED.row_bytes > DIVIDE_BYTES
        limit = LIMITS.function_seconds * (1 - RESERVED_SHARE)
        if not done.divided and seconds > limit:
            done.stopped_at = rows
            done.stopped_by = "15 minutes of one function"
            break
        # A run over shards is continued by the next ones.
        invocations = math.ceil(seconds / limit)
        done.runs += invocations
        done.seconds += seconds
        done.longest = max(done.longest, min(seconds, limit))
        done.written += rows
        done.rows, done.parts_merged = rows, there
        done.parts_left = total_parts - there
        pauses = (invocations - 1) * max(0.0, scenario.compact_every - limit)
        now = done.finished = tick + seconds + pauses
    return done


# --- dollars -------------------------------------------------------------------------------------


def dollars(outcome: Outcome) -> dict[str, float]:
    """What a run costs, by service, on x86_64, as the times were measured."""
    scenario, merged = outcome.scenario, outcome.compaction
    photos, batches = outcome.labelled, outcome.batches
    costs = {
        "label function": outcome.billed * MEMORY_GB * PRICES.x86_gb_second
        + batches * PRICES.invocation,
        "S3 GET, the photos": photos * PRICES.get,
        "S3 PUT, the parts": batches * PRICES.put_or_list,
        # A part is read once; listing takes a page for a thousand, once or twice.
        "compaction": scenario.stacks
        * (
            merged.seconds * MEMORY_GB * PRICES.x86_gb_second
            + merged.parts_merged * PRICES.get
            + merged.runs * 4 * PRICES.put_or_list
        ),
        "logs and metrics": batches * ASSUMED.log_bytes / 1e9 * PRICES.log_gb,
    }
    if scenario.queue:
        # One send per photo; receives and deletes take ten messages each.
        costs["SQS"] = 1.2 * photos * PRICES.queue_request
    else:
        costs["S3 LIST"] = photos / 1000 * PRICES.put_or_list
        # Counted high: a transition for each child's start, its request and its memory.
        costs["Step Functions"] = (
            batches * (PRICES.transition + PRICES.express_request)
            + outcome.billed * EXPRESS_GB * PRICES.express_gb_second
        )
    return costs


# --- the tables ----------------------------------------------------------------------------------

MILLION = Scenario("a million, as deployed", 10**6)
HUNDRED = Scenario("a hundred million, as deployed", 10**8)
BILLION = Scenario("a billion, as deployed", 10**9)

SCENARIOS: Final = (
    MILLION,
    replace(MILLION, name="a million, through the queue", queue=True),
    replace(MILLION, name="a million, 200 at once", concurrency=200),
    HUNDRED,
    replace(HUNDRED, name="a hundred million, 1,000 at once", concurrency=1000),
    replace(
        HUNDRED,
        name="a hundred million, 1,000 at once, 16 prefixes, each its own stack",
        concurrency=1000,
        prefixes=16,
        executions=16,
        stacks=16,
    ),
    BILLION,
    replace(BILLION, name="a billion, 1,000 at once, 16 prefixes", concurrency=1000, prefixes=16),
    replace(
        BILLION,
        name="a billion, 5,000 at once, 128 prefixes, each its own stack",
        concurrency=5000,
        prefixes=128,
        executions=128,
        stacks=128,
    ),
)


def spoken(seconds: float) -> str:
    """A time as people say it."""
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def scale_table(outcomes: list[Outcome]) -> str:
    """What each scenario comes to, as Markdown."""
    lines = [
        "| photos | time | photos per second | workers | bound by | compaction | dollars |",
        "|---|---|---|---|---|---|---|",
    ]
    for outcome in outcomes:
        merged = outcome.compaction
        state = (
            f"cannot write {merged.stopped_at / 1e6:.0f} million rows: {merged.stopped_by}"
            if merged.stopped_by
            else f"done after {spoken(merged.finished)}, longest run {merged.longest:,.0f} s, "
            f"each row written {merged.written / merged.rows:.0f} x"
            + ", in shards"
            * merged.divided
        )
        lines.append(
            f"| {outcome.scenario.name} | {spoken(outcome.seconds)} "
            f"| {outcome.labelled / outcome.seconds:,.0f} | {outcome.most_workers:,} "
            f"| {outcome.bound_by} | {state} | {sum(dollars(outcome).values()):,.2f} |"
        )
    return "\n".join(lines)


def cost_table(outcome: Outcome) -> str:
    """What a million photos cost, as Markdown."""
    costs = dollars(outcome)
    queue = dollars(simulate(replace(outcome.scenario, queue=True)))
    lines = ["| | backfill | through the queue |", "|---|---|---|"]
    lines += [
        f"| {name} | {costs.get(name, 0):.2f} | {queue.get(name, 0):.2f} |"
        for name in dict.fromkeys([*costs, *queue])
    ]
    total, queued = sum(costs.values()), sum(queue.values())
    lines += [f"| **dollars per million** | **{total:.2f}** | **{queued:.2f}** |"]
    return "\n".join(lines)


def steady_table(new_per_day: int = 10_000) -> str:
    """What a table that is there costs while `new_per_day` photos arrive, as Markdown."""
    lines = [
        "| rows | table | one run | runs per month | written per new row | $ per month | before |",
        "|---|---|---|---|---|---|---|",
    ]
    for rows in (10**5, 10**6, 8 * 10**6, 10**8):
        days = min(MAX_AGE / 86_400, SHARE * rows / new_per_day)
        new = new_per_day * days
        seconds = run_seconds(rows, rows, math.ceil(new / 100))
        # PUTs: of a pair, or of the pair of each shard.
        divided = rows * MEASURED.row_bytes > DIVIDE_BYTES
        puts = (512 if divided else 2) * PRICES.put_or_list
        one = seconds * MEMORY_GB * PRICES.x86_gb_second + puts
        lines.append(
            f"| {rows:,} | {rows * MEASURED.row_bytes / 1e9:.2f} GB | {seconds:,.0f} s "
            f"| {30 / days:,.0f} | {rows / new:,.0f} | {one * 30 / days:,.2f} "
            f"| {one * 30 * 96:,.2f} |"
        )
    return "\n".join(lines)


def figures_table() -> str:
    """The service times behind everything, as Markdown."""
    return "\n".join(
        [
            "| figure | value | source |",
            "|---|---|---|",
            f"| decode, 1,024 px JPEG | {1000 * MEASURED.decode:.1f} ms | measured |",
            f"| inference, 256 px | {1000 * MEASURED.infer:.1f} ms | measured |",
            f"| 100 photos, one worker | {labelling_seconds(100) + ASSUMED.put:.2f} s | computed |",
            f"| merging an existing row | {1e6 * MEASURED.merge_row:.0f} µs | measured |",
            f"| merging a new row | {1e6 * MEASURED.merge_new:.0f} µs | measured |",
            f"| fetching a photo | {1000 * ASSUMED.fetch:.0f} ms | assumed |",
            f"| writing a part | {1000 * ASSUMED.put:.0f} ms | assumed |",
            f"| listing 1,000 keys | {1000 * ASSUMED.list_page:.0f} ms | assumed |",
            f"| one S3 stream | {ASSUMED.s3_bytes_a_second / 1e6:.0f} MB/s | assumed |",
        ]
    )


def tables() -> dict[Path, dict[str, str]]:
    """Each document's generated tables by name."""
    outcomes = [simulate(scenario) for scenario in SCENARIOS]
    return {
        ROOT / "docs/scale.md": {
            "figures": figures_table(),
            "scale": scale_table(outcomes),
            "steady": steady_table(),
        },
        ROOT / "infra/README.md": {"cost": cost_table(outcomes[0])},
    }


def filled(text: str, found: dict[str, str]) -> str:
    """Return a document with its tables, `<!-- name -->` to `<!-- /name -->`, made new."""
    for name, table in found.items():
        before, _, rest = text.partition(f"<!-- {name} -->\n")
        _, _, after = rest.partition(f"<!-- /{name} -->")
        text = f"{before}<!-- {name} -->\n{table}\n<!-- /{name} -->{after}"
    return text


def main() -> None:
    """Print the tables; with --write, put them into the documents."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put the tables into the documents")
    write = parser.parse_args().write
    for document, found in tables().items():
        for name, table in found.items():
            print(f"\n{name}\n{table}")
        if write:
            text = document.read_text(encoding="utf-8")
            document.write_text(filled(text, found), encoding="utf-8")


if __name__ == "__main__":
    main()
