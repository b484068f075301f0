"""What Airflow reads about this provider, on the Airflow that is installed; and what reading a DAG file costs."""

from __future__ import annotations

import json
import os
import pkgutil
import statistics
import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema  # type: ignore[import-untyped]
import pytest

import airflow_provider_cml
from airflow_provider_cml import get_provider_info
from airflow_provider_cml.connection import FIELD_BEHAVIOUR, FORM, HOOK_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(airflow_provider_cml.__file__).parents[1]
PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
PACKAGE = "airflow_provider_cml"
MODULES = sorted(found.name for found in pkgutil.walk_packages(airflow_provider_cml.__path__, f"{PACKAGE}."))
AIRFLOW = Path(str(import_module("airflow").__file__)).parent

# Airflow 2.11 warns of a setting of its own, OpenTelemetry of Python 3.11; see pyproject.toml.
NOT_OURS = ("ignore:Timer and timing metrics publish in seconds", "ignore:SelectableGroups dict interface")
# What moved to airflow.sdk, Airflow 3 calls deprecated by a FutureWarning of its own (DeprecatedImportWarning).
STRICT = [part for each in ("error::DeprecationWarning", "error::FutureWarning", *NOT_OURS) for part in ("-W", each)]


@pytest.fixture
def in_new_process(tmp_path: Path) -> Callable[..., Any]:
    """Runs Python source in a fresh interpreter, on a path where the package is installed; the JSON it prints last."""
    path = [str(ROOT)]
    try:
        distribution(PROJECT["name"])
    except PackageNotFoundError:
        installed = tmp_path / "installed"
        info = installed / f"{PROJECT['name'].replace('-', '_')}-{airflow_provider_cml.__version__}.dist-info"
        info.mkdir(parents=True)
        version = airflow_provider_cml.__version__
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PROJECT['name']}\nVersion: {version}\n")
        (group, names), *_ = PROJECT["entry-points"].items()
        points = "".join(f"{name} = {value}\n" for name, value in names.items())
        (info / "entry_points.txt").write_text(f"[{group}]\n{points}")
        path.append(str(installed))

    def run(source: str, *options: str) -> Any:
        done = subprocess.run(
            [sys.executable, *options, "-c", source],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path), "AIRFLOW__CORE__UNIT_TEST_MODE": "False"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


# ---------------------------------------------------------------- metadata


def test_info_is_what_airflows_schema_wants() -> None:
    """Airflow validates the metadata of every provider, and one that fails breaks all of them."""
    schema = json.loads((AIRFLOW / "provider_info.schema.json").read_text())

    jsonschema.validate(get_provider_info(), schema)


def test_form_is_what_airflows_schema_wants() -> None:
    """The shape of a form is published for 3.2 and newer only, in the schema of provider.yaml."""
    schema = json.loads((AIRFLOW / "provider.yaml.schema.json").read_text())
    entry = schema["properties"]["connection-types"]["items"]
    if "conn-fields" not in entry["properties"]:
        pytest.skip("this Airflow reads the form from the hook")
    (connection_type,) = get_provider_info()["connection-types"]

    jsonschema.validate(connection_type, entry)


def test_behaviour_is_what_airflows_schema_wants() -> None:
    """2.11 to 3.1 validate what the hook says of the standard fields, and drop it if it is wrong."""
    schema = AIRFLOW / "customized_form_field_behaviours.schema.json"
    hook = import_module("airflow_provider_cml.hooks.cml").CmlHook

    jsonschema.validate(hook.get_ui_field_behaviour(), json.loads(schema.read_text()))


def test_package_name_is_that_of_the_distribution() -> None:
    """Any other name makes Airflow's discovery of all providers fail."""
    assert get_provider_info()["package-name"] == PROJECT["name"]
    assert get_provider_info()["versions"] == [airflow_provider_cml.__version__]
    assert PROJECT["entry-points"] == {
        "apache_airflow_provider": {"provider_info": "airflow_provider_cml:get_provider_info"}
    }


def dotted_names(info: object) -> Iterator[str]:
    """Everything in the metadata that names something of this package."""
    if isinstance(info, dict):
        for value in info.values():
            yield from dotted_names(value)
    elif isinstance(info, list):
        for value in info:
            yield from dotted_names(value)
    elif isinstance(info, str) and info.startswith("airflow_provider_cml."):
        yield info


def test_every_name_in_it_is_there() -> None:
    """Modules and classes that the metadata names can be imported."""
    names = set(dotted_names(get_provider_info()))
    for name in names:
        if name not in MODULES:
            module, _, attribute = name.rpartition(".")
            assert hasattr(import_module(module), attribute), name

    assert {f"airflow_provider_cml.{kind}.cml" for kind in ("hooks", "operators", "sensors", "triggers")} <= names


def test_hook_and_metadata_agree() -> None:
    """What Airflow finds out about the hook by either way is the same."""
    (entry,) = get_provider_info()["connection-types"]
    hook = import_module("airflow_provider_cml.hooks.cml").CmlHook

    assert entry["hook-class-name"] == f"{hook.__module__}.{hook.__qualname__}"
    assert (entry["connection-type"], entry["hook-name"]) == (hook.conn_type, hook.hook_name)
    assert hook.default_conn_name == "cml_default"
    assert hook.conn_name_attr == "cml_conn_id"


def test_info_imports_nothing_heavy(in_new_process: Callable[..., Any]) -> None:
    """Airflow asks for the metadata in every process it starts: no HTTP library comes with it, nor Airflow itself."""
    source = f"import json, sys, {PACKAGE}; {PACKAGE}.get_provider_info(); print(json.dumps(sorted(sys.modules)))"
    loaded = in_new_process(source)

    assert not {"airflow", "requests", "aiohttp", "tenacity", "jinja2"} & set(loaded)


@pytest.mark.parametrize("area", ["", "api", "emulator"], ids=["house", "api", "emulator"])
def test_modules_import_without_a_warning(in_new_process: Callable[..., Any], area: str) -> None:
    """Every module of the package can be imported, and takes nothing from a place this Airflow calls deprecated."""
    areas = [name.split(".")[1] if name.split(".")[1] in {"api", "emulator"} else "" for name in MODULES]
    names = [name for name, found in zip(MODULES, areas, strict=True) if found == area and "__main__" not in name]
    source = f"import importlib, json\nprint(json.dumps([importlib.import_module(name).__name__ for name in {names}]))"

    assert in_new_process(source, *STRICT) == names


SEEN = """
import json
from airflow.providers_manager import ProvidersManager
manager = ProvidersManager()
manager.initialize_providers_hooks()
hook = manager.hooks.get("cml")
widgets = {name: type(widget.field).__name__ for name, widget in manager.connection_form_widgets.items()
           if name.startswith("extra__cml__")}
print(json.dumps({
    "provider": "airflow-provider-cml" in manager.providers,
    "hook": hook and [hook.hook_class_name, hook.hook_name, hook.package_name],
    "links": [link for link in manager.extra_links_class_names if "cml" in link],
    "fields": [name.removeprefix("extra__cml__") for name in widgets],
    "behaviour": manager.field_behaviours.get("cml"),
    "settings": [config["cml"]["options"] for name, config in manager.provider_configs if name.endswith("-cml")],
}))
"""


def test_airflow_sees_it_all(in_new_process: Callable[..., Any]) -> None:
    """Airflow's own manager of providers finds provider, hook, form, link and setting."""
    seen = in_new_process(SEEN)

    assert seen["provider"]
    assert seen["hook"] == ["airflow_provider_cml.hooks.cml.CmlHook", HOOK_NAME, PROJECT["name"]]
    assert seen["links"] == ["airflow_provider_cml.links.cml.CmlJobRunLink"]
    assert [list(options) for options in seen["settings"]] == [["deployment"]]
    if find_spec("airflow.sdk") is None:  # 2.11: 3.x shows what test_form_as_the_browser_gets_it looks at
        assert seen["fields"] == list(FORM)
        assert seen["behaviour"]["relabeling"] == FIELD_BEHAVIOUR["relabeling"]


FORM_OF_THE_UI = """
import json
from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService
(meta,) = [meta for meta in HookMetaService.hook_meta_data() if meta.connection_type == "cml"]
print(meta.model_dump_json())
"""
FORM_OF_2 = """
import json
from airflow.www.app import create_app
from airflow.www.forms import create_connection_form_class
with create_app(testing=True).test_request_context():
    form = create_connection_form_class()()
    print(json.dumps({
        "types": dict(form.conn_type.choices),
        "fields": {field.name.removeprefix("extra__cml__"): [str(field.label.text), field.default,
                   str(field.description), type(field).__name__, [str(v.values_formatter(v.values))
                   for v in field.validators if hasattr(v, "values_formatter")]]
                   for field in form if field.name.startswith("extra__cml__")},
    }))
"""


def test_form_as_the_browser_gets_it(in_new_process: Callable[..., Any]) -> None:
    """Airflow 3 shows every field with label, hint, choices and default, and each standard field as it is declared."""
    if find_spec("airflow.sdk") is None:
        pytest.skip("2.11 renders the form itself; see the next test")
    meta = in_new_process(FORM_OF_THE_UI)

    assert meta["hook_name"] == HOOK_NAME
    if find_spec("airflow.sdk.bases.hook") is None and find_spec("wtforms") is None:
        assert not meta["extra_fields"], "3.0 asks the hook for fields only where wtforms is installed"
        return
    assert list(meta["extra_fields"]) == list(FORM)
    for name, field in FORM.items():
        shown = meta["extra_fields"][name]
        assert shown["schema"]["title"] == field["label"]
        assert shown["description"] == field["description"]
        assert shown["value"] == field["schema"].get("default")
        for what in ("enum", "format"):
            assert shown["schema"].get(what) == field["schema"].get(what)
    for name, key in {"schema": "url_schema"}.items() | {
        (name, name) for name in ("host", "port", "login", "password", "description")
    }:
        shown = meta["standard_fields"][key] or {"hidden": False, "title": None, "placeholder": None}
        assert shown == {
            "hidden": name in FIELD_BEHAVIOUR["hidden-fields"],
            "title": FIELD_BEHAVIOUR["relabeling"].get(name),
            "placeholder": FIELD_BEHAVIOUR["placeholders"].get(name),
        }


def test_form_as_airflow_2_builds_it(in_new_process: Callable[..., Any]) -> None:
    """2.11 has the type in its list, and every field with label, hint, default and choices in its form."""
    if find_spec("airflow.sdk") is not None:
        pytest.skip("3.x gives the form to the browser; see the test before")
    form = in_new_process(FORM_OF_2)

    assert form["types"]["cml"] == HOOK_NAME
    assert list(form["fields"]) == list(FORM)
    for name, field in FORM.items():
        label, default, hint, kind, choices = form["fields"][name]
        assert (label, default, hint) == (field["label"], field["schema"].get("default"), field["description"])
        assert (kind == "PasswordField") == (field["schema"].get("format") == "password")
        assert choices == ([", ".join(field["schema"]["enum"])] if "enum" in field["schema"] else [])


# ---------------------------------------------------------------- the price of a DAG file

PARSE = """
import json, socket, sys
try:
    import airflow.sdk as airflow_side
    from airflow.sdk import DAG, BaseOperator, BaseSensorOperator, BaseHook
except ImportError:
    from airflow.models.dag import DAG
    from airflow.models.baseoperator import BaseOperator
    from airflow.sensors.base import BaseSensorOperator
    try:
        from airflow.sdk import BaseOperator, BaseSensorOperator, DAG
    except ImportError:
        pass
    from airflow.hooks.base import BaseHook
before = set(sys.modules)
from airflow_provider_cml.operators.cml import CmlRunJobOperator
from airflow_provider_cml.sensors.cml import CmlJobRunSensor
loaded = sorted(set(sys.modules) - before)

def refuse(*arguments, **named):
    raise AssertionError(f"reached out while a DAG was made: {arguments} {named}")

socket.socket.connect = socket.socket.connect_ex = socket.create_connection = socket.getaddrinfo = refuse
BaseHook.get_connection = BaseHook.aget_connection = BaseHook.get_hook = refuse
with DAG("many", schedule=None) as dag:
    for number in range(250):
        start = CmlRunJobOperator(task_id=f"run_{number}", project="alice/risk", job="{{ params.job }}",
            environment={"A": number}, private_environment={"B": "{{ conn.x.password }}"}, deferrable=bool(number % 2))
        start >> CmlJobRunSensor(task_id=f"see_{number}", project="alice/risk", job="nightly", run_id=start.output)
print(json.dumps({"tasks": len(dag.tasks), "loaded": loaded, "all": sorted(set(sys.modules) - before)}))
"""


def test_five_hundred_tasks_reach_out_to_nothing(in_new_process: Callable[..., Any]) -> None:
    """A DAG of 500 operators and sensors is made without a socket or a connection, or loading an HTTP library."""
    parsed = in_new_process(PARSE)
    roots = {name.partition(".")[0] for name in parsed["all"]}

    assert parsed["tasks"] == 500
    assert not roots & {"requests", "aiohttp", "urllib3", "tenacity", "yarl"}
    assert not [name for name in parsed["all"] if name.startswith("airflow_provider_cml.emulator")]


ROUNDS = 5
OURS = "import airflow_provider_cml.operators.cml, airflow_provider_cml.sensors.cml"
THEIRS = "import airflow.providers.dbt.cloud.operators.dbt"


def seconds_of(source: str, before: str = "") -> float:
    """The processor time `source` takes in a fresh interpreter that has done `before`."""
    lines = ["import time", before, "begin = time.process_time()", source, "print(time.process_time() - begin)"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], env=environment, capture_output=True, text=True, check=True
    )
    return float(done.stdout.splitlines()[-1])


@pytest.mark.skipif(
    find_spec("airflow.providers") is None or find_spec("airflow.sdk") is None,
    reason="measured on Airflow 3, beside another provider",
)
def test_import_costs_a_tenth_of_a_peers() -> None:
    """Over bare Airflow our operators and sensors add less than a tenth of what those for dbt Cloud add."""
    try:
        distribution("apache-airflow-providers-dbt-cloud")
    except PackageNotFoundError:
        pytest.skip("apache-airflow-providers-dbt-cloud, the measure, is not installed")
    rounds = [[seconds_of(source, before="import airflow.sdk") for source in (OURS, THEIRS)] for _ in range(ROUNDS)]
    ours, theirs = (statistics.median(measured) for measured in zip(*rounds, strict=True))
    print(f"over bare airflow.sdk: ours {ours * 1000:.1f} ms, dbt Cloud's {theirs * 1000:.1f} ms of CPU")

    assert ours < theirs / 10


def test_time_is_taken_of_what_is_meant() -> None:
    """The measure sees a slow import, and not what came before it."""
    slow = "sum(range(10**7))"

    assert seconds_of(slow) > 10 * seconds_of("pass", before=slow)
