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
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from airflow_provider_cml.api import v2
from airflow_provider_cml.api.conversations import history, posting, starting, waiting
from airflow_provider_cml.api.conversations.start import Origin, Started
from airflow_provider_cml.api.errors import CmlError
from airflow_provider_cml.api.run_key import RunKey, same_series
from airflow_provider_cml.api.wire import now
from tests.api.exactly_once import one_try
from tests.api.exactly_once.schedules import Choices, by_chance, focused, given, play, shrink

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


def _a_failed_look_found_nothing(self: Any) -> Exchange[None]:
    try:
        yield from self.history.look()
    except CmlError:
        self.history.looked_at = yield from now()
        self.history.seen_at = self.history.looked_at


def _a_refusal_proves_a_run(self: Any) -> Exchange[Any]:
    mine = self.start.key
    before = (*mine.identity, mine.start, mine.nonce, mine.try_number - 1)
    if any(key.attempt == before for key, _ in self.history.keyed):
        self.settled = True
    return (yield from _real_settle(self))


def _the_first_page_only(self: Any, wanted: set[str]) -> Exchange[Any]:
    page = yield from v2.list_job_runs(self.ids.project_id, self.ids.job_id)
    wanted.difference_update(run.id for run in page.items)
    return list(page.items)


def _forget_the_anchor(self: Any, entries: Any) -> Exchange[None]:
    yield from _real_keep(self, entries)
    self._anchor = None


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

    @property
    def echoes(self) -> bool:
        return bool(self.real.echoes)


def _repeat_at_once(self: Any, why: str, is_capacity: bool) -> None:
    _real_refuse(self, why, is_capacity)
    self.refusal = None


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
_real_keep = history.History._keep
_real_settle_loss = posting.Posting.settle_loss
_real_refuse = posting.Posting._refuse

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
    Mutation("A9 later looks reach the anchor", history.History, "_keep", _forget_the_anchor),
    Mutation(
        "A9 a run listed late stands below newer entries",
        history,
        "_anchor",
        lambda entries: entries[0].id if entries else "",
        search=listed_late,
    ),
    Mutation("A12 no echo", history.History, "echoes", True),
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
    Mutation("a refused start is not repeated", posting.Posting, "_refuse", _repeat_at_once),
    Mutation("former runs are stopped", _Starting, "_former", _no_step),
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
