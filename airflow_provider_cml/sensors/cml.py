"""Wait for a run that something else started: another task, another DAG, API v1, or CML itself.

The law: one table of endings for poke, reschedule and deferred (`failures`). `soft_fail` skips when time is over or
the run ended badly; that we could not ask, that CML refused, or that nobody knows, fails in every mode. Airflow's base
class decides these differently by mode, so its verdict is looked at once more here.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_cml import events
from airflow_provider_cml.api.conversations.watching import Ending, Outcome, Target
from airflow_provider_cml.api.errors import CmlError, CmlInputError
from airflow_provider_cml.compat import (
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    TaskDeferralError,
    TaskDeferralTimeout,
    conf,
)
from airflow_provider_cml.failures import (
    CmlRunFailedError,
    CmlRunSkippedError,
    CmlRunStoppedError,
    CmlTaskError,
    CmlTaskFailError,
    failure,
    failure_of,
    read_event,
)
from airflow_provider_cml.hooks.cml import CmlHook
from airflow_provider_cml.triggers.cml import CmlJobRunTrigger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_cml.api.models import JobRun
    from airflow_provider_cml.compat import Context

_SOFT = (AirflowSensorTimeout, CmlRunFailedError, CmlRunStoppedError, CmlRunSkippedError)
"""What `soft_fail` turns into a skip."""
_ENDINGS = (
    AirflowSkipException,
    AirflowSensorTimeout,
    CmlTaskError,
    CmlTaskFailError,
    TaskDeferralError,
    TaskDeferralTimeout,
)
"""What a sensor ends in, when it does not end well."""


class CmlJobRunSensor(BaseSensorOperator):
    """Wait until a run of a job is over; succeeds only if the run did. Needs a connection for API v2.

    Exactly one of `run_id`, `run_key` and `since` tells which run. Returns the run's id.

    :param project: id, `owner/name`, `owner/slug`, or a name only one visible project has. (templated)
    :param job: id or exact name. (templated)
    :param run_id: this run. (templated)
    :param run_key: the run that carries this key; `CmlRunJobOperator` pushes it as XCom `run_key`, for starts through
        API v1 too. Waits until there is one. (templated)
    :param since: the newest run created at or after this moment: a datetime with time zone, or ISO 8601. Waits until
        there is one. (templated)
    :param cml_conn_id: the Airflow connection. (templated)
    :param deferrable: wait in the triggerer, without a worker. Default: `[operators] default_deferrable`.
    :param poll_interval: deferred, the longest gap between two looks, seconds. None: `poke_interval`. In the modes
        `poke` and `reschedule` only `poke_interval` counts.
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
        cml_conn_id: str = CmlHook.default_conn_name,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: float | None = None,
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
        self._hook: CmlHook | None = None
        self._target: Target | None = None
        self._seen = ""

    def execute(self, context: Context) -> Any:
        """Wait for the run; returns its id."""
        try:
            if self.deferrable:
                return self._defer(context)
            return super().execute(context)
        except _ENDINGS as error:
            verdict = self._verdict(error)
            raise verdict from verdict.__cause__

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on after the triggerer; see the module's law for why Airflow's verdict is looked at again."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except _ENDINGS as error:
            verdict = self._verdict(error)
            raise verdict from verdict.__cause__

    def poke(self, context: Context) -> PokeReturnValue:
        """One look."""
        run = self._look(context)
        if run is None or not run.status.is_over:
            return PokeReturnValue(is_done=False)
        return PokeReturnValue(is_done=True, xcom_value=self._conclude(Outcome(Ending.OVER, run), self._watched()))

    def execute_complete(self, context: Context, event: dict[str, Any]) -> str:
        """Conclude from the triggerer's event."""
        del context
        return self._conclude(*read_event(event))

    def _defer(self, context: Context) -> str:
        """Look once, so that a run that is over never defers; then sleep."""
        deadline = events.moment_after(self.timeout)
        run = self._look(context)
        watched = self._watched(deadline)
        if run is not None and run.status.is_over:
            return self._conclude(Outcome(Ending.OVER, run), watched)
        since = self._find_target().since
        self.defer(
            trigger=CmlJobRunTrigger(
                self.cml_conn_id,
                watched.to_json(),
                poll_interval=self.poke_interval if self.poll_interval is None else self.poll_interval,
                run_key=self.run_key,
                since=since.isoformat() if since else None,
            ),
            method_name="execute_complete",
            timeout=events.backstop(self.timeout),
        )
        message = "Airflow went on after a deferral."
        raise AssertionError(message)

    def _look(self, context: Context) -> JobRun | None:
        is_first_try = context["ti"].try_number <= 1
        try:
            target = self._find_target()
            run = self._connect().look_at_job_run(target)
        except CmlError as error:
            raise failure_of(error, is_first_try=is_first_try) from error
        seen = f"There is not {target} yet." if run is None else f"Run {run.id} is {run.word or run.status}."
        if seen != self._seen:
            self.log.info(seen)
            self._seen = seen
        return run

    def _conclude(self, outcome: Outcome, watched: events.Watched) -> str:
        if outcome.ending is Ending.TIMED_OUT:
            raise AirflowSensorTimeout(outcome.message)
        error = failure(outcome, watched)
        if error is not None:
            raise error
        return outcome.run.id if outcome.run else watched.run_id

    def _verdict(self, error: BaseException) -> BaseException:
        """What the task ends in, whatever Airflow's base class has made of `error` in this mode and version."""
        # Airflow's own skip has a cause, except for the one that says that a soft sensor's time is over.
        cause = error.__cause__ or error if isinstance(error, AirflowSkipException) else error
        if isinstance(cause, TaskDeferralTimeout):
            cause = AirflowSensorTimeout("The triggerer did not report in the time given to wait.")
        if isinstance(cause, AirflowSkipException) or not (
            self.never_fail or (self.soft_fail and isinstance(cause, _SOFT))
        ):
            return cause
        skip = AirflowSkipException(f"Skipped, because {'soft' if self.soft_fail else 'never'}_fail is set. {cause}")
        skip.__cause__ = cause
        return skip

    def _connect(self) -> CmlHook:
        if self._hook is None:
            self._hook = CmlHook(self.cml_conn_id)
            if self._hook.is_v1:
                message = (
                    f"cml_conn_id: connection {self.cml_conn_id!r} is for API v1, which shows no runs. Give the sensor "
                    f"a connection for API v2; it finds a run that v1 started by its run_key."
                )
                raise CmlInputError(message)
        return self._hook

    def _find_target(self) -> Target:
        """Which run is meant; names are looked up once."""
        if self._target is None:
            given = [name for name in ("run_id", "run_key", "since") if getattr(self, name) not in (None, "")]
            if len(given) != 1:
                message = f"run_id, run_key, since: give exactly one of them, not {' and '.join(given) or 'none'}."
                raise CmlInputError(message)
            since = _moment(self.since) if given == ["since"] else None
            ids = self._connect().find_job_ids(str(self.project), str(self.job))
            self._target = Target(ids, self.run_id or None, self.run_key or None, since)
        return self._target

    def _watched(self, deadline: float | None = None) -> events.Watched:
        ids = self._find_target().ids
        return events.Watched(ids.project_id, ids.job_id, run_id=self.run_id or "", deadline=deadline)


def _moment(since: object) -> datetime:
    try:
        moment = since if isinstance(since, datetime) else datetime.fromisoformat(str(since).strip())
    except ValueError:
        message = f"since: {since!r} is not a moment in ISO 8601, such as 2026-11-21T06:00:00+00:00."
        raise CmlInputError(message) from None
    if moment.tzinfo is None:
        message = f"since: {since!r} has no time zone; add one, such as +00:00."
        raise CmlInputError(message)
    return moment.astimezone(UTC)
