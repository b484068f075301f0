"""One try of a task, from its start to its end: what `CmlRunJobOperator` does, in worker and after every deferral.

The law: the run's id reaches XCom before anything else can fail, and how a wait ended is read from one value, whether
it happened here or in the triggerer.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_provider_cml import events
from airflow_provider_cml.api.conversations.start import Busy, Origin, Start
from airflow_provider_cml.api.conversations.succession import may_be_made_again
from airflow_provider_cml.api.conversations.watching import Ending, Outcome, Pace, Target
from airflow_provider_cml.api.errors import CmlError, CmlInterruptedError
from airflow_provider_cml.api.run_key import RunKey
from airflow_provider_cml.api.states import JobRunStatus
from airflow_provider_cml.compat import AirflowSkipException, AirflowTaskTimeout
from airflow_provider_cml.failures import CmlJobBusyFailError, CmlTimeoutError, failure, failure_of, with_facts
from airflow_provider_cml.links.cml import RUN_URL
from airflow_provider_cml.operators.variables import given_variables
from airflow_provider_cml.outlets import run_facts, tell_outlets
from airflow_provider_cml.reasons import explained, warn_of_memory
from airflow_provider_cml.task_context import is_deployment_told, is_settled, line_date, run_key
from airflow_provider_cml.triggers.cml import CmlJobFreeTrigger, CmlJobRunTrigger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_cml.api.conversations.start import Started
    from airflow_provider_cml.api.models import JobRun
    from airflow_provider_cml.compat import Context
    from airflow_provider_cml.hooks.task import CmlTaskHook
    from airflow_provider_cml.operators.cml import CmlRunJobOperator


def push(context: Context, values: Mapping[str, Any]) -> None:
    """Tell XCom."""
    for name, value in values.items():
        context["ti"].xcom_push(key=name, value=value)


class JobRunAttempt:
    """One try, as far as it has come.

    :param task: the operator, with what the DAG author wants.
    :param context: Airflow's.
    :param hook: the way to CML.
    :param watched: what this try knows of its run already; grows as it goes.
    """

    def __init__(self, task: CmlRunJobOperator, context: Context, hook: CmlTaskHook, watched: events.Watched) -> None:
        self.task = task
        self.context = context
        self.hook = hook
        self.watched = watched
        self.key = run_key(context)
        self.seen: JobRun | None = None
        self._sent: list[RunKey] = []

    def run(self, variables: dict[str, str]) -> str:
        """Start or find the run, wait for it, and once more where CML or an earlier try took it away."""
        try:
            while True:
                started = self._start(variables)
                self._announce(started)
                if not self.task.wait_for_completion:
                    tell_outlets(self.task, self.context, run_facts(self.watched, started.run))
                    return started.run.id
                if self._is_over(self._wait(started)):
                    return self.watched.run_id
        except CmlInterruptedError as error:
            raise failure_of(error, is_first_try=False) from error
        except AirflowTaskTimeout as error:
            raise self._out_of_time() from error

    def go_on(self, outcome: Outcome) -> str:
        """Conclude from what the triggerer saw; start anew if it says nothing about this task."""
        if self._is_over(outcome):
            return self.watched.run_id
        return self.run(given_variables(self.task, self.context))

    def kill(self) -> None:
        """Stop the run while the process is being killed; the wait, interrupted, ends by itself."""
        self.hook.interrupt()
        key = self._last_key()
        if self.task.cancel_on_kill and key is not None:
            self.hook.stop_in_passing(self.watched.ids, key, self.watched.run_id)

    # ---------------------------------------------------------------- start

    def _start(self, variables: dict[str, str]) -> Started:
        task, watched = self.task, self.watched
        waits = task.on_busy == "wait"
        start = Start(
            watched.ids,
            self.key,
            environment=variables,
            arguments=task.arguments,
            durable=task.durable,
            # Two laptops are both called localhost: they must not stop each other's runs.
            stop_former=task.cancel_on_kill and is_deployment_told(),
            wait_when_busy=waits,
            wait_elsewhere=waits and task.deferrable,
            refusals=watched.refusals,
            busy_timeout=events.seconds_to(watched.busy_deadline),
            poll_interval=task.poll_interval,
            settled=is_settled(task, self.key),
            waited=max(time.time() - watched.tried, 0.0) if watched.tried else 0.0,
            excluded=frozenset(watched.excluded),
        )
        self._sent = start.sent
        try:
            result = self.hook.start_job_run_once(start)
        except CmlError as error:
            raise with_facts(failure_of(error, is_first_try=self.key.try_number <= 1), watched) from error
        if isinstance(result, Busy):
            self._stay_away(result)
        return result

    def _stay_away(self, busy: Busy) -> NoReturn:
        """The job is busy: stand in line in the triggerer, or end the task as its author said."""
        task, left = self.task, events.seconds_to(self.watched.busy_deadline)
        if task.deferrable and task.on_busy == "wait" and left != 0:
            task.log.info("Waiting in the triggerer: %s.", busy.reason)
            ti = self.context["ti"]
            task.defer(
                trigger=CmlJobFreeTrigger(
                    task.cml_conn_id,
                    replace(self.watched, refusals=busy.refusals).to_json(),
                    task.poll_interval,
                    date=line_date(self.context),
                    map_index=self.key.map_index,
                    name=f"{ti.dag_id}/{ti.run_id}/{ti.task_id}",
                    gap=busy.gap,
                ),
                method_name="execute_when_free",
                timeout=events.backstop(left),
            )
        message = f"Job {task.job} of project {task.project} is busy: {busy.reason}."
        if task.on_busy == "skip":
            raise AirflowSkipException(message)
        waited = f" It was waited for {task.busy_timeout:g} s (busy_timeout)." if task.on_busy == "wait" else ""
        raise with_facts(CmlJobBusyFailError(message + waited), self.watched)

    def _announce(self, started: Started) -> None:
        """Tell XCom and log which run is ours, before anything else can fail."""
        task, run = self.task, started.run
        self.seen = run
        deadlines = [self.watched.deadline, events.moment_after(task.timeout)]
        self.watched = replace(
            self.watched,
            run_id=run.id,
            run_key=str(started.key),
            began=self.watched.began or time.time(),
            losses=max(started.losses, self.watched.losses),
            deadline=min((moment for moment in deadlines if moment is not None), default=None),
        )
        names = ("run_key", "project_id", "job_id")
        push(self.context, {"return_value": run.id, **{name: getattr(self.watched, name) for name in names}})
        try:
            run_url = self.hook.jobs_url(self.watched.project_id)
        except CmlError as error:
            task.log.warning("The link to CML is missing: %s", error)
            run_url = ""
        push(self.context, {RUN_URL: run_url})
        self.watched = replace(self.watched, run_url=run_url)
        task.log.info("Run %s is %s. %s", run.id, run.status, run_url)
        are_both = self.key.retries and not task.follow_retries
        if started.origin is Origin.STARTED and are_both and self.hook.retries_itself(self.watched.ids):
            task.log.warning("CML's own Job Retry is on for this job, and so are Airflow's retries: use one of them.")
        if started.origin is Origin.STARTED and run.arguments != (task.arguments or run.arguments):
            task.log.warning("CML shows other arguments for run %s than were given: it may have ignored them.", run.id)

    # ---------------------------------------------------------------- wait

    def _wait(self, started: Started) -> Outcome:  # noqa: RET503 - defer raises
        """Wait here, or go to sleep and let the triggerer wait. A run that is over already never defers."""
        task = self.task
        target = Target(self.watched.ids, run_id=self.watched.run_id)
        if started.run.status.is_over and not self._is_followed(started.run):
            return Outcome(Ending.OVER, started.run)
        left = events.seconds_to(self.watched.deadline)
        if not task.deferrable:
            pace = Pace(poll_interval=task.poll_interval, timeout=left)
            if task.follow_retries:
                return self.hook.watch_retries(target, pace, self._turn_to)
            return self.hook.watch_job_run(target, pace)
        try:
            run = self.hook.look_in_passing(self.watched.ids, self.watched.run_id)
        except CmlError as error:
            task.log.warning("Could not look at the run before deferring: %s", error)
        else:
            if run.status.is_over and not self._is_followed(run):
                return Outcome(Ending.OVER, run)
        task.defer(
            trigger=CmlJobRunTrigger(
                task.cml_conn_id,
                self.watched.to_json(),
                task.poll_interval,
                cancel_on_kill=task.cancel_on_kill,
                follow_retries=task.follow_retries,
            ),
            method_name="execute_complete",
            timeout=events.backstop(left),
        )

    def _is_followed(self, run: JobRun) -> bool:
        """Whether CML may make this run again, and the task goes on with that one."""
        return self.task.follow_retries and may_be_made_again(run)

    def _turn_to(self, run: JobRun) -> None:
        """Go on with the run CML has made of ours: it is the one to stop, and to tell of."""
        self.watched = replace(self.watched, run_id=run.id)
        push(self.context, {"return_value": run.id})

    # ---------------------------------------------------------------- conclude

    def _is_over(self, outcome: Outcome) -> bool:
        """True if the run succeeded, False if the task has to take part again; otherwise the task's error."""
        run, log = outcome.run, self.task.log
        self.seen = run or self.seen
        if run is not None and self.task.follow_retries:
            self._turn_to(run)
        if run is not None:
            push(self.context, {"status": str(run.status), **events.run_times(run)})
            if run.status.is_over:
                log.info("Run %s is over: %s.", run.id, run.word or run.status)
        error = failure(outcome, self.watched)
        if error is not None and self._says_nothing(outcome):
            return False
        if outcome.ending is Ending.TIMED_OUT:
            error = with_facts(CmlTimeoutError(f"{outcome.message} {self._stop()}"), self.watched, outcome)
        if self.watched.losses:
            self._look_for_doubles()
        if error is not None:
            raise explained(error, self.task, self.hook, outcome) if self.task.explain_failure else error
        if run is not None:
            if self.task.check_memory:
                warn_of_memory(self.task, self.hook, run)
            tell_outlets(self.task, self.context, run_facts(self.watched, run))
        return True

    def _says_nothing(self, outcome: Outcome) -> bool:
        """Whether this ending is none of the task: the run never ran, or our own former worker may have stopped it."""
        run, key = outcome.run, RunKey.parse(self.watched.run_key)
        if outcome.ending is not Ending.OVER or run is None:
            return False
        is_adopted = key is not None and key.try_number < self.key.try_number
        if run.status is JobRunStatus.SKIPPED:
            self.task.log.info("Run %s was skipped: the job is busy.", run.id)
            excluded = self.watched.excluded
        elif run.status is JobRunStatus.STOPPED and is_adopted and not self.watched.excluded:
            self.task.log.info("Run %s was stopped, perhaps by the earlier try that started it.", run.id)
            excluded = (*self.watched.excluded, run.id)
        else:
            return False
        self.watched = replace(self.watched, run_id="", run_key="", began=0.0, excluded=excluded)
        return True

    def _out_of_time(self) -> CmlTimeoutError:
        """Airflow's execution_timeout struck while the task was waiting here: stop the run, as `timeout` does."""
        run_id, key = self.watched.run_id, self._last_key()
        if run_id:
            message = f"Run {run_id} was not over within execution_timeout. {self._stop()}"
        elif key is not None:
            self.hook.stop_in_passing(self.watched.ids, key, "")
            message = (
                f"execution_timeout struck while the answer to a start was out; a run may exist, with the key {key}"
            )
        else:
            message = "execution_timeout struck before a run was started."
        error = CmlTimeoutError(message)
        with_facts(error, self.watched)
        return error

    def _stop(self) -> str:
        """Stop the run and say what came of it."""
        try:
            run = self.hook.stop_and_confirm(self.watched.ids, self.watched.run_id)
        except CmlError as error:
            text = f"It could not be stopped and may still be active in CML. {error}"
        else:
            text = "It was stopped." if run.status.is_over else f"It was asked to stop and is {run.status}."
        self.task.log.info("Run %s: %s", self.watched.run_id, text)
        return text

    def _look_for_doubles(self) -> None:
        key = RunKey.parse(self.watched.run_key)
        if key is None:
            return
        try:
            self.hook.look_for_doubles(self.watched.ids, key, self.watched.run_id, copies=self.task.follow_retries)
        except CmlError as error:
            self.task.log.warning("Could not look for a second run after a lost answer: %s", error)

    def _last_key(self) -> RunKey | None:
        """The key of the run, or of the start that is out."""
        return RunKey.parse(self.watched.run_key) or (self._sent[-1] if self._sent else None)
