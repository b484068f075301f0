"""From names to ids: CML's filter is a hint, lists are read to their end, none or several is an error that helps."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_cml.api import v2
from airflow_provider_cml.api.conversations.finding import (
    CLOCKS_APART,
    DEEPEST,
    SINGLE_LOOKS,
    JobIds,
    all_pages,
    find_job,
    find_job_ids,
    find_job_run_by_key,
    find_newest_job_run,
    find_project,
    is_id,
    newest_runs,
    read_list,
)
from airflow_provider_cml.api.endpoint import Endpoint
from airflow_provider_cml.api.errors import CmlLookupError, CmlProtocolError, CmlRefusedError, CmlResponseTooLargeError
from airflow_provider_cml.api.models import Page
from airflow_provider_cml.api.wire import Exchange, Request, Response
from tests.api.conversations.paper import EPOCH, IDS, KEY, PaperJob, of_dag_run
from tests.api.playing import Player, document, grpc_error

if TYPE_CHECKING:
    from airflow_provider_cml.emulator import Emulator, Workspace
    from tests.api.conftest import Driver

PROJECT, JOB = IDS.project_id, IDS.job_id


def identifier(number: int) -> str:
    return f"aaaa-bbbb-cccc-{number:04d}"


class Shelf:
    """The lists of a workspace: filtered by case-sensitive substring, as CML does, in pages as small as wanted."""

    def __init__(self, page_size: int = 10, *, knows_filters: bool = True) -> None:
        self.projects: list[dict[str, Any]] = []
        self.jobs: list[dict[str, Any]] = []
        self.page_size = page_size
        self.knows_filters = knows_filters
        self.player = Player(self._answer)

    def project(self, owner: str, name: str, slug: str | None = None) -> str:
        number = identifier(len(self.projects))
        slug = name.lower().replace(" ", "-") if slug is None else slug
        self.projects.append({"id": number, "name": name, "slug": slug, "owner": {"username": owner}})
        return number

    def job(self, name: str) -> str:
        self.jobs.append({"id": identifier(1000 + len(self.jobs)), "name": name})
        return str(self.jobs[-1]["id"])

    @property
    def filters(self) -> list[object]:
        return [json.loads(dict(request.query).get("search_filter", "null")) for request in self.player.requests]

    def _answer(self, request: Request) -> Response:
        query = dict(request.query)
        of_jobs = request.path.endswith("/jobs")
        if not of_jobs and not request.path.endswith("/projects"):
            known = [project for project in self.projects if request.path.endswith(str(project["id"]))]
            return document(known[0]) if known else grpc_error(404, "project not found", 5)
        assert of_jobs or query["include_public_projects"] == "true"
        chosen = json.loads(query.get("search_filter", "{}"))
        if chosen and not self.knows_filters:
            return grpc_error(400, "invalid search_filter", 3)
        found = [
            item
            for item in (self.jobs if of_jobs else self.projects)
            if chosen.get("name", "") in item["name"]
            and chosen.get("owner.username", "") in item.get("owner", {}).get("username", "")
        ]
        begin = int(query.get("page_token", "0"))
        end = begin + self.page_size
        name = "jobs" if of_jobs else "projects"
        return document({name: found[begin:end], "next_page_token": str(end) if end < len(found) else ""})


# ------------------------------------------------------------------------------------------------ ids


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("k9yi-cww6-iw3w-buq0", True),
        ("0000-0000-0000-0000", True),
        ("K9YI-cww6-iw3w-buq0", False),
        ("k9yi-cww6-iw3w", False),
        ("k9yi-cww6-iw3w-buq0-aaaa", False),
        ("k9yi-cww6-iw3w-buq0\n", False),
        ("alice/k9yi-cww6-iw3w-buq0", False),
        ("208", False),
        ("", False),
    ],
)
def test_is_id(text: str, expected: bool) -> None:
    """Four groups of four small letters and digits."""
    assert expected is is_id(text)


def test_ids_cost_no_request() -> None:
    """What CML gave is taken as it is."""
    player = Player()

    assert JobIds(PROJECT, JOB) == player.play(find_job_ids(PROJECT, JOB))
    assert [] == player.requests


def test_names_cost_a_search_each() -> None:
    """One for the project, one for the job."""
    shelf = Shelf()
    project, job = shelf.project("alice", "Risk Analysis"), shelf.job("nightly VaR")

    assert JobIds(project, job) == shelf.player.play(find_job_ids("alice/Risk Analysis", "nightly VaR"))
    assert ["GET /api/v2/projects", f"GET /api/v2/projects/{project}/jobs"] == shelf.player.asked


@pytest.mark.parametrize(("project", "job", "requests"), [("Risk", JOB, 1), (PROJECT, "VaR", 1)])
def test_an_id_beside_a_name(project: str, job: str, requests: int) -> None:
    """Each is looked for only if it is a name."""
    shelf = Shelf()
    shelf.project("alice", "Risk")
    shelf.job("VaR")

    shelf.player.play(find_job_ids(project, job))

    assert requests == len(shelf.player.requests)


# ------------------------------------------------------------------------------------------------ projects


@pytest.mark.parametrize(
    "text", ["alice/Risk Analysis", "alice/risk-analysis", "ALICE/Risk Analysis", "Risk Analysis", "risk-analysis"]
)
@pytest.mark.parametrize("page_size", [1, 3, 100])
@pytest.mark.parametrize("knows_filters", [True, False])
def test_find_project(text: str, page_size: int, knows_filters: bool) -> None:
    """By owner and name, owner and slug, or a name only one project has; on whichever page it is."""
    shelf = Shelf(page_size, knows_filters=knows_filters)
    for number in range(7):
        shelf.project("alice", f"Risk Analysis {number}")
    expected = shelf.project("alice", "Risk Analysis")
    shelf.project("alicent", "Other")

    assert expected == shelf.player.play(find_project(text)).id


def test_find_project_by_id() -> None:
    """An id is asked for as such."""
    shelf = Shelf()
    expected = shelf.project("alice", "Risk Analysis")

    assert "risk-analysis" == shelf.player.play(find_project(expected)).slug


def test_the_filter_is_exact_only_here() -> None:
    """CML's filter matches substrings; a longer name is another project."""
    shelf = Shelf()
    shelf.project("alice", "Risk Analysis old")

    with pytest.raises(CmlLookupError, match="no project is called 'Risk Analysis'"):
        shelf.player.play(find_project("Risk Analysis"))


def test_the_unfiltered_list_is_the_last_word() -> None:
    """A filter that finds nothing, because of a letter's case or a slug, is followed by a list without one."""
    shelf = Shelf()
    expected = shelf.project("Alice", "Risk Analysis")

    assert expected == shelf.player.play(find_project("alice/Risk Analysis")).id
    assert [{"owner.username": "alice"}, None] == shelf.filters


def test_names_are_told_apart_by_case() -> None:
    """`risk` is not `Risk`, but it is somebody's slug."""
    shelf = Shelf()
    shelf.project("alice", "RISK", "risk-1")
    expected = shelf.project("bob", "risk")

    assert expected == shelf.player.play(find_project("risk")).id


def test_an_owners_name_beats_anothers_slug() -> None:
    """A name is what people see; a slug counts where no name fits."""
    shelf = Shelf()
    shelf.project("alice", "Something else", "demo")
    expected = shelf.project("bob", "demo", "demo-1")

    assert expected == shelf.player.play(find_project("demo")).id


def test_an_ambiguous_name() -> None:
    """Several projects of one name are listed with their ids, and none is taken."""
    shelf = Shelf(page_size=1)
    ids = [shelf.project(owner, "demo") for owner in ("alice", "bob")]

    with pytest.raises(CmlLookupError) as caught:
        shelf.player.play(find_project("demo"))

    assert (
        f"project: 2 projects are called 'demo': alice/demo ({ids[0]}), bob/demo ({ids[1]}). "
        "Give the id of the one you mean." == str(caught.value)
    )
    assert ids[1] == shelf.player.play(find_project("bob/demo")).id


def test_an_unknown_name_lists_what_is_near() -> None:
    """The near ones, and how many more there are."""
    shelf = Shelf()
    for owner, name in (("alice", "risk-analysis"), ("alice", "risk-anlysis"), ("zoe-w", "zoo"), ("zoe-w", "yak")):
        shelf.project(owner, name)

    with pytest.raises(CmlLookupError) as caught:
        shelf.player.play(find_project("alice/risk-analisis"))

    assert (
        "project: no project is called 'alice/risk-analisis'. "
        "There are: alice/risk-analysis, alice/risk-anlysis and 2 more." == str(caught.value)
    )


def test_an_unknown_name_where_nothing_is_near() -> None:
    """Ten of those there are."""
    shelf = Shelf(page_size=5)
    for number in range(12):
        shelf.project("alice", f"qqqqqqq-{number:02}")

    with pytest.raises(CmlLookupError, match=r"There are: alice/qqqqqqq-00, .*alice/qqqqqqq-09 and 2 more\.$"):
        shelf.player.play(find_project("x"))


def test_no_project_at_all() -> None:
    """Perhaps the key's user sees none."""
    with pytest.raises(CmlLookupError, match=r"The key's user can see no project there\.$"):
        Shelf().player.play(find_project("x"))


@pytest.mark.parametrize("text", ["", "alice/"])
def test_no_name_at_all(text: str) -> None:
    """Nothing is asked for nothing."""
    player = Player()

    with pytest.raises(CmlLookupError, match="names no project"):
        player.play(find_project(text))

    assert [] == player.requests


# ------------------------------------------------------------------------------------------------ jobs


@pytest.mark.parametrize("page_size", [1, 3, 100])
def test_find_job(page_size: int) -> None:
    """By its exact name, on whichever page."""
    shelf = Shelf(page_size)
    for number in range(7):
        shelf.job(f"VaR {number}")
    expected = shelf.job("VaR")

    assert expected == shelf.player.play(find_job(PROJECT, "VaR")).id


def test_job_names_are_not_unique() -> None:
    """Two jobs of one name are listed with their ids."""
    shelf = Shelf(page_size=1)
    ids = [shelf.job("VaR"), shelf.job("VaR")]

    with pytest.raises(CmlLookupError) as caught:
        shelf.player.play(find_job(PROJECT, "VaR", "alice/risk"))

    assert (
        f"job: 2 jobs are called 'VaR' in project alice/risk: {ids[0]}, {ids[1]}. Give the id of the one you mean."
        == str(caught.value)
    )


def test_a_job_that_came_twice_is_one() -> None:
    """A job made while the list is read shifts the rest: the last of one page is the first of the next again."""
    job = {"id": identifier(1), "name": "VaR"}
    player = Player(document({"jobs": [job], "next_page_token": "x"}), document({"jobs": [job]}))

    assert player.play(find_job(PROJECT, "VaR")).id == identifier(1)


def test_a_project_that_came_twice_is_one() -> None:
    """The same with projects."""
    project = {"id": identifier(1), "name": "Risk", "slug": "risk", "owner": {"username": "bob"}}
    player = Player(document({"projects": [project], "next_page_token": "x"}), document({"projects": [project]}))

    assert player.play(find_project("Risk")).id == identifier(1)


def test_an_unknown_job() -> None:
    """The message lists what the project has."""
    shelf = Shelf()
    shelf.job("nightly VaR")

    with pytest.raises(CmlLookupError) as caught:
        shelf.player.play(find_job(PROJECT, "nightly var", "alice/risk"))

    assert "job: no job is called 'nightly var' in project alice/risk. There are: nightly VaR." == str(caught.value)


def test_a_number_is_no_job_of_v2() -> None:
    """The number in a job's address is a frequent mistake."""
    with pytest.raises(CmlLookupError, match="The number in a job's address is for API v1 only"):
        Shelf().player.play(find_job(PROJECT, "208"))


def test_a_refusal_of_the_list_itself_is_told() -> None:
    """Only a refused filter is passed over."""
    with pytest.raises(CmlRefusedError):
        Player(grpc_error(400, "no"), grpc_error(400, "no")).play(find_project("x"))
    with pytest.raises(CmlRefusedError):
        Player(grpc_error(403, "no")).play(find_project("x"))


# ------------------------------------------------------------------------------------------------ pages


@pytest.mark.parametrize(
    "tokens", [["a", "a"], ["a", "b", "a"], ["a", "b", "c", "b"]], ids=["same", "alternating", "later"]
)
@pytest.mark.parametrize("empty", [True, False])
@pytest.mark.parametrize(
    "read",
    [
        lambda: all_pages(lambda token, size: v2.list_job_runs(PROJECT, JOB, page_size=size, page_token=token)),
        lambda: find_job_run_by_key(IDS, str(KEY)),
        lambda: find_newest_job_run(IDS, EPOCH),
    ],
    ids=["all pages", "by key", "newest"],
)
def test_pages_that_repeat_are_an_error(tokens: list[str], empty: bool, read: Callable[[], Any]) -> None:
    """A list that never ends is "could not ask", never "not there"."""
    items = [] if empty else [{"id": "r", "status": "ENGINE_SKIPPED", "environment": "{}"}]
    player = Player(*[document({"job_runs": items, "next_page_token": token}) for token in tokens])

    with pytest.raises(CmlProtocolError, match="the same page token came twice"):
        player.play(read())


def test_all_pages() -> None:
    """All items of all pages, in order; empty pages in between are no end."""
    pages = {"": Page((1, 2), "x"), "x": Page((), "y"), "y": Page((3,), "")}
    asked: list[tuple[str, int]] = []

    def ask(token: str, size: int) -> Any:
        asked.append((token, size))
        yield from ()
        return pages[token]

    assert [1, 2, 3] == Player().play(all_pages(ask))
    assert [("", 100), ("x", 100), ("y", 100)] == asked


TWOS = ["", *(f"{number}/2" for number in range(2, 12, 2))]


class Numbers:
    """A list of so many numbers; a token belongs to the size of its page, and some numbers are very large."""

    def __init__(self, count: int, *large: int, most: int = 1) -> None:
        self.items = list(range(count))
        self.large = large
        self.most = most
        self.asked: list[tuple[str, int]] = []

    def fetch(self, token: str, size: int) -> Exchange[Page[int]]:
        """A page; too large with more than `most` large numbers on it."""
        self.asked.append((token, size))
        yield from ()
        begin, _, of_size = token.partition("/")
        assert not token or of_size == str(size)
        first = int(begin or 0)
        found = tuple(self.items[first : first + size])
        if sum(item in self.large for item in found) > self.most:
            message = "the answer is larger than 16 MiB"
            raise CmlResponseTooLargeError(message)
        rest = f"{first + size}/{size}" if first + size < len(self.items) else ""
        return Page(found, rest, EPOCH + timedelta(seconds=len(self.asked)))


@pytest.mark.parametrize(
    ("large", "asked"),
    [
        ((), [("", 8), ("8/8", 8)]),
        ((0, 1), [("", 8), ("", 4), ("", 2), ("", 1), *((f"{n}/1", 1) for n in range(1, 12))]),
        ((0, 5), [("", 8), ("", 4), ("4/4", 4), ("8/4", 4)]),
        ((8, 11), [("", 8), ("8/8", 8), ("", 4), ("4/4", 4), ("8/4", 4), *((t, 2) for t in TWOS)]),
    ],
)
def test_too_large_pages(large: tuple[int, ...], asked: list[tuple[str, int]]) -> None:
    """The list is read again from its first page, with half the size, until each page is small enough."""
    numbers = Numbers(12, *large)
    player = Player()

    listing = player.play(read_list(numbers.fetch, page_size=8))

    assert (numbers.items, True) == (listing.items, listing.is_complete)
    assert asked == numbers.asked
    assert len({size for _, size in asked}) - 1 == player.said.count("Reading the list with ")


def test_an_item_that_is_too_large() -> None:
    """One that cannot be read by itself ends the reading, with its own error."""
    with pytest.raises(CmlResponseTooLargeError):
        Player().play(read_list(Numbers(3, 1, most=0).fetch))


@pytest.mark.parametrize(("most", "read", "is_complete"), [(1, 4, False), (4, 4, False), (5, 8, False), (9, 12, True)])
def test_a_list_is_read_as_far_as_wanted(most: int, read: int, is_complete: bool) -> None:
    """Whole pages, and no more of them than it takes; it is told whether that is all, and CML's clock at the first."""
    listing = Player().play(read_list(Numbers(12).fetch, lambda items: len(items) >= most, 4))

    assert (read, is_complete) == (len(listing.items), listing.is_complete)
    assert EPOCH + timedelta(seconds=1) == listing.date


def test_pages_of_the_emulator(drive: Callable[[Endpoint], Driver], cml: Emulator, workspace: Workspace) -> None:
    """A workspace that gives small pages whatever is asked for: names are found on every page."""
    workspace.page_size_cap = 2
    for number in range(5):
        workspace.add_project("alice", f"Risk {number}")
    project = workspace.add_project("bob", "Risk")
    for number in range(5):
        workspace.add_job(project, f"VaR {number}")
    job = workspace.add_job(project, "VaR")
    driver = drive(Endpoint(cml.url, key=cml.api_key))

    assert JobIds(project.id, job.id) == driver.perform(find_job_ids("bob/risk", "VaR"))
    assert JobIds(project.id, job.id) == driver.perform(find_job_ids("Risk", "VaR"))


# ------------------------------------------------------------------------------------------------ runs


@pytest.mark.parametrize("page_size", [1, 100])
@pytest.mark.parametrize(("echoes", "singles"), [(True, 0), (False, 3)])
def test_find_job_run_by_key(page_size: int, echoes: bool, singles: int) -> None:
    """By the key in its environment; where lists show none, the newest are asked one by one."""
    paper = PaperJob(page_size=page_size)
    paper.list_echoes = echoes
    expected = paper.add("running", KEY, age=30)
    paper.add("succeeded", None, age=20)
    paper.add("succeeded", KEY, "2.bbbb", age=10)

    found = paper.player.play(find_job_run_by_key(IDS, str(KEY.with_post("1.aaaa"))))

    assert found is not None
    assert (expected, singles) == (found.id, len([r for r in paper.player.asked if not r.endswith("/runs")]))


@pytest.mark.parametrize(("executed", "status"), [(True, "failed"), (False, "skipped")])
def test_a_skipped_run_counts_only_alone(executed: bool, status: str) -> None:
    """A refusal's entry is told only if no other run carries the key."""
    paper = PaperJob()
    if executed:
        paper.add("failed", KEY, age=30)
    paper.add("skipped", KEY, age=20)

    found = paper.player.play(find_job_run_by_key(IDS, str(KEY.with_post("1.aaaa"))))

    assert found is not None
    assert status == found.status


def test_no_run_carries_the_key() -> None:
    """None is no error: it may come."""
    paper = PaperJob()
    paper.add("running", None)

    assert paper.player.play(find_job_run_by_key(IDS, str(KEY))) is None


@pytest.mark.parametrize("status", ["succeeded", "skipped"])
def test_a_run_with_the_key_is_found_below_many_others(status: str) -> None:
    """The key says when its dag run began: down to there the run may be, whatever came after it."""
    paper = PaperJob()
    key = of_dag_run(paper, age=5000)
    meant = paper.add("succeeded", key, age=4900)
    for number in range(250):
        paper.add(status, age=4000 - number)

    found = paper.player.play(find_job_run_by_key(IDS, str(key.with_post("1.aaaa"))))

    assert found is not None
    assert (found.id, len(paper.player.requests)) == (meant, 3)


@pytest.mark.parametrize("skipped", [0, SINGLE_LOOKS])
def test_refusals_hide_no_run_where_lists_show_no_environments(skipped: int) -> None:
    """Refused starts are asked for apart from the runs that ran: a dozen waiters leave as many."""
    paper = PaperJob()
    paper.list_echoes = False
    meant = paper.add("running", KEY, age=1000)
    for number in range(SINGLE_LOOKS - 1):
        paper.add("succeeded", age=900 - number)
    for number in range(skipped):
        paper.add("skipped", age=100 - number)

    found = paper.player.play(find_job_run_by_key(IDS, str(KEY.with_post("1.aaaa"))))

    assert found is not None
    assert found.id == meant


@pytest.mark.parametrize(
    ("newer", "age", "requests"),
    [
        pytest.param(0, 5000.0, 1, id="the job was quiet since the dag run began"),
        pytest.param(250, 5000.0, 3, id="it was not"),
        pytest.param(DEEPEST + 500, 5000.0, DEEPEST // 100, id="not at all"),
        pytest.param(DEEPEST + 500, -CLOCKS_APART.total_seconds(), 1, id="a dag run that has just begun"),
    ],
)
def test_what_a_look_for_a_key_that_is_not_there_costs(newer: int, age: float, requests: int) -> None:
    """It is repeated until the run is there: as many pages as the job has made since the dag run began, ten at most."""
    paper = PaperJob()
    for number in range(300):
        paper.add("succeeded", age=90_000 - number)
    for number in range(newer):
        paper.add("skipped", age=4000 - number)

    found = paper.player.play(find_job_run_by_key(IDS, str(of_dag_run(paper, age))))

    assert (found, len(paper.player.requests)) == (None, requests)


@pytest.mark.parametrize(("list_echoes", "requests"), [(True, 1), (False, 2)])
def test_a_run_on_the_first_page_costs_no_second(list_echoes: bool, requests: int) -> None:
    """However long the job's history is since the dag run began; a list without environments costs one look more."""
    paper = PaperJob()
    paper.list_echoes = list_echoes
    key = of_dag_run(paper, age=5000)
    for number in range(500):
        paper.add("succeeded", age=4000 - number)
    meant = paper.add("running", key, age=5)

    found = paper.player.play(find_job_run_by_key(IDS, str(key.with_post("1.aaaa"))))

    assert found is not None
    assert (found.id, len(paper.player.requests)) == (meant, requests)


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("somebody's", id="no key of ours"),
        pytest.param(str(of_dag_run(PaperJob(), age=0)).replace(";start=", ";start=9999999999999"), id="no date"),
        pytest.param(str(of_dag_run(PaperJob(), age=1e6, nonce="0a1b2c3d")), id="the logical date of a test"),
    ],
)
def test_a_key_that_tells_no_moment_is_looked_for_on_one_page(key: str) -> None:
    """Then nobody can say how far down its run may be, and the hundred newest have to do."""
    paper = PaperJob()
    for number in range(250):
        paper.add("succeeded", age=4000 - number)

    assert (paper.player.play(find_job_run_by_key(IDS, key)), len(paper.player.requests)) == (None, 1)


def test_a_run_shifted_to_the_next_page_counts_once() -> None:
    """A run made between two pages shifts the rest; what was read last is what is so."""
    entry = {"id": "r", "status": "ENGINE_RUNNING", "environment": "{}"}
    player = Player(
        document({"job_runs": [entry], "next_page_token": "x"}),
        document({"job_runs": [entry | {"status": "ENGINE_FAILED"}]}),
    )

    assert [(run.id, str(run.status)) for run in player.play(newest_runs(IDS, 30.0))] == [("r", "failed")]


@pytest.mark.parametrize(
    ("since", "expected"), [(-50.0, "new"), (-100.0, "new"), (-15.0, None), (-20.0, "new"), (-10_000.0, "new")]
)
def test_find_newest_job_run(since: float, expected: str | None) -> None:
    """The newest that ran and was created at or after the moment; refusals do not count."""
    paper = PaperJob()
    names = {
        paper.add("succeeded", age=100): "old",
        paper.add("succeeded", age=20): "new",
        paper.add("skipped", age=5): "no",
    }
    moment = EPOCH + timedelta(seconds=paper.player.now + since)

    found = paper.player.play(find_newest_job_run(IDS, moment))

    assert expected == (None if found is None else names[found.id])


@pytest.mark.parametrize(
    ("looked", "expected"), [(-150.0, "first"), (-100.0, "first"), (-99.0, "first"), (-20.0, "second"), (0.0, "second")]
)
@pytest.mark.parametrize("page_size", [1, 100])
def test_answer_stays_that_of_the_first_look(looked: float, expected: str, page_size: int) -> None:
    """The newest there was then, or the first there was after; later runs and refusals change nothing."""
    paper = PaperJob(page_size=page_size)
    paper.add("succeeded", age=5000)
    names = {paper.add("succeeded", age=100): "first", paper.add("succeeded", age=20): "second"}
    paper.add("skipped", age=10)
    now = EPOCH + timedelta(seconds=paper.player.now)

    found = paper.player.play(
        find_newest_job_run(IDS, now - timedelta(seconds=1000), looked_at=now + timedelta(seconds=looked))
    )

    assert found is not None
    assert names[found.id] == expected


def test_first_run_since_then_is_found_below_many_refusals() -> None:
    """However many entries stand above it, page after page."""
    paper = PaperJob()
    meant = paper.add("running", age=5000)
    for number in range(250):
        paper.add("skipped", age=4000 - number)
    moment = EPOCH + timedelta(seconds=paper.player.now - 6000)

    found = paper.player.play(find_newest_job_run(IDS, moment, looked_at=moment))

    assert found is not None
    assert found.id == meant
