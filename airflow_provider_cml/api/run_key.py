"""The key that every start carries in its run's environment: who started this run, in readable facts.

CML has no idempotency key. It does echo a run's environment, so this one variable lets a later look tell our own
run from everybody else's, a retry from a clear, and a refusal's receipt from a lost answer.

The law: facts, not a difference and not a hash. Two keys are compared by `identity` (which task instance), by
`series` (the tries between two clears) and by `order` (which of two is newer); every fact in the comparison comes
from Airflow's database, so no clock of CML, worker or triggerer is involved.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from urllib.parse import quote, unquote

RUN_KEY_VARIABLE = "AIRFLOW_RUN_KEY"
_VERSION = "v1"
# Everything a name in Airflow may hold, except what separates the facts: ';', '=' and '%'.
_READABLE = " !\"#$&'()*+,-./:<>?@[\\]^_`{|}~"


@dataclass(frozen=True, slots=True)
class RunKey:
    """What a start says of itself. `start` is the start date of the dag run in microseconds since 1970.

    `max_tries` is Airflow's own, of the task instance: a clear raises it, a retry leaves it alone.
    `nonce` is set where `start` does not tell two dag runs apart: under `dags test` it equals the logical date.
    `post` counts the start requests of one try in one process, and ends with random letters.
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

    def __str__(self) -> str:
        """The value of the variable."""
        names = (self.deployment, self.dag_id, self.run_id, self.task_id)
        return ";".join(
            (
                _VERSION,
                *(quote(name, safe=_READABLE) for name in names),
                str(self.map_index),
                f"start={self.start}{'~' if self.nonce else ''}{self.nonce}",
                f"max_tries={self.max_tries}",
                f"retries={self.retries}",
                f"try={self.try_number}",
                f"post={self.post}",
            )
        )

    @classmethod
    def parse(cls, text: str | None) -> RunKey | None:
        """The key written in `text`, or None: another program's variable is nobody's error."""
        parts = text.split(";") if text else []
        if len(parts) != 11 or parts[0] != _VERSION:
            return None
        facts = dict(part.partition("=")[::2] for part in parts[6:])
        start, _, nonce = facts.get("start", "").partition("~")
        try:
            return cls(
                deployment=unquote(parts[1]),
                dag_id=unquote(parts[2]),
                run_id=unquote(parts[3]),
                task_id=unquote(parts[4]),
                map_index=int(parts[5]),
                start=int(start),
                max_tries=int(facts["max_tries"]),
                retries=int(facts["retries"]),
                try_number=int(facts["try"]),
                nonce=nonce,
                post=facts["post"],
            )
        except (ValueError, KeyError):
            return None

    @property
    def identity(self) -> tuple[str, str, str, str, int]:
        """Which task instance this is, in all its tries."""
        return (self.deployment, self.dag_id, self.run_id, self.task_id, self.map_index)

    @property
    def order(self) -> tuple[int, int]:
        """Newer is greater: a dag run made again starts later, and tries only count up, through clears too."""
        return (self.start, self.try_number)

    @property
    def attempt(self) -> tuple[object, ...]:
        """Which try of which task instance: equal for all start requests of one try."""
        return (*self.identity, self.start, self.nonce, self.try_number)

    def with_post(self, post: str) -> RunKey:
        """The key of one start request."""
        return replace(self, post=post)


def same_series(old: RunKey, now: RunKey) -> bool:
    """Whether `now` is a retry that carries on what `old` began, rather than a task run again after a clear.

    Equal `max_tries` is not enough. A clear sets it to the number of tries so far plus `retries`, so editing
    `retries` around a clear can restore the old figure: then the tries tell, as far as they can. The task instance
    in hand may also be past `max_tries + 1`, which only clearing a running task brings about.
    """
    if (old.start, old.nonce, old.max_tries) != (now.start, now.nonce, now.max_tries):
        return False
    if now.try_number > now.max_tries + 1:
        return False
    first_of_now = now.max_tries - now.retries + 1
    return old.retries == now.retries or old.try_number >= first_of_now or now.try_number < first_of_now
