"""Wait for a run that something else started: another task, another DAG, API v1, or CML itself.

The law: one table of endings for poke, reschedule and deferred (`failures`). `soft_fail` skips when time is over or
the run ended badly; that we could not ask, that CML refused, or that nobody knows, fails in every mode. Airflow's base
class decides these differently by mode, so its verdict is looked at once more here. `execution_timeout` is of the whole
wait, but in the mode `reschedule` of each look, as Airflow has it.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_provider_cml.compat import AirflowTaskTimeout, BaseSensorOperator, PokeReturnValue, conf, count_time_anew

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from airflow_provider_cml.compat import Context
    from airflow_provider_cml.sensors.watch import JobRunWatch


class CmlJobRunSensor(BaseSensorOperator):
    """Wait until a run of a job is over; succeeds only if the run did. Needs a connection for API v2.

    Exactly one of `run_id`, `run_key` and `since` tells which run. Returns the run's id.

    :param project: id, `owner/name`, `owner/slug`, or a name only one visible project has. (templated)
    :param job: id or exact name. (templated)
    :param run_id: this run. (templated)
    :param run_key: the run that carries this key; `CmlRunJobOperator` pushes it as XCom `run_key`, for starts through
        API v1 too. Waits until there is one; a text that is no run key is refused. (templated)
    :param since: the newest run created at or after this moment: a datetime with time zone, or ISO 8601. Waits until
        there is one. Runs that come after the first look do not change which it is. (templated)
    :param cml_conn_id: the Airflow connection. (templated)
    :param deferrable: wait in the triggerer, without a worker. Default: `[operators] default_deferrable`.
    :param poll_interval: deferred, the longest gap between two looks, seconds. None: `poke_interval`. In the modes
        `poke` and `reschedule` only `poke_interval` counts.
    :param explain_failure: after a bad ending ask CML for the reason, as `CmlRunJobOperator` does.
    """

    template_fields: Sequence[str] = ("project", "job", "run_id", "run_key", "since", "cml_conn_id")
    ui_color = "#f9d5b0"

    def __init__(
        self,
        *,
        project: str,
        job: str,
        run_id: str | None = None,
        run_key: str | None = None,
        since: datetime | str | None = None,
        cml_conn_id: str = "cml_default",
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: float | None = None,
        explain_failure: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.project = project
        self.job = job
        self.run_id = run_id
        self.run_key = run_key
        self.since = since
        self.cml_conn_id = cml_conn_id
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.explain_failure = explain_failure

    def execute(self, context: Context) -> Any:
        """Wait for the run; returns its id."""
        # A look that fails has been asked over for ten minutes, and the end of a run is nothing to be silent about.
        self.silent_fail = False
        try:
            return self._watch.sleep(context) if self.deferrable else super().execute(context)
        except (Exception, AirflowTaskTimeout) as error:
            self._watch.judge(error)
            raise

    def pre_execute(self, context: Context) -> None:
        """Airflow 2.11 would end a sensor that wakes after its execution_timeout before any code of its own."""
        super().pre_execute(context)
        self._watch.limit = self.execution_timeout
        count_time_anew(self, context)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on after the triggerer; see the module's law for why Airflow's verdict is looked at again."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except (Exception, AirflowTaskTimeout) as error:
            self._watch.judge(error)
            raise

    def poke(self, context: Context) -> PokeReturnValue:
        """One look."""
        run_id = self._watch.look(context)
        return PokeReturnValue(is_done=run_id is not None, xcom_value=run_id)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> str:
        """Conclude from the triggerer's event."""
        return self._watch.wake(context, event)

    @cached_property
    def _watch(self) -> JobRunWatch:
        from airflow_provider_cml.sensors.watch import JobRunWatch  # noqa: PLC0415 - what no DAG file needs to be read

        return JobRunWatch(self)
