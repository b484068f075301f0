"""The fields of a job, with the published document as the judge of what is sent."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest

from airflow_provider_cml.api.errors import CmlInputError
from airflow_provider_cml.api.job_fields import UNCHANGEABLE, JobFields, JobRecipient
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


def everything(**other: Any) -> JobFields:
    """All fields there are, each of the type that CreateJobRequest gives it."""
    properties = DEFINITIONS["CreateJobRequest"]["properties"]
    given = {field.name: GIVEN[properties[field.name]["type"]] for field in fields(JobFields)}
    return JobFields(**{**given, "accelerator_label_id": 7, "recipients": [RECIPIENT], **other})


def test_no_field_of_the_document_is_missing() -> None:
    """All that a new job may be given, but for the project, which is told apart, and an old name of `parent_id`."""
    assert {field.name for field in fields(JobFields)} == set(DEFINITIONS["CreateJobRequest"]["properties"]) - {
        "project_id",
        "parent_job_id",
    }
    assert {field.name for field in fields(JobRecipient)} == set(DEFINITIONS["JobRecipient"]["properties"])


def test_new_job() -> None:
    """A request with everything fits the document; an environment is a map of texts."""
    body = everything().to_create()
    check({"$ref": "#/definitions/CreateJobRequest"}, body)

    assert set(body) == {field.name for field in fields(JobFields)}
    assert body["environment"] == {"TOKEN": SECRET, "DAYS": "3", "FAST": "true"}
    assert body["recipients"] == [{"email": "alice@example.com", "notify_on_failure": True}]


def test_changed_job() -> None:
    """A change of all that can be changed fits the document, which has other types there."""
    body = everything(**dict.fromkeys(UNCHANGEABLE)).to_update()
    check({"$ref": "#/definitions/Job"}, body)

    assert json.loads(str(body["environment"])) == {"TOKEN": SECRET, "DAYS": "3", "FAST": "true"}
    assert body["timeout"] == "3"
    for name in set(body):
        assert not DEFINITIONS["Job"]["properties"][name].get("readOnly")


def test_only_what_was_given_is_sent() -> None:
    """None is nothing; "", 0, False and an empty environment are something."""
    given = JobFields(name="VaR", script="var.py", schedule="", cpu=0, paused=False, environment={}, attachments=())

    assert given.to_create() == {
        "name": "VaR",
        "script": "var.py",
        "schedule": "",
        "cpu": 0,
        "paused": False,
        "environment": {},
        "attachments": [],
    }
    assert JobFields(environment={}).to_update() == {"environment": "{}"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (JobFields(), "name: is missing"),
        (JobFields(name="VaR"), "script: is missing"),
        (JobFields(name="", script="var.py"), "name: is missing"),
        (JobFields(name="VaR", script="var.py", attachments="report.csv"), "attachments: is one string"),
        (JobFields(name="VaR", script="var.py", environment={"TOKEN": [SECRET]}), "environment: the value of TOKEN"),
        (JobFields(name="VaR", script="var.py", environment={"AIRFLOW_RUN_KEY": SECRET}), "AIRFLOW_RUN_KEY is set by"),
    ],
    ids=str,
)
def test_what_cannot_be_made(given: JobFields, words: str) -> None:
    """It is refused before anything is sent, naming the field and no value of an environment."""
    with pytest.raises(CmlInputError, match=words) as caught:
        given.to_create()

    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (JobFields(), "nothing is given"),
        (JobFields(cpu=1, paused=True), "paused: CML takes this for a new job only"),
        (JobFields(timezone="UTC"), "timezone: CML takes this for a new job only"),
        (JobFields(recipients=[RECIPIENT]), "recipients: CML takes this for a new job only"),
    ],
    ids=str,
)
def test_what_cannot_be_changed(given: JobFields, words: str) -> None:
    """What CML answers 200 to, and ignores, is an error here."""
    with pytest.raises(CmlInputError, match=words):
        given.to_update()


def test_no_value_of_an_environment_is_shown() -> None:
    """Neither whole nor in part."""
    assert SECRET not in repr(everything())
    assert "environment" not in repr(everything())
