"""The one vocabulary of a run's status, and what each word means for whoever waits.

Every mode of operator, sensor and trigger asks this table, so none can answer differently.
Words and order: `EngineStatus` of the published v2 document (26.06.13). Meanings the document does not give:
ENGINE_SKIPPED was recorded but never ran, because another run of the job was active (seen on live workspaces);
whether ENGINE_UNKNOWN is an end is disputed among users, so it is treated as not over, and waited for with a bound.
"""

from __future__ import annotations

from enum import StrEnum


class JobRunStatus(StrEnum):
    """A status as CML's user interface writes it: without the ENGINE_ that API v2 puts before it."""

    SCHEDULING = "scheduling"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    UNKNOWN = "unknown"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMEDOUT = "timedout"
    SKIPPED = "skipped"

    @classmethod
    def read(cls, word: str) -> JobRunStatus:
        """The status for CML's word, with or without its prefix, in any case. A word not in the table is UNKNOWN.

        CML has added words before (ENGINE_SKIPPED is missing from Cloudera's own clients of 2024), so a new one
        is no reason to fail a healthy run. No word at all is UNKNOWN too: it is no reason to call it a run.
        """
        try:
            return cls(word.strip().casefold().removeprefix("engine_"))
        except ValueError:
            return cls.UNKNOWN

    @property
    def is_over(self) -> bool:
        """The run will not change any more."""
        return self in _OVER

    @property
    def is_success(self) -> bool:
        """The only green one."""
        return self is JobRunStatus.SUCCEEDED

    @property
    def is_executed(self) -> bool:
        """The run is running, will run, or has run. A skipped one is the record of a refusal."""
        return self is not JobRunStatus.SKIPPED

    @property
    def can_be_stopped(self) -> bool:
        """A stop request makes sense: the run is neither over nor stopping already."""
        return not self.is_over and self is not JobRunStatus.STOPPING


_OVER = frozenset(
    {
        JobRunStatus.STOPPED,
        JobRunStatus.SUCCEEDED,
        JobRunStatus.FAILED,
        JobRunStatus.TIMEDOUT,
        JobRunStatus.SKIPPED,
    }
)
