"""The nouns of CML's API: projects, jobs, runs, and pages of them.

The law: a value keeps what this package needs, and never an `environment`. CML echoes in it the merged environment
of project, job and run with all passwords; of a run only our own run key is read out of it (`decoding`).
Times are aware datetimes in UTC, None where CML has not set them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_provider_cml.api.states import JobRunStatus

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Project:
    """A project. `slug` is its name in addresses; `owner` the user or team before it."""

    id: str
    name: str
    slug: str
    owner: str
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A job. API v2 gives neither the number the user interface shows in a job's address nor that address."""

    id: str
    name: str
    project_id: str
    script: str = ""
    parent_id: str = ""
    paused: bool = False
    retry_enabled: bool = False
    kill_on_timeout: bool = False
    timeout: int | None = None
    """Seconds after which CML calls the run timed out; None where the job sets none."""


@dataclass(frozen=True, slots=True)
class JobRun:
    """One run of a job. `word` is the status as CML wrote it, `status` what it means."""

    id: str
    project_id: str
    job_id: str
    status: JobRunStatus
    word: str = ""
    created_at: datetime | None = None
    scheduling_at: datetime | None = None
    starting_at: datetime | None = None
    running_at: datetime | None = None
    finished_at: datetime | None = None
    arguments: str = ""
    creator: str = ""
    run_key: str | None = None
    """Our key out of the echoed environment, None where the run carries none."""
    echoes: bool = False
    """Whether CML showed an environment that can be read at all; without it nothing can be found by key."""

    @property
    def is_active(self) -> bool:
        """The run occupies its job: it ran or waits to run, and is not over."""
        return not self.status.is_over


@dataclass(frozen=True, slots=True)
class Usage:
    """What CML's list of workloads says of one: the only place where a reason for an end is found.

    `url` is CML's link to the workload. Whether `id` is the run's id is not confirmed on a live CML.
    """

    id: str
    url: str = ""
    message: str = ""
    oom_killed: bool = False


@dataclass(frozen=True, slots=True)
class KeyOwner:
    """What CML says of an API key: the user it acts as, and whether it is good for API v2."""

    username: str
    valid: bool
    message: str = ""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list. An empty `next_page_token` means the last one; `date` is CML's clock when it answered."""

    items: tuple[T, ...]
    next_page_token: str = ""
    date: datetime | None = None
