"""The one interpreter: a list of departures from the quiet course makes one run of the world.

A schedule is a mapping from the number of a choice point to the number of the word chosen there; what it does not
mention takes its quiet course. The same interpreter is fed by hand, by hypothesis, by chance from a seed, and by
listing all schedules with few departures.

The law: the same departures make the same story, to the last request.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from tests.api.exactly_once import scheduler
from tests.api.exactly_once.invariants import Ledger, Violation
from tests.api.exactly_once.network import Network
from tests.api.exactly_once.scheduler import Airflow
from tests.api.exactly_once.world import Cml, Habits, Timeline

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    Chooser: TypeAlias = Callable[[int, str, Sequence[Any]], int]
    """From the number of a choice point, its name and its words to the number of the word chosen."""

Word = TypeVar("Word")
Departures: TypeAlias = "Mapping[int, int]"

CHOICES = 400
"""Choice points after which everything takes its quiet course, so that every story can end."""
STEPS = 20_000
"""Happenings after which a story is taken never to end."""

RETRIES = (2, 0, 1)
RETRY_DELAYS = (10.0, 300.0, 0.0, 40.0)
MODES: tuple[dict[str, object], ...] = (
    {},
    {"wait_when_busy": False},
    {"stop_former": False},
    {"durable": False},
    {"busy_timeout": 100.0},
    {"can_defer": True},
    {"can_defer": True, "wait_when_busy": False},
)
ECHOES = ("full", "not in lists", "none")
PAGES = (100, 3)
FACES = ("skipped", "code 9", "412", "code 9, in other words", "409, in other words")
CLOCKS = (0.0, 600.0, -600.0)
DATES = (True, False)
PASTS = (
    "nothing", "four runs", "eight refusals", "three runs that show nothing", "three old runs that show nothing",
    "an active run", "an unlisted run", "an active run below thirty refusals",
)  # fmt: skip
SHIFT = 12
"""Choice points by which departures are moved in the search for a shorter schedule."""
SETTINGS = 12
"""Choice points before the task begins."""


@dataclass(frozen=True, slots=True)
class Options:
    """The world beyond single departures. The defaults are where everything has to hold."""

    late: float = 75.0
    """Seconds within which a start takes effect."""
    lag: float = 5.0
    """Seconds within which a run is listed."""
    stale: bool = True
    """Processes may outlive their try."""
    stale_and_late: bool = False
    """A start may be late, or its run unlisted, while such a process lives: then nothing can hold."""
    is_cut: bool = False
    """A look may end before it has seen what it was to see."""
    stale_and_blind: bool = False
    """Processes may outlive their try where no environment is shown: then nobody can tell that he is a leftover."""


class Choices:
    """What is chosen at each choice point, and what was."""

    def __init__(self, chooser: Chooser) -> None:
        self.widths: list[int] = []
        """How many words each choice point so far had."""
        self.departures: dict[int, int] = {}
        self.words: list[str] = []
        """The departures as words."""
        self._chooser = chooser

    def pick(self, point: str, words: Sequence[Word]) -> Word:
        number = len(self.widths)
        self.widths.append(len(words))
        if number >= CHOICES:
            return words[0]
        chosen = self._chooser(number, point, words)
        if chosen:
            self.departures[number] = chosen
            self.words.append(f"{point}: {words[chosen]}")
        return words[chosen]


class Story:
    """One run of the world."""

    def __init__(
        self, chooser: Chooser, options: Options | None = None, tell: Callable[[str], None] | None = None
    ) -> None:
        self.options = options or Options()
        self.choices = Choices(chooser)
        self.timeline = Timeline()
        self.ledger = Ledger(self)
        self.network = Network(self)
        self._tell = tell
        pick = self.choices.pick
        retries = pick("retries", RETRIES)
        retry_delay = pick("retry_delay", RETRY_DELAYS)
        mode = pick("mode", MODES)
        habits = Habits(
            echo=pick("echo", ECHOES),
            page=pick("page", PAGES),
            busy=pick("busy", FACES),
            clock=pick("clock", CLOCKS),
            has_date=pick("date", DATES),
        )
        self.cml = Cml(self.timeline, habits)
        self.is_blind = habits.echo == "none"
        setup = (
            pick("name", scheduler.NAMES),
            pick("workers", scheduler.WORKERS),
            pick("clear_number", scheduler.CLEAR_NUMBERS),
        )
        self.airflow = Airflow(self, mode, retries, retry_delay, setup)
        self._past(pick("past", PASTS))

    def play(self) -> None:
        """From the first try to the last echo.

        :raises Violation: an invariant is broken.
        """
        state = random.getstate()
        random.seed(0)
        try:
            self.airflow.schedule(0.0)
            for _ in range(STEPS):
                if not self.timeline.advance():
                    self.ledger.over()
                    return
        finally:
            random.setstate(state)
        raise Violation("I5", f"after {STEPS} happenings and {self.timeline.now:.0f} s it still goes on")

    def tell(self, text: str) -> None:
        if self._tell is not None:
            self._tell(f"{self.timeline.now:8.1f}  {text}")

    def may_outlive(self) -> bool:
        """Whether a process may live on after Airflow has given it up."""
        is_fenced = self.airflow.workers_are == "alike" and (not self.is_blind or self.options.stale_and_blind)
        return self.options.stale and is_fenced

    def may_be_late(self) -> bool:
        """Whether a start may be late, or a run unlisted, now."""
        return self.options.stale_and_late or not self.airflow.has_leftovers

    def _past(self, past: str) -> None:  # noqa: PLR0912 - a table of pasts
        """What the job has behind it, or is at, when the task begins."""
        cml = self.cml
        match past:
            case "four runs":
                for age in (240.0, 180.0, 120.0, 60.0):
                    cml.add(None, self.airflow.strange_key(), (0.0, "SUCCEEDED"), age=age)
            case "eight refusals":
                for _ in range(8):
                    cml.refuse(None, self.airflow.strange_key())
            case "three runs that show nothing":
                for age in (7200.0, 3600.0, 600.0):
                    cml.add(None, None, (0.0, "FAILED"), echoes=False, age=age)
            case "three old runs that show nothing":
                # Older than a day: so old they are without a Date header, too.
                for age in (300_000.0, 200_000.0, 100_000.0):
                    cml.add(None, None, (0.0, "FAILED"), echoes=False, age=age)
            case "an active run":
                cml.add(None, self.airflow.strange_key(), (40.0, "SUCCEEDED"))
            case "an active run below thirty refusals":
                cml.add(None, self.airflow.strange_key(), (800.0, "SUCCEEDED"), age=300.0)
                for number in range(30):
                    age = 250.0 - 5.0 * number
                    cml.add(None, self.airflow.strange_key(), (0.0, "SKIPPED"), age=age, executed=False)
            case "an unlisted run":
                cml.add(None, self.airflow.strange_key(), (40.0, "SUCCEEDED"), lag=self.options.lag)
            case _:
                pass


def play(chooser: Chooser, options: Options | None = None) -> tuple[Choices, Violation | None]:
    """One schedule: what was chosen, and what it broke."""
    story = Story(chooser, options)
    try:
        story.play()
    except Violation as violation:
        return story.choices, violation
    return story.choices, None


def retell(departures: Departures, options: Options | None = None) -> list[str]:
    """The story of a schedule, line by line."""
    lines: list[str] = []
    story = Story(given(departures), options, lines.append)
    try:
        story.play()
    except Violation as violation:
        lines.append(str(violation))
    return lines


def given(departures: Departures) -> Chooser:
    """These departures. A number beyond a choice point's words wraps round: no list of numbers is senseless."""
    return lambda number, _point, words: departures[number] % len(words) if number in departures else 0


def by_chance(seed: int) -> Chooser:
    """Departures drawn with one probability between 0.03 and 0.3 for all of a schedule's steps."""
    dice = random.Random(seed)
    likelihood = dice.choice((0.03, 0.05, 0.1, 0.2, 0.3))

    def choose(number: int, _point: str, words: Sequence[Any]) -> int:
        if dice.random() >= (0.3 if number < SETTINGS else likelihood):
            return 0
        return dice.randrange(1, len(words))

    return choose


def focused(seed: int, among: Collection[str], likelihood: float = 0.2, **fixed: object) -> Chooser:
    """Departures drawn among these words only, with these settings: a search where a weak spot is thought to be."""
    dice = random.Random(seed)

    def choose(_number: int, point: str, words: Sequence[Any]) -> int:
        if point in fixed:
            return words.index(fixed[point])
        known = [number for number, word in enumerate(words) if number and str(word) in among]
        return dice.choice(known) if known and dice.random() < likelihood else 0

    return choose


def up_to(most: int, options: Options | None = None) -> Iterator[tuple[Choices, Violation | None]]:
    """All schedules with at most this many departures, fewest first."""
    frontier: list[dict[int, int]] = [{}]
    for _ in range(most + 1):
        following: list[dict[int, int]] = []
        for departures in frontier:
            choices, violation = play(given(departures), options)
            yield choices, violation
            if violation is None:
                for number in range(max(departures, default=-1) + 1, len(choices.widths)):
                    following.extend({**departures, number: word} for word in range(1, choices.widths[number]))
        frontier = following


def shrink(departures: Departures, options: Options | None = None) -> dict[int, int]:
    """Fewer departures that still break something: none of them can be left out, however the rest is moved."""
    shortest = dict(departures)
    while True:
        for fewer in _fewer(shortest):
            choices, violation = play(given(fewer), options)
            if violation is not None and len(choices.departures) < len(shortest):
                shortest = choices.departures
                break
        else:
            return shortest


def _fewer(departures: Departures) -> Iterator[dict[int, int]]:
    """Each departure left out. What comes after it may be needed sooner or later then, since choice points move."""
    for shift in sorted(range(-SHIFT, SHIFT + 1), key=abs):
        for number in sorted(departures, reverse=True):
            kept = {n: word for n, word in departures.items() if n < number}
            moved = {n + shift: word for n, word in departures.items() if n > number}
            if all(n > number - SHIFT and n not in kept and n >= 0 for n in moved) and (moved or not shift):
                yield {**kept, **moved}
