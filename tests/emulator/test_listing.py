"""Filters, sorting and pages, over HTTP."""

from __future__ import annotations

import itertools
import json

import pytest

from airflow_provider_cml.emulator import Life


@pytest.fixture
def names(client):
    """Names of the jobs that a query lists, in their order, with the token of the next page."""

    def ask(path, **query):
        response = client.get(path, **query)
        assert response.status_code == 200, response.text
        document = response.json()
        return [job["name"] for job in document["jobs"]], document["next_page_token"]

    return ask


@pytest.fixture
def jobs(workspace, project):
    for number in range(25):
        workspace.add_job(project, f"job {number:02}", script="a.py" if number % 2 else "b.py")
    return f"/api/v2/projects/{project.id}/jobs"


def test_a_page_has_ten_entries_unless_asked_otherwise(names, jobs):
    """LIVE: the default that broke the first client of v2."""
    assert [10, 10, 25] == [len(names(jobs, **query)[0]) for query in ({}, {"page_size": 0}, {"page_size": 100})]


def test_tokens_lead_through_all_pages(names, jobs):
    """Each entry once; the last page has an empty token."""
    seen, token = [], ""
    for count in itertools.count(1):  # noqa: B007  looked at after the loop
        page, token = names(jobs, page_size=4, sort="name", page_token=token)
        seen += page
        if not token:
            break

    assert count == 7
    assert [f"job {number:02}" for number in range(25)] == seen


@pytest.mark.parametrize("change", [{"page_size": 5}, {"sort": "-name"}, {"search_filter": '{"name":"job"}'}])
def test_a_token_is_for_the_same_question_only(client, names, jobs, change):
    """SPEC: the page size must be given again; filter and sort decide what is on a page."""
    query = {"page_size": 4, "sort": "name"}
    _, token = names(jobs, **query)
    response = client.get(jobs, **{**query, **change}, page_token=token)

    assert (400, 3) == (response.status_code, response.json()["code"])


@pytest.mark.parametrize("token", ["x", "!!!", "bm8=", "bm86MQ=="])
def test_tokens_cannot_be_made_up(client, jobs, token):
    """They are opaque."""
    assert client.get(jobs, page_token=token).status_code == 400


def test_the_server_may_cap_the_page_size(workspace, names, jobs):
    """Fewer than asked for, and a token."""
    workspace.page_size_cap = 7
    page, token = names(jobs, page_size=100)

    assert (7, True) == (len(page), bool(token))


def test_filters_match_case_sensitive_substrings(names, jobs):
    """LIVE: so a client has to compare names itself."""
    assert names(jobs, search_filter='{"name":"b 07"}') == (["job 07"], "")
    assert names(jobs, search_filter='{"name":"JOB"}') == ([], "")
    both, _ = names(jobs, search_filter='{"name":"job 0","script":"a"}', sort="name")
    assert both == ["job 01", "job 03", "job 05", "job 07", "job 09"]
    assert len(names(jobs, search_filter='{"creator.username":"lic"}', page_size=100)[0]) == 25


@pytest.mark.parametrize(
    "query",
    [
        {"search_filter": "demo"},
        {"search_filter": '["name"]'},
        {"search_filter": '{"nme":"x"}'},
        {"search_filter": '{"name":1}'},
        {"sort": "status"},
        {"sort": " name"},
        {"page_size": "ten"},
        {"page_size": "-1"},
    ],
)
def test_questions_that_make_no_sense_are_refused(client, jobs, query):
    """Rather than answered with something else; a bare + in a query is a space and no sign."""
    response = client.get(jobs, **query)

    assert (400, 3) == (response.status_code, response.json()["code"])


def test_sorting_takes_several_keys_and_both_signs(names, jobs):
    """The first key weighs most."""
    page, _ = names(jobs, sort="-script,+name", page_size=14)

    assert ["job 00", "job 02"] == page[:2]
    assert "job 01" == page[13]


def test_camel_case_parameters_are_taken_too(names, jobs):
    """As old pages of the documentation write them."""
    assert names(jobs, searchFilter='{"name":"07"}', pageSize=5) == (["job 07"], "")


def test_lists_without_sort_are_never_newest_first(client, workspace, job):
    """So nobody can rely on an order that CML does not promise; it is the same each time."""
    for count in range(2, 9):
        workspace.add_run(job, "succeeded")
        newest = workspace.add_run(job, "succeeded")
        listed = [[run["id"] for run in client.get(client.runs(job)).json()["job_runs"]] for _ in range(2)]
        assert listed[0][0] != newest.id, count
        assert listed[0] == listed[1]


def test_runs_are_listed_newest_first_when_asked(client, workspace, job):
    """The last ones made come first."""
    made = [workspace.add_run(job, "succeeded").id for _ in range(12)]
    listed = client.get(client.runs(job), sort="-created_at", page_size=5).json()["job_runs"]

    assert made[:-6:-1] == [run["id"] for run in listed]


@pytest.mark.parametrize("word", ["scheduling", "running", "stopping", "stopped", "succeeded", "failed", "timedout"])
def test_runs_are_filtered_by_the_published_words(client, workspace, job, word):
    """Unprefixed and in lower case."""
    every = ["scheduling", "running", "stopping", "stopped", "succeeded", "failed", "timedout", "skipped", "starting"]
    for status in every:
        workspace.add_run(job, status)
    listed = client.get(client.runs(job), search_filter=json.dumps({"status": word})).json()["job_runs"]

    assert [f"ENGINE_{word.upper()}"] == [run["status"] for run in listed]


@pytest.mark.parametrize("word", ["skipped", "starting", "unknown", "ENGINE_RUNNING"])
def test_there_is_no_filter_for_other_words(client, job, word):
    """SPEC lists seven."""
    assert client.get(client.runs(job), search_filter=json.dumps({"status": word})).status_code == 400


def test_public_projects_are_listed_on_request_only(client, workspace, project):
    """And private ones of others never."""
    workspace.add_project("bob", "Open", visibility="public", member=False)
    workspace.add_project("bob", "Closed", member=False)

    def listed(**query):
        return sorted(each["name"] for each in client.get("/api/v2/projects", **query).json()["projects"])

    assert ["Risk Analysis"] == listed()
    assert ["Risk Analysis"] == listed(include_public_projects="false")
    assert ["Open", "Risk Analysis"] == listed(include_public_projects="true")
    assert ["Open", "Risk Analysis"] == listed(include_all_projects="true")


def test_jobs_of_all_projects_are_listed(client, workspace, project, job):
    """Those of projects the user belongs to; without sort (SPEC), which is passed over."""
    other = workspace.add_project("bob", "Open", visibility="public", member=False)
    workspace.add_job(other, "hidden", life=Life())

    listed = client.get("/api/v2/jobs", sort="nonsense").json()["jobs"]
    assert ["nightly VaR"] == [each["name"] for each in listed]
