"""CML's own retries: a run that failed is followed to the one made of it, by its key and by nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_cml.api.conversations.succession import (
    LATENESS,
    find_last_retry,
    find_successor,
    watch_retries,
)
from airflow_provider_cml.api.conversations.watching import Ending, Pace, Target
from tests.api.conversations.paper import IDS, KEY, PaperJob
from tests.api.playing import document, grpc_error, lost

if TYPE_CHECKING:
    from airflow_provider_cml.api.conversations.watching import Outcome as Ended
    from airflow_provider_cml.api.models import JobRun
    from airflow_provider_cml.api.wire import Request
    from tests.api.playing import Outcome

DELAY = 60
RETRIED = {"retry_enabled": True, "max_retry": 2, "retry_delay": DELAY, "retry_for_script_failure": True}


class RetriedJob(PaperJob):
    """A paper job that says how CML retries it. What it makes again, the test makes."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.settings: Outcome | None = None
        self.fields = {"id": IDS.job_id, "name": "nightly", **RETRIED, **settings}
        self.followed: list[str] = []

    def _answer(self, request: Request) -> Outcome:
        if request.path.endswith(f"/jobs/{IDS.job_id}"):
            return self.settings or document(self.fields)
        return super()._answer(request)

    def make_again(self, seconds: float, status: str = "running", post: str = "1.aaaa") -> None:
        self.player.at(seconds, lambda: self.add(status, KEY, post, age=0))

    def end_newest(self, seconds: float, status: str) -> None:
        self.player.at(seconds, lambda: self.set(self.executed[0], status))

    def watch(self, run_id: str, **pace: Any) -> Ended:
        def turn_to(run: JobRun) -> None:
            self.followed.append(run.id)

        return self.player.play(watch_retries(Target(IDS, run_id=run_id), Pace(**pace), turn_to))

    def run_of(self, ended: Ended) -> tuple[str, str]:
        assert ended.run is not None
        return ended.run.id, str(ended.run.status)


@pytest.mark.parametrize(
    ("ending", "settings"),
    [
        ("failed", {}),
        ("failed", {"retry_for_script_failure": False, "retry_for_system_failure": True}),
        ("timedout", {"retry_for_script_failure": False, "retry_for_timedout_runs": True}),
    ],
)
def test_a_retry_that_succeeds_decides(ending: str, settings: dict[str, Any]) -> None:
    """The run failed, CML makes it again after its delay, and that one's end is the outcome; all of it is said."""
    paper = RetriedJob(**settings)
    first = paper.add("running", KEY, age=5)
    paper.set(first, ending, after=100)
    paper.make_again(100 + DELAY)
    paper.end_newest(300, "succeeded")

    ended = paper.watch(first)

    assert ended.ending is Ending.OVER
    assert paper.run_of(ended) == (paper.executed[0], "succeeded")
    assert paper.followed == [paper.executed[0]]
    assert f"CML's Job Retry has made run {paper.executed[0]} of run {first}" in paper.player.said


def test_a_chain_of_retries_is_followed_to_its_end() -> None:
    """Each retry that fails is followed by the next; when max_retry is reached nothing more is waited for."""
    paper = RetriedJob()
    first = paper.add("failed", KEY, age=5)
    paper.make_again(DELAY)
    paper.end_newest(100, "failed")
    paper.make_again(100 + DELAY)
    paper.end_newest(200, "failed")

    ended = paper.watch(first, poll_interval=5.0)

    assert paper.run_of(ended) == (paper.executed[0], "failed")
    assert paper.followed == [paper.executed[1], paper.executed[0]]
    assert "its retries are used up" in paper.player.said
    assert paper.player.now < 1000 + 200 + 30


def test_a_chain_found_late_is_entered_at_its_end() -> None:
    """A wait that begins anew, as after a restart of the triggerer, goes straight to the newest."""
    paper = RetriedJob()
    first = paper.add("failed", KEY, age=500)
    paper.add("failed", KEY, age=400)
    newest = paper.add("running", KEY, age=300)
    paper.set(newest, "succeeded", after=50)

    ended = paper.watch(first)

    assert paper.run_of(ended) == (newest, "succeeded")
    assert paper.followed == [newest]


@pytest.mark.parametrize("post", ["2.bbbb", None], ids=["another start of this try", "somebody else's"])
def test_a_run_without_that_very_key_is_a_strangers(post: str | None) -> None:
    """Only the whole key proves a successor; nothing else that starts meanwhile is followed."""
    paper = RetriedJob()
    first = paper.add("failed", KEY, age=5)
    paper.player.at(DELAY, lambda: paper.add("running", None if post is None else KEY, post or "", age=0))

    ended = paper.watch(first)

    assert paper.run_of(ended) == (first, "failed")
    assert paper.followed == []
    assert DELAY + LATENESS <= paper.player.now - 1000 <= DELAY + LATENESS + 30
    assert "none has come" in paper.player.said


def test_an_earlier_run_with_the_key_is_no_successor() -> None:
    """Of an adopted retry, its forerunner carries the same key and is older."""
    paper = RetriedJob(max_retry=1)
    paper.add("failed", KEY, age=500)
    second = paper.add("failed", KEY, age=5)

    assert paper.run_of(paper.watch(second)) == (second, "failed")
    assert paper.followed == []
    assert paper.player.now == 1000


@pytest.mark.parametrize(
    ("status", "settings"),
    [
        ("failed", {"retry_enabled": False}),
        ("failed", {"retry_for_script_failure": False, "retry_for_timedout_runs": True}),
        ("timedout", {}),
        ("stopped", {"retry_for_timedout_runs": True}),
        ("skipped", {"retry_for_skipped_runs": True}),
        ("succeeded", {}),
    ],
)
def test_what_cml_does_not_retry_is_not_waited_for(status: str, settings: dict[str, Any]) -> None:
    """One look at the job at most, and no wait."""
    paper = RetriedJob(**settings)
    run_id = paper.add(status, KEY, age=5)

    assert paper.run_of(paper.watch(run_id)) == (run_id, status)
    assert paper.player.now == 1000
    assert len(paper.player.requests) <= 2


def test_a_run_without_a_key_cannot_be_followed() -> None:
    """It is said, and no look at the job is wasted on it."""
    paper = RetriedJob()
    run_id = paper.add("failed", None, age=5)

    assert paper.run_of(paper.watch(run_id)) == (run_id, "failed")
    assert "carries no key" in paper.player.said
    assert len(paper.player.requests) == 1


def test_a_retry_that_cml_skipped_counts() -> None:
    """A refused retry is not followed. It is one of the allowed number, and may be made again."""
    paper = RetriedJob(retry_for_skipped_runs=True)
    first = paper.add("failed", KEY, age=5)
    paper.make_again(DELAY, "skipped")
    paper.make_again(2 * DELAY)
    paper.end_newest(200, "succeeded")

    ended = paper.watch(first)

    assert paper.run_of(ended) == (paper.executed[0], "succeeded")
    assert paper.followed == [paper.executed[0]]


def test_a_retry_that_cml_skipped_for_good_ends_the_wait() -> None:
    """Where skipped runs are not made again, nothing is to come."""
    paper = RetriedJob()
    first = paper.add("failed", KEY, age=5)
    paper.make_again(DELAY, "skipped")

    assert paper.run_of(paper.watch(first)) == (first, "failed")
    assert paper.player.now < 1000 + 2 * DELAY


def test_lists_without_environments_are_asked_singly() -> None:
    """That lists show environments is inferred; a run asked for by itself does."""
    paper = RetriedJob()
    paper.list_echoes = False
    first = paper.add("failed", KEY, age=5)
    paper.make_again(DELAY)
    paper.end_newest(200, "succeeded")

    assert paper.run_of(paper.watch(first))[1] == "succeeded"


@pytest.mark.parametrize(
    ("list_echoes", "others"),
    [
        pytest.param(True, [("succeeded", 150)], id="many runs"),
        pytest.param(False, [("succeeded", 5), ("skipped", 15)], id="refusals in a list without environments"),
    ],
)
def test_a_successor_is_found_below_many_others(list_echoes: bool, others: list[tuple[str, int]]) -> None:
    """Whoever looks late finds it wherever it is above the run it replaces."""
    paper = RetriedJob()
    paper.list_echoes = list_echoes
    first = paper.add("failed", KEY, age=5000)
    successor = paper.add("succeeded", KEY, age=4900)
    for status, count in others:
        for number in range(count):
            paper.add(status, age=4000 - number)

    assert paper.run_of(paper.watch(first)) == (successor, "succeeded")


def test_time_covers_the_wait_for_a_successor() -> None:
    """When the time given is over before one has come, the run that failed decides."""
    paper = RetriedJob()
    first = paper.add("failed", KEY, age=5)

    ended = paper.watch(first, timeout=DELAY / 2)

    assert (ended.ending, paper.run_of(ended)) == (Ending.OVER, (first, "failed"))
    assert paper.player.now == 1000 + DELAY / 2


def test_time_covers_the_successor() -> None:
    """A successor that is not over in time is what the outcome carries, for whoever stops it."""
    paper = RetriedJob()
    first = paper.add("failed", KEY, age=5)
    paper.make_again(DELAY)

    ended = paper.watch(first, timeout=DELAY * 2.0)

    assert ended.ending is Ending.TIMED_OUT
    assert paper.run_of(ended) == (paper.executed[0], "running")
    assert paper.followed == [paper.executed[0]]


def test_a_refusal_leaves_the_failure_as_it_is() -> None:
    """A key that may not look at the job changes nothing about the run: it failed."""
    paper = RetriedJob()
    paper.settings = grpc_error(403, "permission denied", 7)
    first = paper.add("failed", KEY, age=5)

    ended = paper.watch(first)

    assert (ended.ending, paper.run_of(ended)) == (Ending.OVER, (first, "failed"))
    assert "refused to tell" in paper.player.said


def test_a_workspace_that_cannot_be_asked_says_nothing() -> None:
    """Whether a successor runs is then not known: that is not a failure of the run."""
    paper = RetriedJob()
    paper.settings = lost()
    first = paper.add("failed", KEY, age=5)

    assert paper.watch(first).ending is Ending.UNANSWERED


def test_no_limit_of_retries_known() -> None:
    """Without a number only time ends the wait."""
    paper = RetriedJob(max_retry=0)
    first = paper.add("failed", KEY, age=5)

    assert paper.run_of(paper.watch(first)) == (first, "failed")
    assert paper.player.now >= 1000 + DELAY + LATENESS


def test_nothing_is_asked_about_a_run_that_goes_on() -> None:
    """Only bad endings have successors."""
    paper = RetriedJob()
    run_id = paper.add("running", KEY, age=5)
    run = paper.player.play(watch_active(run_id))

    assert paper.player.play(find_successor(IDS, run, {run_id}, None, 30.0)) is None
    assert len(paper.player.requests) == 1


def watch_active(run_id: str) -> Any:
    from airflow_provider_cml.api import v2

    return v2.get_job_run(IDS.project_id, IDS.job_id, run_id)


@pytest.mark.parametrize(("last", "status"), [("failed", "failed"), ("running", "running"), ("succeeded", "succeeded")])
def test_the_last_of_a_chain(last: str, status: str) -> None:
    """For somebody who looks now and then: the newest run made of one that failed, over or not."""
    paper = RetriedJob()
    first = paper.add("failed", KEY, age=500)
    paper.add("failed", KEY, age=400)
    newest = paper.add(last, KEY, age=300)
    run = paper.player.play(watch_active(first))

    found = paper.player.play(find_last_retry(IDS, run, None, 30.0))

    assert (found.id, str(found.status)) == (newest, status)
    assert paper.player.now == 1000


def test_the_last_of_a_chain_is_waited_for_in_time() -> None:
    """Where one may still come, as long as the time given lasts; then the run itself is the last."""
    paper = RetriedJob()
    first = paper.add("failed", KEY, age=5)
    run = paper.player.play(watch_active(first))

    assert paper.player.play(find_last_retry(IDS, run, DELAY / 2, 30.0)) == run
    assert paper.player.now == 1000 + DELAY / 2
