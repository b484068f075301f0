"""A start through API v1, as soon as CML takes it.

v1 shows no runs, so a busy job can only be told by its refusals, and waited for by trying again with growing gaps.
The law: a start is repeated only after a refusal, which has no effect. An answer that is lost is nobody's refusal.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_provider_cml.api import v1
from airflow_provider_cml.api.conversations.posting import CONFLICT_PATIENCE, REFUSAL_GAPS
from airflow_provider_cml.api.conversations.start import Busy
from airflow_provider_cml.api.errors import GRPC_FAILED_PRECONDITION, CmlRefusedError
from airflow_provider_cml.api.wire import note, now, pause

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_cml.api.wire import Exchange


@dataclass(frozen=True, slots=True)
class LegacyStart:
    """What is to be started.

    :param owner: the user or team before the project in its address.
    :param slug: the project's name in its address.
    :param number: the number in the job's address.
    :param environment: variables of the run; kept out of `repr`.
    :param wait_when_busy: try again where CML refuses because the job is busy.
    :param busy_timeout: seconds to go on with that; None is without limit.
    """

    owner: str
    slug: str
    number: str
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    wait_when_busy: bool = True
    busy_timeout: float | None = None


def start_job_when_free(start: LegacyStart) -> Exchange[str | Busy]:
    """Start the job and return its engine id; `Busy` where it is not waited for, or not any longer.

    What v1 answers for a busy job is not documented (not confirmed on a live CML). It is taken to say the same as v2;
    gRPC's code 9 counts as busy, because no look can tell. Every other conflict (409, 412) is repeated for ten minutes.

    :raises CmlUnavailableError: no answer; `sent` tells whether the job may have been started.
    :raises CmlRefusedError: CML refuses the start, or has answered with conflicts for `CONFLICT_PATIENCE`.
    """
    began = yield from now()
    refusals = 0
    conflict_since: float | None = None
    while True:
        try:
            return (yield from v1.start_job(start.owner, start.slug, start.number, start.environment))
        except CmlRefusedError as error:
            moment = yield from now()
            is_busy = error.is_busy or (error.is_conflict and error.grpc_code == GRPC_FAILED_PRECONDITION)
            if not (is_busy or error.is_conflict):
                raise
            if is_busy:
                conflict_since = None
            elif conflict_since is None:
                conflict_since = moment
            elif moment - conflict_since >= CONFLICT_PATIENCE:
                raise
            reason = f"CML refused the start{error.said}"
        if conflict_since is not None:
            left: float | None = conflict_since + CONFLICT_PATIENCE - moment
        else:
            left = None if start.busy_timeout is None else began + start.busy_timeout - moment
            if not start.wait_when_busy or (left is not None and left <= 0):
                return Busy(reason, timed_out=start.wait_when_busy)
        gap = REFUSAL_GAPS[min(refusals, len(REFUSAL_GAPS) - 1)] * random.uniform(0.8, 1.2)  # noqa: S311 - jitter
        refusals += 1
        if refusals == 1:
            yield from note(f"Waiting: {reason}.")
        yield from pause(gap if left is None else min(gap, max(left, 1.0)))
