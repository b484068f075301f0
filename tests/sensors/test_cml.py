"""CmlJobRunSensor against a workspace: one table of endings, the same in every mode; and which run is meant."""

from __future__ import annotations

import json
import threading
import time
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_cml.api.run_key import RunKey
from airflow_provider_cml.compat import AirflowFailException, AirflowSensorTimeout, AirflowSkipException
from airflow_provider_cml.emulator import Life, engine
from airflow_provider_cml.failures import (
    CmlRefusedFailError,
    CmlRunFailedError,
    CmlSensorTimeout,
    CmlTimeoutError,
    CmlUnansweredError,
)
from airflow_provider_cml.operators.cml import CmlRunJobOperator
from airflow_provider_cml.sensors.cml import CmlJobRunSensor
from tests.airflow_side import (
    PASSWORD,
    TaskDeferred,
    context_of,
    end_active_run,
    execution_timeout_when,
    fire,
    run_task,
    set_connection,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from airflow_provider_cml.emulator import Emulator, Job, Run, Workspace

    Make: TypeAlias = Callable[..., CmlJobRunSensor]

try:  # 3.2+
    from airflow.sdk.exceptions import AirflowRescheduleException
except ImportError:
    from airflow.exceptions import AirflowRescheduleException  # type: ignore[no-redef,unused-ignore]

MODES: dict[str, dict[str, Any]] = {
    "poke": {"mode": "poke"},
    "reschedule": {"mode": "reschedule"},
    "deferred": {"deferrable": True},
}


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    return MODES[request.param]


@pytest.fixture
def make(job: Job, connections: Emulator) -> Make:
    def sensor(**arguments: Any) -> CmlJobRunSensor:
        given = {"project": job.project_id, "job": job.id, "poke_interval": 0.05, "timeout": 5}
        return CmlJobRunSensor(task_id="watch", **{**given, **arguments})

    return sensor


def sense(make: Callable[[], CmlJobRunSensor], monkeypatch: pytest.MonkeyPatch, **more: Any) -> Any:
    """What a sensor comes to in the end, rescheduled as often as it takes, each time in a new object."""
    context = {**context_of(make()), **more}
    first_poke = datetime.now(UTC)
    try:
        from airflow.sensors import base  # type: ignore[attr-defined,unused-ignore] # 2.11 asks its database
    except ImportError:
        context["ti"].first_poke = first_poke
    else:
        monkeypatch.setattr(base, "_orig_start_date", lambda *_, **__: first_poke, raising=False)
    context["ti"].first_poke = first_poke
    for _ in range(200):
        try:
            return run_task(make, context).value
        except AirflowRescheduleException as again:
            time.sleep(max((again.reschedule_date - datetime.now(UTC)).total_seconds(), 0))
    raise AssertionError("the sensor is rescheduled for ever")


# ---------------------------------------------------------------- endings: see also tests/test_endings.py


def test_success(make: Make, workspace: Workspace, job: Job, mode: dict[str, Any], monkeypatch: Any) -> None:
    """A run that succeeds is green in every mode, and the sensor returns its id."""
    run = workspace.start(job)

    assert sense(partial(make, run_id=run.id, **mode), monkeypatch) == run.id


@pytest.mark.parametrize("soft_fail", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"run_id": "0000000000000000"}, "404"),
        ({"run_id": "0000000000000000", "job": "aaaa-bbbb-cccc-dddd"}, "404"),
        ({"run_id": "0000000000000000", "job": "weekly"}, "no job is called 'weekly'.*nightly VaR"),
        ({}, "exactly one of them, not none"),
        ({"run_id": "a", "run_key": "b"}, "not run_id and run_key"),
        ({"run_key": "b", "since": "2026-11-21T00:00:00Z"}, "not run_key and since"),
        ({"run_id": ""}, "not none"),
        ({"since": "yesterday"}, "'yesterday' is not a moment"),
        ({"since": "2026-11-21T06:00:00"}, "no time zone"),
        ({"since": datetime(2026, 11, 21, 6)}, "no time zone"),  # noqa: DTZ001 - the mistake in question
        ({"run_id": "a", "cml_conn_id": "cml_v1"}, "for API v1, which shows no runs"),
    ],
)
def test_what_cannot_be_used_is_refused(
    make: Make,
    connections: Emulator,
    mode: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    soft_fail: bool,
    arguments: dict[str, Any],
    words: str,
) -> None:
    """A mistake of the DAG author fails for good in every mode, soft_fail or not, and says what it is."""
    with pytest.raises(AirflowFailException, match=words):
        sense(partial(make, soft_fail=soft_fail, **arguments, **mode), monkeypatch)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"run_key": "None"}, "run_key: 'None' is no run key.*must be the XCom run_key of the task"),
        ({"run_key": "somebody's"}, 'run_key: "somebody\'s" is no run key'),
        ({"run_key": 17}, "run_key: 17 is no run key"),
        ({"run_id": "None"}, "run_id: 'None' is no run's id.*must be what the task that started it returned"),
        ({"run_id": ["a"]}, r"run_id: \['a'\] is no run's id"),
        ({"run_id": 1.5}, r"run_id: 1\.5 is no run's id"),
        ({"run_id": True}, "run_id: True is no run's id"),
        ({"run_id": " "}, "run_id: ' ' is no run's id"),
        ({"run_id": "a", "poll_interval": 0}, "poll_interval: 0 is not a number of seconds above zero"),
        ({"run_id": "a", "poll_interval": "5"}, "poll_interval: '5' is not a number"),
        ({"run_id": "a", "poll_interval": True}, "poll_interval: True is not a number"),
        ({"run_id": "a", "poll_interval": float("inf")}, "poll_interval: inf is not .* below ten years"),
    ],
)
def test_what_cannot_be_meant_asks_nothing(
    make: Make,
    connections: Emulator,
    mode: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    arguments: dict[str, Any],
    words: str,
) -> None:
    """What an XCom that was not there, or a slip, makes of an argument: the message tells it, and nobody waits."""
    with pytest.raises(CmlRefusedFailError, match=words):
        sense(partial(make, project="alice/risk-analysis", **arguments, **mode), monkeypatch)

    assert connections.ledger.requests() == []


def test_run_that_looks_like_a_number(
    make: Make, connections: Emulator, workspace: Workspace, job: Job, mode: dict[str, Any], monkeypatch: Any
) -> None:
    """A DAG that renders natively makes a number of such an id; a folded line of YAML leaves a line's end."""
    monkeypatch.setattr(engine, "random_engine_id", lambda: "1234567890123456")
    run = workspace.start(job)

    assert sense(partial(make, run_id=1234567890123456, **mode), monkeypatch) == run.id
    assert sense(partial(make, run_id="1234567890123456\n", **mode), monkeypatch) == run.id


def test_empty_text_is_no_argument(make: Make, connections: Emulator, workspace: Workspace, job: Job) -> None:
    """What a template makes of nothing does not count beside the one that is given, in the triggerer neither."""
    since = datetime.now(UTC) - timedelta(minutes=1)
    sensor = partial(make, since=since, run_id="", run_key="", deferrable=True)
    ran = run_task(
        sensor, context_of(sensor()), asleep=lambda: workspace.add_run(job, "succeeded", created_at=time.time())
    )

    assert (len(ran.deferrals), ran.value) == (1, workspace.runs_of(job)[0].id)


def test_wrong_key_names_the_key(
    make: Make, connections: Emulator, mode: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection with a wrong key fails at the first look and says so."""
    set_connection(monkeypatch, host=connections.url, password="not-the-key-at-all")
    with pytest.raises(CmlRefusedFailError, match=r"API key .* is wrong, has expired"):
        sense(partial(make, run_id="0000000000000000", **mode), monkeypatch)


def test_passing_troubles_fail_nothing(
    make: Make, connections: Emulator, workspace: Workspace, job: Job, mode: dict[str, Any], monkeypatch: Any
) -> None:
    """503, a cut connection and HTML are asked over."""
    run = workspace.start(job)
    for kind in ("error_before", "drop_before", "html"):
        connections.fault("GetJobRun", kind, count=1)

    assert sense(partial(make, run_id=run.id, **mode), monkeypatch) == run.id


# ---------------------------------------------------------------- which run

KEY = str(RunKey("production", "risk", "scheduled__2026-11-21", "value_at_risk", -1, 1, 0, 0, 1, post="1.v1"))


def test_key_finds_a_run_started_through_v1(
    make: Make, connections: Emulator, workspace: Workspace, job: Job, mode: dict[str, Any], monkeypatch: Any
) -> None:
    """The key joins the two APIs: what v1 started is found in v2, though it has another id there."""
    start = CmlRunJobOperator(
        task_id="start", project="alice/risk-analysis", job="208", cml_conn_id="cml_v1", wait_for_completion=False
    )
    context = context_of(start)
    engine_id = start.execute(context)
    (run,) = workspace.runs_of(job)

    assert run.id != engine_id == run.engine_id
    assert sense(partial(make, run_key=context["ti"].pushed["run_key"], **mode), monkeypatch) == run.id


def test_key_is_waited_for(
    make: Make, connections: Emulator, workspace: Workspace, job: Job, mode: dict[str, Any], monkeypatch: Any
) -> None:
    """A key no run carries yet is waited for; runs with other keys, or none, are not meant."""
    job.life = Life(running=0.05)
    workspace.start(job, {"AIRFLOW_RUN_KEY": KEY.replace("try=1", "try=2")})
    started: list[Run] = []
    later = threading.Timer(0.4, lambda: started.append(workspace.start(job, {"AIRFLOW_RUN_KEY": KEY})))
    later.start()
    found = sense(partial(make, run_key=KEY, **mode), monkeypatch)
    later.join()

    assert found == started[0].id


def test_since_takes_the_newest_run_from_then_on(
    make: Make, workspace: Workspace, job: Job, mode: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs created earlier are not meant; of later ones it is the newest that ran."""
    now = time.time()
    workspace.add_run(job, "failed", created_at=now - 7200)
    workspace.add_run(job, "failed", created_at=now - 600)
    newest = workspace.add_run(job, "succeeded", created_at=now - 300)
    workspace.add_run(job, "skipped", created_at=now - 100)
    since = (datetime.now(UTC) - timedelta(hours=1)).isoformat()

    assert sense(partial(make, since=since, **mode), monkeypatch) == newest.id


def test_nothing_since_then_runs_out_of_time(
    make: Make, workspace: Workspace, job: Job, mode: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that does not come is waited for until the sensor's time is over."""
    workspace.add_run(job, "succeeded", created_at=time.time() - 600)
    since = datetime.now(UTC)
    with pytest.raises(AirflowSensorTimeout):
        sense(partial(make, since=since, timeout=0.3, **mode), monkeypatch)


def test_everything_that_names_the_run_is_a_template(
    make: Make, workspace: Workspace, job: Job, mode: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Project, job, run and connection come out of templates."""
    run = workspace.start(job)
    sensor = partial(
        make,
        project="{{ owner }}/risk-analysis",
        job="nightly {{ what }}",
        run_id="{{ run }}",
        cml_conn_id="{{ conn }}",
    )
    value = sense(partial(sensor, **mode), monkeypatch, owner="alice", what="VaR", run=run.id, conn="cml_default")

    assert value == run.id
    assert set(CmlJobRunSensor.template_fields) >= {"project", "job", "run_id", "run_key", "since", "cml_conn_id"}


# ---------------------------------------------------------------- deferral


@pytest.mark.parametrize(
    ("ending", "options", "expected"),
    [
        ("succeeded", {}, None),
        ("failed", {}, CmlRunFailedError),
        ("failed", {"soft_fail": True}, AirflowSkipException),
        ("failed", {"never_fail": True}, AirflowSkipException),
    ],
)
def test_run_that_is_over_never_defers(
    make: Make, workspace: Workspace, job: Job, ending: str, options: dict[str, bool], expected: type[Exception] | None
) -> None:
    """One look decides where the run is over already, by the same table."""
    run = workspace.add_run(job, ending)
    sensor = make(run_id=run.id, deferrable=True, **options)
    if expected is None:
        assert sensor.execute(context_of(sensor)) == run.id
    else:
        with pytest.raises(expected):
            sensor.execute(context_of(sensor))


@pytest.mark.parametrize(("poll_interval", "gap"), [(None, 0.05), (0.1, 0.1)])
def test_what_the_triggerer_is_given(
    make: Make, workspace: Workspace, job: Job, poll_interval: float | None, gap: float
) -> None:
    """The trigger gets JSON primitives, no secret, the gap asked for; Airflow's own timeout is only the backstop."""
    job.life = Life(running=None)
    run = workspace.start(job)
    sensor = partial(make, run_id=run.id, deferrable=True, poll_interval=poll_interval)
    ran = run_task(sensor, context_of(sensor()), asleep=lambda: end_active_run(workspace, job))
    (deferral,) = ran.deferrals
    _, arguments = deferral.trigger.serialize()

    assert json.loads(json.dumps(arguments)) == arguments
    assert PASSWORD not in json.dumps(arguments)
    assert arguments["poll_interval"] == gap
    assert deferral.timeout == timedelta(seconds=5 + 120)


@pytest.mark.parametrize("seconds", [1e12, timedelta.max])
def test_time_without_end(make: Make, workspace: Workspace, job: Job, seconds: Any) -> None:
    """Airflow adds the time of a deferral to a date, and no date is later than the year 9999."""
    job.life = Life(running=None)
    run = workspace.start(job)
    sensor = make(run_id=run.id, deferrable=True, timeout=seconds)
    with pytest.raises(TaskDeferred) as caught:
        sensor.execute(context_of(sensor))
    assert caught.value.timeout is not None

    assert datetime.now(UTC) + caught.value.timeout > datetime.now(UTC) + timedelta(days=3_600)


def test_run_that_was_seen_is_not_lost(make: Make, connections: Emulator, workspace: Workspace, job: Job) -> None:
    """By its key a run is looked up once; a hundred refused starts later it could not be found any more."""
    job.life = Life(running=None)
    run = workspace.start(job, {"AIRFLOW_RUN_KEY": KEY})
    sensor = make(run_key=KEY)
    context = context_of(sensor)
    first = sensor.poke(context)
    workspace.set_status(run, "succeeded")
    for number in range(110):
        workspace.add_run(job, "skipped", created_at=time.time() + number)
    second = sensor.poke(context)

    assert (first.is_done, second.is_done, second.xcom_value) == (False, True, run.id)
    assert connections.ledger.count("ListJobRuns") == 1


def test_triggerer_is_told_of_the_run_that_was_seen(
    make: Make, connections: Emulator, workspace: Workspace, job: Job
) -> None:
    """The trigger looks at that run, and need not find it once more."""
    job.life = Life(running=None)
    run = workspace.start(job, {"AIRFLOW_RUN_KEY": KEY})
    sensor = partial(make, run_key=KEY, deferrable=True)
    ran = run_task(sensor, context_of(sensor()), asleep=lambda: end_active_run(workspace, job))

    assert (len(ran.deferrals), ran.value) == (1, run.id)
    assert connections.ledger.count("ListJobRuns") == 1


@pytest.mark.parametrize(("soft_fail", "expected"), [(False, CmlSensorTimeout), (True, AirflowSkipException)])
def test_event_that_never_came_is_a_timeout(make: Make, soft_fail: bool, expected: type[Exception]) -> None:
    """Airflow's word for a deferral past its backstop ends the sensor as any timeout does, in every version."""
    sensor = make(run_id="0000000000000000", deferrable=True, soft_fail=soft_fail)
    with pytest.raises(expected, match="watched 0000000000000000 did not report in time") as caught:
        sensor.resume_execution("__fail__", {"error": "Trigger timeout"}, context_of(sensor))

    assert caught.type is expected


@pytest.mark.parametrize("soft_fail", [False, True])
def test_trigger_that_could_not_run_is_no_timeout(make: Make, soft_fail: bool) -> None:
    """A triggerer without this package is no verdict about the run: that fails, and may be tried again."""
    sensor = make(run_id="0000000000000000", deferrable=True, soft_fail=soft_fail)
    with pytest.raises(CmlUnansweredError, match="could not run the wait"):
        sensor.resume_execution("__fail__", {"error": "Trigger failure"}, context_of(sensor))


@pytest.mark.parametrize("soft_fail", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize(("ending", "expected"), [("failed", CmlRunFailedError), (None, CmlSensorTimeout)])
def test_connection_that_is_gone_at_the_wake_up(
    make: Make,
    connections: Emulator,
    workspace: Workspace,
    job: Job,
    soft_fail: bool,
    ending: str | None,
    expected: type[Exception],
) -> None:
    """The event says how the wait ended: who cannot be asked for reason and link changes nothing of that."""
    job.life = Life(running=None)
    run = workspace.start(job)
    asleep = make(run_id=run.id, deferrable=True, timeout=0.3)
    with pytest.raises(TaskDeferred) as deferral:
        asleep.execute(context_of(asleep))
    if ending is not None:
        workspace.set_status(run, ending)
    event = fire(deferral.value)
    awake = make(run_id=run.id, deferrable=True, timeout=0.3, soft_fail=soft_fail, cml_conn_id="gone")
    with pytest.raises(AirflowSkipException if soft_fail else expected) as caught:
        awake.resume_execution("execute_complete", {"event": event}, context_of(awake))
    error = caught.value.__cause__ if soft_fail else caught.value

    assert isinstance(error, expected)
    assert (error.run_id, error.job_id, error.run_url) == (run.id, job.id, "")  # type: ignore[attr-defined]


# ---------------------------------------------------------------- time


@pytest.mark.parametrize("soft_fail", [False, True], ids=["hard", "soft"])
def test_time_over_names_the_run(
    make: Make,
    connections: Emulator,
    workspace: Workspace,
    job: Job,
    mode: dict[str, Any],
    monkeypatch: Any,
    soft_fail: bool,
) -> None:
    """In every mode: which run, its last status, its age, and where to look; the run is left alone."""
    job.life = Life(running=None)
    run = workspace.start(job)
    with pytest.raises((CmlSensorTimeout, AirflowSkipException)) as caught:
        sense(partial(make, run_id=run.id, timeout=0.3, soft_fail=soft_fail, **mode), monkeypatch)
    error = caught.value.__cause__ if soft_fail else caught.value

    assert isinstance(error, CmlSensorTimeout)
    assert f"Run {run.id} of job {job.id} was still ENGINE_RUNNING when the sensor's timeout of 0.3 s" in str(
        caught.value
    )
    assert "it was 0:00:0" in str(caught.value)
    assert f"{connections.url}/alice/risk-analysis/jobs" in str(caught.value)
    assert (error.run_id, error.job_id, error.project_id) == (run.id, job.id, job.project_id)
    assert (error.status, error.run_url) == ("ENGINE_RUNNING", f"{connections.url}/alice/risk-analysis/jobs")
    assert connections.ledger.count("StopJobRun") == 0


@pytest.mark.parametrize("soft_fail", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize("name", ["poke", "deferred"])
def test_execution_timeout(
    make: Make, connections: Emulator, workspace: Workspace, job: Job, monkeypatch: Any, name: str, soft_fail: bool
) -> None:
    """Airflow's own clock ends the wait in worker and triggerer alike, though Airflow 3 stops it while deferred."""
    job.life = Life(running=None)
    run = workspace.start(job)
    limit = timedelta(seconds=0.4)
    sensor = partial(make, run_id=run.id, soft_fail=soft_fail, execution_timeout=limit, timeout=60, **MODES[name])
    looked = execution_timeout_when(lambda: connections.ledger.count("GetJobRun"))
    watched_by_airflow = looked if name == "poke" else nullcontext()
    with watched_by_airflow, pytest.raises((CmlTimeoutError, AirflowSkipException)) as caught:
        sense(sensor, monkeypatch)

    assert caught.type is (AirflowSkipException if soft_fail else CmlTimeoutError)
    assert f"Run {run.id} of job {job.id} was still ENGINE_RUNNING when execution_timeout struck" in str(caught.value)


@pytest.mark.parametrize("there", [True, False], ids=["with a run", "without"])
def test_execution_timeout_is_told_by_a_sensor_that_has_slept(
    make: Make, connections: Emulator, workspace: Workspace, job: Job, there: bool
) -> None:
    """2.11 has Airflow count anew at the wake-up; which clock struck is still told by the time that was given."""
    job.life = Life(running=None)
    run_id = workspace.start(job).id if there else None
    named = {"run_id": run_id} if there else {"run_key": KEY}
    given = {"timeout": 3600, "execution_timeout": timedelta(seconds=3000), "deferrable": True, **named}
    asleep = make(**{**given, "execution_timeout": timedelta(seconds=0.1)})
    with pytest.raises(TaskDeferred) as deferral:
        asleep.execute(context_of(asleep))
    awake = make(**given)
    context = context_of(awake)
    context["ti"].next_method = "execute_complete"
    context["ti"].start_date = datetime.now(UTC) - timedelta(seconds=3000)
    awake.pre_execute(context)
    with pytest.raises(CmlTimeoutError, match=r"(?i)execution_timeout struck") as caught:
        awake.resume_execution("execute_complete", {"event": fire(deferral.value)}, context)

    assert caught.value.run_id == (run_id or "")


def test_silent_fail_is_not_silent_about_the_run(
    make: Make, workspace: Workspace, job: Job, mode: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that failed ends the sensor at the first look; Airflow's base class would look again until time is over."""
    run = workspace.add_run(job, "failed")
    with pytest.raises(CmlRunFailedError):
        sense(partial(make, run_id=run.id, silent_fail=True, **mode), monkeypatch)


def test_status_nobody_knows_may_pass(
    make: Make, connections: Emulator, workspace: Workspace, job: Job, mode: dict[str, Any], monkeypatch: Any
) -> None:
    """A run that is UNKNOWN for a while, and then goes on and succeeds, is green in every mode."""
    job.life = Life(running=None)
    run = workspace.start(job)
    workspace.set_status(run, "unknown")

    def hear(entry: Any) -> None:
        looks = connections.ledger.count("GetJobRun")
        if entry.operation == "GetJobRun" and looks in {3, 5}:
            workspace.set_status(run, "running" if looks == 3 else "succeeded")

    connections.ledger.listeners.append(hear)

    assert sense(partial(make, run_id=run.id, **mode), monkeypatch) == run.id


@pytest.mark.parametrize("soft_fail", [False, True])
@pytest.mark.parametrize("event", [{}, {"version": 0}, {"status": "success"}])
def test_event_that_cannot_be_read_is_no_success(make: Make, soft_fail: bool, event: Any) -> None:
    """An event that is not whole fails, soft_fail or not."""
    sensor = make(run_id="0000000000000000", deferrable=True, soft_fail=soft_fail)
    with pytest.raises(CmlRefusedFailError, match="cannot be read"):
        sensor.resume_execution("execute_complete", {"event": event}, context_of(sensor))
