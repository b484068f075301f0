"""The chain of child jobs that CML starts below a run, and how it ends."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_cml.api import decoding
from airflow_provider_cml.api.conversations.chain import CHILD_WITHIN, Chain, follow_chain
from airflow_provider_cml.api.conversations.finding import JobIds
from airflow_provider_cml.api.conversations.waiting import UNKNOWN_BOUND
from airflow_provider_cml.api.conversations.watching import Pace
from airflow_provider_cml.api.errors import CmlProtocolError, CmlUnknownStatusError, CmlWaitTimeoutError
from airflow_provider_cml.api.wire import Response
from tests.api.conversations.paper import EPOCH
from tests.api.playing import Player, document

if TYPE_CHECKING:
    from airflow_provider_cml.api.models import JobRun
    from airflow_provider_cml.api.wire import Request

PROJECT = "k9yi-cww6-iw3w-buq0"
IDS = JobIds(PROJECT, "load")


class Family:
    """Jobs of one project, on paper: `load` at the top, and below it whoever names a parent."""

    def __init__(self, **parents: str) -> None:
        self.player = Player(self._answer)
        self.parents = parents
        self.paused: set[str] = set()
        self.runs: dict[str, list[dict[str, Any]]] = {name: [] for name in ("load", *parents)}
        self.delay = 1.0
        self.fates: dict[str, str | None] = {}
        """How the runs of a job end, ten seconds after they began; None: they do not. All others succeed."""
        self.top = self.decoded(self.start("load"))

    def start(self, job: str, *, status: str = "running") -> dict[str, Any]:
        """A run of a job, which ends by itself."""
        run = {"id": f"{job}-{len(self.runs[job]) + 1}", "job": job, "status": status, "created": self.player.now}
        self.runs[job].append(run)
        fate = self.fates.get(job, "succeeded")
        if job != "load" and status == "running" and fate is not None:
            self.player.at(10.0, lambda: self.end(run, fate))
        return run

    def end(self, run: dict[str, Any], status: str = "succeeded") -> JobRun:
        """The end of a run; CML starts the children of its job a little later if it succeeded."""
        run |= {"status": status, "finished": self.player.now}
        if status == "succeeded":
            for child, parent in self.parents.items():
                if parent == run["job"] and child not in self.paused:
                    self.player.at(self.delay, lambda child=child: self.start(child))
        return self.decoded(run)

    def top_ends(self) -> Chain:
        """The run at the top succeeds; the chain below it."""
        self.top = self.end(self.runs["load"][0])
        return Chain(IDS, self.top)

    @property
    def moment(self) -> datetime:
        return EPOCH + timedelta(seconds=self.player.now)

    def follow(self, chain: Chain, **pace: Any) -> list[str]:
        """Wait for the end of the chain; its links in a word each."""
        self.player.play(chain.follow(Pace(**pace), self.moment))
        return told(chain)

    def decoded(self, run: dict[str, Any]) -> JobRun:
        return decoding.job_run(self._shown(run))

    def _answer(self, request: Request) -> Response:
        path = request.path.removeprefix(f"/api/v2/projects/{PROJECT}/jobs")
        query = dict(request.query)
        if not path:
            jobs = [
                {"id": name, "name": f"{name} job", "parent_id": parent, "paused": name in self.paused}
                for name, parent in [("load", ""), *self.parents.items()]
            ]
            return self._page("jobs", jobs, query)
        found = re.fullmatch(r"/([^/]+)/runs(?:/(.+))?", path)
        assert found is not None, path
        if found[2] is None:
            newest = sorted(self.runs[found[1]], key=lambda run: -float(run["created"]))
            return self._page("job_runs", [self._shown(run) for run in newest], query)
        (run,) = [run for run in self.runs[found[1]] if run["id"] == found[2]]
        return document(self._shown(run))

    def _page(self, name: str, items: list[dict[str, Any]], query: dict[str, str]) -> Response:
        begin, size = int(query.get("page_token", "0")), 2
        token = str(begin + size) if begin + size < len(items) else ""
        return document({name: items[begin : begin + size], "next_page_token": token})

    def _shown(self, run: dict[str, Any]) -> dict[str, Any]:
        shown = {"id": run["id"], "job_id": run["job"], "status": f"ENGINE_{run['status'].upper()}"}
        moments = {"created_at": run["created"], "finished_at": run.get("finished")}
        return shown | {
            name: (EPOCH + timedelta(seconds=seconds)).isoformat() for name, seconds in moments.items() if seconds
        }


def told(chain: Chain) -> list[str]:
    return [f"{link.run.id} {link.run.status}" if link.run else f"{link.job.id} none" for link in chain.links]


def test_job_without_children() -> None:
    """Nothing follows: one request, and no run of any job is looked at."""
    family = Family(other="nobody")

    assert [] == family.follow(family.top_ends())
    assert ["jobs"] == [request.path.rpartition("/")[2] for request in family.player.requests]


def test_children_of_children() -> None:
    """Two below the top, two below one of these: each run is waited for, said, and names the one it follows."""
    family = Family(clean="load", copy="load", train="clean", score="train")
    chain = family.top_ends()

    assert ["clean-1 succeeded", "copy-1 succeeded", "train-1 succeeded", "score-1 succeeded"] == family.follow(chain)
    assert ["load-1", "load-1", "clean-1", "train-1"] == [link.parent.id for link in chain.links]
    assert chain.broken is None
    assert "Run score-1 of job 'score job', which follows run train-1, is succeeded." in family.player.said


def test_only_this_runs_children() -> None:
    """Runs of the child that were there before, and those that come after the first, are somebody else's."""
    family = Family(clean="load")
    family.start("clean")
    family.player._pass(600)
    chain = family.top_ends()
    family.player.at(2.0, lambda: family.start("clean"))
    family.player.at(120.0, lambda: family.start("clean"))

    assert ["clean-2 succeeded"] == family.follow(chain)
    assert ["clean-2 succeeded"] == family.follow(Chain(IDS, family.top))


def test_child_that_fails_ends_its_branch() -> None:
    """Nothing is expected below it; the other branch is seen to its end, and the first bad link is the verdict."""
    family = Family(clean="load", copy="load", train="clean", score="copy")
    family.fates = {"clean": "failed"}
    chain = family.top_ends()

    assert ["clean-1 failed", "copy-1 succeeded", "score-1 succeeded"] == family.follow(chain)
    assert chain.broken is chain.links[0]


@pytest.mark.parametrize("why", ["never", "paused", "skipped"])
def test_child_that_is_never_started(why: str) -> None:
    """It is waited for five minutes, and the reason is told as far as it can be known."""
    family = Family(clean="load", copy="load", train="clean")
    family.parents = {"clean": "nobody", "copy": "load", "train": "clean"}  # CML does not start it
    if why == "paused":
        family.paused.add("clean")
    chain = family.top_ends()
    if why == "skipped":
        family.player.at(1.0, lambda: family.start("clean", status="skipped"))
    began = family.player.now
    family.player.play(chain.look(family.moment))
    family.parents["clean"] = "load"
    chain = Chain(IDS, family.top)

    assert ["clean none", "copy-1 succeeded"] == family.follow(chain, poll_interval=10.0)
    assert CHILD_WITHIN <= family.player.now - began <= CHILD_WITHIN + 20
    assert chain.broken is chain.links[0]
    assert {
        "never": "within 5 minutes after the end of run load-1, which it follows.",
        "paused": "which it follows: the job is paused.",
        "skipped": "which it follows: run clean-1 was skipped, because another run of the job was active.",
    }[why] in chain.links[0].missing
    assert [True] == [said.warning for said in family.player.notes if "has started no run" in said.text]


def test_looks_of_several_processes_agree() -> None:
    """A sensor that is rescheduled sees the chain anew at every look, and comes to the same end."""
    family = Family(clean="load", train="clean")
    family.top_ends()
    seen = []
    for _ in range(10):
        chain = Chain(IDS, family.top)
        family.player.play(chain.look(family.moment))
        seen.append((told(chain), chain.is_over))
        if chain.is_over:
            break
        family.player._pass(3.0)

    assert (["clean none"], False) == seen[0]
    assert (["clean-1 running"], False) in seen
    assert (["clean-1 succeeded", "train-1 succeeded"], True) == seen[-1]


def test_status_nobody_knows_is_bounded() -> None:
    """It is waited for as elsewhere, and never green."""
    family = Family(clean="load")
    family.fates = {"clean": "bewildered"}
    chain = family.top_ends()
    began = family.player.now

    with pytest.raises(CmlUnknownStatusError, match="'ENGINE_BEWILDERED' for 30 minutes"):
        family.follow(chain)
    assert family.player.now - began >= UNKNOWN_BOUND


def test_status_that_becomes_known_again() -> None:
    """The bound counts from the last word that was understood."""
    family = Family(clean="load")
    family.fates = {"clean": "bewildered"}
    chain = family.top_ends()
    for seconds in (1500.0, 3200.0):
        family.player.at(seconds, lambda: family.runs["clean"][0].update(status="running"))
        family.player.at(seconds + 60, lambda: family.runs["clean"][0].update(status="bewildered"))
    family.player.at(4000.0, lambda: family.end(family.runs["clean"][0]))

    assert ["clean-1 succeeded"] == family.follow(chain, poll_interval=20.0)


def test_time_given_is_over() -> None:
    """The error tells which link was waited for."""
    family = Family(clean="load")
    family.fates = {"clean": None}

    with pytest.raises(CmlWaitTimeoutError, match=r"given to wait was over\. Run clean-1 of job 'clean job'") as caught:
        family.follow(family.top_ends(), timeout=60.0)
    assert caught.value.run is not None
    assert (caught.value.run.id, caught.value.run.job_id) == ("clean-1", "clean")


@pytest.mark.parametrize("first_gap", [5.0, 900.0])
def test_nobody_oversleeps(first_gap: float) -> None:
    """The last look is when the time is over, and not later."""
    family = Family(clean="load")
    family.fates = {"clean": None}
    chain = family.top_ends()
    end = family.player.now + 600.0

    with pytest.raises(CmlWaitTimeoutError):
        family.follow(chain, timeout=600.0, poll_interval=300.0, first_gap=first_gap)
    assert end == family.player.now == family.player.sent_at[-1]


def test_jobs_that_are_each_others_children() -> None:
    """A circle, which CML should not allow, is gone round once."""
    family = Family(clean="load", train="clean")
    chain = family.top_ends()
    family.parents["load"] = "train"

    assert ["clean-1 succeeded", "train-1 succeeded"] == family.follow(chain)


def test_price() -> None:
    """Each look asks for the runs that go on, once each; what is over is not asked again."""
    family = Family(clean="load", copy="load", train="clean")
    family.follow(family.top_ends(), poll_interval=5.0)
    asked = [request.path.rpartition("/jobs")[2] for request in family.player.requests]
    ended = family.runs["copy"][0]["finished"]
    moments = [moment for path, moment in zip(asked, family.player.sent_at, strict=True) if path == "/copy/runs/copy-1"]

    assert asked.count("") == 2  # two pages of jobs, once
    assert len(moments) == len(set(moments))
    assert ended <= max(moments) <= ended + 5.0


@pytest.mark.parametrize("seconds", [60.0, 500.0])
@pytest.mark.parametrize("what", ["jobs", "runs", "clean-1"])
def test_outage_is_outlasted(what: str, seconds: float) -> None:
    """Whatever of the chain it befalls, CML is asked for ten minutes."""
    family = Family(clean="load")
    chain = family.top_ends()
    answer = family._answer
    outage: list[float] = []

    def away(request: Request) -> Response:
        if request.path.endswith(what):
            outage.append(family.player.now)
            if outage[-1] < outage[0] + seconds:
                return Response(503)
        return answer(request)

    family.player.script = [away]

    assert ["clean-1 succeeded"] == family.follow(chain)
    assert outage[-1] >= outage[0] + seconds


def test_list_that_repeats_itself() -> None:
    """A list that would never end is an error, not an ending."""
    family = Family(clean="load")
    chain = family.top_ends()
    answer = family._answer

    def repeating(request: Request) -> Response:
        if request.path.endswith("/clean/runs"):
            return document({"job_runs": [], "next_page_token": "again"})
        return answer(request)

    family.player.script = [repeating]
    with pytest.raises(CmlProtocolError, match="repeat"):
        family.follow(chain)


def test_follow_chain_looks_at_the_top_first() -> None:
    """It is known by its id alone where a trigger begins."""
    family = Family(clean="load")
    family.top_ends()

    top = family.player.play(follow_chain(IDS, "load-1", Pace(), family.moment))

    assert family.top == top
    assert "clean-1" in family.player.said
