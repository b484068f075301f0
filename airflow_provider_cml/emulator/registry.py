"""What a workspace holds: users, projects, jobs and runs, and how they are found.

Law: names are CML's (an owner and a slug name a project, a number names a job on v1, ids name everything on
v2); whoever changes something here tells the listeners, so that a journal can be kept.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias, TypedDict, Unpack

from airflow_provider_cml.emulator.agenda import Agenda, Clock, steady_clock
from airflow_provider_cml.emulator.identifiers import derived_id, slug_of
from airflow_provider_cml.emulator.objects import Job, Lives, Project, Run, User

Listener: TypeAlias = Callable[[Project | Job | Run, str], None]


class JobFields(TypedDict, total=False):
    """The optional fields of a declared job; see `Job` for what they mean."""

    id: str
    script: str
    arguments: str
    environment: Mapping[str, str]
    timeout: int
    kill_on_timeout: bool
    schedule: str
    timezone: str
    paused: bool
    kernel: str
    runtime_identifier: str
    runtime_addon_identifiers: list[str]
    attachments: list[str]
    cpu: float
    memory: float
    nvidia_gpu: int
    run_as: int
    retry_enabled: bool
    max_retry: int
    retry_delay: int
    retry_for_script_failure: bool
    retry_for_system_failure: bool
    retry_for_timedout_runs: bool
    retry_for_skipped_runs: bool


class Registry:
    """Users, projects, jobs and runs by every name they have."""

    def __init__(self, root: str | Path | None, user: str, clock: Clock | None) -> None:
        self.root = None if root is None else Path(root).resolve()
        self.lock = threading.RLock()
        self.clock = clock or steady_clock()
        self.agenda = Agenda(self.clock, self.lock)
        self.users: dict[str, User] = {}
        self.projects: dict[str, Project] = {}
        self.jobs: dict[str, Job] = {}
        self.runs: dict[str, Run] = {}
        self.listeners: list[Listener] = []
        self._user = user
        self._runs_of: dict[str, list[Run]] = {}
        self.last_sequence = 0

    # ------------------------------------------------------------------ declare

    def add_user(self, username: str, *, name: str = "", email: str = "", password: str | None = None) -> User:
        """Declare a user or team; with a password v1 also takes `username:password`."""
        with self.lock:
            user = User(username, name or username, email or f"{username}@example.com", password)
            self.users[username] = user
            return user

    def add_project(
        self,
        owner: str,
        name: str,
        *,
        slug: str = "",
        environment: Mapping[str, str] | None = None,
        visibility: str = "private",
        member: bool = True,
        description: str = "",
    ) -> Project:
        """Declare a project; an owner not declared before is declared by it."""
        with self.lock:
            slug = slug or slug_of(name)
            if self.find_project(owner, slug):
                raise ValueError(f"there is already a project {owner}/{slug}")
            project = Project(
                id=derived_id("project", owner, slug),
                owner=self.users.get(owner) or self.add_user(owner),
                name=name,
                slug=slug,
                environment=dict(environment or {}),
                visibility=visibility,
                member=member,
                description=description,
                created_at=self.clock(),
            )
            self.projects[project.id] = project
            return project

    def add_job(
        self,
        project: Project,
        name: str,
        *,
        number: int | None = None,
        parent: Job | str | None = None,
        life: Lives | None = None,
        **fields: Unpack[JobFields],
    ) -> Job:
        """Declare a job. Its runs follow its `life`; without one its script; without either they succeed."""
        with self.lock:
            # v1 numbers are unique in a workspace, not in a project (DOC: they are row numbers of one table).
            taken = {job.number for job in self.jobs.values()}
            if number is None:
                number = max(taken, default=0) + 1
            elif number in taken:
                raise ValueError(f"there is already a job with the number {number}")
            now = self.clock()
            given = {"id": derived_id("job", project.owner.username, project.slug, number), **fields}
            given["environment"] = dict(fields.get("environment", {}))
            job = Job(
                project_id=project.id,
                number=number,
                name=name,
                parent_id=parent.id if isinstance(parent, Job) else parent or "",
                creator=self.user.username,
                created_at=now,
                updated_at=now,
                life=life,
                **given,  # type: ignore[arg-type]
            )
            self.jobs[job.id] = job
            self.tell(job)
            return job

    def remove_job(self, job: Job) -> None:
        """Forget a job and its runs."""
        with self.lock:
            del self.jobs[job.id]
            for run in self._runs_of.pop(job.id, []):
                del self.runs[run.id]
            self.tell(job, "removed")

    def keep_run(self, run: Run) -> None:
        """Enter a run."""
        with self.lock:
            self.runs[run.id] = run
            self._runs_of.setdefault(run.job_id, []).append(run)
            self.tell(run)

    def next_sequence(self) -> int:
        """A number above that of every run so far."""
        self.last_sequence += 1
        return self.last_sequence

    def tell(self, thing: Project | Job | Run, event: str = "changed") -> None:
        """Tell the listeners that something changed."""
        for listener in tuple(self.listeners):
            listener(thing, event)

    # ------------------------------------------------------------------ find

    @property
    def user(self) -> User:
        """Whom the keys belong to: the user named, else the owner of the first project, else "airflow"."""
        with self.lock:
            first = next((project.owner.username for project in self.projects.values()), "airflow")
            username = self._user or first
            return self.users.get(username) or self.add_user(username)

    def find_project(self, owner: str, slug: str) -> Project | None:
        """The project of a v1 path."""
        with self.lock:
            matches = (p for p in self.projects.values() if (p.owner.username, p.slug) == (owner, slug))
            return next(matches, None)

    def find_job(self, project: Project, number: int) -> Job | None:
        """The job of a v1 path."""
        return next((job for job in self.jobs_of(project) if job.number == number), None)

    def jobs_of(self, project: Project) -> list[Job]:
        """The jobs of a project in the order they were made."""
        with self.lock:
            return [job for job in self.jobs.values() if job.project_id == project.id]

    def runs_of(self, job: Job) -> list[Run]:
        """The runs of a job in the order they were made."""
        with self.lock:
            return list(self._runs_of.get(job.id, ()))

    def active_run(self, job: Job) -> Run | None:
        """The newest run of a job that is not over."""
        return next((run for run in reversed(self.runs_of(job)) if not run.is_over), None)

    def folder_of(self, project: Project) -> Path | None:
        """Where a project's scripts lie."""
        return None if self.root is None else self.root / project.owner.username / project.slug
