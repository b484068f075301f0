"""A start through the legacy API v1: once, and blind.

v1 documents one call, the start. It has no list to look for an earlier start in, so the law is at most once: a start is
never sent again, by this try or a later one. What it leaves behind is the key in the run's environment, by which a
sensor on a connection for API v2 finds the run; the two APIs have no other name for it in common.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider_cml.api.errors import CmlInputError, CmlRunMayExistError, CmlUnavailableError
from airflow_provider_cml.api.run_key import RUN_KEY_VARIABLE
from airflow_provider_cml.api.v1 import split_project

__all__ = ["check_legacy", "legacy_key", "split_project", "start_through_v1"]

if TYPE_CHECKING:
    from airflow_provider_cml.api.conversations.start import Busy
    from airflow_provider_cml.api.conversations.starting_v1 import LegacyStart
    from airflow_provider_cml.api.run_key import RunKey
    from airflow_provider_cml.hooks.task import CmlTaskHook

_POST = "1.v1"
"""The number of the start in the key: one is taken at most. Those that CML refused have left nothing."""


def legacy_key(key: RunKey) -> RunKey:
    """The key of a try's one start through v1."""
    return key.with_post(_POST)


def check_legacy(cml_conn_id: str, arguments: str | None, *, wait_for_completion: bool) -> None:
    """Refuse what v1 cannot do, before anything is sent.

    :raises CmlInputError: the task wants to wait, or to pass arguments.
    """
    if wait_for_completion:
        message = (
            f"wait_for_completion: connection {cml_conn_id!r} is for API v1, which can only start a job. Set "
            f"wait_for_completion=False, and wait with CmlJobRunSensor(run_key=...) on a connection for API v2."
        )
        raise CmlInputError(message)
    if arguments is not None:
        message = "arguments: API v1 takes none. Use environment."
        raise CmlInputError(message)


def start_through_v1(hook: CmlTaskHook, start: LegacyStart, key: RunKey, *, durable: bool) -> str | Busy:
    """Start the job, and return its engine id; `Busy` where CML takes no start and waiting is not wanted any more.

    :param start: without the key, which is added here.
    :raises CmlRunMayExistError: an earlier try, or this one, may have started it.
    """
    if durable and key.try_number > max(1, key.max_tries - key.retries + 1):
        earlier = legacy_key(replace(key, try_number=key.try_number - 1))
        message = (
            f"An earlier try may have started the job, and API v1 cannot tell. Starting again could run it twice, so "
            f"this try does not; clear the task to run the job again. {_how_to_find(earlier)}"
        )
        raise CmlRunMayExistError(message)
    own = legacy_key(key)
    try:
        environment = {**start.environment, RUN_KEY_VARIABLE: str(own)}
        return hook.start_job_when_free(replace(start, environment=environment))
    except CmlUnavailableError as error:
        if not error.sent:
            raise
        message = f"The answer to the start was lost; it is not sent again. {error} {_how_to_find(own)}"
        raise CmlRunMayExistError(message) from error


def _how_to_find(key: RunKey) -> str:
    return (
        f"A run may exist: a CmlJobRunSensor on a connection for API v2 finds it, if there is one, by "
        f"run_key={str(key)!r}"
    )
