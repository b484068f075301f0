"""The key that every start carries in its run's environment: which try of which task started this run.

CML has no idempotency key. It does echo a run's environment, so this one variable lets a later look tell our own run
from all others, a retry from a clear, and the record of a rejected start from a lost answer.

Invariants: the key holds facts, each by its name, no hash and no difference of facts. All of them come from Airflow's
database, so no clock of CML, worker or triggerer is involved; only the deployment comes from the configuration of the
worker, and two workers may be configured differently, so it never decides alone.

A fact of identity must not be ignored, so a new one changes the version. A key of another version whose known facts
are equal to ours may be ours: its run is waited for, and neither adopted nor stopped.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable

RUN_KEY_VARIABLE = "AIRFLOW_RUN_KEY"
VERSION = "v2"
_ANY_VERSION = re.compile(r"v[0-9]{1,4}")
# Everything a name in Airflow may hold, except what separates the facts: ';', '=' and '%'.
_READABLE = " !\"#$&'()*+,-./:<>?@[\\]^_`{|}~"
_FACTS = (
    "deployment", "configured", "dag", "run", "task", "map", "loop", "region",
    "start", "nonce", "clear", "max_tries", "retries", "try", "post",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RunKey:
    """What a start says of itself. `start` is the start date of the dag run in microseconds since 1970.

    :param deployment: the name of this Airflow.
    :param is_configured: the name was set (`[cml] deployment`); otherwise it is the host of Airflow's base URL.
    :param loop_index: of the iteration, in a task group that is looped over (Airflow 3.4); -1 outside of loops.
    :param region: of that iteration, from Airflow's id of it. A clear can make an iteration again under its index; then
        its tries count from 1 once more, and the region is new. "" outside of loops.
    :param max_tries: Airflow's own, of the task instance: a clear raises it, a retry leaves it alone.
    :param nonce: set where `start` does not tell two dag runs apart: under `dags test` it equals the logical date.
    :param clear_number: how often Airflow counts the dag run as cleared; None where the worker is not given it.
    :param post: counts the start requests of one try in one process, and ends with random letters.
    :param version: of the key's format.
    """

    deployment: str
    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    start: int
    max_tries: int
    retries: int
    try_number: int
    nonce: str = ""
    post: str = ""
    is_configured: bool = False
    loop_index: int = -1
    region: str = ""
    clear_number: int | None = None
    version: str = VERSION

    def __str__(self) -> str:
        """The value of the variable."""
        values = (
            self.deployment,
            "yes" if self.is_configured else "no",
            self.dag_id,
            self.run_id,
            self.task_id,
            self.map_index,
            self.loop_index,
            self.region,
            self.start,
            self.nonce,
            "" if self.clear_number is None else self.clear_number,
            self.max_tries,
            self.retries,
            self.try_number,
            self.post,
        )
        facts = (f"{name}={quote(str(value), safe=_READABLE)}" for name, value in zip(_FACTS, values, strict=True))
        return ";".join((self.version, *facts))

    @classmethod
    def parse(cls, text: str | None) -> RunKey | None:
        """The key written in `text`; None where another program wrote it.

        Of another version than ours the facts that are known are read, and the others ignored.
        """
        version, *parts = text.split(";") if text else [""]
        facts = {name: unquote(value) for name, _, value in (part.partition("=") for part in parts)}
        if version == VERSION:
            if len(parts) != len(_FACTS) or set(facts) != set(_FACTS):
                return None
        elif not _ANY_VERSION.fullmatch(version):
            return None
        try:
            return cls(
                deployment=facts["deployment"],
                is_configured={"yes": True, "no": False}[facts["configured"]],
                dag_id=facts["dag"],
                run_id=facts["run"],
                task_id=facts["task"],
                map_index=int(facts["map"]),
                loop_index=int(facts["loop"]),
                region=facts["region"],
                start=int(facts["start"]),
                nonce=facts["nonce"],
                clear_number=int(facts["clear"]) if facts["clear"] else None,
                max_tries=int(facts["max_tries"]),
                retries=int(facts["retries"]),
                try_number=int(facts["try"]),
                post=facts["post"],
                version=version,
            )
        except (ValueError, KeyError):
            return None

    @property
    def order(self) -> tuple[int, int]:
        """Newer is greater: a dag run that is cleared or made again starts later, and its tries only count up."""
        return (self.start, self.try_number)

    @property
    def names_one_airflow(self) -> bool:
        """Whether the deployment identifies one Airflow. Two laptops are both `localhost`."""
        try:
            host = urlsplit(f"//{self.deployment}").hostname or ""
        except ValueError:
            host = ""
        return self.is_configured or host not in {"", "localhost", "127.0.0.1", "::1", "0.0.0.0"}  # noqa: S104

    def has_same_ids(self, other: RunKey) -> bool:
        """Whether both are of one dag, run, task, map index and iteration. Two Airflows may have equal ones."""
        return self._ids == other._ids

    def is_same_task(self, other: RunKey) -> bool:
        """Whether both keys are of one task instance of one Airflow.

        A start date in microseconds is as good as a name for the Airflow it comes from, unless its database was
        copied; so for equal ones the deployment counts only where both were configured. It may be read from the
        configuration of two workers that differ.
        """
        if not (self.is_understood and other.is_understood and self.has_same_ids(other)):
            return False
        if (self.start, self.nonce) == (other.start, other.nonce):
            are_configured = self.is_configured and other.is_configured
            return not are_configured or self.deployment == other.deployment
        return self._is_same_named_airflow(other)

    def is_same_airflow(self, other: RunKey) -> bool:
        """Whether both keys of one task are of one Airflow for certain, so that one may end or stop the other's run.

        A copy of a database has equal start dates; so the names must be equal, too.
        """
        if (self.start, self.nonce) == (other.start, other.nonce):
            return (self.deployment, self.is_configured) == (other.deployment, other.is_configured)
        return self._is_same_named_airflow(other)

    def is_same_try(self, other: RunKey) -> bool:
        """Whether both are of one try of one task instance, whatever process sent them."""
        mine, theirs = ((key.start, key.nonce, key.try_number) for key in (self, other))
        return mine == theirs and self.is_same_task(other)

    @property
    def is_understood(self) -> bool:
        """Whether this release knows all facts of the key."""
        return self.version == VERSION

    @property
    def first_try(self) -> int:
        """The number of the first try since the last clear, as far as Airflow's counts tell."""
        return self.max_tries - self.retries + 1

    def with_post(self, post: str) -> RunKey:
        """The key of one start request."""
        return replace(self, post=post)

    @property
    def _ids(self) -> tuple[str, str, str, int, int, str]:
        return (self.dag_id, self.run_id, self.task_id, self.map_index, self.loop_index, self.region)

    def _is_same_named_airflow(self, other: RunKey) -> bool:
        return self.deployment == other.deployment and self.names_one_airflow and other.names_one_airflow


def same_series(old: RunKey, now: RunKey) -> bool:
    """Whether `now` is a retry that carries on what `old` began, rather than a task run again after a clear.

    Equal `max_tries` is not enough. A clear sets it to the number of tries so far plus `retries`, so editing
    `retries` around a clear can restore the old figure: then the tries tell, as far as they can. The task instance
    in hand may also be past `max_tries + 1`, which only clearing a running task brings about. `clear_number` does not
    help: on Airflow 3.3 it rises where another task is cleared, too.
    """
    if (old.start, old.nonce, old.max_tries) != (now.start, now.nonce, now.max_tries):
        return False
    if now.try_number > now.max_tries + 1:
        return False
    return old.retries == now.retries or old.try_number >= now.first_try or now.try_number < now.first_try


def has_landed(listed: Iterable[tuple[RunKey, bool]], key: RunKey) -> bool:
    """Whether the runs listed show that no start of the try before `key`'s can still be on its way.

    A try sends one start at a time, so an executed run of try T-1 shows that its start has taken effect. A clear of a
    finished dag run gives it a new start date: then a run of T-1 with an older one is the earlier life's, unless the
    dag run was deleted and made again between, which counts its tries from 1. A clear number that has risen, our being
    the first try since the clear, and no later life's try in the list tell the two apart.

    :param listed: the keys of all runs listed, and whether each run was executed. A rejected start proves nothing.
    """
    own = [
        (other, is_executed)
        for other, is_executed in listed
        if other.is_same_task(key)
        or (other.is_understood and other.has_same_ids(key) and other.deployment == key.deployment)
    ]
    before = [other for other, is_executed in own if is_executed and other.try_number == key.try_number - 1]
    if any((other.start, other.nonce) == (key.start, key.nonce) for other in before):
        return True
    return any(
        other.start < key.start
        and other.clear_number is not None
        and key.clear_number is not None
        and key.clear_number > other.clear_number
        and key.first_try == key.try_number
        and not any(later.start > other.start and later.try_number <= other.try_number for later, _ in own)
        for other in before
    )
