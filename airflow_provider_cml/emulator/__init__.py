"""A CML workspace on localhost: both APIs with their quirks, for demos and tests.

Law: written against the published document of the API, not against the client beside it; it shares no code
with the rest of the package, and nothing that runs in a worker imports it.

    workspace = Workspace()
    project = workspace.add_project("alice", "Risk Analysis")
    job = workspace.add_job(project, "nightly VaR", number=208, life=Life(running=0.5))
    with Emulator(workspace) as cml:
        cml.fault("CreateJobRun", "drop_after", count=1)
        ...  # talk to cml.url with cml.api_key (v2) or cml.legacy_key (v1)
        cml.ledger.executed()
"""

from airflow_provider_cml.emulator.emulator import Emulator
from airflow_provider_cml.emulator.faults import Fault, FaultError, Faults, Kind
from airflow_provider_cml.emulator.ledger import Ledger, RequestRecord, RunRecord
from airflow_provider_cml.emulator.objects import Job, Life, Project, Run, Status, User
from airflow_provider_cml.emulator.workspace import Workspace
from airflow_provider_cml.emulator.workspace_file import WorkspaceFileError, load_workspace

__all__ = [
    "Emulator",
    "Fault",
    "FaultError",
    "Faults",
    "Job",
    "Kind",
    "Ledger",
    "Life",
    "Project",
    "RequestRecord",
    "Run",
    "RunRecord",
    "Status",
    "User",
    "Workspace",
    "WorkspaceFileError",
    "load_workspace",
]
