"""Rules of the start conversation, each one taken out, to show that the model finds what it is there for.

`python -m tests.api.exactly_once.mutations [N]` plays up to N schedules (20,000) against each mutation and prints a
table: found or not, after how many schedules, and the shortest schedule that shows it.

The law: a mutation changes one rule of the real code, in this process only, and says whether it must be found. Rules
that are defence in depth need not be: in the bounded world another rule already covers what they are there for.
"""

from __future__ import annotations

import math
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from airflow_provider_cml.api import errors, v2
from airflow_provider_cml.api.conversations import history, posting, starting, waiting
from airflow_provider_cml.api.conversations.finding import began
from airflow_provider_cml.api.conversations.start import Origin, Progress, Started
from airflow_provider_cml.api.errors import CmlConnectionError, CmlError, CmlProtocolError
from airflow_provider_cml.api.run_key import RunKey, same_series
from airflow_provider_cml.api.wire import now
from airflow_provider_cml.failures import CmlTaskFailError, failure_of
from tests.api.exactly_once import one_try
from tests.api.exactly_once.scheduler import NAMES
from tests.api.exactly_once.schedules import FACES, MODES, Choices, by_chance, focused, given, play, shrink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_cml.api.wire import Exchange
    from tests.api.exactly_once.invariants import Violation
    from tests.api.exactly_once.schedules import Chooser

BUDGET = 20_000
"""Schedules within which a mutation has to be found: what continuous integration plays."""

_Then = starting._Then
_Starting = starting._Starting
_NEXT_STEP = _Then.NEXT_STEP


@dataclass(frozen=True)
class Mutation:
    """One rule taken out: what to put where in the code, and how to search for what it breaks."""

    rule: str
    where: Any
    name: str
    value: Any
    must_be_found: bool = True
    search: Callable[[int], Chooser] = by_chance
    """Where to look. A weak spot that takes many departures at once is searched with focus."""

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The code without this rule."""
        with ExitStack() as stack:
            stack.enter_context(patch.object(self.where, self.name, self.value))
            yield


@dataclass(frozen=True)
class Finding:
    """What became of the search for one mutation."""

    mutation: Mutation
    schedules: int
    choices: Choices | None = None
    violation: Violation | None = None


def find(mutation: Mutation, budget: int = BUDGET) -> Finding:
    """Play by chance until something breaks, then leave out what is not needed for it."""
    with mutation.applied():
        for count in range(budget):
            choices, violation = play(mutation.search(count))
            if violation is not None:
                choices, violation = play(given(shrink(choices.departures)))
                return Finding(mutation, count + 1, choices, violation)
    return Finding(mutation, budget)


# -------------------------------------------------------------------------------------------- rules taken out


def listed_late(seed: int) -> Chooser:
    """Small pages, a run that is listed late, refusals of others meanwhile."""
    return focused(seed, {"unlisted", "unlisted, reset", "dies", "others are refused"}, retry_delay=0.0, page=3)


def refused_before(seed: int) -> Chooser:
    """A try that is refused first, and then dies with a start on its way."""
    return focused(seed, {"late, 504 at once", "late, timeout", "dies"}, past="an unlisted run")


def killed_after_a_new_life(seed: int) -> Chooser:
    """A dag run that is cleared or made again, whose tries die with a start on its way."""
    words = {"fails soon", "late, 504 at once", "dies", "recreated", "recreated, dies", "cleared", "a finished dag run"}
    words |= {"failed by hand and cleared, dies"}
    return focused(seed, words, 0.4, retries=1, retry_delay=0.0)


def killed_in_two_lives(seed: int) -> Chooser:
    """Two tries in each of two lives of a dag run, and the last dies with its start on its way."""
    words = {"recreated, dies", "failed by hand and cleared, dies", "late, 504 at once"}
    return focused(seed, words, 0.05 + 0.05 * (seed % 4), retry_delay=0.0, life="fails soon")


def another_task_cleared(seed: int) -> Chooser:
    """The same, and other tasks of the dag run are cleared meanwhile."""
    words = {"late, 504 at once", "dies", "recreated, dies", "another task is cleared"}
    return focused(seed, words, 0.35, retry_delay=0.0)


def lost_and_deferred(seed: int) -> Chooser:
    """Starts are lost, and the job is busy in between."""
    words = {"reset before", "lost before", "503 before", "somebody runs the job"}
    return focused(seed, words, 0.4, mode=MODES[5])


def by_hand(seed: int) -> Chooser:
    """A job whose runs were started by hand without variables, on a workspace that shows environments."""
    past = "three old runs that show nothing" if seed % 2 else "three runs that show nothing"
    return focused(seed, {"dies", "reset before", "503 before"}, 0.4, past=past)


def lost_by_hand(seed: int) -> Chooser:
    """The same, and only answers to starts are lost."""
    return focused(seed, {"reset before", "lost before"}, 0.6, past="three runs that show nothing")


def blind_and_apart(seed: int) -> Chooser:
    """A workspace that shows no environments, whose clock is behind."""
    return focused(seed, {"dies", "lost after"}, 0.3, echo="none", clock=-600.0, date=bool(seed % 2))


def in_an_outage(seed: int) -> Chooser:
    """A workspace that is away, also while a start is lost."""
    words = {"refuses connections for long", "long down", "ingress answers 404", "reset after", "lost before"}
    return focused(seed, words, 0.2)


def in_other_words(seed: int) -> Chooser:
    """A busy job whose answer does not say so."""
    return focused(seed, {"somebody runs the job, unlisted"}, 0.2, busy=FACES[3 + seed % 2], past="an unlisted run")


def below_refusals(seed: int) -> Chooser:
    """An active run below rejected starts."""
    return focused(seed, {"others are refused"}, 0.2, past="an active run below thirty refusals")


def configured_apart(seed: int) -> Chooser:
    """Workers of one Airflow that are configured differently."""
    return focused(seed, {"dies", "cleared"}, 0.2, workers=("two base URLs", "one is configured")[seed % 2])


def among_strangers(name: str) -> Callable[[int], Chooser]:
    """An Airflow known by this, beside others whose keys are nearly its own."""
    past = ("four runs", "an active run")

    def search(seed: int) -> Chooser:
        return focused(seed, {"dies", "somebody runs the job"}, 0.3, name=name, past=past[seed % 2])

    search.__name__ = f"among strangers: {name}"
    return search


AMONG = {name: among_strangers(name) for name in NAMES}


def iteration_made_again(seed: int) -> Chooser:
    """An iteration of a loop that a clear makes again, with tries that count from 1."""
    return focused(seed, {"its iteration is made again"}, 0.5)


def _no_step(self: Any) -> Exchange[Any]:
    yield from ()
    return _NEXT_STEP


def _nothing(*_given: object) -> Exchange[None]:
    yield from ()


def _any_red_run_is_the_result(self: Any) -> Exchange[Any]:
    found = yield from _real_own(self)
    if found is _NEXT_STEP:
        for key, run in self.history.keyed:
            if self._is_of_my_series(key) and run.status.is_over and run.status.is_executed:
                return Started(run, Origin.CARRIED_ON, key, self.posting.losses)
    return found


def _in_order(*names: str) -> Any:
    def turn(self: Any) -> Exchange[Any]:
        yield from self._look()
        for name in names:
            outcome = yield from getattr(self, name)()
            if outcome is not _NEXT_STEP:
                return outcome
        return (yield from self.posting.post()) or _Then.NEXT_TURN

    return turn


def _an_outage_is_a_mistake(error: CmlError) -> Any:
    if isinstance(error, CmlProtocolError) or (isinstance(error, CmlConnectionError) and error.unreachable):
        return CmlTaskFailError(str(error))
    return failure_of(error)


def _an_outage_settles_a_loss(self: Any) -> Exchange[None]:
    try:
        yield from self.history.look()
    except CmlError as error:
        if self.posting.is_pending:
            raise self.posting.may_exist(str(error)) from error
        raise


def _clocks_are_compared(self: Any, run: Any) -> bool:
    since = began(self._key, timedelta(minutes=5))
    return bool(since and run.created_at and run.created_at < since)


def _all_that_cannot_be_read(self: Any) -> Exchange[bool]:
    if self._loss is not None:
        self._loss.listed = frozenset()
        self.history.may_be_new = lambda _run: True
    return (yield from _real_settle_loss(self))


def _losses_of_one_flow(self: Any) -> Progress:
    return Progress(0, self._rejections, self._conflict_since)


def _same_name(self: RunKey, other: RunKey) -> bool:
    are_known = self.is_understood and other.is_understood
    return are_known and self.has_same_ids(other) and self.deployment == other.deployment


def _any_name_with_equal_starts(self: RunKey, other: RunKey) -> bool:
    has_equal_start = (self.start, self.nonce) == (other.start, other.nonce)
    return _same_name(self, other) or (has_equal_start and other.is_understood and self.has_same_ids(other))


def _without(*facts: str) -> Callable[[RunKey], tuple[object, ...]]:
    names = {"dag_id", "run_id", "task_id", "map_index", "loop_index", "region"} - set(facts)
    return lambda key: tuple(getattr(key, name) for name in sorted(names))


def _landed(
    *, needs_start: bool = True, needs_clear: bool = True, needs_first_try: bool = True, needs_no_later: bool = True
) -> Callable[[Any, RunKey], bool]:
    """The settle rule without some of its conditions."""

    def has_landed(listed: Any, key: RunKey) -> bool:
        own = [(other, ran) for other, ran in listed if other.has_same_ids(key) and other.is_understood]
        for other, ran in own:
            if not ran or other.try_number != key.try_number - 1:
                continue
            if not needs_start or (other.start, other.nonce) == (key.start, key.nonce):
                return True
            has_risen = (key.clear_number or 0) > (other.clear_number or 0)
            is_later = any(one.start > other.start and one.try_number <= other.try_number for one, _ in own)
            if (
                other.start < key.start
                and (has_risen or not needs_clear)
                and (key.first_try == key.try_number or not needs_first_try)
                and not (is_later and needs_no_later)
            ):
                return True
        return False

    return has_landed


def _look_without_reading_on(self: Any, *, for_active: bool = False) -> Exchange[None]:
    yield from _real_look(self)


def _a_failed_look_found_nothing(self: Any) -> Exchange[None]:
    try:
        yield from self.history.look()
    except CmlError:
        self.history.looked_at = yield from now()
        self.history.seen_at = self.history.looked_at


def _a_refusal_proves_a_run(self: Any) -> Exchange[Any]:
    before = replace(self.start.key, try_number=self.start.key.try_number - 1)
    if any(key.is_same_try(before) for key, _ in self.history.keyed):
        self.settled = True
    return (yield from _real_settle(self))


def _the_first_page_only(self: Any, _for_active: bool) -> Exchange[Any]:
    page = yield from v2.list_job_runs(self.ids.project_id, self.ids.job_id)
    return list(page.items)


def _nothing_is_new_below_the_newest(self: Any, run: Any) -> bool:
    limit = self._all_listed_before
    return limit is None or run.created_at is None or run.created_at > limit + history.LISTED_WITHIN


def _without_receipts(self: Any) -> Exchange[bool]:
    real = self.history
    if self._loss is not None:
        self.history = _Blinkered(real)
    try:
        return (yield from _real_settle_loss(self))
    finally:
        self.history = real


@dataclass
class _Blinkered:
    real: Any
    keyed: tuple[()] = ()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


def _repeat_at_once(self: Any, why: str, is_capacity: bool) -> None:
    _real_reject(self, why, is_capacity)
    self.rejection = None


class _Newest(RunKey):
    """A key that takes itself for the newest of all."""

    @property
    def order(self) -> tuple[Any, Any]:
        return (math.inf, math.inf)


def _stop_newer_ones_too(self: Any) -> Exchange[Any]:
    real = self.start
    fields = {name: getattr(real.key, name) for name in RunKey.__dataclass_fields__}
    self.start = replace(real, key=_Newest(**fields))
    try:
        return (yield from _real_former(self))
    finally:
        self.start = real


def _keyless_of_start(old: RunKey, now: RunKey) -> bool:
    return same_series(replace(old, start=now.start, nonce=now.nonce), now)


def _max_tries_only(old: RunKey, now: RunKey) -> bool:
    return (old.start, old.max_tries) == (now.start, now.max_tries)


def _difference_only(old: RunKey, now: RunKey) -> bool:
    return (old.start, old.max_tries - old.retries) == (now.start, now.max_tries - now.retries)


_real_own = _Starting._own
_real_settle = _Starting._settle
_real_former = _Starting._former
_real_look = history.History.look
_real_settle_loss = posting.Posting.settle_loss
_real_reject = posting.Posting._reject

MUTATIONS = (
    Mutation("A1 fence", _Starting, "_fence", _no_step),
    Mutation("A2 fresh look", starting, "FRESH", math.inf),
    Mutation("A3 a red run of an earlier try is over", _Starting, "_own", _any_red_run_is_the_result),
    Mutation("A3 a stopped run of an earlier try: take part again", one_try, "TAKES_PART_AGAIN", 0),
    Mutation("A4 settle", starting, "SETTLE", 0.0),
    Mutation("A4 settle 45 s", starting, "SETTLE", 45.0),
    Mutation("A4 a refusal proves no run", _Starting, "_settle", _a_refusal_proves_a_run, search=refused_before),
    Mutation("A7 start date in the series", starting, "same_series", _keyless_of_start),
    Mutation("4.1 series by max_tries alone", starting, "same_series", _max_tries_only),
    Mutation("4.1 series by max_tries - retries", starting, "same_series", _difference_only),
    Mutation("A9 more than the first page", history.History, "_read", _the_first_page_only),
    Mutation(
        "A9 a run listed late stands below newer entries",
        history.History,
        "may_be_new",
        _nothing_is_new_below_the_newest,
        search=listed_late,
    ),
    Mutation("A12 no echo", history.History, "unreadable", ()),
    Mutation(
        "own before busy",
        _Starting,
        "turn",
        _in_order("_fence", "_former", "_loss", "_busy", "_own", "_settle", "_fresh"),
    ),
    Mutation(
        "loss before busy",
        _Starting,
        "turn",
        _in_order("_fence", "_own", "_former", "_busy", "_loss", "_settle", "_fresh"),
    ),
    Mutation("grace: a lost start is sent again at once", posting, "GRACE", 0.0),
    Mutation("a failed look is no look", _Starting, "_look", _a_failed_look_found_nothing),
    Mutation("a refused start is not repeated", posting.Posting, "_reject", _repeat_at_once),
    Mutation("former runs are stopped", _Starting, "_former", _no_step),
    Mutation("5.1 an outage is never final", one_try, "failure_of", _an_outage_is_a_mistake, search=in_an_outage),
    Mutation("5.1 nor while a start is lost", _Starting, "_look", _an_outage_settles_a_loss, search=in_an_outage),
    Mutation("5.1 an ingress is not CML", errors, "_is_foreign", lambda _response: False, search=in_an_outage),
    Mutation("5.2 old runs by hand", history.History, "is_before_dag_run", lambda *_: False, search=by_hand),
    Mutation(
        "5.2 only what is new after a loss",
        posting.Posting,
        "settle_loss",
        _all_that_cannot_be_read,
        search=lost_by_hand,
    ),
    Mutation("5.2 no run that may be ours", history.History, "unreadable", (), search=blind_and_apart),
    Mutation(
        "5.2 ages, not clocks", history.History, "is_before_dag_run", _clocks_are_compared, search=blind_and_apart
    ),
    Mutation(
        "5.3 losses of the whole try",
        posting.Posting,
        "progress",
        property(_losses_of_one_flow),
        search=lost_and_deferred,
    ),
    Mutation("5.4 the name decides alone", RunKey, "is_same_task", _same_name, search=configured_apart),
    Mutation(
        "5.4 two names that were set",
        RunKey,
        "is_same_task",
        _any_name_with_equal_starts,
        search=AMONG["configured"],
    ),
    Mutation("5.4 an equal start is a fence", RunKey, "is_same_airflow", lambda *_: True, search=AMONG["base URL"]),
    Mutation("5.4 two laptops", RunKey, "names_one_airflow", True, search=AMONG["localhost"]),
    Mutation("5.4 iterations of a loop", RunKey, "_ids", property(_without("loop_index", "region"))),
    Mutation("5.4 an iteration made again", RunKey, "_ids", property(_without("region")), search=iteration_made_again),
    Mutation("5.4 keys of other releases", RunKey, "is_understood", True, search=AMONG["configured"]),
    Mutation(
        "5.5 settle: the start", starting, "has_landed", _landed(needs_start=False), search=killed_after_a_new_life
    ),
    Mutation(
        "5.5 settle: the clear number",
        starting,
        "has_landed",
        _landed(needs_clear=False),
        search=killed_after_a_new_life,
    ),
    Mutation(
        "5.5 settle: the first try",
        starting,
        "has_landed",
        _landed(needs_first_try=False),
        search=another_task_cleared,
    ),
    Mutation(
        "5.5 settle: no later life",
        starting,
        "has_landed",
        _landed(needs_no_later=False),
        search=killed_in_two_lives,
    ),
    Mutation("5.6 a conflict may pass", posting, "CONFLICT_PATIENCE", 0.0, search=in_other_words),
    Mutation("5.7 a rejected start reads on", history.History, "look", _look_without_reading_on, search=below_refusals),
    Mutation("A6 look for doubles", waiting, "look_for_doubles", _nothing, must_be_found=False),
    Mutation("A8 only older runs are former", _Starting, "_former", _stop_newer_ones_too, must_be_found=False),
    Mutation("A10 back off where nothing shows", posting, "REFUSAL_GAPS", (5.0,), must_be_found=False),
    Mutation("A11 receipts", posting.Posting, "settle_loss", _without_receipts, must_be_found=False),
    Mutation("grace 30 s", posting, "GRACE", 30.0, must_be_found=False),
    Mutation("resends without end", posting, "RESENDS", 1_000, must_be_found=False),
    Mutation(
        "a stopping run is not carried on with",
        _Starting,
        "_is_on_its_way_out",
        lambda *_given: False,
        must_be_found=False,
    ),
)


SEARCHES = sorted(
    {mutation.search for mutation in MUTATIONS} - {by_chance},
    key=lambda search: search.__name__,
)
"""The searches for what one rule is there for."""


def main(budget: int = BUDGET) -> int:
    """Print the table. The number of mutations that had to be found and were not is the exit status."""
    missed = 0
    print(f"{'mutation':<54} {'found':<6} {'after':>7} {'s':>5}  shortest schedule")
    for mutation in MUTATIONS:
        began = time.monotonic()
        finding = find(mutation, budget)
        seconds = time.monotonic() - began
        found = finding.violation is not None
        missed += mutation.must_be_found and not found
        verdict = "yes" if found else "NO" if mutation.must_be_found else "no"
        how = (
            f"{finding.violation.invariant}: {'; '.join(finding.choices.words)}"
            if finding.violation and finding.choices
            else ""
        )
        print(f"{mutation.rule:<54} {verdict:<6} {finding.schedules:>7} {seconds:>5.1f}  {how}", flush=True)
    return missed


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
