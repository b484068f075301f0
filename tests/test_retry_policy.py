"""The retry policy for Airflow 3.3: what waits longer, what ends, what stays as the task says."""

from __future__ import annotations

from datetime import timedelta
from importlib.util import find_spec
from typing import Any

import pytest

from airflow_provider_cml import failures
from airflow_provider_cml.retry_policy import UNANSWERED_DELAY, cml_retry_policy

pytestmark = pytest.mark.skipif(
    find_spec("airflow.sdk") is None or find_spec("airflow.sdk.definitions.retry_policy") is None,
    reason="retry policies came with Airflow 3.3",
)


@pytest.mark.parametrize(
    ("error", "action", "delay"),
    [
        (failures.CmlUnansweredError("x"), "retry", UNANSWERED_DELAY),
        (failures.CmlRunUnclearError("x"), "retry", UNANSWERED_DELAY),
        (failures.CmlRefusedFailError("x"), "fail", None),
        (failures.CmlStartFailError("x"), "fail", None),
        (failures.CmlRunFailedError("x"), "default", None),
        (failures.CmlTimeoutError("x"), "default", None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_decision(error: Exception, action: str, delay: timedelta | None) -> None:
    """Where CML could not be asked the next try waits; what a retry cannot mend ends; else the task decides."""
    context: Any = {}
    decision = cml_retry_policy().evaluate(error, 1, 3, context)

    assert decision.action.value == action
    assert decision.retry_delay == delay


def test_delay_is_the_authors() -> None:
    """How long to wait for CML is an argument."""
    context: Any = {}
    policy = cml_retry_policy(timedelta(minutes=20))

    assert policy.evaluate(failures.CmlUnansweredError("x"), 1, 3, context).retry_delay == timedelta(minutes=20)
