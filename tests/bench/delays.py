"""How long after its end a run is told, over runs of five seconds to ten minutes, with everybody's defaults.

In virtual time, so that hours take no time: the product's own conversation at the trigger's own pace, driven by hand on
a clock that jumps. Of the peers' triggers only the law is played, which is one line: a look at once, and another each
interval. What the virtual world leaves out (network, loop, Airflow) the measurement in real time shows.
"""

from __future__ import annotations

import json
import math
import random
from statistics import mean
from typing import TYPE_CHECKING, Any

from airflow_provider_cml import events
from airflow_provider_cml.api.alarm import BEAT, SHORT
from airflow_provider_cml.api.conversations.watching import Target, follow
from airflow_provider_cml.api.wire import Now, Pause, Request, Response
from airflow_provider_cml.triggers.cml import CmlJobRunTrigger
from tests.bench.answers import JOB_ID, PROJECT_ID
from tests.bench.verdicts import DATABRICKS, DBT, OURS

if TYPE_CHECKING:
    from collections.abc import Callable

LENGTHS = (5, 10, 20, 30, 60, 120, 300, 600)
RUNS = 400
INTERVALS = {OURS: 30.0, DATABRICKS: 30.0, DBT: 60.0}
"""Defaults: `poll_interval`, `polling_period_seconds`, `check_interval`."""


def virtual_delays() -> dict[str, dict[str, Any]]:
    """By client: for each length the mean and the worst delay of many runs that last about so long."""
    told: dict[str, Callable[[float], float]] = {
        OURS: our_delay,
        DATABRICKS: lambda length: delay_of_fixed_looks(length, INTERVALS[DATABRICKS]),
        DBT: lambda length: delay_of_fixed_looks(length, INTERVALS[DBT]),
    }
    found = {}
    for who, delay in told.items():
        delays = {length: [delay(length * random.uniform(0.9, 1.1)) for _ in range(RUNS)] for length in LENGTHS}
        found[who] = {
            "mean": {str(length): mean(some) for length, some in delays.items()},
            "worst": {str(length): max(some) for length, some in delays.items()},
        }
    return found


def delay_of_fixed_looks(length: float, interval: float) -> float:
    """A look at once and another each interval: how long after the end the next one is."""
    return math.ceil(length / interval) * interval - length


def our_delay(length: float) -> float:
    """The trigger's pace and its conversation, for a run that began just now."""
    watched = events.Watched(PROJECT_ID, JOB_ID, run_id="1")
    trigger = CmlJobRunTrigger("cml_default", watched.to_json(), INTERVALS[OURS])
    exchange = follow(Target(watched.ids, run_id="1"), trigger._pace(watched))
    moment, answer = 0.0, None
    try:
        wish: Any = next(exchange)
        while True:
            answer = None
            if isinstance(wish, Request):
                word = "ENGINE_SUCCEEDED" if moment >= length else "ENGINE_RUNNING"
                answer = Response(200, {}, json.dumps({"id": "1", "status": word}).encode())
            elif isinstance(wish, Pause):
                moment += wish.seconds
                if wish.seconds >= SHORT:
                    moment = math.ceil(moment / BEAT) * BEAT
            elif isinstance(wish, Now):
                answer = moment
            wish = exchange.send(answer)
    except StopIteration:
        return moment - length
