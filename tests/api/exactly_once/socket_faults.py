"""What goes wrong on the wire in one story: faults of the emulator, drawn by chance, for one job.

The law: the bounds that the start conversation assumes. A start takes effect at most `LATE` seconds after it was sent,
and a run is listed at most `LAG` seconds after that; both together leave room for what a busy machine adds.
"""

from __future__ import annotations

from random import Random
from typing import Any

from airflow_provider_cml.emulator import Emulator, Fault

LATE = 60.0
LAG = 5.0

Table = tuple[tuple[str, dict[str, Any]], ...]
"""Kinds with their settings; `seconds` as the conversation counts them."""

STARTS: Table = (
    ("drop_before", {}),
    ("drop_after", {}),
    ("drop_after", {}),
    ("late_effect", {"seconds": LATE}),
    ("late_effect", {"seconds": LATE}),
    ("late_effect", {"seconds": 30.0}),
    ("late_effect", {"seconds": LATE, "status": 504}),
    ("delay_answer", {"seconds": 30.0}),
    ("delay_answer", {"seconds": 90.0}),
    ("error_before", {"status": 500}),
    ("error_before", {"status": 502}),
    ("error_after", {"status": 500}),
    ("error_after", {"status": 504}),
    ("too_many_requests", {}),
    ("too_many_requests", {"retry_after": 20}),
    ("html", {"status": 200}),
    ("html", {"status": 302}),
    ("html", {"status": 502}),
    ("broken_json", {}),
    ("wrong_content_type", {}),
    ("out_of_quota", {}),
    ("busy", {"status": 400, "forced": True}),
    ("busy", {"status": 409, "forced": True}),
    ("busy", {"status": 412, "forced": True}),
    ("busy", {"status": 200, "forced": True}),
)
READS: Table = (
    ("drop_before", {}),
    ("drop_after", {}),
    ("delay_answer", {"seconds": 20.0}),
    ("delay_answer", {"seconds": 90.0}),
    ("error_before", {"status": 503}),
    ("too_many_requests", {"retry_after": "junk"}),
    ("too_many_requests", {"retry_after": 10}),
    ("html", {"status": 502}),
    ("broken_json", {}),
)
STOPS: Table = (
    ("drop_before", {}),
    ("drop_after", {}),
    ("error_after", {"status": 500}),
    ("slow_stopping", {"seconds": 40.0}),
)


def faults_by_chance(dice: Random, emulator: Emulator, job_id: str, pace: float) -> tuple[float, list[Fault]]:
    """Set the faults of one story. Returns how late a run may be listed, in seconds, and the faults."""
    found: list[Fault] = []

    def add(operation: str, kind: str, **settings: Any) -> None:
        if "seconds" in settings:
            settings["seconds"] /= pace
        found.append(emulator.fault(operation, kind, match=job_id, seed=dice.randrange(10**6), **settings))

    for operation, table, most in (("ListJobRuns", READS, 2), ("GetJobRun", READS, 2), ("StopJobRun", STOPS, 1)):
        for kind, settings in dice.sample(table, dice.randint(0, most)):
            add(operation, kind, **settings, count=dice.randint(1, 3), probability=dice.choice((0.2, 0.5, 1.0)))
    for kind, settings in dice.sample(STARTS, dice.choice((0, 1, 1, 1, 2, 3))):
        add("CreateJobRun", kind, **settings, count=dice.choice((1, 1, 2)), after=dice.choice((0, 0, 0, 1)))
    if dice.random() < 0.5:
        add("CreateJobRun", "busy", status=dice.choice((409, 412, 200)))
    lag = 0.0
    if dice.random() < 0.4:
        lag = dice.uniform(0.0, LAG)
        add("ListJobRuns", "list_lag", seconds=lag)
    blind = dice.random()
    if blind < 0.2:
        add("ListJobRuns", "no_echo")
    elif blind < 0.28:
        add("*", "no_echo")
    if dice.random() < 0.2:
        add("*", "environment_object")
    return lag, found
