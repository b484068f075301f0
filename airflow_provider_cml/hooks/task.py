"""The hook as operator and sensor use it: the conversations of one task with its one run.

The law: nothing here is for DAG authors, whose hook is `CmlHook`; and each method is one conversation, or what has to
happen around it while a process is being killed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_cml.api import v2
from airflow_provider_cml.api.conversations import finding, history, starting, starting_v1, usage, waiting, watching
from airflow_provider_cml.api.errors import CmlError
from airflow_provider_cml.api.transports import Transport
from airflow_provider_cml.hooks.cml import CmlHook

if TYPE_CHECKING:
    from airflow_provider_cml.api.conversations.finding import JobIds
    from airflow_provider_cml.api.conversations.start import Busy, Postponed, Start, Started
    from airflow_provider_cml.api.conversations.starting_v1 import LegacyStart
    from airflow_provider_cml.api.conversations.watching import Outcome, Pace, Target
    from airflow_provider_cml.api.models import JobRun, Usage
    from airflow_provider_cml.api.run_key import RunKey

KILL_SECONDS = 3.0
"""Airflow kills a task five seconds after it asked it to end."""


class CmlTaskHook(CmlHook):
    """What `CmlRunJobOperator` and `CmlJobRunSensor` ask of a workspace, beside what anybody may."""

    def find_task_job(self, project: str, job: str) -> JobIds:
        """The ids of a task's job. An outage is survived as long as by what comes after."""
        return self._perform(finding.find_job_ids(project, job, history.OUTAGE_PATIENCE, history.UNREACHABLE_PATIENCE))

    def start_job_run_once(self, start: Start) -> Started | Busy | Postponed:
        """Start a run exactly once; see `airflow_provider_cml.api.conversations.starting`."""
        return self._perform(starting.start_exactly_once(start))

    def start_job_when_free(self, start: LegacyStart) -> str | Busy:
        """Start a job through API v1, once CML takes the start; see `conversations.starting_v1`."""
        return self._perform(starting_v1.start_job_when_free(start))

    def look_at_job_run(self, target: Target) -> JobRun | None:
        """The run that is meant, as it is now; None if there is none yet."""
        return self._perform(watching.look(target))

    def look_by_key(self, ids: JobIds, key: RunKey) -> JobRun | None:
        """The run of a start whose answer is out, if there is one yet; asked again for half a minute, not for ten."""
        return self._perform(finding.find_job_run_by_key(ids, str(key)))

    def look_in_passing(self, ids: JobIds, run_id: str) -> JobRun:
        """The run as it is now, by one request that is not repeated."""
        return self._perform(v2.get_job_run(ids.project_id, ids.job_id, run_id, patience=0))

    def wait_until_clear(self, ids: JobIds, run_id: str, pace: Pace) -> JobRun:
        """Wait while a run has a status nobody knows; see `waiting.wait_for_job_run` for what ends it."""
        wait = waiting.Wait(ids, run_id, pace.poll_interval, pace.timeout, pace.age, pace.first_gap, until_clear=True)
        return self._perform(waiting.wait_for_job_run(wait))

    def watch_job_run(self, target: Target, pace: Pace) -> Outcome:
        """Wait until the run that is meant is over; every ending is a value."""
        return self._perform(watching.watch(target, pace))

    def stop_and_confirm(self, ids: JobIds, run_id: str) -> JobRun:
        """Stop a run and look until it is over, two minutes at most."""
        return self._perform(waiting.stop_and_confirm(ids, run_id))

    def stop_in_passing(self, ids: JobIds, key: RunKey, run_id: str) -> None:
        """Stop the run of a process that is being killed, within 3 s in all; what comes of it is only logged.

        On a transport of its own: the signal may have come in the middle of a request. No connection is looked up:
        in Airflow 3 that takes a lock which the interrupted code may hold.
        """
        if "endpoint" not in self.__dict__:
            return
        transport = Transport(self.endpoint)
        try:
            transport.perform(waiting.stop_in_passing(ids, key, run_id, KILL_SECONDS), self._tell)
        except CmlError as error:
            self.log.warning(
                "A run may still be active in CML: stopping it got no good answer. %s Its key: %s", error, key
            )
        finally:
            transport.close()

    def find_usage(self, run: JobRun) -> Usage | None:
        """What CML's list of workloads says of a run; None if it is not there. One request, three seconds."""
        return self._perform(usage.find_usage(run))

    def interrupt(self) -> None:
        """End the wait of this hook's transport, if it is waiting; for a signal handler."""
        if "_transport" in self.__dict__:
            self._transport.interrupt()

    def look_for_doubles(self, ids: JobIds, key: RunKey, run_id: str) -> None:
        """After a lost answer: stop, or tell of, a second run of this try."""
        self._perform(waiting.look_for_doubles(ids, key, run_id))

    def jobs_url(self, project_id: str) -> str:
        """The address of the project's jobs page. API v2 gives none of a run or job, and not the number in theirs."""
        project = self._perform(v2.get_project(project_id, patience=0))
        return self.endpoint.jobs_url(project.owner, project.slug)

    def retries_itself(self, ids: JobIds) -> bool:
        """Whether CML's own Job Retry is on for a job. One look, of use for a warning only: False where it fails."""
        try:
            return self._perform(v2.get_job(ids.project_id, ids.job_id, patience=0)).retry_enabled
        except CmlError:
            return False
