"""Starting a run exactly once: each rule by the shortest story that needs it, in virtual time.

Many stories at once, and at random, are told in tests/api/exactly_once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_cml.api.conversations import history
from airflow_provider_cml.api.conversations.posting import CONFLICT_PATIENCE, GRACE, REFUSAL_GAPS
from airflow_provider_cml.api.conversations.start import Busy, Origin, Postponed, Progress, Start, Started
from airflow_provider_cml.api.conversations.starting import BUSY_GAP, FRESH, RELOOKS, SETTLE, start_exactly_once
from airflow_provider_cml.api.errors import (
    CmlConnectionError,
    CmlForbiddenError,
    CmlRefusedError,
    CmlRunMayExistError,
    CmlSupersededError,
    CmlUnavailableError,
)
from airflow_provider_cml.api.run_key import RunKey
from airflow_provider_cml.api.wire import Request, Response
from tests.api.conversations.paper import IDS, KEY, Fate, PaperJob, dag_run_age, of_dag_run, try_number
from tests.api.playing import Outcome, grpc_error, html, lost, unsent

BUSY_FACES = [
    pytest.param(grpc_error(400, "job run for job x already active", 9), id="400"),
    pytest.param("skipped", id="200 skipped"),
    pytest.param(grpc_error(409, "already active", 6), id="409"),
    pytest.param(grpc_error(412, "already active", 9), id="412"),
]
QUOTA = grpc_error(409, "out of quota: CPU request limit reached", 10)
CLEARED = replace(KEY, try_number=2, max_tries=4)
"""The first try after a clear of a task whose first try is over."""


def begin(paper: PaperJob, key: RunKey = KEY, **settings: Any) -> Started | Busy | Postponed:
    settings.setdefault("dag_run_age", dag_run_age(paper, key))
    return paper.player.play(start_exactly_once(Start(IDS, key, {"A": "b"}, **settings)))


def started(paper: PaperJob, key: RunKey = KEY, **settings: Any) -> Started:
    outcome = begin(paper, key, **settings)
    assert isinstance(outcome, Started), outcome
    return outcome


def busy(paper: PaperJob, key: RunKey = KEY, **settings: Any) -> Busy:
    outcome = begin(paper, key, **settings)
    assert isinstance(outcome, Busy), outcome
    return outcome


def postponed(paper: PaperJob, key: RunKey = KEY, **settings: Any) -> Postponed:
    outcome = begin(paper, key, can_defer=True, **settings)
    assert isinstance(outcome, Postponed), outcome
    return outcome


# ------------------------------------------------------------------------------------------------ the quiet case


def test_a_free_job_costs_one_look_and_one_post() -> None:
    """No pause, no second look."""
    paper = PaperJob()

    outcome = started(paper)

    assert (paper.executed, Origin.STARTED, 0) == ([outcome.run.id], outcome.origin, outcome.losses)
    assert (["GET", "POST"], []) == ([request.method for request in paper.player.requests], paper.player.pauses)


def test_history_of_others_does_not_matter() -> None:
    """Runs that are over, of nobody, of other tasks, of refusals."""
    paper = PaperJob()
    paper.add("succeeded")
    paper.add("failed", replace(KEY, map_index=7))
    paper.add("succeeded", replace(KEY, dag_id="other"))
    paper.add("skipped", replace(KEY, run_id="other"))

    assert Origin.STARTED is started(paper).origin


# ------------------------------------------------------------------------------------------------ fence


@pytest.mark.parametrize(
    "newer",
    [
        pytest.param(try_number(3), id="a later try"),
        pytest.param(replace(KEY, try_number=3, max_tries=9), id="a later try after a clear"),
        pytest.param(replace(KEY, start=KEY.start + 1), id="the dag run made again"),
    ],
)
@pytest.mark.parametrize("status", ["running", "succeeded", "failed", "skipped"])
@pytest.mark.parametrize("durable", [True, False])
def test_fence(newer: RunKey, status: str, durable: bool) -> None:
    """A newer try has been here, if only to be refused: a leftover starts and stops nothing."""
    paper = PaperJob()
    paper.add(status, newer)
    paper.add("running", try_number(1, start=KEY.start - 5))

    with pytest.raises(CmlSupersededError, match="is not the newest any more"):
        begin(paper, try_number(2), durable=durable)

    assert (0, []) == (paper.posts, paper.stopped)


def test_fence_while_waiting() -> None:
    """A waiter whom Airflow has given up finds out at its next turn."""
    paper = PaperJob()
    foreign = paper.add("running")
    paper.player.at(50, lambda: paper.add("skipped", try_number(2), age=0))
    paper.set(foreign, "succeeded", after=100)

    with pytest.raises(CmlSupersededError):
        begin(paper)

    assert 0 == paper.posts


def test_fence_comes_before_own_runs() -> None:
    """Also a run of our own is no longer ours."""
    paper = PaperJob()
    paper.add("running", KEY, age=100)
    paper.add("skipped", try_number(2), age=50)

    with pytest.raises(CmlSupersededError):
        begin(paper)


# ------------------------------------------------------------------------------------------------ own


@pytest.mark.parametrize(
    ("status", "origin"),
    [
        ("scheduling", Origin.CARRIED_ON),
        ("starting", Origin.CARRIED_ON),
        ("running", Origin.CARRIED_ON),
        ("unknown", Origin.CARRIED_ON),
        ("succeeded", Origin.SUCCEEDED_BEFORE),
    ],
)
def test_a_retry_carries_on(status: str, origin: Origin) -> None:
    """An active or green run of an earlier try is ours; nothing is started."""
    paper = PaperJob()
    run_id = paper.add(status, KEY)

    outcome = started(paper, try_number(2))

    assert (run_id, origin, KEY.with_post("1.aaaa")) == (outcome.run.id, outcome.origin, outcome.key)
    assert (0, True) == (paper.posts, run_id in paper.player.said)


@pytest.mark.parametrize("status", ["failed", "timedout", "stopped"])
def test_a_retry_goes_on_after_a_red_run(status: str) -> None:
    """What ended badly in an earlier try is over: a new run starts, at once, since the earlier try's start is known."""
    paper = PaperJob()
    paper.add(status, KEY)

    assert Origin.STARTED is started(paper, try_number(2)).origin
    assert [] == paper.player.pauses


@pytest.mark.parametrize("status", ["failed", "timedout", "stopped"])
def test_a_red_run_of_this_try_is_its_result(status: str) -> None:
    """One Airflow try starts one run: whoever resumes finds that it is over."""
    paper = PaperJob()
    run_id = paper.add(status, KEY)

    assert (run_id, Origin.FOUND) == ((found := started(paper)).run.id, found.origin)
    assert 0 == paper.posts


def test_active_beats_green_beats_red() -> None:
    """The newest active one first; then a green one; then this try's red one."""
    paper = PaperJob()
    red = paper.add("failed", KEY, age=100)
    green = paper.add("succeeded", KEY, age=300)
    active = paper.add("running", KEY, age=200)
    order = []
    for _ in range(3):
        order.append(started(paper).run.id)
        paper.runs.remove(paper.run(order[-1]))

    assert [active, green, red] == order


def test_the_newest_active_run_counts() -> None:
    """CML's own Job Retry may copy a run with its key."""
    paper = PaperJob()
    paper.add("running", KEY, age=300)
    newest = paper.add("running", KEY, age=200)

    assert newest == started(paper).run.id


def test_stopping_of_an_earlier_try_is_waited_for() -> None:
    """Our own former worker may be stopping it: it is not carried on with, whatever busy means; a new one starts."""
    paper = PaperJob()
    run_id = paper.add("stopping", KEY)
    paper.set(run_id, "stopped", after=40)

    outcome = started(paper, try_number(2), wait_when_busy=False)

    assert (Origin.STARTED, 1) == (outcome.origin, paper.posts)
    assert paper.started_at[0] >= 1040


def test_stopping_of_this_try_is_its_run() -> None:
    """Its end is this try's result."""
    paper = PaperJob()
    run_id = paper.add("stopping", KEY)

    assert (run_id, Origin.FOUND) == ((found := started(paper)).run.id, found.origin)


def test_excluded_runs() -> None:
    """A run whose stop this try has seen already is not taken for its result again."""
    paper = PaperJob()
    run_id = paper.add("stopped", try_number(2))

    outcome = started(paper, try_number(2), excluded=frozenset({run_id}))

    assert (Origin.STARTED, False) == (outcome.origin, outcome.run.id == run_id)


@pytest.mark.parametrize("status", ["succeeded", "failed", "stopped"])
def test_not_durable_ignores_earlier_tries(status: str) -> None:
    """Each try starts a run of its own; only this very try's count."""
    paper = PaperJob()
    paper.add(status, KEY)

    assert Origin.STARTED is started(paper, try_number(2), durable=False).origin


def test_not_durable_waits_for_an_earlier_try() -> None:
    """CML allows one run at a time; an earlier try's run is like anybody's."""
    paper = PaperJob()
    run_id = paper.add("running", KEY)
    paper.set(run_id, "succeeded", after=100)

    assert (Origin.STARTED, []) == (started(paper, try_number(2), durable=False).origin, paper.stopped)
    assert paper.started_at[0] >= 1100


def test_not_durable_still_finds_its_own() -> None:
    """A lost answer of this try is looked for."""
    paper = PaperJob("lost")

    assert Origin.FOUND is started(paper, durable=False).origin
    assert 1 == paper.posts


# ------------------------------------------------------------------------------------------------ former


@pytest.mark.parametrize("status", ["scheduling", "running", "stopping"])
@pytest.mark.parametrize("wait_when_busy", [True, False])
def test_a_clear_stops_what_it_left_behind(status: str, wait_when_busy: bool) -> None:
    """One stop, none if it is stopping already; the new run starts after its end, whatever busy means."""
    paper = PaperJob()
    former = paper.add(status, KEY)
    if status == "stopping":
        paper.set(former, "stopped", after=30)

    outcome = started(paper, CLEARED, wait_when_busy=wait_when_busy)

    assert (Origin.STARTED, "stopped") == (outcome.origin, paper.run(former)["status"])
    assert ([] if status == "stopping" else [former]) == paper.stopped


@pytest.mark.parametrize("status", ["succeeded", "failed"])
def test_a_clear_runs_the_job_again(status: str) -> None:
    """A run of a former series is never taken for ours."""
    paper = PaperJob()
    paper.add(status, KEY)

    assert Origin.STARTED is started(paper, CLEARED).origin


def test_a_dag_run_made_again_runs_the_job_again() -> None:
    """Same ids, same try, another start date."""
    paper = PaperJob()
    paper.add("succeeded", replace(KEY, start=KEY.start - 60_000_000))

    assert Origin.STARTED is started(paper).origin


def test_a_former_run_that_appears_late() -> None:
    """A start of before the clear lands while we wait for somebody else: it is stopped, too."""
    paper = PaperJob()
    foreign = paper.add("running")
    paper.set(foreign, "succeeded", after=20)
    late: list[str] = []
    paper.player.at(19, lambda: late.append(paper.add("running", KEY, age=0)))

    assert Origin.STARTED is started(paper, CLEARED).origin
    assert late == paper.stopped


def test_without_stopping_a_former_run_is_waited_for() -> None:
    """Two laptops with one deployment name must not stop each other's runs."""
    paper = PaperJob()
    former = paper.add("running", KEY)
    paper.set(former, "succeeded", after=100)

    assert (Origin.STARTED, []) == (started(paper, CLEARED, stop_former=False).origin, paper.stopped)
    assert paper.started_at[0] >= 1100


def test_a_former_run_that_does_not_stop() -> None:
    """Bounded by busy_timeout; one stop, no start."""
    paper = PaperJob()
    former = paper.add("running", KEY)
    paper.stop_takes = 10_000

    outcome = busy(paper, CLEARED, busy_timeout=60)

    assert (True, former, 0, [former]) == (
        outcome.timed_out,
        outcome.run and outcome.run.id,
        paper.posts,
        paper.stopped,
    )
    assert 1060 == pytest.approx(paper.player.now)


@pytest.mark.parametrize("answer", [lost(), Response(503), grpc_error(400, "is not active", 9)])
def test_a_stop_that_fails_is_told_and_looked_after(answer: Any) -> None:
    """The former run may end by itself, too; the stop is not repeated."""
    paper = PaperJob()
    former = paper.add("running", KEY)
    paper.set(former, "succeeded", after=30)
    turn = start_exactly_once(Start(IDS, CLEARED))
    answering = paper.player.script[0]

    def failing_stop(request: Any) -> Any:
        if request.path.endswith(":stop"):
            paper.stopped.append(former)
            return answer
        assert callable(answering)
        return answering(request)

    paper.player.script = [failing_stop]

    outcome = paper.player.play(turn)

    assert isinstance(outcome, Started)
    assert ([former], True) == (paper.stopped, f"Run {former} was asked to stop." in paper.player.said)


# ------------------------------------------------------------------------------------------------ loss


def test_a_lost_answer_is_found() -> None:
    """The run is there at the next look; it is ours, and nothing is sent again."""
    paper = PaperJob("lost")

    outcome = started(paper)

    assert (paper.executed, Origin.FOUND, 1) == ([outcome.run.id], outcome.origin, outcome.losses)
    assert (1, []) == (paper.posts, paper.player.pauses)
    assert paper.keys == [outcome.key]


@pytest.mark.parametrize("seconds", [1.0, 30.0, 75.0, GRACE - 1])
def test_a_late_effect_is_found(seconds: float) -> None:
    """As long as it comes within GRACE after sending."""
    paper = PaperJob(("late", seconds), latency=0.2)

    outcome = started(paper)

    assert (Origin.FOUND, 1, 1) == (outcome.origin, paper.posts, len(paper.runs))


def test_a_lost_start_that_fails_at_once_is_this_tries_result() -> None:
    """It took effect, and ended badly before the first look."""
    paper = PaperJob("lost")
    paper.player.at(0.4, lambda: paper.runs[0].update(status="failed"))
    paper.player.latency = 0.3

    outcome = started(paper)

    assert (Origin.FOUND, "failed", 1) == (outcome.origin, outcome.run.status, paper.posts)


@pytest.mark.parametrize("vanished", [1, 2])
def test_a_start_is_sent_again_only_after_its_time(vanished: int) -> None:
    """GRACE after sending, and at most twice."""
    paper = PaperJob(*["vanished"] * vanished)

    outcome = started(paper)

    assert (Origin.STARTED, vanished, vanished + 1) == (outcome.origin, outcome.losses, paper.posts)
    gaps = [after - before for before, after in zip(paper.started_at, paper.started_at[1:], strict=False)]
    assert [gap for gap in gaps if gap >= GRACE] == gaps


def test_three_losses_end_the_try_for_good() -> None:
    """A run may exist: Airflow's retry would be the next start."""
    paper = PaperJob(*["vanished"] * 9)

    with pytest.raises(CmlRunMayExistError, match="A run may exist"):
        begin(paper)

    assert 3 == paper.posts


@pytest.mark.parametrize("before", [0, 1, 2])
def test_losses_of_earlier_flows_count(before: int) -> None:
    """The bound holds for the whole try, however often it was deferred."""
    paper = PaperJob(*["vanished"] * 9)

    with pytest.raises(CmlRunMayExistError, match="the answers to 3 starts of this try were lost"):
        begin(paper, progress=Progress(losses=before))

    assert 3 - before == paper.posts


def test_losses_are_told_with_the_run() -> None:
    """Those of earlier flows, too: the look for a second run depends on them."""
    found = started(PaperJob("lost"), progress=Progress(losses=1))
    quiet = started(PaperJob(), progress=Progress(losses=1))

    assert (2, 1) == (found.losses, quiet.losses)


def test_losses_and_rejections_cross_a_deferral() -> None:
    """A flow that leaves the waiting to the caller tells what the try has been through; it looks for a loss before."""
    paper = PaperJob("vanished", "skipped")

    outcome = postponed(paper, progress=Progress(losses=1, rejections=2))

    assert (Progress(losses=2, rejections=3), REFUSAL_GAPS[2]) == (outcome.progress, outcome.seconds)
    assert 1000 + GRACE <= paper.player.now


def test_a_lost_rejection_is_settled_by_its_receipt() -> None:
    """The job was busy when the lost start arrived; its end is waited for, and the next start is no repetition."""
    paper = PaperJob("lost")
    foreign: list[str] = []
    paper.player.at(0.1, lambda: foreign.append(paper.add("running", age=0)))
    paper.player.latency = 0.2
    paper.player.at(60, lambda: paper.set(foreign[0], "succeeded"))

    outcome = started(paper)

    assert (Origin.STARTED, 1, 2) == (outcome.origin, outcome.losses, paper.posts)
    assert 1060 <= paper.started_at[1] < 1000 + GRACE


@pytest.mark.parametrize("wait_when_busy", [True, False])
def test_a_pending_loss_comes_before_busy(wait_when_busy: bool) -> None:
    """The active run may hide that ours comes later: fail and skip wait for the loss first."""
    paper = PaperJob(("late", 100.0))
    foreign = []
    paper.player.at(1, lambda: foreign.append(paper.add("running", age=0)))
    paper.player.at(50, lambda: paper.set(foreign[0], "succeeded"))

    outcome = started(paper, wait_when_busy=wait_when_busy)

    assert (Origin.FOUND, 1) == (outcome.origin, paper.posts)


@pytest.mark.parametrize("outage", [Response(503), lost(), unsent(), html("404 Not Found", 404), html("Sign in")])
def test_an_outage_while_a_loss_is_pending(outage: Any) -> None:
    """It is survived for ten minutes, and then not final: the next try looks for the run. The message names the key."""
    paper = PaperJob("vanished")
    paper.player.at(1, lambda: paper.failing.extend([outage] * 1000))

    with pytest.raises(CmlUnavailableError, match=r"cannot be asked whether it took effect\. The next try") as caught:
        begin(paper)

    assert f"AIRFLOW_RUN_KEY={paper.keys[0]}" in str(caught.value)
    assert (1, True) == (paper.posts, paper.player.now > 1000 + 500)


def test_the_next_try_finds_what_an_outage_hid() -> None:
    """The start had taken effect: it is carried on with."""
    paper = PaperJob("lost")
    paper.player.latency = 0.1
    paper.player.at(0.15, lambda: paper.failing.extend([Response(503)] * 1000))
    with pytest.raises(CmlUnavailableError):
        begin(paper)
    paper.failing.clear()

    assert Origin.CARRIED_ON is started(paper, try_number(2)).origin
    assert 1 == paper.posts


@pytest.mark.parametrize("answer", [grpc_error(403, "no", 7), grpc_error(404, "no", 5), Response(401)])
def test_a_refused_look_while_a_loss_is_pending(answer: Response) -> None:
    """CML would say so again: it cannot be looked for, so a run may exist."""
    paper = PaperJob("vanished")
    paper.player.at(1, lambda: paper.failing.append(answer))

    with pytest.raises(CmlRunMayExistError, match=r"could not be looked for: .*A run may exist"):
        begin(paper)


def test_failures_to_look_for_a_loss_are_survived() -> None:
    """A gateway that is down for minutes hides a run, and does not undo it."""
    paper = PaperJob("lost")
    answering = paper.player.script[0]

    def down_after_the_start(request: Any) -> Any:
        assert callable(answering)
        down = paper.posts and paper.player.now < 1300 and request.method == "GET"
        return Response(502) if down else answering(request)

    paper.player.script = [down_after_the_start]

    outcome = started(paper)

    assert (Origin.FOUND, 1) == (outcome.origin, paper.posts)


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize(
    ("outage", "has_connected", "patience"),
    [
        *((outage, False, 30.0) for outage in (unsent(), html("404 Not Found", 404), html("Sign in"), Response(302))),
        *((outage, False, 600.0) for outage in (Response(503), lost("read timeout"))),
        *((outage, True, 600.0) for outage in (unsent(), html("404 Not Found", 404), Response(503))),
    ],
)
def test_an_outage_is_never_final(outage: Any, has_connected: bool, patience: float, number: int) -> None:
    """Nothing was sent: CML could not be asked, and Airflow may try again. No workspace at the address is told soon."""
    paper = PaperJob()
    paper.failing = [outage] * 1000

    with pytest.raises(CmlUnavailableError):
        begin(paper, try_number(number), has_connected=has_connected)

    assert 0 == paper.posts
    assert patience - 30 <= paper.player.now - 1000 <= patience
    assert [True] == [note.warning for note in paper.player.notes]


@pytest.mark.parametrize(
    ("outage", "seconds"), [(unsent(), 14), (html("404", 404), 14), (Response(503), 550), (lost(), 550)]
)
def test_an_outage_before_the_first_answer_is_survived(outage: Any, seconds: float) -> None:
    """The first try starts the run as soon as CML answers; the log tells both ends of the outage."""
    paper = PaperJob()
    paper.failing = [outage] * 1000
    paper.player.at(seconds, paper.failing.clear)

    assert Origin.STARTED is started(paper).origin
    assert "CML answers again after" in paper.player.said


def test_a_rejection_after_a_loss() -> None:
    """The key may have been revoked meanwhile; the lost start may have run all the same."""
    paper = PaperJob("vanished", grpc_error(403, "no", 7))

    with pytest.raises(CmlRunMayExistError, match="now CML refuses"):
        begin(paper)


@pytest.mark.parametrize(
    ("answer", "error"), [(grpc_error(403, "no", 7), CmlForbiddenError), (grpc_error(400, "no", 3), CmlRefusedError)]
)
def test_a_rejection_is_one_request(answer: Fate, error: type[Exception]) -> None:
    """CML would say so again."""
    paper = PaperJob(answer)

    with pytest.raises(error):
        begin(paper)

    assert (1, []) == (paper.posts, paper.player.pauses)


def test_a_start_that_was_not_sent_is_tried_again() -> None:
    """After a look each time; no loss, and no waiting for GRACE."""
    paper = PaperJob("unsent", "unsent")

    outcome = started(paper)

    assert (Origin.STARTED, 0, 3) == (outcome.origin, outcome.losses, paper.posts)
    assert ["GET", "POST"] * 3 == [request.method for request in paper.player.requests]


def test_a_start_that_can_never_be_sent() -> None:
    """After ten minutes the connection's error is told; nothing was started."""
    paper = PaperJob(*["unsent"] * 1000)

    with pytest.raises(CmlConnectionError):
        begin(paper)


# ------------------------------------------------------------------------------------------------ busy


def test_a_busy_job_is_waited_for() -> None:
    """No start while a look shows an active run; the gaps grow from five seconds to the poll interval."""
    paper = PaperJob()
    foreign = paper.add("running")
    paper.set(foreign, "succeeded", after=600)

    outcome = started(paper, poll_interval=30.0)

    assert (Origin.STARTED, 1, []) == (outcome.origin, paper.posts, paper.stopped)
    assert 1600 <= paper.started_at[0] <= 1600 + 36
    gaps = paper.player.pauses
    assert BUSY_GAP * 0.8 <= gaps[0] <= BUSY_GAP * 1.2
    assert [] == [gap for gap in gaps[6:] if not 24 <= gap <= 36]
    assert len(set(gaps)) == len(gaps)
    assert 1 == paper.player.said.count("Waiting: ")


@pytest.mark.parametrize("status", ["scheduling", "running", "stopping", "unknown"])
@pytest.mark.parametrize("key", [None, replace(KEY, dag_id="other"), replace(KEY, dag_id="other", start=KEY.start - 1)])
def test_a_busy_job_may_end_the_conversation(status: str, key: RunKey | None) -> None:
    """Fail and skip look once, send nothing, and name the run. A stranger's run is never adopted or stopped."""
    paper = PaperJob()
    run_id = paper.add(status, key)

    outcome = busy(paper, wait_when_busy=False)

    assert (run_id, False) == (outcome.run and outcome.run.id, outcome.timed_out)
    assert (f"run {run_id} of this job is {status}", 0, []) == (outcome.reason, paper.posts, paper.stopped)


def test_busy_timeout() -> None:
    """The time given is kept to the second, and the reason told."""
    paper = PaperJob()
    run_id = paper.add("running")

    outcome = busy(paper, busy_timeout=100)

    assert (True, run_id, 0) == (outcome.timed_out, outcome.run and outcome.run.id, paper.posts)
    assert 1100 == pytest.approx(paper.player.now)


def test_busy_timeout_looks_once_more_at_its_end() -> None:
    """A job that becomes free at the last moment is started."""
    paper = PaperJob()
    paper.set(paper.add("running"), "succeeded", after=99.9)

    assert Origin.STARTED is started(paper, busy_timeout=100).origin


@pytest.mark.parametrize("face", BUSY_FACES)
def test_every_face_of_busy_is_waited_for(face: Fate) -> None:
    """The race is lost between look and start: no further start until a look has shown that run and its end."""
    paper = PaperJob(face)
    foreign: list[str] = []
    paper.player.at(0.5, lambda: foreign.append(paper.add("running", age=0)))
    paper.player.latency = 0.4
    paper.player.at(80, lambda: paper.set(foreign[0], "succeeded"))

    outcome = started(paper, poll_interval=2.0)

    assert (Origin.STARTED, 2) == (outcome.origin, paper.posts)
    assert 1080 <= paper.started_at[1] <= 1084


@pytest.mark.parametrize("face", BUSY_FACES)
def test_every_face_of_busy_may_end_the_conversation(face: Fate) -> None:
    """One start, rejected; the entry of that with our key is no run."""
    paper = PaperJob(face)

    outcome = busy(paper, wait_when_busy=False)

    assert ("CML calls the job busy", 1) == (outcome.reason, paper.posts)


CONFLICTS = [
    pytest.param(grpc_error(409, "the project is being archived", 10), "the project is being archived", id="409"),
    pytest.param(grpc_error(412, "the runtime is disabled", 9), "the runtime is disabled", id="412"),
    pytest.param(Response(412), "was refused with 412", id="412 without a word"),
    pytest.param(grpc_error(400, "the runtime is disabled", 9), "the runtime is disabled", id="code 9"),
]


@pytest.mark.parametrize(("answer", "said"), CONFLICTS)
@pytest.mark.parametrize("settings", [{}, {"wait_when_busy": False}, {"busy_timeout": 60.0}], ids=str)
def test_a_conflict_is_repeated_for_ten_minutes(answer: Response, said: str, settings: dict[str, Any]) -> None:
    """Neither its text nor a look says that the job is busy: it ends with CML's words, whatever busy means."""
    paper = PaperJob(*[answer] * 100)

    with pytest.raises(CmlRefusedError, match=said):
        begin(paper, **settings)

    assert CONFLICT_PATIENCE <= round(paper.player.now - 1000, 3) <= CONFLICT_PATIENCE * 1.1
    assert 5 <= paper.posts <= 20


@pytest.mark.parametrize(("answer", "said"), CONFLICTS)
def test_a_conflict_is_repeated_across_deferrals(answer: Response, said: str) -> None:
    """The ten minutes are the try's; it is time that has to pass, not the job that has to be waited for."""
    paper = PaperJob(*[answer] * 100)
    progress, flows = Progress(), 0
    with pytest.raises(CmlRefusedError, match=said):  # noqa: PT012 - flow after flow, as the caller goes on
        while True:
            outcome = postponed(paper, progress=progress, waited=paper.player.now - 1000)
            paper.player.now += outcome.seconds
            progress, flows = outcome.progress, flows + 1
            assert not outcome.for_job

    assert (True, flows, 0.0) == (5 <= flows <= 8, progress.rejections, progress.conflict_since)
    assert CONFLICT_PATIENCE == paper.player.now - 1000


def test_a_conflict_may_pass() -> None:
    """Whatever forbade the start is over."""
    paper = PaperJob(grpc_error(412, "the runtime is disabled", 9), Response(409))

    assert (Origin.STARTED, 3) == (started(paper, wait_when_busy=False).origin, paper.posts)


@pytest.mark.parametrize("settings", [{"wait_when_busy": False}, {"busy_timeout": 900.0}, {"can_defer": True}], ids=str)
def test_a_look_may_say_that_a_conflict_means_busy(settings: dict[str, Any]) -> None:
    """Code 9, and an active run is seen: the job is busy, for as long as it takes."""
    paper = PaperJob(*[grpc_error(400, "failed precondition", 9)] * 9)
    foreign: list[str] = []
    paper.player.latency = 0.2
    paper.player.at(0.3, lambda: foreign.append(paper.add("running", age=0)))

    outcome = begin(paper, **settings)

    if isinstance(outcome, Postponed):
        assert (True, Progress(rejections=1)) == (outcome.for_job, outcome.progress)
    else:
        assert isinstance(outcome, Busy)
        assert foreign == [outcome.run and outcome.run.id]
    assert 1 == paper.posts


def test_an_active_run_behind_rejected_starts_costs_one_more() -> None:
    """A first try reads twenty entries; where CML calls the job busy it reads on, and waits for what is active."""
    paper = PaperJob()
    active = paper.add("running", age=5000)
    for number in range(30):
        paper.add("skipped", age=1000 - number)
    paper.set(active, "succeeded", after=300)

    outcome = started(paper)

    assert (Origin.STARTED, 2) == (outcome.origin, paper.posts)
    assert paper.started_at[1] >= 1300
    assert f"Waiting: run {active} of this job is running." in paper.player.said


def test_a_rejection_of_an_earlier_flow_makes_the_first_look_read_on() -> None:
    """Then no start is needed to learn it."""
    paper = PaperJob()
    active = paper.add("running", age=5000)
    for number in range(30):
        paper.add("skipped", age=1000 - number)

    outcome = busy(paper, wait_when_busy=False, progress=Progress(rejections=1))

    assert (active, 0) == (outcome.run and outcome.run.id, paper.posts)


def test_rejections_no_look_explains_are_met_by_growing_gaps() -> None:
    """The list lags, or is cut: 15, 30, 60 seconds and so on, with a look after each rejection, before each start."""
    paper = PaperJob(*["skipped"] * 4)

    started(paper)

    gaps = [after - before for before, after in zip(paper.started_at, paper.started_at[1:], strict=False)]
    assert [] == [
        (gap, most) for gap, most in zip(gaps, REFUSAL_GAPS, strict=False) if not 0.8 * most <= gap <= 1.2 * most
    ]
    assert ["GET", "POST", *["GET", "GET", "POST"] * 4] == [request.method for request in paper.player.requests]


@pytest.mark.parametrize("wait_when_busy", [True, False])
def test_out_of_quota_is_waited_for_and_said(wait_when_busy: bool) -> None:
    """It is capacity, not another run of the job: waited for whatever busy means."""
    paper = PaperJob(QUOTA, QUOTA)

    outcome = started(paper, wait_when_busy=wait_when_busy)

    assert (Origin.STARTED, 3) == (outcome.origin, paper.posts)
    assert "Waiting: CML is out of quota." in paper.player.said


def test_out_of_quota_has_the_bound_of_busy() -> None:
    """busy_timeout ends that wait, too, with its own reason."""
    paper = PaperJob(*[QUOTA] * 100)

    outcome = busy(paper, busy_timeout=200)

    assert (True, "CML is out of quota") == (outcome.timed_out, outcome.reason)


def test_too_many_requests_is_no_loss() -> None:
    """A gateway that counts has not passed the start on; it is obeyed."""
    paper = PaperJob(Response(429, {"retry-after": "50"}))

    outcome = started(paper)

    assert (Origin.STARTED, 0, 2) == (outcome.origin, outcome.losses, paper.posts)
    assert paper.started_at[1] - paper.started_at[0] >= 0.8 * 50


@pytest.mark.parametrize(
    ("story", "key", "settings", "expected"),
    [
        ("running", KEY, {}, Postponed("run run0000000000001 of this job is running", BUSY_GAP, True, Progress())),
        ("running", KEY, {"wait_when_busy": False}, None),
        ("skipped", KEY, {}, Postponed("CML calls the job busy", REFUSAL_GAPS[0], True, Progress(rejections=1))),
        ("skipped", KEY, {"wait_when_busy": False}, None),
        ("quota", KEY, {}, Postponed("CML is out of quota", REFUSAL_GAPS[0], True, Progress(rejections=1))),
        (
            "quota",
            KEY,
            {"wait_when_busy": False},
            Postponed("CML is out of quota", REFUSAL_GAPS[0], False, Progress(rejections=1)),
        ),
        (
            "former",
            CLEARED,
            {},
            Postponed("run run0000000000001 of before the clear has to stop", BUSY_GAP, True, Progress()),
        ),
        (
            "former",
            CLEARED,
            {"wait_when_busy": False},
            Postponed("run run0000000000001 of before the clear has to stop", BUSY_GAP, False, Progress()),
        ),
        (
            "told late",
            KEY,
            {"rejection": "CML skipped run x", "progress": Progress(2, 3)},
            Postponed("CML skipped run x", REFUSAL_GAPS[2], True, Progress(2, 3)),
        ),
    ],
)
def test_waiting_can_be_left_to_the_caller(
    story: str, key: RunKey, settings: dict[str, Any], expected: Postponed | None
) -> None:
    """Wherever this flow would wait it ends instead, saying for what, how long, and what the try has been through."""
    fates: dict[str, list[Fate]] = {"skipped": ["skipped"], "quota": [QUOTA]}
    paper = PaperJob(*fates.get(story, []))
    if story in {"running", "former"}:
        paper.add("running", KEY if story == "former" else None)

    outcome = begin(paper, key, can_defer=True, **settings)

    assert outcome == expected or (expected is None and isinstance(outcome, Busy))
    assert [] == paper.player.pauses


# ------------------------------------------------------------------------------------------------ settle


def test_settle_before_the_first_start_of_a_later_try() -> None:
    """The earlier try may have died with a start in flight: it gets time to show, once."""
    paper = PaperJob()
    paper.add("succeeded")

    started(paper, try_number(2))

    assert ([SETTLE], 1) == (paper.player.pauses, paper.posts)
    assert ["GET", "GET", "POST"] == [request.method for request in paper.player.requests]


def test_what_settles_is_found() -> None:
    """The dead worker's start takes effect while we wait: it is ours, and no second one is sent."""
    paper = PaperJob()
    paper.add("succeeded")
    paper.player.at(60, lambda: paper.add("running", KEY, age=0))

    outcome = started(paper, try_number(2))

    assert (Origin.CARRIED_ON, 0) == (outcome.origin, paper.posts)


def test_what_settles_after_a_clear_is_stopped() -> None:
    """The same after a clear: the former series' late start is stopped first."""
    paper = PaperJob()
    late: list[str] = []
    paper.player.at(60, lambda: late.append(paper.add("running", KEY, age=0)))

    assert (Origin.STARTED, late) == (started(paper, CLEARED).origin, paper.stopped)


@pytest.mark.parametrize(
    ("status", "key", "settles"),
    [
        pytest.param("failed", KEY, False, id="the try before ran"),
        pytest.param("skipped", KEY, True, id="a rejected start proves nothing"),
        pytest.param("failed", replace(KEY, start=KEY.start - 1), True, id="of the dag run before"),
        pytest.param("failed", replace(KEY, deployment="other"), False, id="from a worker with another base URL"),
        pytest.param("failed", replace(KEY, loop_index=4), True, id="of another iteration"),
        pytest.param("failed", replace(KEY, map_index=4), True, id="of another task instance"),
    ],
)
def test_settle_is_saved_where_the_earlier_start_is_known(status: str, key: RunKey, settles: bool) -> None:
    """A try starts one run; if that of the try just before is in the list, nothing is on its way."""
    paper = PaperJob()
    paper.add(status, key)

    started(paper, try_number(2))

    assert settles == (SETTLE in paper.player.pauses)


def test_settle_looks_at_the_try_just_before() -> None:
    """An older one says nothing about it."""
    paper = PaperJob()
    paper.add("failed", KEY)

    started(paper, try_number(3))

    assert SETTLE in paper.player.pauses


@pytest.mark.parametrize(("clear_number", "pauses"), [(1, []), (0, [SETTLE]), (None, [SETTLE])])
def test_a_cleared_dag_run_does_not_settle(clear_number: int | None, pauses: list[float]) -> None:
    """The list shows that the start of before the clear has landed, if Airflow tells that there was a clear."""
    paper = PaperJob()
    paper.add("succeeded", replace(KEY, start=KEY.start - 3_600_000_000, clear_number=0))

    outcome = started(paper, replace(CLEARED, clear_number=clear_number))

    assert (Origin.STARTED, pauses) == (outcome.origin, paper.player.pauses)


def test_settle_can_be_left_to_the_caller() -> None:
    """It is time that has to pass; the flow after it finds that enough has, and the reason is said."""
    paper = PaperJob()
    outcome = postponed(paper, try_number(3), waited=30.0, progress=Progress(1, 2))
    reason = "try 2 of this task may have sent a start that does not show in CML's list of runs yet"

    assert Postponed(reason, SETTLE - 30.0, for_job=False, progress=Progress(1, 2)) == outcome
    assert Origin.STARTED is started(paper, try_number(3), waited=SETTLE, can_defer=True).origin
    assert [] == paper.player.pauses


def test_first_try_does_not_settle() -> None:
    """There is no earlier one."""
    paper = PaperJob()
    paper.add("succeeded")

    started(paper)

    assert [] == paper.player.pauses


@pytest.mark.parametrize("busy", [50.0, 500.0])
def test_settle_is_once(busy: float) -> None:
    """Not again after busy, a loss or a rejection; and what was waited for a busy job counts."""
    paper = PaperJob("skipped", "vanished")
    foreign = paper.add("running")
    paper.set(foreign, "succeeded", after=busy)

    started(paper, try_number(2))

    said = [note.text for note in paper.player.notes if "try 1 of this task may have sent a start" in note.text]
    assert len(said) == (busy < SETTLE)
    assert SETTLE not in paper.player.pauses


@pytest.mark.parametrize(("waited", "pauses"), [(30.0, [SETTLE - 30.0]), (SETTLE, []), (1e6, [])])
def test_settle_takes_no_longer_than_it_must(waited: float, pauses: list[float]) -> None:
    """The earlier try sent nothing since this one began: what it has waited in the triggerer counts."""
    paper = PaperJob()
    paper.add("succeeded")

    started(paper, try_number(2), waited=waited)

    assert (pauses, 1) == (paper.player.pauses, paper.posts)


# ------------------------------------------------------------------------------------------------ fresh


@pytest.mark.parametrize(("latency", "looks"), [(0.1, 1), (FRESH, 1), (FRESH + 0.1, 1 + RELOOKS)])
def test_a_look_is_good_for_a_moment(latency: float, looks: int) -> None:
    """Older than five seconds it is repeated; a workspace that needs longer for an answer is believed after a few."""
    paper = PaperJob(latency=latency)

    started(paper)

    assert ["GET"] * looks + ["POST"] == [request.method for request in paper.player.requests]


def test_a_worker_that_slept_looks_again() -> None:
    """A frozen worker must not send what it saw no reason against long ago."""
    paper = PaperJob()
    slept: list[str] = []
    answering = paper.player.script[0]

    def frozen(request: Any) -> Any:
        assert callable(answering)
        answer = answering(request)
        if not slept:
            slept.append(paper.add("succeeded", KEY, age=0))
            paper.player.now += 400
        return answer

    paper.player.script = [frozen]

    outcome = started(paper)

    assert (slept[0], 0) == (outcome.run.id, paper.posts)


# ------------------------------------------------------------------------------------------------ no echo


def test_without_echoes_a_first_try_may_start() -> None:
    """Nothing of ours can be there yet."""
    paper = PaperJob()
    paper.echoes = False
    paper.add("succeeded")

    assert Origin.STARTED is started(paper).origin


@pytest.mark.parametrize("is_dated", [True, False])
def test_without_echoes_a_retry_cannot_know(is_dated: bool) -> None:
    """A run since its dag run began may be its own: it ends for good, as a second start could be a second run."""
    paper = PaperJob()
    paper.echoes = False
    paper.is_dated = is_dated
    run_id = paper.add("succeeded", age=4000)

    with pytest.raises(
        CmlRunMayExistError,
        match=rf"run {run_id} may be one .* try 2 cannot tell whether an earlier try started one.*durable=False",
    ):
        begin(paper, of_dag_run(paper, 5000, try_number=2))

    assert 0 == paper.posts


def test_without_echoes_and_without_candidates() -> None:
    """What is older than the dag run, or was rejected, is none of its runs: the retry starts."""
    paper = PaperJob()
    paper.echoes = False
    paper.add("succeeded", age=10_000)
    paper.add("skipped", age=4000)

    assert Origin.STARTED is started(paper, of_dag_run(paper, 5000, try_number=2)).origin


@pytest.mark.parametrize("hand_started", [1, 40])
@pytest.mark.parametrize("number", [1, 2])
def test_runs_started_by_hand(hand_started: int, number: int) -> None:
    """They have no environment, and are older than the dag run: a lost answer is found, and a vanished start resent."""
    papers = PaperJob("lost"), PaperJob("vanished")
    for paper in papers:
        for run in range(hand_started):
            paper.add_by_hand(age=10_000 + 100 * run)

    lost_one, vanished = (started(paper, of_dag_run(paper, 5000, try_number=number), waited=SETTLE) for paper in papers)

    assert (Origin.FOUND, 1) == (lost_one.origin, papers[0].posts)
    assert (Origin.STARTED, 2) == (vanished.origin, papers[1].posts)
    assert papers[1].started_at[1] >= papers[1].started_at[0] + GRACE


def test_runs_started_by_hand_beside_one_that_shows_its_environment() -> None:
    """Where one run shows its environment, those that show none have none: however new, they hinder no retry."""
    paper = PaperJob()
    paper.add_by_hand(age=100)
    paper.add("failed", age=200)

    assert Origin.STARTED is started(paper, of_dag_run(paper, 5000, try_number=2)).origin


def test_without_echoes_and_not_durable() -> None:
    """Whoever wants a new run each time gets it."""
    paper = PaperJob()
    paper.echoes = False
    paper.add("succeeded")

    assert Origin.STARTED is started(paper, try_number(2), durable=False).origin


class SlowSingles(PaperJob):
    """A job whose runs cannot be asked for singly, for some minutes."""

    def _answer(self, request: Request) -> Outcome:
        if request.path.rpartition("/")[2].startswith("run0") and self.player.now < 1200.0:
            return Response(503)
        return super()._answer(request)


def test_a_loss_is_judged_by_a_look_sent_after_its_time() -> None:
    """A look may take minutes in an outage: what it shows is what CML held when it was sent."""
    paper = SlowSingles(("late", 30.0))
    paper.echoes = False
    paper.player.at(1.0, lambda: paper.add("skipped", age=0))

    with pytest.raises(CmlRunMayExistError, match="shows no environment"):
        begin(paper)

    assert paper.posts == 1


def test_without_echoes_a_loss_is_for_good() -> None:
    """The run that began since may be ours, or anybody's."""
    paper = PaperJob("lost")
    paper.echoes = False

    with pytest.raises(CmlRunMayExistError, match=r"which began since, shows no environment, as no run of this job"):
        begin(paper)

    assert 1 == paper.posts


def test_lists_without_environments_are_no_hindrance() -> None:
    """The run itself shows its key: a lost answer is found, a retry carries on."""
    paper = PaperJob("lost")
    paper.list_echoes = False
    paper.add("succeeded")

    found = started(paper)
    carried = started(paper, try_number(2))

    assert (Origin.FOUND, Origin.CARRIED_ON) == (found.origin, carried.origin)
    assert (found.run.id, 1) == (carried.run.id, paper.posts)


# ------------------------------------------------------------------------------------------------ long histories


@pytest.mark.parametrize(("others", "list_echoes"), [(100, True), (1500, True), (10, False), (150, False)])
def test_a_retry_looks_as_far_back_as_its_dag_run(others: int, list_echoes: bool) -> None:
    """However many runs of others came after the earlier try's: its success is found, and nothing is started."""
    paper = PaperJob()
    paper.list_echoes = list_echoes
    key = of_dag_run(paper, age=5000)
    mine = paper.add("succeeded", key, age=4900)
    for number in range(others):
        paper.add("succeeded", age=4000 - number)

    assert mine == started(paper, replace(key, try_number=2)).run.id
    assert 0 == paper.posts


@pytest.mark.parametrize(
    ("clock", "has_date"),
    [
        *((clock, True) for clock in (600.0, -600.0, 1e6, -1e6)),
        *((clock, False) for clock in (600.0, -600.0, -80_000.0)),
    ],
)
@pytest.mark.parametrize("echoes", [True, False])
def test_clocks_may_be_apart(clock: float, has_date: bool, echoes: bool) -> None:
    """The dag run's date is Airflow's, a run's is CML's: no difference hides our own run; without a Date header, a day.

    Where no environment is shown, it is as well known that the run may be ours.
    """
    paper = PaperJob()
    paper.clock, paper.has_date, paper.echoes = clock, has_date, echoes
    key = of_dag_run(paper, age=5000)
    mine = paper.add("succeeded", key, age=4999)
    for number in range(150):
        paper.add("succeeded", age=4000 - number)

    if echoes:
        assert mine == started(paper, replace(key, try_number=2)).run.id
    else:
        with pytest.raises(CmlRunMayExistError):
            begin(paper, replace(key, try_number=2))
    assert 0 == paper.posts


@pytest.mark.parametrize(("has_date", "older_by"), [(True, 1800.0), (False, 2 * 86_400.0)])
def test_a_retry_reads_no_further_than_it_must(has_date: bool, older_by: float) -> None:
    """With a Date header it reads a quarter of an hour beyond its dag run, without one a day."""
    paper = PaperJob()
    paper.has_date, paper.clock = has_date, 600.0
    for number in range(500):
        paper.add("succeeded", age=5000 + older_by + number)

    started(paper, of_dag_run(paper, age=5000, try_number=2), waited=SETTLE)

    assert ["GET", "POST"] == [request.method for request in paper.player.requests]


@pytest.mark.parametrize("age", [-1e6, 0.0])
def test_under_dags_test_a_retry_looks_all_the_way_back(age: float) -> None:
    """There the date is the logical one, which may lie in the future, or in a year nobody has dates for."""
    paper = PaperJob()
    key = of_dag_run(paper, age, nonce="0a1b2c3d")
    mine = paper.add("succeeded", key, age=200_000)
    for number in range(150):
        paper.add("succeeded", age=190_000 - number)

    assert mine == started(paper, replace(key, try_number=2)).run.id


@pytest.mark.parametrize(
    ("number", "durable"),
    [
        pytest.param(1, True, id="a first try has nothing to look for"),
        pytest.param(2, False, id="nor has one that does not carry on"),
    ],
)
def test_who_has_nothing_to_carry_on_with_reads_one_page(number: int, durable: bool) -> None:
    """Of twenty entries, however long the history."""
    paper = PaperJob()
    key = of_dag_run(paper, age=5000, try_number=number)
    for other in range(500):
        paper.add("succeeded", age=4000 - other)

    outcome = started(paper, key, durable=durable, waited=SETTLE)

    assert (Origin.STARTED, ["GET", "POST"]) == (outcome.origin, [request.method for request in paper.player.requests])


@pytest.mark.parametrize(("bound", "list_echoes"), [("FARTHEST", True), ("SINGLE_LOOKS_AT_MOST", False)])
def test_a_retry_that_cannot_look_so_far_back_does_not_start(
    bound: str, list_echoes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends for good, as where no environment is shown: a second start could be a second run."""
    monkeypatch.setattr(history, bound, 200)
    paper = PaperJob()
    paper.list_echoes = list_echoes
    for number in range(1100):
        paper.add("succeeded", age=4000 - number)

    with pytest.raises(
        CmlRunMayExistError,
        match=r"more runs since the dag run began than can be read, so try 2 cannot tell whether .*durable=False",
    ):
        begin(paper, of_dag_run(paper, age=5000, try_number=2))

    assert 0 == paper.posts


def test_what_is_found_above_the_bound_is_carried_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies deeper does not matter then."""
    monkeypatch.setattr(history, "FARTHEST", 200)
    paper = PaperJob()
    key = of_dag_run(paper, age=5000)
    for number in range(1100):
        paper.add("succeeded", age=4000 - number)
    mine = paper.add("succeeded", key, age=10)

    assert mine == started(paper, replace(key, try_number=2)).run.id


# ------------------------------------------------------------------------------------------------ size


@pytest.mark.parametrize(("number", "durable"), [(1, True), (2, False)])
def test_large_environments_cost_a_first_try_little(number: int, durable: bool) -> None:
    """120 runs with 20 KB each: it reads at most 1 MB of them."""
    paper = PaperJob()
    for run in range(120):
        paper.run(paper.add("succeeded", age=4000 - run))["environment"]["LARGE"] = "x" * 20_000
    answering, read = paper.player.script[0], [0]
    assert callable(answering)

    def counted(request: Any) -> Any:
        answer = answering(request)
        assert isinstance(answer, Response)
        read[0] += len(answer.body)
        return answer

    paper.player.script = [counted]

    assert Origin.STARTED is started(paper, try_number(number), durable=durable, waited=SETTLE).origin
    assert 100_000 < read[0] <= 1_000_000


@pytest.mark.parametrize("number", [1, 2])
def test_a_page_that_is_too_large(number: int) -> None:
    """It is read in halves, and the job is started all the same; a retry finds what is on the last page."""
    paper = PaperJob()
    paper.largest = 250_000
    key = of_dag_run(paper, 5000)
    mine = paper.add("succeeded", key, age=4900)
    for run in range(100):
        paper.run(paper.add("succeeded", age=4000 - run))["environment"]["LARGE"] = "x" * 20_000

    outcome = started(paper, replace(key, try_number=number))

    assert (number == 2) is (outcome.run.id == mine)
    assert number != 1 or outcome.origin is Origin.STARTED


# ------------------------------------------------------------------------------------------------ small pages


@pytest.mark.parametrize("page_size", [1, 3])
def test_own_runs_are_found_on_every_page(page_size: int) -> None:
    """However small CML makes its pages."""
    paper = PaperJob(page_size=page_size)
    mine = paper.add("succeeded", KEY, age=5000)
    for number in range(10):
        paper.add("skipped", age=1000 - number)

    assert mine == started(paper, try_number(2)).run.id


def test_the_environment_travels_with_the_key() -> None:
    """The user's variables and ours, in every start."""
    paper = PaperJob("skipped")

    started(paper)

    bodies = [request.json or {} for request in paper.player.requests if request.method == "POST"]
    assert [{"A", "AIRFLOW_RUN_KEY"}] * 2 == [set(body["environment"]) for body in bodies]  # type: ignore[call-overload]
