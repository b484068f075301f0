"""The fields of a job, with the published document as the judge of what is sent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_cml.api.errors import CmlInputError
from airflow_provider_cml.api.job_fields import JobFields, JobRecipient, to_create, to_update
from tests.api.published import DEFINITIONS, check

SECRET = "password-of-the-warehouse"

GIVEN: dict[str, Any] = {
    "string": "text",
    "number": 0.5,
    "integer": 3,
    "boolean": True,
    "array": ["one", "two"],
    "object": {"TOKEN": SECRET, "DAYS": 3, "FAST": True},
}
"""A value for each type of the document."""
RECIPIENT = JobRecipient(email="alice@example.com", notify_on_failure=True)
NEW_ONLY = ("paused", "timezone", "recipients")
"""CML ignores these in a change."""


def everything() -> JobFields:
    """All fields there are, each of the type that CreateJobRequest gives it."""
    properties = DEFINITIONS["CreateJobRequest"]["properties"]
    given: Any = {name: GIVEN[properties[name]["type"]] for name in JobFields.__annotations__}
    return {**given, "accelerator_label_id": 7, "recipients": [RECIPIENT]}


def test_no_field_of_the_document_is_missing() -> None:
    """All that a new job may be given, but for the project, which is told apart, and an old name of `parent_id`."""
    assert set(JobFields.__annotations__) == set(DEFINITIONS["CreateJobRequest"]["properties"]) - {
        "project_id",
        "parent_job_id",
    }
    assert set(JobRecipient.__annotations__) == set(DEFINITIONS["JobRecipient"]["properties"])


def test_new_job() -> None:
    """A request with everything fits the document; an environment is a map of texts."""
    body = to_create(everything())
    check({"$ref": "#/definitions/CreateJobRequest"}, body)

    assert set(body) == set(JobFields.__annotations__)
    assert body["environment"] == {"TOKEN": SECRET, "DAYS": "3", "FAST": "true"}


def test_changed_job() -> None:
    """A change of all that can be changed fits the document, which has other types there."""
    fields: Any = {name: value for name, value in everything().items() if name not in NEW_ONLY}
    body = to_update(fields)
    check({"$ref": "#/definitions/Job"}, body)

    assert json.loads(str(body["environment"])) == {"TOKEN": SECRET, "DAYS": "3", "FAST": "true"}
    assert body["timeout"] == "3"


def test_only_what_was_given_is_sent() -> None:
    """As it was given: CML validates it. "", 0, False and an empty environment are something."""
    given = JobFields(name="VaR", schedule="", cpu=0, paused=False, environment={}, attachments=())

    assert to_create(given) == given
    assert to_update(JobFields(environment={})) == {"environment": "{}"}
    assert to_create({}) == to_update({}) == {}


@pytest.mark.parametrize("convert", [to_create, to_update])
def test_what_cannot_be_a_variable_is_refused(convert: Any) -> None:
    """Before anything is sent, naming the variable and not its value."""
    with pytest.raises(CmlInputError, match="the value of TOKEN") as caught:
        convert(JobFields(environment={"TOKEN": [SECRET]}))

    assert SECRET not in str(caught.value)
