"""What a job says of its runs: how one without a script goes, and whether CML makes it again.

Law: facts in, answer out; nothing changes here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_cml.emulator.objects import Job, Life, Run, Status

if TYPE_CHECKING:
    from collections.abc import Sequence


def life_of(job: Job, run: Run, earlier: Sequence[Run]) -> Life | None:
    """The life of a run; None: the job's script is run."""
    if job.life is None:
        return None if job.script else Life()
    if isinstance(job.life, Life):
        return job.life
    if callable(job.life):
        return job.life(run)
    # Refused starts (SKIPPED) use no life up, and the last one serves for all runs that follow.
    lived = sum(other.status != Status.SKIPPED for other in earlier)
    return job.life[min(lived, len(job.life) - 1)]


def is_made_again(job: Job, run: Run, failure: str) -> bool:
    """CML's own Job Retry (SPEC for the settings, DOC for what they mean)."""
    if not job.retry_enabled or run.attempt >= job.max_retry:
        return False
    match run.status:
        case Status.FAILED:
            return job.retry_for_system_failure if failure == "system" else job.retry_for_script_failure
        case Status.TIMEDOUT:
            return job.retry_for_timedout_runs
        case Status.SKIPPED:
            return job.retry_for_skipped_runs
        case _:
            return False
