"""Run a job of Cloudera Machine Learning and see it end.

The law: `__init__` only stores; what depends on rendered templates happens in `execute`. Starts happen here, in the
worker, and nowhere else; how a wait ended is read from one value, whether it happened here or in the triggerer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_cml.compat import BaseOperator, TaskDeferralError, TaskDeferralTimeout, conf, count_time_anew
from airflow_provider_cml.links.cml import CmlJobRunLink

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_cml.compat import Context
    from airflow_provider_cml.operators.attempt import JobRunAttempt


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
    :param explain_failure: after a bad ending ask CML's list of workloads, once and for three seconds at most, for the
        reason, and tell it in the error. Best effort: that list is not confirmed on a live CML.
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
        explain_failure: bool = True,
        cml_conn_id: str = "cml_default",
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
        self.explain_failure = explain_failure
        self.cml_conn_id = cml_conn_id
        self.attempt: JobRunAttempt | None = None

    def execute(self, context: Context) -> str:
        """Start the run and wait for it; returns its id."""
        from airflow_provider_cml.operators import execution  # noqa: PLC0415 - what no DAG file needs to be read

        return execution.begin(self, context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> str:
        """Go on when the triggerer says how the run ended."""
        from airflow_provider_cml.operators import execution  # noqa: PLC0415 - see execute

        return execution.go_on(self, context, event)

    def execute_when_free(self, context: Context, event: dict[str, Any]) -> str:
        """Play the whole turn again when the triggerer says that the job is free."""
        from airflow_provider_cml.operators import execution  # noqa: PLC0415 - see execute

        return execution.go_on_when_free(self, context, event)

    def pre_execute(self, context: Context) -> None:
        """Airflow 2.11 would end a task that wakes after its execution_timeout before it could stop its run."""
        super().pre_execute(context)
        count_time_anew(self, context)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on after the triggerer; also where Airflow calls nobody, because there is no event."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except (TaskDeferralTimeout, TaskDeferralError) as error:
            from airflow_provider_cml.operators import execution  # noqa: PLC0415 - see execute

            return execution.go_on_without_event(self, context, error)

    def on_kill(self) -> None:
        """Stop the run in the few seconds Airflow leaves, and end the wait."""
        if self.attempt is not None:
            self.attempt.kill()

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """Which job it was, and which run; asked by OpenLineage's provider, after a failure too."""
        from airflow_provider_cml.lineage import operator_lineage  # noqa: PLC0415 - what no DAG file needs to be read

        del task_instance
        watched, run = (self.attempt.watched, self.attempt.seen) if self.attempt else (None, None)
        return operator_lineage({"project": str(self.project), "job": str(self.job)}, watched, run)

    get_openlineage_facets_on_failure = get_openlineage_facets_on_complete
