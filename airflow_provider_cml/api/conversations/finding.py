"""From the names people use to the ids CML uses, and to the run somebody means.

The law: a filter of CML is a hint, never a verdict. It matches substrings, case-sensitively (seen on live workspaces),
so every answer is compared exactly here; lists are read to their last page; none or several is an error that
lists the candidates.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Generic, TypeVar

from airflow_provider_cml.api import v2
from airflow_provider_cml.api.errors import CmlLookupError, CmlProtocolError, CmlRefusedError, CmlResponseTooLargeError
from airflow_provider_cml.api.models import Job, Project
from airflow_provider_cml.api.run_key import RunKey
from airflow_provider_cml.api.wire import note

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_provider_cml.api.models import JobRun, Page
    from airflow_provider_cml.api.wire import Exchange

T = TypeVar("T")
_Named = TypeVar("_Named", Job, Project)

_ID = re.compile(r"[a-z0-9]{4}(-[a-z0-9]{4}){3}")
DEEPEST = 1000
"""Entries of a job's history that are read at most to find a run since a moment."""
SINGLE_LOOKS = 10
"""Runs that are asked one by one where a list shows no environments; and as many refusals."""
CLOCKS_APART = timedelta(hours=1)
"""By how much CML's clock may be behind Airflow's where a run is looked for again and again: each look costs what it
reads. Beyond that the newest hundred have to do."""
PAGES_AT_MOST = 1000
ITEMS_AT_MOST = 100_000
"""Pages and items of one list that are read; a list without an end must not become a wait without one."""
_SHOWN = 10
"""Candidates an error lists at most."""
_NAME_SHOWN = 200
"""Characters of a candidate that an error shows."""


@dataclass(frozen=True, slots=True)
class JobIds:
    """A job by CML's ids, ready to be asked about without another look-up."""

    project_id: str
    job_id: str


def is_id(text: str) -> bool:
    """Whether CML made this text: ids of projects and jobs are four groups of four, 19 characters in all."""
    return _ID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """What was read of a list: `is_complete` if it was read to its end; `date` is CML's clock at the first answer."""

    items: list[T]
    is_complete: bool
    page_size: int
    date: datetime | None = None


def read_list(
    fetch_page: Callable[[str, int], Exchange[Page[T]]],
    is_enough: Callable[[list[T]], bool] = lambda _items: False,
    page_size: int = v2.PAGE_SIZE,
) -> Exchange[Listing[T]]:
    """The items of a list, page by page; with smaller pages if one is too large to be read.

    :param fetch_page: gets the page's token, "" for the first, and the size of pages. A token belongs to that size,
        so another size begins with the first page.
    :param is_enough: gets the items read so far; no more is read once it is true.
    :raises CmlProtocolError: the list would never end.
    """
    while True:
        try:
            return (yield from _read_pages(fetch_page, is_enough, page_size))
        except CmlResponseTooLargeError as error:
            if page_size == 1:
                raise
            page_size //= 2
            yield from note(f"{error} Reading the list with {page_size} entries a page.")


def all_pages(fetch_page: Callable[[str, int], Exchange[Page[T]]]) -> Exchange[list[T]]:
    """The items of all pages; see `read_list`."""
    return (yield from read_list(fetch_page)).items


def _read_pages(
    fetch_page: Callable[[str, int], Exchange[Page[T]]], is_enough: Callable[[list[T]], bool], page_size: int
) -> Exchange[Listing[T]]:
    items: list[T] = []
    token = ""
    seen = {token}
    date: datetime | None = None
    while True:
        page = yield from fetch_page(token, page_size)
        date = date or page.date
        items.extend(page.items)
        token = page.next_page_token
        if not token or is_enough(items):
            return Listing(items, not token, page_size, date)
        check_token(token, seen)
        if len(items) >= ITEMS_AT_MOST:
            message = f"CML answered a list that is too long: it goes on after {len(items)} items."
            raise CmlProtocolError(message)


def check_token(token: str, seen: set[str]) -> None:
    """Remember the token of a list's next page.

    :raises CmlProtocolError: CML gave it before, or gives one after the other: the list would never end.
    """
    if token in seen:
        message = "CML answered a list whose pages repeat: the same page token came twice."
        raise CmlProtocolError(message)
    if len(seen) >= PAGES_AT_MOST:
        message = f"CML answered a list that is too long: it goes on after {len(seen)} pages."
        raise CmlProtocolError(message)
    seen.add(token)


def find_job_ids(
    project: str, job: str, patience: float = 30.0, unreachable_patience: float | None = None
) -> Exchange[JobIds]:
    """The ids of a job given by ids or names; ids cost no request.

    :param project: id, `owner/name`, `owner/slug`, or a name only one visible project has.
    :param job: id, or the exact name.
    :param patience: seconds for which an outage is survived.
    :param unreachable_patience: the same where nothing is found at the address.
    """
    project_id = project if is_id(project) else (yield from find_project(project, patience, unreachable_patience)).id
    if is_id(job):
        return JobIds(project_id, job)
    return JobIds(project_id, (yield from find_job(project_id, job, project, patience, unreachable_patience)).id)


def find_project(project: str, patience: float = 30.0, unreachable_patience: float | None = None) -> Exchange[Project]:
    """The one project that `project` means: an id, `owner/name`, `owner/slug`, or a unique name.

    Public projects of others are included: CML leaves them out of lists unless asked.
    """
    if is_id(project):
        return (yield from v2.get_project(project))
    owner, _, name = project.rpartition("/")
    if not name:
        message = f"project: {project!r} names no project; give its id, 'owner/name' or a unique name."
        raise CmlLookupError(message)
    hint = {"owner.username": owner} if owner else {"name": name}
    for search_filter in (hint, None):
        # The second, unfiltered listing is for workspaces whose filter differs, for slugs, and for the candidates.
        try:
            projects = yield from all_pages(
                lambda token, size, chosen=search_filter: v2.list_projects(  # type: ignore[misc]
                    search_filter=chosen,
                    include_public_projects=True,
                    page_size=size,
                    page_token=token,
                    patience=patience,
                    unreachable_patience=unreachable_patience,
                )
            )
        except CmlRefusedError as error:
            if search_filter is None or error.status != 400:
                raise
            continue  # a build that does not know this filter
        mine = [found for found in projects if not owner or found.owner.casefold() == owner.casefold()]
        matches = [found for found in mine if found.name == name] or [found for found in mine if found.slug == name]
        if matches:
            return _only(matches, "project", project, lambda found: f"{found.owner}/{found.slug} ({found.id})")
    raise _nothing("project", project, [f"{found.owner}/{found.slug or found.name}" for found in projects])


def find_job(
    project_id: str,
    name: str,
    project: str | None = None,
    patience: float = 30.0,
    unreachable_patience: float | None = None,
) -> Exchange[Job]:
    """The one job of a project with exactly this name. `project` is how the user called it, for the messages."""
    where = f" in project {project or project_id}"
    for search_filter in ({"name": name}, None):
        jobs = yield from all_pages(
            lambda token, size, chosen=search_filter: v2.list_jobs(  # type: ignore[misc]
                project_id,
                search_filter=chosen,
                page_size=size,
                page_token=token,
                patience=patience,
                unreachable_patience=unreachable_patience,
            )
        )
        matches = [found for found in jobs if found.name == name]
        if matches:
            return _only(matches, "job", name, lambda found: found.id, where)
    is_number = name.isascii() and name.isdigit()
    hint = " The number in a job's address is for API v1 only; v2 takes the job's id or its name." if is_number else ""
    raise _nothing("job", name, [found.name for found in jobs], where, hint)


def find_job_run_by_key(ids: JobIds, key: str, patience: float = 30.0) -> Exchange[JobRun | None]:
    """The newest run that carries this run key, or None. A run that was skipped counts only if no other carries it.

    One request, if the run is among the newest or the job was quiet since the key's dag run began.
    """

    def is_enough(runs: Sequence[JobRun]) -> bool:
        if any(run.run_key == key and run.status.is_executed for run in runs):
            return True
        # Where the list shows no environments, no more than these are asked for.
        is_blind = not any(run.echoes for run in runs)
        return is_blind and sum(run.status.is_executed for run in runs) >= SINGLE_LOOKS

    since = began(RunKey.parse(key), CLOCKS_APART)
    listed = yield from newest_runs(ids, patience, since, is_enough)
    found = yield from runs_with_key(ids, listed, key, patience)
    return next((run for run in found if run.status.is_executed), found[0] if found else None)


def runs_with_key(
    ids: JobIds,
    listed: Sequence[JobRun],
    key: str,
    patience: float,
) -> Exchange[list[JobRun]]:
    """Those of the listed runs that carry a key, refused starts among them, up to the first that ran.

    Where a list shows no environments (they are confirmed for create and get only), the newest are asked one by one,
    refusals apart from the others, so that those of many waiters never hide a run.
    """
    found: list[JobRun] = []
    asked = {True: 0, False: 0}
    for run in listed:
        shown = run
        kind = run.status.is_executed
        if not run.echoes and asked[kind] < SINGLE_LOOKS:
            asked[kind] += 1
            shown = yield from v2.get_job_run(ids.project_id, ids.job_id, run.id, patience=patience)
        if shown.run_key == key:
            found.append(shown)
            if shown.status.is_executed:
                break
    return found


def began(key: RunKey | None, clocks_apart: timedelta) -> datetime | None:
    """The moment of CML's clock before which nothing was started for the dag run of this key.

    None where nobody can tell: the key is not one of ours, or its date is the logical one (see `RunKey.nonce`), which
    may lie in the future.
    """
    if key is None or key.nonce:
        return None
    try:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=key.start) - clocks_apart
    except OverflowError:
        return None


def find_newest_job_run(
    ids: JobIds,
    since: datetime,
    patience: float = 30.0,
    looked_at: datetime | None = None,
) -> Exchange[JobRun | None]:
    """The newest run created at or after `since` that was not skipped, or None.

    :param looked_at: when somebody looked first. The answer is the one that was right then, or the first there was
        after that, so that who looks again, in another process too, is told the same however many runs there are by
        now. None: the newest of all.
    """
    found: JobRun | None = None
    for run in (yield from newest_runs(ids, patience, since if looked_at else None)):
        if run.created_at is None or run.created_at < since or not run.status.is_executed:
            continue
        found = run
        if looked_at is None or run.created_at <= looked_at:
            break
    return found


def newest_runs(
    ids: JobIds,
    patience: float,
    since: datetime | None = None,
    is_enough: Callable[[Sequence[JobRun]], bool] = lambda _runs: False,
) -> Exchange[list[JobRun]]:
    """The newest runs, a hundred at least if there are so many, however small CML makes its pages.

    :param since: read on to the first that is older, `DEEPEST` entries at most.
    :param is_enough: told of what is read so far; no more is read where it is.
    """

    def is_read(runs: list[JobRun]) -> bool:
        if is_enough(runs):
            return True
        if len(runs) < v2.PAGE_SIZE:
            return False
        return not since or len(runs) >= DEEPEST or (runs[-1].created_at or since) < since

    listing = yield from read_list(
        lambda token, size: v2.list_job_runs(
            ids.project_id, ids.job_id, page_size=size, page_token=token, patience=patience
        ),
        is_read,
    )
    # A run made between two pages shifts the rest: the last one of a page is the first of the next again.
    return list({run.id: run for run in listing.items}.values())


def _only(matches: Sequence[_Named], noun: str, text: str, show: Callable[[_Named], str], where: str = "") -> _Named:
    # One that is made while a list is read shifts the rest, and another one comes twice.
    matches = list({found.id: found for found in matches}.values())
    if len(matches) == 1:
        return matches[0]
    listed = ", ".join(sorted(show(found)[:_NAME_SHOWN] for found in matches)[:_SHOWN])
    message = f"{noun}: {len(matches)} {noun}s are called {text!r}{where}: {listed}. Give the id of the one you mean."
    raise CmlLookupError(message)


def _nothing(noun: str, text: str, names: Sequence[str], where: str = "", hint: str = "") -> CmlLookupError:
    known = sorted({name[:_NAME_SHOWN] for name in names})
    near = difflib.get_close_matches(text, known, n=_SHOWN, cutoff=0.4) or known[:_SHOWN]
    more = f" and {len(known) - len(near)} more" if len(known) > len(near) else ""
    seen = f"There are: {', '.join(near)}{more}." if near else f"The key's user can see no {noun} there."
    return CmlLookupError(f"{noun}: no {noun} is called {text!r}{where}.{hint} {seen}")
