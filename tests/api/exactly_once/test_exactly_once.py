"""The model test of the start conversation: nothing CML, the network, Airflow or people do makes a job run twice.

The world is bounded: a start takes effect at most 75 s after it was sent, a run is listed at most 5 s later. Left out
of it is what no rule can settle, since CML has no idempotency key: a start still later than that (V1), a run longer
unlisted (V2), a late start beside a process that Airflow has given up (V3), a process killed at its last try (V4), a
given-up process where no environment is shown (V5), a clear of a running task that Airflow records like a retry (V6),
CML's own Job Retry (V7), two edits of `retries` around a clear (4.1), one lowering it between two tries (4.1); a dag
run, or an iteration of a loop, made again within 90 s of a start that is still on its way, and a clear that is counted
within 90 s of the first start in a dag run made again; a process that Airflow has given up and that cannot know it:
where its workers are configured differently, in an earlier life of a dag run on `localhost`, or in an iteration that
was made again; and a copy of the database whose name was not set, or not set in the original.

`make simulate` plays more schedules of the same world; `mutations.py` shows that each rule is needed.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from airflow_provider_cml.api.conversations import history
from tests.api.exactly_once import mutations, network, scheduler, schedules
from tests.api.exactly_once.schedules import Options, by_chance, focused, play, retell, up_to

if TYPE_CHECKING:
    from collections.abc import Callable

SCHEDULES = 20_000
PART = 2_500
QUICKLY = 1_500
"""Schedules within which the plainest mutations have to be found here; `mutations.py` takes them all."""
FOCUSED = 5_000
"""The same for those with a search of their own."""
DEPARTURES = st.dictionaries(st.integers(0, 150), st.integers(1, 19), max_size=14)


def test_the_quiet_course_starts_one_run_and_ends_green() -> None:
    """Where nothing happens, one start is sent, one run succeeds, and no second look is taken before it."""
    story = schedules.Story(schedules.given({}))

    story.play()

    assert (story.ledger.starts, story.ledger.green) == (1, [1])
    assert [run.ending for run in story.cml.runs] == ["SUCCEEDED"]


def test_every_schedule_with_one_departure() -> None:
    """No single fault, in whatever place, breaks an invariant."""
    assert [choices.words for choices, violation in up_to(1) if violation is not None] == []


@pytest.mark.chaos
def test_every_schedule_with_two_departures() -> None:
    """No two faults, in whatever places, break an invariant."""
    assert [choices.words for choices, violation in up_to(2) if violation is not None] == []


@pytest.mark.parametrize("first", range(0, SCHEDULES, PART))
def test_schedules_by_chance(first: int) -> None:
    """No heap of faults drawn by chance breaks an invariant."""
    for seed in range(first, first + PART):
        choices, violation = play(by_chance(seed))
        if violation is not None:
            shortest = schedules.shrink(choices.departures)
            pytest.fail("\n".join([f"seed {seed}, {shortest}", *retell(shortest)]))


@settings(max_examples=2_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(DEPARTURES)
def test_schedules_by_search(departures: dict[int, int]) -> None:
    """Nothing hypothesis thinks of breaks an invariant; where it does, it shows the fewest departures that do."""
    _, violation = play(schedules.given(departures))
    if violation is not None:
        for line in retell(departures):
            note(line)
        raise violation


@pytest.mark.parametrize("search", mutations.SEARCHES, ids=lambda search: search.__name__)
def test_schedules_where_a_rule_is_weak(search: Callable[[int], schedules.Chooser]) -> None:
    """Nothing breaks an invariant where the search is for what one rule is there for: chance alone misses several."""
    for seed in range(QUICKLY):
        choices, violation = play(search(seed))
        if violation is not None:
            shortest = schedules.shrink(choices.departures)
            pytest.fail("\n".join([f"seed {seed}, {shortest}", *retell(shortest)]))


def test_the_same_departures_tell_the_same_story() -> None:
    """A schedule found once is found again: nothing in the model depends on what was played before."""
    for seed in range(40):
        departures = play(by_chance(seed))[0].departures

        assert retell(departures) == retell(departures)


def test_every_word_of_every_table_is_played() -> None:
    """Chance reaches every fault, every event and every setting the model knows."""
    seen: Counter[str] = Counter()
    for seed in range(2_000):
        seen.update(play(by_chance(seed))[0].words)
    tables = {
        "start": tuple(network.STARTS),
        "life": tuple(network.LIVES),
        "read": network.READS,
        "stop": network.STOPS,
        "task": scheduler.TO_A_TASK,
        "leftover": scheduler.TO_A_LEFTOVER,
    }

    assert [
        f"{point}: {word}" for point, words in tables.items() for word in words[1:] if not seen[f"{point}: {word}"]
    ] == []


def test_a_run_listed_late_below_newer_entries_is_found() -> None:
    """On small pages a first look must not take the newest entry for the end of what is new.

    Found by the model: run started but not listed yet, worker dies, others are refused, the retry looks before the run
    is listed; then it never read the page the run was on, and started a second one.
    """
    assert [seed for seed in range(QUICKLY) if play(mutations.listed_late(seed))[1] is not None] == []


def test_refusals_do_not_hide_a_run_where_lists_show_no_environment() -> None:
    """Where runs have to be asked one by one, a dozen refusals newer than our own run do not keep it from being asked.

    Found by the model: run started, others are refused twelve times, worker dies; the retry asked only for the ten
    newest entries, and started a second run.
    """
    words = {"dies", "others are refused"}

    def search(seed: int) -> schedules.Chooser:
        return focused(seed, words, 0.5, echo="not in lists", retry_delay=40.0)

    assert [seed for seed in range(QUICKLY) if play(search(seed))[1] is not None] == []


@pytest.mark.parametrize(
    ("bounds", "habits", "rule"),
    [
        pytest.param(("FIRST_ENTRIES",), {"page": 3}, "reads_back", id="below others"),
        pytest.param(("SINGLE_LOOKS",), {"echo": "not in lists"}, "reads_back", id="below others, not in lists"),
        pytest.param(("FIRST_ENTRIES", "FARTHEST"), {"page": 3}, "is_cut", id="too far below"),
    ],
)
def test_a_run_lies_below_those_of_others(
    bounds: tuple[str, ...], habits: dict[str, Any], rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As far as a first try looks is not enough for a later one: it looks further, or starts nothing.

    Where a look is for one run only, a few runs of others are as many as a hundred. Without the rule a second run
    starts.
    """
    for bound in bounds:
        monkeypatch.setattr(history, bound, 1)

    def search(seed: int) -> schedules.Chooser:
        return focused(seed, {"dies", "others are refused", "somebody runs the job"}, 0.4, retry_delay=40.0, **habits)

    options = Options(is_cut=True)
    assert [seed for seed in range(QUICKLY) if play(search(seed), options)[1] is not None] == []
    assert [seed for seed in range(QUICKLY) if play(by_chance(seed), options)[1] is not None] == []

    monkeypatch.setattr(history.History, rule, property(lambda _history: None, lambda _history, _value: None), False)
    assert [seed for seed in range(QUICKLY) if play(search(seed), options)[1] is not None] != []


@pytest.mark.parametrize(
    ("options", "departure"),
    [
        pytest.param(Options(late=400.0), "start: late, 504 at once", id="V1"),
        pytest.param(Options(lag=400.0), "start: late and unlisted", id="V2"),
    ],
)
def test_beyond_the_bounds_a_second_run_is_possible(options: Options, departure: str) -> None:
    """What the promise leaves out does happen in the model, so the bounds it states are the real ones."""
    broken = (choices.words for choices, violation in up_to(1, options) if violation is not None)

    assert departure in next(broken)


@pytest.mark.parametrize(
    "rule",
    [
        "A1 fence",
        "A2 fresh look",
        "A3 a red run of an earlier try is over",
        "A4 settle",
        "A4 a refusal proves no run",
        "A7 start date in the series",
        "4.1 series by max_tries alone",
        "A9 more than the first page",
        "A9 a run listed late stands below newer entries",
        "A12 no echo",
        "own before busy",
        "grace: a lost start is sent again at once",
        "a refused start is not repeated",
        "former runs are stopped",
        *(mutation.rule for mutation in mutations.MUTATIONS if mutation.rule.startswith("5.")),
    ],
)
def test_a_rule_taken_out_is_noticed(rule: str) -> None:
    """The model can fail: without this rule a short schedule breaks an invariant."""
    (mutation,) = (known for known in mutations.MUTATIONS if known.rule == rule)

    assert mutations.find(mutation, FOCUSED).violation is not None
