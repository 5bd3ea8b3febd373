"""The simulation keeps its books: nothing appears, nothing is lost, no limit is exceeded."""

import math
from dataclasses import replace

import pytest

from tests.benchmarks import scale_simulation as sim

SMALL = sim.Scenario("small", 250_050, concurrency=40)
CASES = [
    SMALL,
    replace(SMALL, name="queue", queue=True),
    replace(SMALL, name="short of GETs", concurrency=300),
    replace(SMALL, name="stacks", stacks=3, prefixes=3, executions=3),
    sim.HUNDRED,
]


@pytest.fixture(scope="module", params=CASES, ids=lambda scenario: scenario.name)
def outcome(request):
    return sim.simulate(request.param)


def test_every_photo_is_labelled_once(outcome):
    assert outcome.labelled == outcome.scenario.photos
    assert outcome.batches == math.ceil(outcome.scenario.photos / outcome.scenario.batch)


def test_every_batch_leaves_one_part(outcome):
    assert sum(count for _, count in outcome.part_times) == outcome.batches
    merged = outcome.compaction
    share = math.ceil(outcome.batches / outcome.scenario.stacks)
    assert merged.parts_merged + merged.parts_left == share


def test_compaction_ends_with_every_row_or_says_why_not(outcome):
    merged = outcome.compaction
    if not merged.stopped_by:
        assert merged.parts_left == 0
        assert merged.rows == math.ceil(outcome.labelled / outcome.scenario.stacks)
    else:
        assert not merged.divided
        assert merged.parts_left > 0


def test_a_table_that_outgrows_one_object_is_divided(outcome):
    merged = outcome.compaction
    assert merged.divided == (merged.rows * sim.MEASURED.row_bytes > sim.DIVIDE_BYTES)


def test_every_row_is_written_once_at_least(outcome):
    assert outcome.compaction.written >= outcome.compaction.rows


def test_no_run_is_faster_than_its_limits(outcome):
    scenario = outcome.scenario
    gets = scenario.photos / (sim.LIMITS.gets_a_prefix * scenario.prefixes)
    listing = 0 if scenario.queue else scenario.photos / 1000 * sim.ASSUMED.list_page
    assert outcome.seconds >= max(gets, listing / scenario.executions) * 0.999


def test_no_more_workers_run_than_are_allowed(outcome):
    assert outcome.most_workers <= sim.workers_allowed(outcome.scenario)


def test_workers_are_billed_for_what_they_work_and_wait(outcome):
    scenario = outcome.scenario
    full = outcome.batches * (sim.labelling_seconds(scenario.batch) + sim.ASSUMED.put)
    waited = outcome.waited[sim._GET] + outcome.waited[sim._PUT]
    cold = outcome.most_workers * sim.MEASURED.cold_start
    assert outcome.billed == pytest.approx(full + waited + cold, rel=0.01)


def test_nobody_works_longer_than_there_is_time(outcome):
    assert outcome.billed <= outcome.most_workers * outcome.seconds * 1.0001


def test_a_seed_gives_the_same_answer_and_another_a_near_one():
    first, again, other = sim.simulate(SMALL), sim.simulate(SMALL), sim.simulate(SMALL, seed=7)
    assert first == again
    assert first.seconds != other.seconds
    assert first.seconds == pytest.approx(other.seconds, rel=0.05)


def test_moving_workers_as_groups_hardly_changes_the_answer(monkeypatch):
    each = sim.simulate(SMALL)
    monkeypatch.setattr(sim, "MAX_EVENTS", each.batches // 8)  # eight at a time
    grouped = sim.simulate(SMALL)
    assert grouped.seconds == pytest.approx(each.seconds, rel=0.05)
    assert grouped.billed == pytest.approx(each.billed, rel=0.02)


def test_more_workers_than_one_prefix_serves_cost_money_and_gain_no_time():
    few = sim.simulate(replace(SMALL, concurrency=100))
    many = sim.simulate(replace(SMALL, concurrency=400))
    assert many.seconds == pytest.approx(few.seconds, rel=0.05)
    assert many.billed > 2 * few.billed
    assert many.bound_by == "S3 GET per prefix"


def test_messages_in_flight_cap_the_workers_of_a_queue():
    scenario = replace(SMALL, queue=True, concurrency=1000, batch=1000)
    assert sim.workers_allowed(scenario) == sim.LIMITS.in_flight // 1000


def test_the_ramp_of_a_queue_is_slower_than_that_of_a_backfill():
    queue = replace(SMALL, queue=True)
    assert [sim.starts_at(SMALL, n) for n in (1, 1000, 1001)] == [0, 0, 10]
    assert [sim.starts_at(queue, n) for n in (1, 5, 305)] == [0, 0, 60]


@pytest.mark.slow
def test_the_documents_hold_the_tables_that_the_simulation_makes():
    for document, tables in sim.tables().items():
        text = document.read_text(encoding="utf-8")
        for name in tables:
            assert text.count(f"<!-- {name} -->") == 1
        assert sim.filled(text, tables) == text, (
            f"{document.name} is stale: python tests/benchmarks/scale_simulation.py --write"
        )
