"""The start conversation over real sockets: both transports against the emulator, judged by the emulator's ledger.

The model test next door looks at many more schedules, in virtual time and with answers made by hand. Here the requests
are sent, connections break, answers come too late, processes are interrupted in the midst, and the server decides what
ran. Time passes 200 times as fast, or 100 times (`quickened`); all proportions are those of life.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_cml.api.conversations import history, starting
from airflow_provider_cml.api.conversations.finding import JobIds
from airflow_provider_cml.api.conversations.posting import GRACE
from airflow_provider_cml.api.conversations.start import Busy, Origin, Start, Started
from airflow_provider_cml.api.conversations.starting import start_exactly_once
from airflow_provider_cml.api.conversations.starting_v1 import LegacyStart, start_job_when_free
from airflow_provider_cml.api.endpoint import ApiVersion, Endpoint
from airflow_provider_cml.api.errors import CmlUnavailableError
from airflow_provider_cml.api.run_key import RUN_KEY_VARIABLE, RunKey
from airflow_provider_cml.api.transports import AsyncTransport
from airflow_provider_cml.emulator import Emulator, Job, Life, Project, RequestRecord, Run, RunRecord, Status, Workspace
from tests.api.exactly_once.one_try import Ending, OneTry
from tests.api.exactly_once.quickened import PACE, KilledError, Process, quickened
from tests.api.exactly_once.socket_faults import LATE
from tests.api.exactly_once.socket_stories import Story, endpoint_of, play_awaiting, play_blocking
from tests.api.exactly_once.truth import Truth

if TYPE_CHECKING:
    from tests.api.conftest import Driver

    Drive = Callable[[Endpoint], Driver]

STORIES = 80
"""Schedules of each of the four tests by chance."""
AT_ONCE = 24
"""Stories played at the same time."""
SECONDS = 45.0
"""Seconds of ours after which stories are taken never to end."""

SLOWER = 100.0
"""The pace where a slow machine must not change what is expected."""
START = 1_700_000_000_000_000
"""When the dag run of the told stories started, in microseconds since 1970."""


# ----------------------------------------------------------------------------------------------------- by chance


@pytest.mark.parametrize("page", [None, 3], ids=["whole lists", "pages of 3"])
@pytest.mark.parametrize("library", ["requests", "aiohttp"])
def test_schedules_by_chance(library: str, page: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever breaks on the way, whoever dies, and whoever else uses the job: no task's job runs twice."""
    # The one number that is compared with times the server writes.
    monkeypatch.setattr(history, "LISTED_WITHIN", history.LISTED_WITHIN / PACE)
    workspace = Workspace(stopping=3.0 / PACE, page_size_cap=page)
    workspace.add_project("alice", "Risk Analysis")
    first = {"requests": 0, "aiohttp": 100_000}[library] + (page or 0) * 10_000

    with Emulator(workspace) as emulator:
        stories = [Story(seed, emulator, PACE) for seed in range(first, first + STORIES)]
        if library == "requests":
            _play_blocking(stories, emulator)
        else:
            asyncio.run(_play_awaiting(stories, emulator))
        time.sleep(2 * LATE / PACE)
        truths = list(_truths(stories, emulator))

    assert [story.seed for story in stories if story.goes_on] == []
    judged = [(truth, posts) for truth, posts in truths if truth.was_in_time()]
    broken = {truth: found for truth, posts in judged if (found := list(truth.broken(posts)))}
    assert not broken, "\n\n".join("\n".join([*found, truth.told()]) for truth, found in broken.items())
    assert len(judged) >= STORIES / 2, "this machine is too slow to say anything"
    endings = Counter(tried.ending for story in stories for tried in story.tried)
    assert min(endings[Ending.GREEN], endings[Ending.KILLED]) >= STORIES / 4, endings


def _play_blocking(stories: list[Story], emulator: Emulator) -> None:
    endpoint = endpoint_of(emulator, PACE)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for played in [pool.submit(play_blocking, story, endpoint) for story in stories]:
            played.result(SECONDS)


async def _play_awaiting(stories: list[Story], emulator: Emulator) -> None:
    transport = AsyncTransport(endpoint_of(emulator, PACE), connections=4 * AT_ONCE)
    room = asyncio.Semaphore(AT_ONCE)

    async def play(story: Story) -> None:
        async with room, asyncio.timeout(SECONDS):
            await play_awaiting(story, transport)

    await asyncio.gather(*map(play, stories))
    await transport.close()


def _truths(stories: list[Story], emulator: Emulator) -> Iterator[tuple[Truth, int]]:
    """Each story with its runs, and the number of starts that reached the server."""
    runs: dict[str, list[RunRecord]] = {story.job.id: [] for story in stories}
    for run in emulator.ledger.runs():
        runs[run.job_id].append(run)
    posts = Counter(request.path.split("/")[-2] for request in emulator.ledger.requests("CreateJobRun"))
    for story in stories:
        yield Truth(story, runs[story.job.id], emulator), posts[story.job.id]


# ----------------------------------------------------------------------------------------------------- one by one


class Told:
    """One task on one job, its tries told one by one."""

    def __init__(self, cml: Emulator, job: Job, drive: Drive, pace: float = SLOWER) -> None:
        self.cml = cml
        self.job = job
        self.ids = JobIds(job.project_id, job.id)
        self.driver = drive(endpoint_of(cml, pace))
        self.pace = pace
        self.taken: list[Started] = []
        self.sent_at: list[float] = []

    def key(self, number: int = 1, max_tries: int = 2) -> RunKey:
        return RunKey("here", "dag", "run", "task", -1, START, max_tries, 2, number)

    def plays(self, key: RunKey, last_wish: int | None = None) -> Ending:
        """How a try ends; with `last_wish` its process dies before it hears what came of that."""
        process = Process(self.pace, last_wish, is_heard=True)
        one_try = OneTry(Start(self.ids, key), self.taken.append, lambda _text: None)
        try:
            return self.driver.perform(quickened(one_try.play(), process))
        except KilledError:
            return Ending.KILLED
        finally:
            self.sent_at += [sent.at for sent in process.sent]

    def somebody_starts_it(self) -> str:
        """A run of somebody else begins; its id."""
        return self.cml.workspace.start(self.job, {"WHO": "somebody"}).id

    @property
    def posts(self) -> int:
        """Starts that reached the server."""
        return self.cml.ledger.count("CreateJobRun")

    @property
    def own(self) -> list[RunRecord]:
        """Our runs, refusals not among them."""
        return [run for run in self.cml.ledger.executed() if RUN_KEY_VARIABLE in run.environment]

    def stops_of(self, run_id: str) -> int:
        return next(run.stop_requests for run in self.cml.ledger.runs() if run.id == run_id)


@pytest.fixture
def told(cml: Emulator, workspace: Workspace, project: Project, drive: Drive) -> Told:
    """A job whose runs take ten seconds, or thirty if somebody else starts them."""

    def life(run: Run) -> Life:
        return Life(running=(30.0 if run.api == "hand" else 10.0) / SLOWER)

    return Told(cml, workspace.add_job(project, "told", number=9, life=life), drive)


def test_the_happy_path_costs_one_look_and_one_start(cml: Emulator, job: Job, drive: Drive) -> None:
    """Where nothing is in the way, a start is one list and one POST, at the pace of life."""
    told = Told(cml, job, drive, pace=1.0)

    found = told.driver.perform(start_exactly_once(Start(told.ids, told.key())))

    assert isinstance(found, Started)
    assert cml.ledger.counts() == {"ListJobRuns": 1, "CreateJobRun": 1}
    assert [(run.id, run.api) for run in cml.ledger.runs()] == [(found.run.id, "v2")]


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        pytest.param("drop_after", {}, id="dropped"),
        pytest.param("error_after", {"status": 500}, id="500"),
        pytest.param("broken_json", {}, id="cut"),
        pytest.param("delay_answer", {"seconds": 75.0 / SLOWER}, id="75 s late"),
    ],
)
def test_a_start_whose_answer_is_lost_after_the_effect_is_found(
    told: Told, kind: str, settings: Mapping[str, object]
) -> None:
    """The run is there, only the answer is not: it is found by its key, and nothing is sent again."""
    told.cml.fault("CreateJobRun", kind, count=1, **settings)

    assert told.plays(told.key()) is Ending.GREEN
    assert (told.posts, len(told.own), told.taken[0].origin) == (1, 1, Origin.FOUND)


@pytest.mark.parametrize("status", [None, 504], ids=["dropped", "504"])
def test_a_start_that_takes_effect_75_s_later_is_found(told: Told, status: int | None) -> None:
    """The answer is lost at once and the run begins 75 s later: it is waited for, and nothing is sent again."""
    told.cml.fault("CreateJobRun", "late_effect", count=1, seconds=75.0 / SLOWER, status=status)

    assert told.plays(told.key()) is Ending.GREEN
    assert (told.posts, len(told.own), told.taken[0].origin) == (1, 1, Origin.FOUND)


def test_a_start_that_had_no_effect_is_sent_again_when_its_time_is_over(told: Told) -> None:
    """A 502 may hide a run, so the second POST waits until the first can no longer take effect."""
    told.cml.fault("CreateJobRun", "error_before", count=1, status=502)

    assert told.plays(told.key()) is Ending.GREEN
    assert (told.posts, len(told.own)) == (2, 1)
    assert told.sent_at[1] - told.sent_at[0] >= GRACE / SLOWER


@pytest.mark.parametrize("status", [400, 409, 412, 200])
def test_a_job_that_is_seen_busy_is_waited_for(told: Told, status: int) -> None:
    """While somebody else's run is active nothing is sent; then one start makes one run."""
    told.cml.fault("CreateJobRun", "busy", status=status)
    stranger = told.somebody_starts_it()

    assert told.plays(told.key()) is Ending.GREEN
    assert (told.posts, len(told.own), told.stops_of(stranger)) == (1, 1, 0)


@pytest.mark.parametrize("status", [400, 409, 412, 200])
def test_a_start_refused_by_a_busy_job_is_sent_again_when_it_is_free(
    told: Told, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody starts the job just after our look: whatever CML calls it, that costs one refusal."""
    monkeypatch.setattr(starting, "FRESH", math.inf)  # one look before the start, however slow this machine is
    told.cml.fault("CreateJobRun", "busy", status=status)
    strangers: list[str] = []

    def after_the_first_look(request: RequestRecord) -> None:
        if request.operation == "ListJobRuns" and not strangers:
            strangers.append(told.somebody_starts_it())

    told.cml.ledger.listeners.append(after_the_first_look)

    assert told.plays(told.key()) is Ending.GREEN
    assert (told.posts, len(told.own), told.stops_of(strangers[0])) == (2, 1, 0)


def test_a_start_on_its_way_when_its_process_dies_is_carried_on_with(told: Told) -> None:
    """The retry begins at once, and the dead process's start takes effect 60 s later: it is waited for and found."""
    told.cml.fault("CreateJobRun", "late_effect", count=1, seconds=60.0 / SLOWER)

    assert told.plays(told.key(), last_wish=2) is Ending.KILLED
    assert told.plays(told.key(2)) is Ending.GREEN
    assert (told.posts, len(told.own)) == (1, 1)


def test_a_clear_stops_what_is_left_and_starts_anew(told: Told) -> None:
    """The run of before the clear is stopped, once, and then the job runs again."""
    told.job.life = [Life(running=300.0 / SLOWER), Life(running=0.0)]

    assert told.plays(told.key(), last_wish=2) is Ending.KILLED
    assert told.plays(told.key(2, max_tries=3)) is Ending.GREEN
    assert [(run.status, run.stop_requests) for run in told.own] == [(Status.STOPPED, 1), (Status.SUCCEEDED, 0)]


# ------------------------------------------------------------------------------------------------------- API v1


def _start_through_v1(told: Told, drive: Drive, **settings: Any) -> str | Busy:
    endpoint = replace(endpoint_of(told.cml, SLOWER), api_version=ApiVersion.V1, key=told.cml.legacy_key)
    start = LegacyStart("alice", "risk-analysis", "9", {RUN_KEY_VARIABLE: str(told.key())}, **settings)
    return drive(endpoint).perform(quickened(start_job_when_free(start), Process(SLOWER)))


@pytest.mark.parametrize("kind", ["drop_before", "drop_after", "error_after", "late_effect"])
def test_a_start_through_v1_is_never_sent_again_when_its_answer_is_lost(told: Told, drive: Drive, kind: str) -> None:
    """v1 shows no runs, so nobody can tell whether a lost start took effect: it fails, saying that it was sent."""
    told.cml.fault("v1.StartJob", kind, count=1)

    with pytest.raises(CmlUnavailableError) as caught:
        _start_through_v1(told, drive)

    assert caught.value.sent
    assert told.cml.ledger.counts() == {"v1.StartJob": 1}


@pytest.mark.parametrize("status", [400, 409, 412])
def test_a_start_through_v1_waits_for_a_busy_job_and_starts_once(told: Told, drive: Drive, status: int) -> None:
    """Refusals have no effect, so the start is repeated, seldom, until the job is free."""
    told.cml.fault("v1.StartJob", "busy", status=status)
    stranger = told.somebody_starts_it()

    engine_id = _start_through_v1(told, drive)

    time.sleep(20.0 / SLOWER)
    assert [run.engine_id for run in told.own] == [engine_id]
    assert 2 <= told.cml.ledger.count("v1.StartJob") <= 3
    assert told.stops_of(stranger) == 0
