"""The emulator's own paths: faults, ledger, moving runs by hand.

Law: nothing of this exists on CML. It needs the v2 key as everything else, is not entered in the ledger, and
no fault befalls it.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from airflow_provider_cml.emulator.calls import INVALID_ARGUMENT, NOT_FOUND, Answer, Call, RefusalError
from airflow_provider_cml.emulator.faults import FaultError, Faults
from airflow_provider_cml.emulator.starting import environment_in, text_in

if TYPE_CHECKING:
    from airflow_provider_cml.emulator.ledger import Ledger
    from airflow_provider_cml.emulator.objects import Job


class Control:
    """The control paths of one emulator."""

    def __init__(self, faults: Faults, ledger: Ledger) -> None:
        self._faults = faults
        self._ledger = ledger

    def add_fault(self, call: Call) -> Answer:
        """POST /emulator/faults {"operation", "kind", ...}."""
        document = call.document()
        operation, kind = text_in(document, "operation"), text_in(document, "kind")
        settings = {name: value for name, value in document.items() if name not in ("operation", "kind")}
        try:
            fault = self._faults.add(operation or "", kind or "", **settings)
        except FaultError as error:
            raise RefusalError(INVALID_ARGUMENT, str(error)) from None
        return Answer(asdict(fault))

    def list_faults(self, _call: Call) -> Answer:
        """GET /emulator/faults."""
        return Answer({"faults": self._faults.listing()})

    def clear_faults(self, _call: Call) -> Answer:
        """DELETE /emulator/faults."""
        self._faults.clear()
        return Answer({})

    def remove_fault(self, call: Call) -> Answer:
        """DELETE /emulator/faults/{id}."""
        number = call.path["id"]
        if not (number.isascii() and number.isdigit() and self._faults.remove(int(number))):
            raise RefusalError(NOT_FOUND, "no such fault")
        return Answer({})

    def read_ledger(self, _call: Call) -> Answer:
        """GET /emulator/ledger."""
        return Answer(self._ledger.document())

    def add_run(self, call: Call) -> Answer:
        """POST /emulator/runs {"job_id", "status", "environment", "arguments"}: a run nobody started here."""
        document = call.document()
        job: Job | None = call.workspace.jobs.get(text_in(document, "job_id") or "")
        if job is None:
            raise RefusalError(NOT_FOUND, "no such job")
        run = call.workspace.add_run(
            job,
            text_in(document, "status") or "running",
            environment=environment_in(document),
            arguments=text_in(document, "arguments"),
        )
        return Answer({"id": run.id, "engine_id": run.engine_id, "status": str(run.status)})

    def set_status(self, call: Call) -> Answer:
        """POST /emulator/runs/{id}/status {"status", "message", "oom_killed"}: any word; the others are for usage."""
        document = call.document()
        status, killed = text_in(document, "status"), document.get("oom_killed", False)
        if not status:
            raise RefusalError(INVALID_ARGUMENT, "status: a word is needed")
        if call.path["id"] not in call.workspace.runs:
            raise RefusalError(NOT_FOUND, "no such run")
        if not isinstance(killed, bool):
            raise RefusalError(INVALID_ARGUMENT, "oom_killed: true or false is needed")
        run = call.workspace.set_status(call.path["id"], status, text_in(document, "message"), oom_killed=killed)
        return Answer({"id": run.id, "status": str(run.status)})
