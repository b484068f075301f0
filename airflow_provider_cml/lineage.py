"""What OpenLineage is told, where its provider is installed and switched on: of the run, and the run of its parent.

A script that emits lineage itself is joined to the DAG by variables whose names and shapes are OpenLineage's:
`OPENLINEAGE_PARENT_ID` and `OPENLINEAGE_ROOT_PARENT_ID`, each `namespace/name/run id`, and `OPENLINEAGE_CONTEXT`, the
same as JSON, which newer readers prefer.

The law: nothing of OpenLineage is imported before it is asked for, and no failure of it changes what becomes of a task.
"""

from __future__ import annotations

import json
from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow_provider_cml.events import run_times

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_cml.api.models import JobRun
    from airflow_provider_cml.compat import BaseOperator, Context
    from airflow_provider_cml.events import Watched

PARENT, ROOT, CONTEXT = "OPENLINEAGE_PARENT_ID", "OPENLINEAGE_ROOT_PARENT_ID", "OPENLINEAGE_CONTEXT"
_PROVIDER = "airflow.providers.openlineage"
_TIMES = ("created_at", "scheduling_at", "starting_at", "running_at", "finished_at")


def parent_variables(task: BaseOperator, context: Context, given: Mapping[str, str]) -> dict[str, str]:
    """The variables by which a script joins its lineage to this try of the task, its parent, and the dag run, its root.

    None where lineage is off, for all or for this task; and none where the DAG's author gives one of them, even as an
    empty text.
    """
    if not {PARENT, ROOT, CONTEXT}.isdisjoint(given):
        return {}
    ti = context["ti"]
    try:
        if not _is_on(task, ti):
            return {}
        macros = import_module(f"{_PROVIDER}.plugins.macros")
        parent, root = str(macros.lineage_parent_id(ti)), str(macros.lineage_root_parent_id(ti))
        chain = {**_link(parent), "root": _link(root)}
    except ImportError:
        return {}
    except Exception as error:  # noqa: BLE001 - another provider's, of any version
        task.log.warning("What the run tells OpenLineage will not be joined to its DAG: %s", error)
        return {}
    return {PARENT: parent, ROOT: root, CONTEXT: json.dumps({"parent": chain})}


def operator_lineage(names: Mapping[str, str], watched: Watched | None, run: JobRun | None) -> Any:
    """The facets of a job and its run, as OpenLineage's extractor takes them from an operator.

    :param names: project and job as the DAG's author calls them.
    :param watched: what the task knows of its run. None, or without a job, if it never had one, or started it through
        API v1, which knows no ids.
    :param run: the run as last seen.
    """
    extractors, facets = import_module(f"{_PROVIDER}.extractors"), import_module("openlineage.client.facet_v2")
    job = {"workspace": _workspace(watched.run_url) if watched else None, **names}
    if watched is not None and watched.job_id:
        job |= {"projectId": watched.project_id, "jobId": watched.job_id}
    found = {"job_facets": {"cml_job": _facet("CmlJobFacet", facets.JobFacet, job)}}
    if watched is not None and run is not None:
        times = {_camel(name): run_times(run).get(name) for name in _TIMES}
        told = {"runId": run.id, "status": str(run.status), "runUrl": watched.run_url or None, **times}
        found["run_facets"] = {"cml_run": _facet("CmlRunFacet", facets.RunFacet, told)}
    return extractors.OperatorLineage(**found)


def _is_on(task: BaseOperator, ti: Any) -> bool:
    """Whether OpenLineage will know this task: else it would be named as the parent of something, and not be there."""
    if import_module(f"{_PROVIDER}.conf").is_disabled():
        return False
    try:
        policy = import_module(f"{_PROVIDER}.utils.emission_policy")
    except ImportError:  # before 2.20
        utils = import_module(f"{_PROVIDER}.utils.utils")
        return not utils.is_operator_disabled(task) and bool(utils.is_selective_lineage_enabled(task))
    found = policy.resolve_task_emission_policy(operator=task, dag_id=ti.dag_id, task_id=ti.task_id)
    return bool(found.emit)


def _link(text: str) -> dict[str, dict[str, str]]:
    """`namespace/name/run id` in OpenLineage's other shape. A namespace may be an address, and hold slashes."""
    namespace, name, run_id = text.rsplit("/", 2)
    return {"run": {"runId": run_id}, "job": {"namespace": namespace, "name": name}}


def _facet(name: str, base: type, facts: Mapping[str, str | None]) -> Any:
    """A facet of our own: a class made when it is needed, because its base may not be installed."""
    import attr  # noqa: PLC0415 - what OpenLineage's facets are made of

    return attr.make_class(name, {fact: attr.ib(default=None) for fact in facts}, bases=(base,))(**facts)


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


def _workspace(run_url: str) -> str | None:
    """The address before `/owner/slug/jobs`."""
    return run_url.rsplit("/", 3)[0] or None
