"""OpenLineage: what it is told of a run, and what the run is told of its parent.

Against the provider itself where it is installed; elsewhere against stand-ins with its names and shapes, which are
held to it by the same tests.
"""

from __future__ import annotations

import json
import sys
import uuid
from contextlib import nullcontext
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import attr
import pytest

from airflow_provider_cml.compat import conf
from airflow_provider_cml.emulator import Life
from airflow_provider_cml.failures import CmlRefusedFailError, CmlRunFailedError
from airflow_provider_cml.lineage import parent_variables
from airflow_provider_cml.operators.cml import CmlRunJobOperator
from tests.airflow_side import (
    PASSWORD,
    DagRun,
    TaskInstance,
    connections,
    context_of,
    end_active_run,
    job,
    log,
    quick,
    run_task,
)

if TYPE_CHECKING:
    from airflow_provider_cml.emulator import Emulator, Job, Workspace

__all__ = ["connections", "job", "log", "quick"]

# OpenLineage's own imports, in the versions of Airflow 2.11's constraints.
pytestmark = pytest.mark.filterwarnings("ignore:This module is deprecated:DeprecationWarning")

PROVIDER = "airflow.providers.openlineage"
IS_INSTALLED = find_spec("airflow.providers") is not None and find_spec(PROVIDER) is not None
NAMES = ("OPENLINEAGE_PARENT_ID", "OPENLINEAGE_ROOT_PARENT_ID", "OPENLINEAGE_CONTEXT")
TIMES = {"createdAt", "schedulingAt", "startingAt", "runningAt", "finishedAt"}


# ---------------------------------------------------------------- stand-ins


@attr.define
class Facet:
    """As OpenLineage's own: every field but these is a subclass's."""

    _producer: str = attr.field(default="", kw_only=True)
    _schemaURL: str = attr.field(default="", init=False)  # noqa: N815 - its name


@attr.define
class OperatorLineage:
    inputs: list[Any] = attr.Factory(list)
    outputs: list[Any] = attr.Factory(list)
    run_facets: dict[str, Any] = attr.Factory(dict)
    job_facets: dict[str, Any] = attr.Factory(dict)


def namespace() -> str:
    return str(conf.get("openlineage", "namespace", fallback="default"))


def run_id_of(*facts: object) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, repr(facts)))


def stand_ins() -> dict[str, dict[str, Any]]:
    """Module by module, what of OpenLineage the package uses."""

    def parent_id(ti: Any) -> str:
        return "/".join((namespace(), f"{ti.dag_id}.{ti.task_id}", run_id_of(ti.run_id, ti.task_id, ti.try_number)))

    def policy_of(*, operator: Any, dag_id: str, task_id: str) -> Any:
        rules = json.loads(conf.get("openlineage", "emission_policy", fallback="[]"))
        names = [rule["scope"]["operator"] for rule in rules if not rule["controls"]["emit"]]
        return SimpleNamespace(emit=f"{type(operator).__module__}.{type(operator).__qualname__}" not in names)

    return {
        PROVIDER: {},
        f"{PROVIDER}.conf": {"is_disabled": lambda: not conf.get("openlineage", "transport", fallback="")},
        f"{PROVIDER}.extractors": {"OperatorLineage": OperatorLineage},
        f"{PROVIDER}.plugins": {},
        f"{PROVIDER}.plugins.macros": {
            "lineage_parent_id": parent_id,
            "lineage_root_parent_id": lambda ti: "/".join((namespace(), ti.dag_id, run_id_of(ti.run_id))),
        },
        f"{PROVIDER}.utils": {},
        f"{PROVIDER}.utils.emission_policy": {"resolve_task_emission_policy": policy_of},
        "openlineage": {},
        "openlineage.client": {},
        "openlineage.client.facet_v2": {"JobFacet": Facet, "RunFacet": Facet},
    }


@pytest.fixture
def openlineage(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenLineage, installed and switched on."""
    monkeypatch.setenv("AIRFLOW__OPENLINEAGE__TRANSPORT", '{"type": "console"}')
    if IS_INSTALLED:
        return
    for name, contents in stand_ins().items():
        module = ModuleType(name)
        module.__dict__.update(contents, __path__=[])
        monkeypatch.setitem(sys.modules, name, module)


# ---------------------------------------------------------------- a task OpenLineage can ask


class AskedDagRun(DagRun):
    """With what OpenLineage's macros read of a dag run."""

    conf: Any = None
    clear_number = 0


class AskedInstance(TaskInstance):
    """With what they read of a task instance, on both Airflows."""

    dag_run: Any = None

    @property
    def logical_date(self) -> Any:
        return self.dag_run.logical_date

    def get_template_context(self) -> Any:
        return {"dag_run": self.dag_run}


def asked(task: Any, **facts: Any) -> Any:
    """A context whose task instance OpenLineage can ask."""
    context = context_of(task, **facts)
    ti = AskedInstance(**{name: getattr(context["ti"], name) for name in ("task_id", "try_number", "map_index")})
    ti.dag_run = AskedDagRun()
    return {**context, "ti": ti, "task_instance": ti, "dag_run": ti.dag_run}


def operator(of: Job | None = None, **arguments: Any) -> CmlRunJobOperator:
    given = {"project": of.project_id if of else "p", "job": of.id if of else "j", "poll_interval": 0.05}
    return CmlRunJobOperator(task_id="value_at_risk", **{**given, **arguments})


def fields_of(facet: Any) -> dict[str, Any]:
    """What of a facet is sent, without what every facet has."""
    return {name: value for name, value in attr.asdict(facet).items() if not name.startswith("_")}


# ---------------------------------------------------------------- the run's parent


def test_a_run_is_told_its_parent_and_its_root(openlineage: None) -> None:
    """The parent is this try of this task, the root the dag run, in the shapes OpenLineage's readers know."""
    task = operator()
    told = parent_variables(task, asked(task), {"DAY": "2026-11-20"})
    names, runs = [], []
    for name in NAMES[:2]:
        space, called, run_id = told[name].split("/")
        assert space == "default"
        names.append(called)
        runs.append(str(uuid.UUID(run_id)))
    parent = json.loads(told["OPENLINEAGE_CONTEXT"])["parent"]

    assert set(told) == set(NAMES)
    assert names == ["risk.value_at_risk", "risk"]
    assert parent["job"] == {"namespace": "default", "name": "risk.value_at_risk"}
    assert parent["root"]["job"] == {"namespace": "default", "name": "risk"}
    assert [parent["run"]["runId"], parent["root"]["run"]["runId"]] == runs
    assert runs[0] != runs[1]


def test_another_try_is_another_parent_of_one_root(openlineage: None) -> None:
    """OpenLineage counts each try as a run of its own."""
    task = operator()
    first, second = (parent_variables(task, asked(task, try_number=number), {}) for number in (1, 2))

    assert first[NAMES[0]] != second[NAMES[0]]
    assert first[NAMES[1]] == second[NAMES[1]]


def test_openlineages_own_reader_understands_it(openlineage: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader of OpenLineage's dbt integration finds the parent by either way of telling it."""
    if not IS_INSTALLED:
        # What it does with them, by its source (openlineage-integration-common 1.54.0).
        told = parent_variables(operator(), asked(operator()), {})
        assert len(told[NAMES[0]].split("/")) == 3
        assert {"run", "job", "root"} == set(json.loads(told[NAMES[2]])["parent"])
        return
    reader = import_module("openlineage.common.provider.dbt.utils")
    told = parent_variables(operator(), asked(operator()), {})
    for names in (NAMES, NAMES[:2]):
        with monkeypatch.context() as patch:
            for name in names:
                patch.setenv(name, told[name])
            found = reader.get_parent_run_metadata()
        assert (found.job_namespace, found.job_name) == ("default", "risk.value_at_risk")
        assert (found.root_parent_job_name, found.run_id) == ("risk", told[NAMES[0]].rpartition("/")[2])
        assert found.root_parent_run_id == told[NAMES[1]].rpartition("/")[2]


def test_a_namespace_may_be_an_address(openlineage: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its slashes make the short form ambiguous; the JSON is not."""
    monkeypatch.setenv("AIRFLOW__OPENLINEAGE__NAMESPACE", "https://airflow.example/prod")
    told = parent_variables(operator(), asked(operator()), {})
    parent = json.loads(told["OPENLINEAGE_CONTEXT"])["parent"]

    assert told["OPENLINEAGE_PARENT_ID"].startswith("https://airflow.example/prod/risk.value_at_risk/")
    assert parent["job"] == {"namespace": "https://airflow.example/prod", "name": "risk.value_at_risk"}
    assert parent["root"]["job"] == {"namespace": "https://airflow.example/prod", "name": "risk"}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", ["mine/own/parent", ""])
def test_the_authors_own_value_wins(openlineage: None, name: str, value: str) -> None:
    """Whoever gives one of the names, even as an empty text, is given none of the others beside it."""
    assert parent_variables(operator(), asked(operator()), {name: value}) == {}


def test_nothing_where_it_is_switched_off(openlineage: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a transport, or disabled, there is no parent that anybody could find."""
    monkeypatch.delenv("AIRFLOW__OPENLINEAGE__TRANSPORT")

    assert parent_variables(operator(), asked(operator()), {}) == {}


def test_nothing_where_it_is_switched_off_for_the_task(openlineage: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenLineage may be told to pass over an operator: then it will not know the parent."""
    path = "airflow_provider_cml.operators.cml.CmlRunJobOperator"
    rules = [{"scope": {"operator": path}, "controls": {"emit": False}}]
    monkeypatch.setenv("AIRFLOW__OPENLINEAGE__EMISSION_POLICY", json.dumps(rules))
    if IS_INSTALLED and find_spec(f"{PROVIDER}.utils.emission_policy") is None:
        monkeypatch.setenv("AIRFLOW__OPENLINEAGE__DISABLED_FOR_OPERATORS", path)

    assert parent_variables(operator(), asked(operator()), {}) == {}


def test_nothing_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable, no warning, no error."""
    monkeypatch.setitem(sys.modules, f"{PROVIDER}.conf", None)

    assert parent_variables(operator(), asked(operator()), {}) == {}


def test_its_failure_is_a_line_in_the_log(openlineage: None, log: pytest.LogCaptureFixture) -> None:
    """A task instance it cannot read costs the lineage, and nothing else."""
    context = asked(operator())
    context["ti"] = SimpleNamespace(dag_id="risk", task_id="value_at_risk")

    assert parent_variables(operator(), context, {}) == {}
    assert "will not be joined to its DAG" in log.text


@pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "deferred"])
def test_the_run_is_given_them(
    openlineage: None, connections: Emulator, workspace: Workspace, job: Job, deferrable: bool
) -> None:
    """They reach the run's environment, beside the author's; and where lineage is off, no run has them."""
    job.life = Life(running=None if deferrable else 0.15)
    make = lambda: operator(job, deferrable=deferrable, environment={"DAY": "2026-11-20"})  # noqa: E731
    context = asked(make())
    run_task(make, context, asleep=lambda: end_active_run(workspace, job))
    (run,) = connections.ledger.executed()

    assert parent_variables(make(), context, {}).items() <= run.environment.items()
    assert run.environment["DAY"] == "2026-11-20"


def test_no_run_is_given_them_without_it(connections: Emulator, job: Job) -> None:
    """Nothing of OpenLineage's is in the environment where nobody switched it on."""
    run_task(lambda: operator(job), context_of(operator(job)))
    (run,) = connections.ledger.executed()

    assert not [name for name in run.environment if name.startswith("OPENLINEAGE")]


# ---------------------------------------------------------------- what it is told


def lineage_of(task: CmlRunJobOperator, *, failed: bool = False) -> Any:
    """What OpenLineage's extractor takes from a task that has ended."""
    if not IS_INSTALLED:
        ask = task.get_openlineage_facets_on_failure if failed else task.get_openlineage_facets_on_complete
        return ask(None)
    extractor = import_module(f"{PROVIDER}.extractors.base").DefaultExtractor(task)
    return extractor.extract_on_failure(None) if failed else extractor.extract_on_complete(None)


@pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "deferred"])
@pytest.mark.parametrize("ending", ["succeeded", "failed"])
def test_job_and_run_are_told(
    openlineage: None, connections: Emulator, workspace: Workspace, job: Job, deferrable: bool, ending: str
) -> None:
    """Workspace, project and job; run id, status, link and times; after success and failure, worker and triggerer."""
    job.life = Life(running=None if deferrable else 0.15, ending=ending)
    made: list[CmlRunJobOperator] = []

    def make() -> CmlRunJobOperator:
        made.append(operator(job, project="alice/risk-analysis", job="nightly VaR", deferrable=deferrable))
        return made[-1]

    def end() -> None:
        active = workspace.active_run(job)
        assert active is not None
        workspace.set_status(active, ending)

    context = asked(make())
    if ending == "failed":
        with pytest.raises(CmlRunFailedError):
            run_task(make, context, asleep=end)
    else:
        run_task(make, context, asleep=end)
    found = lineage_of(made[-1], failed=ending == "failed")
    (run,) = connections.ledger.executed()
    told = fields_of(found.run_facets["cml_run"])

    assert fields_of(found.job_facets["cml_job"]) == {
        "workspace": connections.url,
        "project": "alice/risk-analysis",
        "job": "nightly VaR",
        "projectId": job.project_id,
        "jobId": job.id,
    }
    assert told.keys() == {"runId", "status", "runUrl"} | TIMES
    assert (told["runId"], told["status"]) == (run.id, ending)
    assert told["runUrl"] == f"{connections.url}/alice/risk-analysis/jobs"
    assert told["finishedAt"] > told["createdAt"]
    assert (found.inputs, found.outputs) == ([], [])
    assert PASSWORD not in str(found)


@pytest.mark.parametrize("way", ["never executed", "through API v1", "no such job"])
def test_a_task_that_never_had_a_run_tells_its_job(
    openlineage: None, connections: Emulator, job: Job, way: str
) -> None:
    """By the names it was given; ids it does not know are left out, and a start through API v1 knows none."""
    conn_id = "cml_v1" if way == "through API v1" else "cml_default"
    names = {"project": "alice/risk-analysis", "job": "208"}
    task = operator(**names, cml_conn_id=conn_id, wait_for_completion=False)
    if way != "never executed":
        with nullcontext() if way == "through API v1" else pytest.raises(CmlRefusedFailError):
            task.execute(asked(task))
    found = lineage_of(task)

    assert fields_of(found.job_facets["cml_job"]) == {"workspace": None, **names}
    assert found.run_facets == {}


def test_what_is_told_can_be_sent(openlineage: None, connections: Emulator, job: Job) -> None:
    """OpenLineage's own serializer takes the facets."""
    task = operator(job)
    run_task(lambda: task, asked(task))
    found = lineage_of(task)
    facets = {**found.job_facets, **found.run_facets}
    if IS_INSTALLED:
        serde = import_module("openlineage.client.serde").Serde
        sent = {name: json.loads(serde.to_json(facet)) for name, facet in facets.items()}
        assert sent["cml_run"]["_producer"]
    else:
        sent = {name: json.loads(json.dumps(attr.asdict(facet))) for name, facet in facets.items()}

    assert (sent["cml_job"]["jobId"], sent["cml_run"]["status"]) == (job.id, "succeeded")
