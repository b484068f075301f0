"""The nouns: what they keep, and what they never keep."""

from __future__ import annotations

import dataclasses

import pytest

from airflow_provider_cml.api import models
from airflow_provider_cml.api.models import Job, JobRun, KeyOwner, Page, Project, Usage
from airflow_provider_cml.api.states import JobRunStatus

NOUNS = [Project, Job, JobRun, KeyOwner, Page, Usage]


@pytest.mark.parametrize("noun", NOUNS)
def test_no_noun_keeps_an_environment(noun: type) -> None:
    """CML echoes passwords in `environment`; there is no field they could stay in."""
    names = [field.name for field in dataclasses.fields(noun)]

    assert [] == [name for name in names if "environment" in name]


def test_every_noun_is_listed_here() -> None:
    """A new noun is held to the same rules."""
    found = {value for value in vars(models).values() if dataclasses.is_dataclass(value)}

    assert found == set(NOUNS)


@pytest.mark.parametrize("noun", NOUNS)
def test_nouns_are_frozen_and_slotted(noun: type) -> None:
    """A value is a value: nobody changes it, and nobody hangs anything on it."""
    assert (True, True) == (noun.__dataclass_params__.frozen, hasattr(noun, "__slots__"))  # type: ignore[attr-defined]


@pytest.mark.parametrize("status", JobRunStatus)
def test_a_run_is_active_until_it_is_over(status: JobRunStatus) -> None:
    """A run that is not over occupies its job, whatever its status is called."""
    assert JobRun("r", "p", "j", status).is_active is not status.is_over
