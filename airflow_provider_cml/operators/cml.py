"""Run a job of Cloudera Machine Learning and see it end.

The law: `__init__` only stores; what depends on rendered templates happens in `execute`. Starts happen here, in the
worker, and nowhere else; how a wait ended is read from one value, whether it happened here or in the triggerer.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_cml import events
from airflow_provider_cml.api.conversations.start import Busy, Origin, Start
from airflow_provider_cml.api.conversations.starting import SETTLE
from airflow_provider_cml.api.conversations.watching import Ending, Outcome, Pace, Target
from airflow_provider_cml.api.environment import risky_names
from airflow_provider_cml.api.errors import CmlError, CmlInputError, CmlInterruptedError
from airflow_provider_cml.api.run_key import RunKey
from airflow_provider_cml.api.states import JobRunStatus
from airflow_provider_cml.compat import (
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseOperator,
    TaskDeferralTimeout,
    conf,
)
from airflow_provider_cml.failures import (
    CmlJobBusyFailError,
    CmlRefusedFailError,
    CmlTimeoutError,
    failure,
    failure_of,
    with_facts,
)
from airflow_provider_cml.hooks.cml import CmlHook
from airflow_provider_cml.legacy import check_legacy, legacy_key, start_through_v1
from airflow_provider_cml.links.cml import RUN_URL, CmlJobRunLink
from airflow_provider_cml.task_context import is_deployment_told, line_date, run_key, run_variables
from airflow_provider_cml.triggers.cml import CmlJobFreeTrigger, CmlJobRunTrigger

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_cml.api.conversations.start import Started
    from airflow_provider_cml.compat import Context

ON_BUSY = ("wait", "fail", "skip")


class CmlRunJobOperator(BaseOperator):
    """Start a run of a job, exactly once, and wait until it is over.

    Before every start the task looks for the run of its earlier try, or of a lost answer, and carries on with it. The
    run gets Airflow's AIRFLOW_CTX_* variables and one key, AIRFLOW_RUN_KEY, by which it is found again.

    XCom, pushed before the first look at the run and kept on failure: `return_value` (the run's id; v1: the engine id),
    `run_key`, `project_id`, `job_id`, `run_url`; after the end `status` and the run's times.

    :param project: v2: the project's id, `owner/name`, `owner/slug`, or a name only one visible project has.
        v1: `owner/slug` as in the project's address. (templated)
    :param job: v2: the job's id or its exact name. v1: the number in the job's address. (templated)
    :param environment: variables of this run, {name: value}; they override the job's and the project's. Values are
        strings, numbers (sent in decimal) or booleans (sent as `true` and `false`). (templated)
    :param private_environment: the same for values nobody should see: templates in it are rendered just before the
        start, and the values stored nowhere in Airflow. Whoever may read the run in CML sees them.
    :param arguments: one string; the script finds it in JOB_ARGUMENTS. v2 only. Some workspaces ignore it for single
        runs (reported from two), so `environment` is the safer way. (templated)
    :param wait_for_completion: False ends the task as soon as the run is started. API v1 can do no more than that.
    :param deferrable: wait in the triggerer, without a worker. Default: `[operators] default_deferrable`.
    :param poll_interval: the longest gap between two looks at the run, seconds. Young runs are looked at more often.
    :param timeout: seconds this try waits for its run; then the run is stopped and the task fails. None: no limit.
    :param on_busy: what to do if another run of the job is active, since CML allows one at a time: `wait`, `fail` or
        `skip`. A stranger's run is never taken for ours, and never stopped.
    :param busy_timeout: seconds to wait for a busy job; then the task fails. None: no limit.
    :param durable: a retry carries on with the run its earlier try started. False: every try starts a run of its own.
    :param cancel_on_kill: stop the run when the task is killed, cleared or marked in Airflow.
    :param cml_conn_id: the Airflow connection. (templated)
    """

    template_fields: Sequence[str] = ("project", "job", "environment", "arguments", "cml_conn_id")
    template_fields_renderers = {"environment": "json"}  # noqa: RUF012 - Airflow's own shape
    operator_extra_links = (CmlJobRunLink(),)
    ui_color = "#f9b27c"

    def __init__(
        self,
        *,
        project: str,
        job: str,
        environment: Mapping[str, Any] | None = None,
        private_environment: Mapping[str, Any] | None = None,
        arguments: str | None = None,
        wait_for_completion: bool = True,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: float = 30.0,
        timeout: float | None = None,
        on_busy: str = "wait",
        busy_timeout: float | None = None,
        durable: bool = True,
        cancel_on_kill: bool = True,
        cml_conn_id: str = CmlHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.project = project
        self.job = job
        self.environment = environment
        self.private_environment = private_environment
        self.arguments = arguments
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.timeout = timeout
        self.on_busy = on_busy
        self.busy_timeout = busy_timeout
        self.durable = durable
        self.cancel_on_kill = cancel_on_kill
        self.cml_conn_id = cml_conn_id
        self._hook: CmlHook | None = None
        self._watched: events.Watched | None = None

    # ---------------------------------------------------------------- what Airflow calls

    def execute(self, context: Context) -> str:
        """Start the run and wait for it; returns its id."""
        key = run_key(context)
        try:
            self._check()
            variables = self._variables(context)
            hook = self._connect()
            if hook.is_v1:
                return self._start_v1(context, hook, key, variables)
            ids = hook.find_job_ids(str(self.project), str(self.job))
        except CmlError as error:
            raise failure_of(error, is_first_try=key.try_number <= 1) from error
        watched = events.Watched(
            ids.project_id,
            ids.job_id,
            deadline=_moment_after(self._execution_seconds()),
            busy_deadline=_moment_after(self.busy_timeout),
        )
        return self._take_part(context, hook, key, variables, watched)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> str:
        """Go on where the triggerer stopped."""
        outcome, watched = self._read(event)
        self._watched = watched
        hook = self._connect()
        over = self._conclude(context, hook, watched, outcome)
        if over is not None:
            return over
        return self._take_part(
            context, hook, run_key(context), self._variables(context), self._set_aside(watched, outcome)
        )

    def execute_when_free(self, context: Context, event: dict[str, Any]) -> str:
        """Play the whole turn again, now that the triggerer says that the job is free."""
        outcome, watched = self._read(event)
        if outcome.ending is Ending.TIMED_OUT:
            raise with_facts(CmlJobBusyFailError(f"{outcome.message} (busy_timeout: {self.busy_timeout:g} s)"), watched)
        error = None if outcome.ending is Ending.FREE else failure(outcome, watched)
        if error is not None:
            raise error
        return self._take_part(context, self._connect(), run_key(context), self._variables(context), watched)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Name the one thing Airflow reports without calling us: a deferral that outlived all its deadlines."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except TaskDeferralTimeout as error:
            message = "The triggerer did not report in time; the run may still be active in CML, and a retry finds it."
            raise CmlTimeoutError(message) from error

    def on_kill(self) -> None:
        """Stop the run, in the few seconds Airflow leaves: one request, no look-up of the connection."""
        hook, watched = self._hook, self._watched
        if hook is None:
            return
        hook.interrupt()
        if self.cancel_on_kill and watched is not None and watched.run_id:
            hook.stop_at_once(watched.ids, watched.run_id)

    # ---------------------------------------------------------------- start, wait, conclude

    def _take_part(
        self, context: Context, hook: CmlHook, key: RunKey, variables: dict[str, str], watched: events.Watched
    ) -> str:
        """Start or find the run, wait for it, and once more where CML or an earlier try took it away."""
        while True:
            started = self._start(context, hook, key, variables, watched)
            watched = self._announce(context, hook, watched, started)
            if not self.wait_for_completion:
                return started.run.id
            outcome = self._wait(hook, watched, started)
            over = self._conclude(context, hook, watched, outcome)
            if over is not None:
                return over
            watched = self._set_aside(watched, outcome)

    def _start(
        self, context: Context, hook: CmlHook, key: RunKey, variables: dict[str, str], watched: events.Watched
    ) -> Started:
        start = Start(
            watched.ids,
            key,
            environment=variables,
            arguments=self.arguments,
            durable=self.durable,
            # Two laptops are both called localhost: they must not stop each other's runs.
            stop_former=self.cancel_on_kill and is_deployment_told(),
            wait_when_busy=self.on_busy == "wait",
            wait_elsewhere=self.deferrable and self.on_busy == "wait",
            refusals=watched.refusals,
            busy_timeout=None if watched.busy_deadline is None else max(watched.busy_deadline - time.time(), 0.0),
            poll_interval=self.poll_interval,
            settled=self._is_settled(key),
            excluded=frozenset(watched.excluded),
        )
        try:
            result = hook.start_job_run_once(start)
        except CmlError as error:
            raise with_facts(failure_of(error, is_first_try=key.try_number <= 1), watched) from error
        if isinstance(result, Busy):
            if self.deferrable and self.on_busy == "wait" and not result.timed_out:
                self._defer_until_free(context, watched, result)
            message = f"Job {self.job} of project {self.project} is busy: {result.reason}."
            if self.on_busy == "skip":
                raise AirflowSkipException(message)
            waited = f" It was waited for {self.busy_timeout:g} s (busy_timeout)." if result.timed_out else ""
            raise with_facts(CmlJobBusyFailError(message + waited), watched)
        return result

    def _defer_until_free(self, context: Context, watched: events.Watched, busy: Busy) -> None:
        """Stand in line in the triggerer, without a worker; comes back through `execute_when_free`."""
        left = None if watched.busy_deadline is None else watched.busy_deadline - time.time()
        if left is not None and left <= 0:
            return
        self.log.info("Waiting in the triggerer: %s.", busy.reason)
        ti = context["ti"]
        self.defer(
            trigger=CmlJobFreeTrigger(
                self.cml_conn_id,
                replace(watched, refusals=busy.refusals).to_json(),
                self.poll_interval,
                date=line_date(context),
                map_index=-1 if ti.map_index is None else ti.map_index,
                name=f"{ti.dag_id}/{ti.run_id}/{ti.task_id}",
                gap=busy.gap,
            ),
            method_name="execute_when_free",
            timeout=events.backstop(left),
        )

    def _announce(self, context: Context, hook: CmlHook, watched: events.Watched, started: Started) -> events.Watched:
        """Tell XCom and log which run is ours, before anything else can fail."""
        run = started.run
        deadlines = [moment for moment in (watched.deadline, _moment_after(self.timeout)) if moment is not None]
        self._watched = watched = replace(
            watched,
            deadline=min(deadlines, default=None),
            run_id=run.id,
            run_key=str(started.key),
            began=watched.began or time.time(),
            losses=max(started.losses, watched.losses),
        )
        self._push(context, {"return_value": run.id, "run_key": watched.run_key, "project_id": watched.project_id})
        self._push(context, {"job_id": watched.job_id})
        try:
            run_url = hook.jobs_url(watched.project_id)
        except CmlError as error:
            self.log.warning("The link to CML is missing: %s", error)
            run_url = ""
        self._push(context, {RUN_URL: run_url})
        self.log.info("Run %s is %s. %s", run.id, run.status, run_url)
        if self.arguments is not None and started.origin is Origin.STARTED and run.arguments != self.arguments:
            self.log.warning("CML shows other arguments for run %s than were given: it may have ignored them.", run.id)
        self._watched = replace(watched, run_url=run_url)
        return self._watched

    def _wait(self, hook: CmlHook, watched: events.Watched, started: Started) -> Outcome:
        """Wait here, or go to sleep and let the triggerer wait."""
        target = Target(watched.ids, run_id=watched.run_id)
        if started.run.status.is_over:
            return Outcome(Ending.OVER, started.run)
        left = None if watched.deadline is None else max(watched.deadline - time.time(), 0.0)
        if not self.deferrable:
            try:
                return hook.watch_job_run(target, Pace(poll_interval=self.poll_interval, timeout=left))
            except CmlInterruptedError as error:
                raise failure_of(error, is_first_try=False) from error
            except AirflowTaskTimeout:
                self._stop(hook, watched)
                raise
        try:
            run = hook.look_at_job_run(target)
        except CmlError as error:
            self.log.warning("Could not look at the run before deferring: %s", error)
        else:
            if run is not None and run.status.is_over:
                return Outcome(Ending.OVER, run)
        self.defer(
            trigger=CmlJobRunTrigger(self.cml_conn_id, watched.to_json(), self.poll_interval),
            method_name="execute_complete",
            timeout=events.backstop(left),
        )
        message = "Airflow went on after a deferral."
        raise AssertionError(message)

    def _conclude(self, context: Context, hook: CmlHook, watched: events.Watched, outcome: Outcome) -> str | None:
        """The run's id if it succeeded, None if the task has to take part again; otherwise the task's error."""
        run = outcome.run
        if run is not None:
            self._push(context, {"status": str(run.status), **events.run_times(run)})
        error = failure(outcome, watched)
        if error is None or (run is not None and run.status.is_over):
            self.log.info("Run %s is over: %s.", watched.run_id, run.word if run else "")
        if error is not None and self._is_to_be_taken_up(context, watched, outcome):
            return None
        if outcome.ending is Ending.TIMED_OUT:
            error = with_facts(CmlTimeoutError(f"{outcome.message} {self._stop(hook, watched)}"), watched, outcome)
        if watched.losses:
            self._look_for_doubles(hook, watched)
        if error is not None:
            raise error
        return watched.run_id

    def _is_to_be_taken_up(self, context: Context, watched: events.Watched, outcome: Outcome) -> bool:
        """Whether this ending says nothing about the task: the run never ran, or our own former worker stopped it."""
        if outcome.ending is not Ending.OVER or outcome.run is None:
            return False
        if outcome.run.status is JobRunStatus.SKIPPED:
            self.log.info("Run %s was skipped: the job is busy.", watched.run_id)
            return True
        key = RunKey.parse(watched.run_key)
        is_adopted = key is not None and key.try_number < context["ti"].try_number
        if outcome.run.status is JobRunStatus.STOPPED and is_adopted and not watched.excluded:
            self.log.info("Run %s was stopped, perhaps by the earlier try that started it.", watched.run_id)
            return True
        return False

    def _set_aside(self, watched: events.Watched, outcome: Outcome) -> events.Watched:
        stopped = outcome.run is not None and outcome.run.status is JobRunStatus.STOPPED
        excluded = (*watched.excluded, watched.run_id) if stopped else watched.excluded
        return replace(watched, run_id="", run_key="", excluded=excluded, began=0.0)

    def _start_v1(self, context: Context, hook: CmlHook, key: RunKey, variables: dict[str, str]) -> str:
        check_legacy(self.cml_conn_id, self.arguments, wait_for_completion=self.wait_for_completion)
        self._push(context, {"run_key": str(legacy_key(key))})
        engine_id = start_through_v1(hook, str(self.project), str(self.job), key, variables, durable=self.durable)
        run_url = f"{hook.endpoint.base_url}/{self.project}/jobs/{self.job}"
        self._push(context, {"return_value": engine_id, RUN_URL: run_url})
        self.log.info("Started job %s through API v1: engine %s. %s", self.job, engine_id, run_url)
        return engine_id

    # ---------------------------------------------------------------- small parts

    def _check(self) -> None:
        if self.on_busy not in ON_BUSY:
            message = f"on_busy: {self.on_busy!r} is none of {', '.join(ON_BUSY)}."
            raise CmlInputError(message)
        for name in ("poll_interval", "timeout", "busy_timeout"):
            seconds = getattr(self, name)
            if seconds is None and name != "poll_interval":
                continue
            if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
                message = f"{name}: {seconds!r} is not a number of seconds above zero."
                raise CmlInputError(message)
        if self.arguments is not None and not isinstance(self.arguments, str):
            message = f"arguments: must be one string, not {type(self.arguments).__name__}."
            raise CmlInputError(message)

    def _variables(self, context: Context) -> dict[str, str]:
        """All variables of the run but the key. The private ones are rendered here, and known to nobody else."""
        private = self.render_template(self.private_environment, context, self.get_template_env())
        variables = run_variables(context, self.environment, private)
        risky = risky_names(variables)
        if risky:
            self.log.warning("environment: overriding %s may break the run; CML sets it itself.", ", ".join(risky))
        return variables

    @staticmethod
    def _read(event: dict[str, Any]) -> tuple[Outcome, events.Watched]:
        try:
            return events.read(event)
        except events.EventError as error:
            message = f"The task was woken, but {error}. Its run, if it has one, was left alone."
            raise CmlRefusedFailError(message) from error

    def _connect(self) -> CmlHook:
        self._hook = CmlHook(self.cml_conn_id)
        return self._hook

    def _execution_seconds(self) -> float | None:
        """Airflow 3 does not watch execution_timeout while a task is deferred, so the wait does."""
        if not self.deferrable or self.execution_timeout is None:
            return None
        return float(self.execution_timeout.total_seconds())

    def _is_settled(self, key: RunKey) -> bool:
        """Whether Airflow itself has waited long enough since the earlier try: a retry, after 90 s at least."""
        delay = getattr(self.retry_delay, "total_seconds", lambda: 0.0)()
        is_retry = key.try_number > key.max_tries - key.retries + 1
        return bool(is_retry and delay >= SETTLE)

    def _stop(self, hook: CmlHook, watched: events.Watched) -> str:
        """Stop the run and say what came of it."""
        try:
            run = hook.stop_and_confirm(watched.ids, watched.run_id)
        except CmlError as error:
            text = f"It could not be stopped and may still be active in CML. {error}"
        else:
            text = "It was stopped." if run.status.is_over else f"It was asked to stop and is {run.status}."
        self.log.info("Run %s: %s", watched.run_id, text)
        return text

    def _look_for_doubles(self, hook: CmlHook, watched: events.Watched) -> None:
        key = RunKey.parse(watched.run_key)
        if key is None:
            return
        try:
            hook.look_for_doubles(watched.ids, key, watched.run_id)
        except CmlError as error:
            self.log.warning("Could not look for a second run after a lost answer: %s", error)

    @staticmethod
    def _push(context: Context, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            context["ti"].xcom_push(key=name, value=value)


def _moment_after(seconds: float | None) -> float | None:
    """The moment that many seconds from now, on the wall clock: it has to mean the same in the triggerer."""
    return None if seconds is None else time.time() + seconds
