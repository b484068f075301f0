"""Every name that DAG authors, their connections and their Airflow's database rely on, written down once.

The law: a change here is a change for users. It needs a line in the changelog, and what is taken away a new version.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_cml import events, failures, get_provider_info
from airflow_provider_cml.api import errors
from airflow_provider_cml.api.run_key import RUN_KEY_VARIABLE
from airflow_provider_cml.compat import AirflowException, AirflowFailException
from airflow_provider_cml.connection import FIELD_BEHAVIOUR, FORM
from airflow_provider_cml.hooks.cml import CmlHook
from airflow_provider_cml.links.cml import RUN_URL, CmlJobRunLink
from airflow_provider_cml.operators.cml import CmlRunJobOperator
from airflow_provider_cml.retry_policy import cml_retry_policy
from airflow_provider_cml.sensors.cml import CmlJobRunSensor
from airflow_provider_cml.triggers.cml import CmlJobFreeTrigger, CmlJobRunTrigger
from airflow_provider_cml.triggers.event import CmlJobRunEventTrigger
from tests.airflow_side import connections, context_of, job, log, quick, run_task

if TYPE_CHECKING:
    from types import ModuleType

    from airflow_provider_cml.emulator import Emulator, Job

__all__ = ["connections", "job", "log", "quick"]

CALLS = {
    CmlRunJobOperator: (
        "*, project, job, environment=None, private_environment=None, arguments=None, wait_for_completion=True, "
        "deferrable=False, poll_interval=30.0, timeout=None, on_busy='wait', busy_timeout=None, durable=True, "
        "cancel_on_kill=True, explain_failure=True, "
        "cml_conn_id='cml_default', **kwargs"
    ),
    CmlJobRunSensor: (
        "*, project, job, run_id=None, run_key=None, since=None, cml_conn_id='cml_default', deferrable=False, "
        "poll_interval=None, explain_failure=True, **kwargs"
    ),
    CmlHook: "cml_conn_id='cml_default', **kwargs",
    cml_retry_policy: "unanswered_delay=datetime.timedelta(seconds=300)",
    # Stored with every deferred task: a task that sleeps through an upgrade is woken by these names.
    CmlJobRunTrigger: (
        "cml_conn_id, watched, poll_interval=30.0, run_key=None, since=None, cancel_on_kill=False, "
        "looked_at=None, **_unknown"
    ),
    CmlJobFreeTrigger: (
        "cml_conn_id, watched, poll_interval=30.0, date='', map_index=-1, name='', gap=0.0, only_gap=False, **_unknown"
    ),
    # Stored with every watched asset.
    CmlJobRunEventTrigger: "project, job, statuses=None, cml_conn_id='cml_default', poll_interval=30.0",
}

STORED = (CmlJobRunTrigger, CmlJobFreeTrigger, CmlJobRunEventTrigger)
"""Triggers Airflow's database names by their paths."""

QUESTIONS = {
    "create_job": "project, fields",
    "create_job_run": "project, job, environment=None, arguments=None",
    "delete_job": "project, job",
    "find_job": "project, job",
    "find_job_ids": "project, job",
    "find_project": "project",
    "get_job": "project, job",
    "get_job_run": "project, job, run_id",
    "get_project": "project_id",
    "list_job_runs": "project, job",
    "list_jobs": "project",
    "list_projects": "",
    "request": "method, path, *, query=None, json=None",
    "start_job": "project, number, environment=None",
    "stop_job_run": "project, job, run_id",
    "update_job": "project, job, fields",
    "wait_for_job_run": "project, job, run_id, poll_interval=30.0, timeout=None",
}
"""What the hook can be asked, by CML's operation ids; with an `a` before the name it is awaited."""

HOOK = {
    "aclose": "",
    "aget_conn": "",
    "aread_endpoint": "*, warn=True",
    "close": "",
    "get_conn": "",
    "get_connection_form_widgets": "",
    "get_ui_field_behaviour": "",
    "test_connection": "",
    **QUESTIONS,
    **{f"a{name}": call for name, call in QUESTIONS.items()},
}

TASK_ERRORS = {
    AirflowException: [
        "CmlRunFailedError",
        "CmlRunUnclearError",
        "CmlTaskError",
        "CmlTimeoutError",
        "CmlUnansweredError",
    ],
    AirflowFailException: [
        "CmlJobBusyFailError",
        "CmlRefusedFailError",
        "CmlRunSkippedError",
        "CmlRunStoppedError",
        "CmlStartFailError",
        "CmlTaskFailError",
    ],
}
"""What a task ends in: Airflow may try the first again, and never the second."""

API_ERRORS = {
    "CmlError": "Exception",
    "CmlInputError": "CmlError, ValueError",
    "CmlLookupError": "CmlInputError",
    "CmlUnavailableError": "CmlError",
    "CmlConnectionError": "CmlUnavailableError",
    "CmlServerError": "CmlUnavailableError",
    "CmlProtocolError": "CmlUnavailableError",
    "CmlResponseTooLargeError": "CmlProtocolError",
    "CmlRefusedError": "CmlError",
    "CmlUnauthorizedError": "CmlRefusedError",
    "CmlForbiddenError": "CmlRefusedError",
    "CmlNotFoundError": "CmlRefusedError",
    "CmlJobBusyError": "CmlRefusedError",
    "CmlInterruptedError": "CmlError",
    "CmlStartError": "CmlError",
    "CmlRunMayExistError": "CmlStartError",
    "CmlSupersededError": "CmlStartError",
    "CmlJobRunError": "CmlError",
    "CmlWaitTimeoutError": "CmlJobRunError",
    "CmlUnknownStatusError": "CmlJobRunError",
}
"""What the hook's methods raise."""


def call_of(what: Any) -> str:
    """How something is called: names, order, defaults; without types, and without `self`."""
    parameters = [
        parameter.replace(annotation=parameter.empty)
        for parameter in inspect.signature(what).parameters.values()
        if parameter.name != "self"
    ]
    return str(inspect.Signature(parameters))[1:-1]


def own_errors(module: ModuleType) -> list[type[Exception]]:
    """The errors a module defines, in its order."""
    kinds = [kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    return [kind for kind in kinds if kind.__module__ == module.__name__]


@pytest.mark.parametrize("what", CALLS, ids=lambda what: what.__name__)
def test_calls(what: Any) -> None:
    """Names, order and defaults of what DAG files call, and Airflow's database calls by name."""
    own = what.__init__ if isinstance(what, type) else what

    assert CALLS[what] == call_of(own)


def test_templates() -> None:
    """What is rendered; `private_environment` never is, because Airflow stores what it renders."""
    assert ("project", "job", "environment", "arguments", "cml_conn_id") == tuple(CmlRunJobOperator.template_fields)
    assert ("project", "job", "run_id", "run_key", "since", "cml_conn_id") == tuple(CmlJobRunSensor.template_fields)


def test_hook() -> None:
    """The hook's methods are those, called like that."""
    found = {name: getattr(CmlHook, name) for name in vars(CmlHook) if not name.startswith("_")}
    found.pop("log", None)  # the tests' own
    methods = {
        name: call_of(value) for name, value in found.items() if inspect.isfunction(value) or inspect.ismethod(value)
    }

    assert dict(sorted(HOOK.items())) == dict(sorted(methods.items()))
    assert {"conn_name_attr", "conn_type", "default_conn_name", "endpoint", "hook_name", "is_v1"} == set(found) - set(
        HOOK
    )


def test_connection() -> None:
    """The type and the fields under which connections are stored."""
    assert ["cml"] == [entry["connection-type"] for entry in get_provider_info()["connection-types"]]
    assert [
        "api_version",
        "verify_ssl",
        "ca_bundle",
        "client_cert",
        "proxy",
        "proxy_user",
        "proxy_password",
        "timeout",
    ] == list(FORM)
    assert ["schema"] == FIELD_BEHAVIOUR["hidden-fields"]
    assert ["deployment"] == list(get_provider_info()["config"]["cml"]["options"])


def test_xcom(connections: Emulator, job: Job) -> None:
    """The names under which a task tells of its run, in the order in which it learns them."""
    task = CmlRunJobOperator(task_id="t", project=job.project_id, job=job.id)
    context = context_of(task)
    run_task(lambda: task, context)
    times = ["created_at", "scheduling_at", "starting_at", "running_at", "finished_at"]

    assert ["return_value", "run_key", "project_id", "job_id", "run_url", "status", *times] == list(
        context["ti"].pushed
    )


def test_names_that_others_store() -> None:
    """A run carries the key's variable; Airflow stores the link's XCom, the triggers' paths and the event's version."""
    paths = [type_.__module__ + "." + type_.__name__ for type_ in STORED]

    assert ("AIRFLOW_RUN_KEY", "run_url", 1) == (RUN_KEY_VARIABLE, RUN_URL, events.VERSION)
    assert ("Cloudera Machine Learning", "run_url") == (CmlJobRunLink().name, CmlJobRunLink().xcom_key)
    assert [
        "airflow_provider_cml.triggers.cml.CmlJobRunTrigger",
        "airflow_provider_cml.triggers.cml.CmlJobFreeTrigger",
        "airflow_provider_cml.triggers.event.CmlJobRunEventTrigger",
    ] == paths


def test_errors_of_a_task() -> None:
    """Which there are, and whether Airflow may try again; each carries the facts of its run."""
    kinds = [
        kind for kind in own_errors(failures) if issubclass(kind, failures.CmlTaskError | failures.CmlTaskFailError)
    ]
    for family, names in TASK_ERRORS.items():
        others = AirflowFailException if family is AirflowException else ()
        assert names == sorted(
            kind.__name__ for kind in kinds if issubclass(kind, family) and not issubclass(kind, others)
        )
    facts = ("run_id", "job_id", "project_id", "status", "run_url", "reason")

    assert [] == [kind for kind in kinds if [getattr(kind, fact, None) for fact in facts] != [""] * 6]


def test_errors_of_the_hook() -> None:
    """The tree of what the hook raises."""
    tree = {kind.__name__: ", ".join(base.__name__ for base in kind.__bases__) for kind in own_errors(errors)}

    assert API_ERRORS == tree
