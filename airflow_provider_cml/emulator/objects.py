"""The nouns of a workspace: User, Project, Job, Run, and the scripted Life of a run.

Law: these hold facts and know no rules. What may follow what is the engine's business.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Status(StrEnum):
    """The words of EngineStatus (SPEC). A run may hold any other word too: tests put made-up ones there."""

    SCHEDULING = "ENGINE_SCHEDULING"
    STARTING = "ENGINE_STARTING"
    RUNNING = "ENGINE_RUNNING"
    STOPPING = "ENGINE_STOPPING"
    STOPPED = "ENGINE_STOPPED"
    UNKNOWN = "ENGINE_UNKNOWN"
    SUCCEEDED = "ENGINE_SUCCEEDED"
    FAILED = "ENGINE_FAILED"
    TIMEDOUT = "ENGINE_TIMEDOUT"
    SKIPPED = "ENGINE_SKIPPED"


#: UNKNOWN is not here: whether it is final is disputed; a run whose state is not known may still be running.
OVER = frozenset({Status.STOPPED, Status.SUCCEEDED, Status.FAILED, Status.TIMEDOUT, Status.SKIPPED})


def status_named(word: str) -> str:
    """`succeeded` and `ENGINE_SUCCEEDED` are the same word; a word CML does not have is kept as it is."""
    try:
        return Status["".join(word.upper().removeprefix("ENGINE_").split())]
    except KeyError:
        return word


@dataclass(frozen=True, slots=True)
class Life:
    """How a run without a script goes: seconds in each state, then its ending. None means: stays there."""

    scheduling: float | None = 0.0
    starting: float | None = 0.0
    running: float | None = 0.0
    ending: str = "succeeded"
    #: "script" or "system": which of CML's retry_for_* settings a failure counts for.
    failure: str = "script"
    message: str = ""
    oom_killed: bool = False


Lives: TypeAlias = "Life | Sequence[Life] | Callable[[Run], Life]"


@dataclass(slots=True)
class User:
    """A user or team; `password` is for v1 with a user name, and None means that this is not allowed."""

    username: str
    name: str = ""
    email: str = ""
    password: str | None = field(default=None, repr=False)


@dataclass(slots=True)
class Project:
    """A project; `member` says whether the user of the keys belongs to it."""

    id: str
    owner: User
    name: str
    slug: str
    environment: dict[str, str] = field(default_factory=dict, repr=False)
    visibility: str = "private"
    member: bool = True
    description: str = ""
    created_at: float = 0.0


@dataclass(slots=True)
class Job:
    """A job. `number` is what its page's URL and v1 call it; v2 never shows it."""

    id: str
    project_id: str
    number: int
    name: str
    script: str = ""
    arguments: str = ""
    environment: dict[str, str] = field(default_factory=dict, repr=False)
    timeout: int = 0
    kill_on_timeout: bool = True
    parent_id: str = ""
    schedule: str = ""
    timezone: str = "America/Los_Angeles"
    paused: bool = False
    kernel: str = "python3"
    runtime_identifier: str = ""
    runtime_addon_identifiers: list[str] = field(default_factory=list)
    attachments: list[str] = field(default_factory=list)
    cpu: float = 1.0
    memory: float = 1.0
    nvidia_gpu: int = 0
    run_as: int = 0
    retry_enabled: bool = False
    max_retry: int = 0
    retry_delay: int = 0
    retry_for_script_failure: bool = False
    retry_for_system_failure: bool = False
    retry_for_timedout_runs: bool = False
    retry_for_skipped_runs: bool = False
    creator: str = ""
    created_at: float = 0.0
    updated_at: float = 0.0
    life: Lives | None = field(default=None, repr=False)


@dataclass(slots=True)
class Run:
    """A run; times are seconds since the epoch, None until they happen."""

    id: str
    engine_id: str
    project_id: str
    job_id: str
    #: The job's name and number as they were.
    job: str
    number: int
    sequence: int
    created_at: float
    #: Who made it: v1, v2, child, retry, or hand (a test, or the control API).
    api: str
    creator: str
    #: The overrides as they were given, and what CML echoes: project < job < run (LIVE), passwords included.
    environment: dict[str, str] = field(repr=False)
    merged: dict[str, str] = field(repr=False)
    arguments: str = ""
    status: str = Status.SCHEDULING
    scheduling_at: float | None = None
    starting_at: float | None = None
    running_at: float | None = None
    finished_at: float | None = None
    updated_at: float = 0.0
    #: It reached RUNNING, be it as a script or as a scripted life.
    executed: bool = False
    stop_requests: list[float] = field(default_factory=list)
    #: CML's own Job Retry: how many retries came before, and of which run.
    attempt: int = 0
    retry_of: str = ""
    kernel: str = ""
    runtime_identifier: str = ""
    cpu: float = 1.0
    memory: float = 1.0
    nvidia_gpu: int = 0
    exit_code: int | None = None
    message: str = ""
    oom_killed: bool = False
    output: str = ""
    #: The process of its script, while there is one.
    process: int | None = None
    #: None: the job's script is run.
    life: Life | None = None

    @property
    def is_over(self) -> bool:
        """Nothing more will happen to it by itself."""
        return self.status in OVER
