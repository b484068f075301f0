"""The button: where Airflow finds its address, and what it shows."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_cml.compat import BaseOperatorLink
from airflow_provider_cml.links import cml as links
from airflow_provider_cml.links.cml import RUN_URL, CmlJobRunLink
from airflow_provider_cml.operators.cml import CmlRunJobOperator


def test_key_is_the_xcom_the_operator_pushes() -> None:
    """Airflow 3 shows what stands in this XCom, so the button works while the run is active."""
    assert CmlJobRunLink().xcom_key == RUN_URL == "run_url"
    assert isinstance(CmlJobRunLink(), BaseOperatorLink)


def test_operator_has_the_button() -> None:
    """The operator shows it, under a name people know."""
    (link,) = CmlRunJobOperator.operator_extra_links

    assert isinstance(link, CmlJobRunLink)
    assert link.name == "Cloudera Machine Learning"


@pytest.mark.parametrize("stored", ["https://ml/alice/risk/jobs", ""])
def test_address_is_that_xcom(monkeypatch: pytest.MonkeyPatch, stored: str) -> None:
    """Airflow 2 asks the link itself, with the task instance's key."""
    values = {("the task instance", "run_url"): stored}
    monkeypatch.setattr(links, "xcom_value", lambda ti_key, key: values[ti_key, key])
    ti_key: Any = "the task instance"
    operator: Any = None

    assert CmlJobRunLink().get_link(operator, ti_key=ti_key) == stored
