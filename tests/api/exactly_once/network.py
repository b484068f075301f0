"""What can happen to a request between a worker and CML: the faults, by name.

Every request is a choice point. The first word of each table is the quiet one.

The law: bounded world B. A start takes effect at most `late` seconds after it was sent, and a run is listed at most
`lag` seconds after that; how large these are is the world's to say (75 and 5 where everything has to hold).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from airflow_provider_cml.api.errors import CmlConnectionError
from airflow_provider_cml.api.run_key import RUN_KEY_VARIABLE
from airflow_provider_cml.api.wire import Response
from tests.api.exactly_once.world import LOCKED_WINDOW, QUOTA_WINDOW, failed, is_red, refused

if TYPE_CHECKING:
    from airflow_provider_cml.api.wire import Request
    from tests.api.exactly_once.schedules import Story
    from tests.api.exactly_once.worker import Worker
    from tests.api.exactly_once.world import Run

QUICK = 0.2
TIMEOUT = 60.0
READ_AGAIN = 30


@dataclass(frozen=True, slots=True)
class Fate:
    """Of a start: when it takes effect (None: never), what the worker hears and when, how late the run is listed.

    `late` and `lag` stand for the longest the world allows.
    """

    effect: float | str | None
    hears: str
    at: float = QUICK
    lag: bool = False

    @property
    def is_late(self) -> bool:
        """Whether a stale worker beside it would make a second run possible whatever the rules."""
        return self.lag or bool(self.effect) or self.at not in {QUICK, TIMEOUT}


STARTS = {
    "answered": Fate(0.0, "answer"),
    "lost before": Fate(None, "timeout", TIMEOUT),
    "lost after": Fate(0.0, "timeout", TIMEOUT),
    "reset before": Fate(None, "reset"),
    "reset after": Fate(0.0, "reset"),
    "503 before": Fate(None, "503"),
    "504 after": Fate(0.0, "503", TIMEOUT),
    "late, 504 at once": Fate("late", "503"),
    "late, timeout": Fate("late", "timeout", TIMEOUT),
    "late and unlisted": Fate("late", "503", lag=True),
    "30 s late, 504 at once": Fate(30.0, "503"),
    "55 s late, answered": Fate(55.0, "answer", 56.0),
    "unlisted": Fate(0.0, "answer", lag=True),
    "unlisted, reset": Fate(0.0, "reset", lag=True),
    "HTML after": Fate(0.0, "html"),
    "slow answer": Fate(0.0, "answer", 50.0),
    "not sent": Fate(None, "unsent"),
    "429": Fate(None, "429"),
    "quota": Fate(None, "quota"),
    "rejected": Fate(None, "403"),
    "conflict": Fate(None, "409"),
    "locked": Fate(None, "locked"),
}
READS = (
    "answered", "503", "reset", "timeout", "429", "HTML", "not sent", "403", "slow answer", "down", "long down",
    "refuses connections", "refuses connections for long", "ingress answers 404",
)  # fmt: skip
STOPS = ("answered", "takes long", "lost before", "reset after", "503", "refused", "comes too late")
DOWN = {
    "down": ("503", 100.0),
    "long down": ("503", 800.0),
    "refuses connections": ("unsent", 100.0),
    "refuses connections for long": ("unsent", 800.0),
    "ingress answers 404": ("404", 100.0),
}
LIVES = {
    "succeeds": (10.0, "SUCCEEDED"),
    "fails": (10.0, "FAILED"),
    "succeeds soon": (3.0, "SUCCEEDED"),
    "fails soon": (3.0, "FAILED"),
    "succeeds late": (300.0, "SUCCEEDED"),
    "fails late": (300.0, "FAILED"),
    "times out": (30.0, "TIMEDOUT"),
    "stopped by somebody": (5.0, "STOPPED"),
    "unknown for a while": (30.0, "SUCCEEDED"),
    "skipped after all": (1.0, "SKIPPED"),
}
_STARTS = tuple(STARTS)
_LIVES = tuple(LIVES)


class Network:
    """The way from the workers to CML and back."""

    def __init__(self, story: Story) -> None:
        self.story = story

    def send(self, worker: Worker, request: Request) -> None:
        """Take a request on its way; the worker hears of it later."""
        if self.story.timeline.now < self.story.cml.down_until:
            self._hear(worker, _heard(self.story.cml.down))
        elif request.method == "GET":
            self._read(worker, request)
        elif request.path.endswith(":stop"):
            self._stop(worker, request)
        else:
            self._start(worker, request)

    # ------------------------------------------------------------------------------------------------ starts

    def _start(self, worker: Worker, request: Request) -> None:
        story = self.story
        word = story.choices.pick("start", _STARTS)
        fate = STARTS[word]
        if fate.is_late and not story.may_be_late():
            fate = STARTS["answered"]
        assert request.json is not None
        environment = request.json["environment"]
        assert isinstance(environment, dict)
        key = environment[RUN_KEY_VARIABLE]
        story.ledger.start_sent(worker)
        known = frozenset(worker.seen_red)
        answer: Response | None = None
        lag = story.options.lag if fate.lag else 0.0
        if fate.effect is not None:
            delay = story.options.late if isinstance(fate.effect, str) else fate.effect
            if not delay:
                answer = self._arrive(worker, key, lag, known)
            elif fate.hears == "answer":
                story.timeline.after(delay, lambda: self._hear(worker, self._arrive(worker, key, lag, known)))
            else:
                story.timeline.after(delay, partial(self._arrive, worker, key, lag, known))
        story.timeline.after(min(1.0, fate.at / 2), partial(story.airflow.visit, worker, worker.life))
        if fate.hears == "answer":
            if answer is not None:
                self._hear(worker, answer, fate.at)
            return
        if fate.hears == "quota":
            story.cml.quota_until = story.timeline.now + QUOTA_WINDOW
            answer = self._arrive(worker, key, lag, known)
            self._hear(worker, answer)
            return
        if fate.hears == "locked":
            story.cml.locked_until = story.timeline.now + LOCKED_WINDOW
            self._hear(worker, self._arrive(worker, key, lag, known))
            return
        if fate.hears in {"timeout", "reset", "503", "html"}:
            story.ledger.start_lost(worker)
        worker.was_refused = worker.was_refused or fate.hears == "403"
        self._hear(worker, _heard(fate.hears), fate.at)

    def _arrive(self, worker: Worker, key: str, lag: float, known: frozenset[Run]) -> Response:
        """A start reaches CML: a run, or a refusal."""
        story = self.story
        cml = story.cml
        if story.timeline.now < cml.quota_until:
            story.ledger.start_refused(worker, f"quota {cml.quota_until}")
            return refused(409, 10, "out of quota")
        if story.timeline.now < cml.locked_until:
            worker.was_refused = True
            return refused(409, 10, "the job is locked")
        active = cml.active()
        if active is not None:
            story.ledger.start_refused(worker, active.id)
            match cml.habits.busy:
                case "412":
                    return refused(412, 9, "job run already active")
                case "code 9, in other words":
                    return refused(400, 9, "precondition failed")
                case "409, in other words":
                    return refused(409, 10, "not now")
            entry = cml.refuse(worker, key, lag)
            story.tell(f"CML refuses a start of {worker}: {active.id} is active")
            if cml.habits.busy == "skipped":
                return cml.answer_run(entry)
            return refused(400, 9, "job run for job already active")
        word = story.choices.pick("life", _LIVES)
        run = cml.add(worker, key, LIVES[word], lag=lag, executed=word != "skipped after all")
        if word == "unknown for a while":
            run.middle = "UNKNOWN"
        story.tell(f"CML starts {run.id} for {worker}: it {word}")
        story.ledger.took_effect(run, known)
        return cml.answer_run(run)

    # ------------------------------------------------------------------------------------------ reads, stops

    def _read(self, worker: Worker, request: Request) -> None:
        story = self.story
        cml = story.cml
        fate = story.choices.pick("read", READS)
        if fate in DOWN:
            cml.down, seconds = DOWN[fate]
            cml.down_until = story.timeline.now + seconds
            self._hear(worker, _heard(cml.down))
        elif fate == "answered" or (fate == "slow answer" and not story.may_be_late()):
            self._show(worker, request, QUICK)
        elif fate == "slow answer":
            self._show(worker, request, 20.0)
        else:
            worker.was_refused = worker.was_refused or fate == "403"
            self._hear(worker, _heard(fate), TIMEOUT if fate == "timeout" else QUICK)

    def _show(self, worker: Worker, request: Request, at: float) -> None:
        cml = self.story.cml
        if request.path.endswith("/runs"):
            response, runs = cml.answer_list(request)
            begins = not any(name == "page_token" for name, _ in request.query)
            self.story.ledger.listed(worker, runs, begins=begins)
        else:
            run = cml.find(request.path.rpartition("/")[2])
            assert run is not None
            response, runs = cml.answer_run(run), [run]
        moment = self.story.timeline.now
        self._hear(worker, response, at, [run for run in runs if is_red(run, moment)])

    def _stop(self, worker: Worker, request: Request) -> None:
        story = self.story
        run = story.cml.find(request.path.removesuffix(":stop").rpartition("/")[2])
        assert run is not None
        story.ledger.stop_sent(worker, run)
        fate = story.choices.pick("stop", STOPS)
        if fate in {"lost before", "503"}:
            self._hear(worker, _heard("timeout" if fate == "lost before" else "503"))
            return
        ending = run.ending
        done = fate != "refused" and story.cml.stop(run, worker, 100.0 if fate == "takes long" else 3.0)
        if done and fate == "comes too late":
            run.ending = ending if run.executed else "STOPPED"
        if fate == "reset after":
            self._hear(worker, _heard("reset"))
        else:
            self._hear(worker, story.cml.answer_run(run) if done else refused(400, 9, "run is not active"))

    def _hear(
        self, worker: Worker, what: Response | CmlConnectionError, at: float = QUICK, red: list[Run] | None = None
    ) -> None:
        self.story.timeline.after(at, partial(worker.resume, worker.life, what, red))


def _heard(word: str) -> Response | CmlConnectionError:
    match word:
        case "timeout" | "reset":
            return CmlConnectionError(f"{word}.", sent=True)
        case "unsent" | "not sent":
            return CmlConnectionError("connection refused.", sent=False, unreachable=True)
        case "429":
            return failed(429, READ_AGAIN)
        case "404":
            return failed(404)
        case "409":
            return refused(409, 10, "not now")
        case "403":
            return refused(403, 7, "forbidden")
        case "html" | "HTML":
            return Response(200, {"content-type": "text/html"}, b"<html><title>login</title></html>")
        case _:
            return failed(503)
