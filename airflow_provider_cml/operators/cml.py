"""Run a job of Cloudera Machine Learning and see it end.

The law: `__init__` only stores; what depends on rendered templates happens in `execute`. Starts happen here, in the
worker, and nowhere else; how a wait ended is read from one value, whether it happened here or in the triggerer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_cml import events
from airflow_provider_cml.api.conversations.watching import Ending
from airflow_provider_cml.api.environment import risky_names
from airflow_provider_cml.api.errors import CmlError, CmlInputError
from airflow_provider_cml.compat import BaseOperator, TaskDeferralTimeout, conf
from airflow_provider_cml.failures import (
    CmlJobBusyFailError,
    CmlTimeoutError,
    failure,
    failure_of,
    read_event,
    with_facts,
)
from airflow_provider_cml.hooks.cml import CmlHook
from airflow_provider_cml.legacy import check_legacy, legacy_key, start_through_v1
from airflow_provider_cml.links.cml import RUN_URL, CmlJobRunLink
from airflow_provider_cml.operators.attempt import JobRunAttempt, push
from airflow_provider_cml.task_context import run_key, run_variables

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_cml.api.run_key import RunKey
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
        self._attempt: JobRunAttempt | None = None

    def execute(self, context: Context) -> str:
        """Start the run and wait for it; returns its id."""
        key = run_key(context)
        try:
            self._check()
            variables = self.run_variables(context)
            hook = CmlHook(self.cml_conn_id)
            if hook.is_v1:
                return self._start_v1(context, hook, key, variables)
            ids = hook.find_job_ids(str(self.project), str(self.job))
        except CmlError as error:
            raise failure_of(error, is_first_try=key.try_number <= 1) from error
        seconds = self.execution_timeout.total_seconds() if self.execution_timeout else None
        watched = events.Watched(
            ids.project_id,
            ids.job_id,
            # Airflow 3 does not watch execution_timeout while a task is deferred, so the wait does.
            deadline=events.moment_after(seconds if self.deferrable else None),
            busy_deadline=events.moment_after(self.busy_timeout),
        )
        self._attempt = JobRunAttempt(self, context, hook, watched)
        return self._attempt.run(variables)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> str:
        """Go on when the triggerer says how the run ended."""
        outcome, watched = read_event(event)
        self._attempt = JobRunAttempt(self, context, CmlHook(self.cml_conn_id), watched)
        return self._attempt.go_on(outcome)

    def execute_when_free(self, context: Context, event: dict[str, Any]) -> str:
        """Play the whole turn again when the triggerer says that the job is free."""
        outcome, watched = read_event(event)
        if outcome.ending is Ending.TIMED_OUT:
            raise with_facts(CmlJobBusyFailError(f"{outcome.message} (busy_timeout: {self.busy_timeout:g} s)"), watched)
        error = None if outcome.ending is Ending.FREE else failure(outcome, watched)
        if error is not None:
            raise error
        self._attempt = JobRunAttempt(self, context, CmlHook(self.cml_conn_id), watched)
        return self._attempt.run(self.run_variables(context))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Name the one thing Airflow reports without calling us: a deferral that outlived all its deadlines."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except TaskDeferralTimeout as error:
            message = "The triggerer did not report in time; the run may still be active in CML, and a retry finds it."
            raise CmlTimeoutError(message) from error

    def on_kill(self) -> None:
        """Stop the run in the few seconds Airflow leaves, and end the wait."""
        if self._attempt is not None:
            self._attempt.kill()

    def run_variables(self, context: Context) -> dict[str, str]:
        """All variables of the run but its key. The private ones are rendered here, and known to nobody else."""
        private = self.render_template(self.private_environment, context, self.get_template_env())
        variables = run_variables(context, self.environment, private)
        risky = risky_names(variables)
        if risky:
            self.log.warning("environment: overriding %s may break the run; CML sets it itself.", ", ".join(risky))
        return variables

    def _start_v1(self, context: Context, hook: CmlHook, key: RunKey, variables: dict[str, str]) -> str:
        check_legacy(self.cml_conn_id, self.arguments, wait_for_completion=self.wait_for_completion)
        push(context, {"run_key": str(legacy_key(key))})
        engine_id = start_through_v1(hook, str(self.project), str(self.job), key, variables, durable=self.durable)
        run_url = f"{hook.endpoint.base_url}/{self.project}/jobs/{self.job}"
        push(context, {"return_value": engine_id, RUN_URL: run_url})
        self.log.info("Started job %s through API v1: engine %s. %s", self.job, engine_id, run_url)
        return engine_id

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
