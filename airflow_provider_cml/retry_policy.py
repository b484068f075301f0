"""A retry policy for Airflow 3.3 made of this provider's errors; older versions have no such thing."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from airflow_provider_cml.failures import CmlRunUnclearError, CmlTaskFailError, CmlUnansweredError

if TYPE_CHECKING:
    from airflow.sdk.definitions.retry_policy import ExceptionRetryPolicy

UNANSWERED_DELAY = timedelta(minutes=5)


def cml_retry_policy(unanswered_delay: timedelta = UNANSWERED_DELAY) -> ExceptionRetryPolicy:
    """For `CmlRunJobOperator(retry_policy=...)`: where CML could not be asked, wait for it; else as the task says.

    :param unanswered_delay: before a try whose forerunner could not ask CML, or got no clear status.
    """
    from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule  # noqa: PLC0415 - 3.3+

    return ExceptionRetryPolicy(
        rules=[
            RetryRule(
                exception=[CmlUnansweredError, CmlRunUnclearError],
                action=RetryAction.RETRY,
                retry_delay=unanswered_delay,
                reason="CML could not be asked; the next try finds the run, if there is one",
            ),
            RetryRule(
                exception=CmlTaskFailError, action=RetryAction.FAIL, reason="a retry would end the same, or do harm"
            ),
        ]
    )
