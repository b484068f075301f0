"""The judge of the chaos: it acquits what is right, and names each thing that must not be."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_cml.api.run_key import RUN_KEY_VARIABLE, RunKey
from tests.chaos.verdict import judge, told

NAME = ("backfill__2025-06-01", "report_1")


def key(try_number: int = 1, task: str = "report_1") -> str:
    return str(RunKey("chaos", "chaos", NAME[0], task, -1, 1, 5, 5, try_number, post="1abcd"))


def run(number: int, run_key: str | None, **fields: Any) -> dict[str, Any]:
    """A run of the ledger: created at `number`, over one later."""
    return {
        "id": f"r{number}",
        "job": "report 1",
        "environment": {} if run_key is None else {RUN_KEY_VARIABLE: run_key},
        "executed": True,
        "status": "ENGINE_SUCCEEDED",
        "created_at": float(number),
        "finished_at": number + 1.0,
        "stop_requests": 0,
        **fields,
    }


def faults(*runs: dict[str, Any], state: str = "success", returned: str | None = "r1", tasks: int = 1) -> str:
    return "\n".join(judge(tasks, {NAME: state}, {NAME: returned}, list(runs)).faults())


def test_all_as_it_must_be() -> None:
    """One own run that succeeded; one of somebody else; one that CML refused; one that failed in an earlier try."""
    refused = run(5, key(), executed=False, status="ENGINE_SKIPPED")
    failed = run(8, key(), status="ENGINE_FAILED")

    verdict = judge(1, {NAME: "success"}, {NAME: "r1"}, [run(1, key()), run(3, None), refused])

    assert [] == verdict.faults()
    assert (1, 1, 1, 1, 1) == (
        verdict.green,
        verdict.executed,
        verdict.succeeded,
        verdict.foreign,
        verdict.skipped,
    )
    assert "active at once" not in faults(failed, run(10, key(2)), returned="r10")


@pytest.mark.parametrize(
    ("runs", "facts", "word"),
    [
        ([run(1, key())], {"state": "failed"}, "is failed"),
        ([run(1, key())], {"tasks": 2}, "1 task instances instead of 2"),
        ([run(1, key()), run(3, key(2))], {}, "both succeeded"),
        ([run(1, key(), finished_at=4.0), run(3, key(2), status="ENGINE_FAILED")], {}, "were active at once"),
        ([run(1, key(), finished_at=None), run(3, key(2))], {"returned": "r3"}, "were active at once"),
        (
            [run(1, key()), run(3, key(2), status="ENGINE_FAILED")],
            {},
            "run r3 of report 1 is ENGINE_FAILED, and nobody",
        ),
        ([run(1, key(), status="ENGINE_FAILED")], {}, "is green and its run r1 is ENGINE_FAILED"),
        ([run(1, key())], {"returned": None}, "is green without a run"),
        ([run(1, key()), run(3, None)], {"returned": "r3"}, "took run r3, which is not its own"),
        ([run(1, key()), run(3, key(task="other"))], {"returned": "r3"}, "took run r3, which is not its own"),
        ([run(1, key()), run(3, None, stop_requests=1)], {}, "run r3 of report 1 was asked to stop"),
        ([], {}, "0 succeeded runs of 1 tasks' own"),
    ],
)
def test_what_must_not_be(runs: list[dict[str, Any]], facts: dict[str, Any], word: str) -> None:
    """Each is named."""
    assert word in faults(*runs, **facts)


@pytest.mark.parametrize(
    ("lines", "kind"),
    [
        (
            ["Waiting: run x of this job is running.", "Carrying on with run x, started by try 1 and still running."],
            "carri",
        ),
        (["Run x, started by try 1, succeeded meanwhile; nothing is started."], "found that the run had succeeded"),
        (["Run x is this try's own: its start took effect although the answer was lost."], "found the run of a lost"),
        (
            ["Waiting 90 s: a start of the earlier try may still be on its way.", "Run x is scheduling. "],
            "found none, wai",
        ),
        (["Run x is scheduling. http://c"], "found none, started"),
    ],
)
def test_what_a_try_said(lines: list[str], kind: str) -> None:
    """The line that tells most is the one that counts."""
    found = told(["Task started", *lines])

    assert found is not None
    assert found[0].startswith(kind)


def test_a_try_that_said_nothing() -> None:
    """Airflow's own lines, and a status alone, are no answer."""
    assert told(["Task started", "Run x is over: ENGINE_SUCCEEDED.", "Done. Returned value was: x"]) is None
