"""What really happened."""

from __future__ import annotations

from airflow_provider_cml.emulator import Life


def test_requests_are_entered_with_their_operations(client, cml, job):
    """In order, with status, path and times, and counted."""
    client.start(job)
    client.get(client.runs(job), sort="-created_at")
    client.get("/api/v2/nothing")
    client.start_v1()
    records = cml.ledger.requests()

    assert [(record.operation, record.method, record.status) for record in records] == [
        ("CreateJobRun", "POST", 200),
        ("ListJobRuns", "GET", 200),
        ("unknown", "GET", 404),
        ("v1.StartJob", "POST", 400),
    ]
    assert (records[1].path, records[1].query) == (client.runs(job), "sort=-created_at")
    assert sorted(record.monotonic for record in records) == [record.monotonic for record in records]
    assert (cml.ledger.count("CreateJobRun"), cml.ledger.count("GetJob")) == (1, 0)
    cml.ledger.clear()
    assert (cml.ledger.requests(), cml.ledger.counts()) == ([], {})


def test_keys_are_kept_out(client, cml):
    """Also when a client puts them where they do not belong."""
    client.get("/api/v2/projects", page_token=cml.api_key)
    client.get(f"/api/v2/projects/{cml.legacy_key}")

    assert cml.api_key not in str(cml.ledger.document())
    assert cml.legacy_key not in str(cml.ledger.document())


def test_runs_are_entered_with_what_became_of_them(client, cml, workspace, project, until):
    """Overrides as given, where they came from, whether they ran, and who wanted them stopped."""
    job = workspace.add_job(project, "job", number=5, environment={"A": "job"}, life=[Life(running=None), Life()])
    run_id = client.start(job, {"environment": {"B": "x"}, "arguments": "--fast"}).json()["id"]
    client.start(job)
    client.post(f"{client.runs(job)}/{run_id}:stop")
    until(lambda: cml.ledger.runs()[0].finished_at)
    client.start_v1("alice/risk-analysis/jobs/5")
    until(lambda: cml.ledger.runs()[2].finished_at)
    first, second, third = cml.ledger.runs(job.id)

    assert (run_id, "v2", {"B": "x"}, "--fast", 5) == (
        first.id,
        first.api,
        first.environment,
        first.arguments,
        first.number,
    )
    assert ["ENGINE_STOPPED", "ENGINE_SKIPPED", "ENGINE_SUCCEEDED"] == [run.status for run in (first, second, third)]
    assert [True, False, True] == [run.executed for run in (first, second, third)]
    assert [1, 0, 0] == [run.stop_requests for run in (first, second, third)]
    assert [first, third] == cml.ledger.executed()
    assert third.api == "v1"
    assert first.created_at <= first.started_at <= first.finished_at


def test_a_run_stopped_before_it_ran_was_not_executed(cml, workspace, project, until):
    """STARTING is not running."""
    run = workspace.start(workspace.add_job(project, "job", life=Life(starting=None)))
    workspace.advance()
    workspace.stop(run)
    until(lambda: run.is_over)

    assert [] == cml.ledger.executed()
