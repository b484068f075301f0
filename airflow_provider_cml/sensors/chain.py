"""The child jobs that CML starts below a sensor's run: looked at, told in log and XCom, and judged.

The law: as of the sensor: each ending is that of `failures`, in every mode. The chain is known anew at each look of
another process, from what CML shows; nothing of it crosses Airflow's database but what is told when it is over.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_provider_cml import events
from airflow_provider_cml.api.conversations.chain import Chain
from airflow_provider_cml.api.conversations.watching import Ending, Outcome, outcome_of
from airflow_provider_cml.api.errors import CmlError, CmlJobRunError
from airflow_provider_cml.failures import CmlRunSkippedError, failure, failure_of, with_facts
from airflow_provider_cml.outlets import run_facts
from airflow_provider_cml.reasons import explained
from airflow_provider_cml.sensors.target import jobs_link
from airflow_provider_cml.triggers.chain import CmlJobChainTrigger

if TYPE_CHECKING:
    from airflow_provider_cml.api.conversations.chain import Link
    from airflow_provider_cml.api.models import JobRun
    from airflow_provider_cml.compat import Context
    from airflow_provider_cml.events import Watched
    from airflow_provider_cml.failures import CmlTaskError, CmlTaskFailError
    from airflow_provider_cml.hooks.task import CmlTaskHook
    from airflow_provider_cml.sensors.cml import CmlJobRunSensor

CHILDREN = "children"
"""The XCom that tells of the chain."""


class ChainWatch:
    """One sensor's view of the chain below its run.

    :param task: the sensor.
    :param hook: to the workspace.
    :param watched: the run at the top.
    :param top: that run, succeeded.
    """

    def __init__(self, task: CmlJobRunSensor, hook: CmlTaskHook, watched: Watched, top: JobRun) -> None:
        self.top = top
        self._task = task
        self._hook = hook
        self._watched = watched
        self._chain = Chain(watched.ids, top)

    @property
    def unfinished(self) -> Outcome:
        """What is told where the sensor's time is over, as the triggerer tells it."""
        return outcome_of(self._chain.timed_out())

    def look(self, context: Context) -> bool:
        """One look; whether the chain is over. Then it has been told, and all of it succeeded.

        :raises CmlTaskError: a link ended badly, or could not be looked at; and so CmlTaskFailError.
        """
        try:
            self._hook.look_at_chain(self._chain)
        except CmlError as error:
            raise self._failure_of(error) from error
        if not self._chain.is_over:
            return False
        watched = replace(self._watched, run_url=jobs_link(self._hook, self._watched.project_id))
        context["ti"].xcom_push(key=CHILDREN, value=[_told(link, watched) for link in self._chain.links])
        broken = self._chain.broken
        if broken is not None:
            raise self._failure(broken, watched)
        return True

    def _failure(self, link: Link, watched: Watched) -> CmlTaskError | CmlTaskFailError:
        below = _below(link, watched)
        outcome = Outcome(Ending.OVER, link.run)
        error = failure(outcome, below) if link.run else None
        if error is None:
            return with_facts(CmlRunSkippedError(link.missing), below, outcome)
        return explained(error, self._task, self._hook, outcome) if self._task.explain_failure else error

    def _failure_of(self, error: CmlError) -> CmlTaskError | CmlTaskFailError:
        verdict: CmlTaskError | CmlTaskFailError | None = None
        if isinstance(error, CmlJobRunError):
            outcome = outcome_of(error)
            verdict = failure(outcome, located(outcome.run, self._watched, self._hook))
        return verdict or failure_of(error, is_first_try=False)


def located(run: JobRun | None, watched: Watched, hook: CmlTaskHook) -> Watched:
    """What is known of a run at the top or below, with the job it is of and its link."""
    if run is None:
        return watched
    return replace(watched, job_id=run.job_id or watched.job_id, run_url=jobs_link(hook, watched.project_id))


def sleep_below(task: CmlJobRunSensor, top: JobRun, watched: Watched) -> NoReturn:
    """Let the triggerer wait for what CML starts below a run."""
    task.defer(
        trigger=CmlJobChainTrigger(
            task.cml_conn_id,
            replace(watched, run_id=top.id).to_json(),
            task.poke_interval if task.poll_interval is None else task.poll_interval,
        ),
        method_name="execute_complete",
        timeout=events.backstop(events.seconds_to(watched.deadline)),
    )
    message = "Airflow went on after a deferral."
    raise AssertionError(message)


def _told(link: Link, watched: Watched) -> dict[str, Any]:
    """What the XCom tells of one link: job, the run it follows, and of its own run what events tell of runs."""
    told = {"job": link.job.name, "job_id": link.job.id, "parent_run_id": link.parent.id}
    if link.run is None:
        return {**told, "status": "", "message": link.missing}
    return {**told, **run_facts(_below(link, watched), link.run)}


def _below(link: Link, watched: Watched) -> Watched:
    """A link, as the table of failures knows runs."""
    return replace(watched, job_id=link.job.id, run_id=link.run.id if link.run else "", run_key="")
