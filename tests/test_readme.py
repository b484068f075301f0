"""The README: its tables against the code, its Python run, its figures those of the constants, its links there."""

from __future__ import annotations

import inspect
import itertools
import re
import shutil
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_cml import __version__, events
from airflow_provider_cml.api.conversations import history, posting, starting, usage, waiting
from airflow_provider_cml.api.run_key import RUN_KEY_VARIABLE
from airflow_provider_cml.connection import FORM
from airflow_provider_cml.emulator import Emulator, Life, load_workspace
from airflow_provider_cml.hooks import connection_test, task
from airflow_provider_cml.operators.cml import CmlRunJobOperator
from airflow_provider_cml.operators.execution import ON_BUSY
from airflow_provider_cml.retry_policy import UNANSWERED_DELAY
from airflow_provider_cml.sensors.cml import CmlJobRunSensor
from airflow_provider_cml.triggers import watcher
from airflow_provider_cml.triggers.event import CmlJobRunEventTrigger
from tests.airflow_side import connections, context_of, log, quick, run_task, set_connection

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_cml.emulator import Project, Workspace

__all__ = ["connections", "log", "quick"]

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"(?ms)^```python\n(.*?)^```", README)
FILES = [text for text in BLOCKS if re.match(r"# \w+\.py\n", text)]
"""Those that say which file they are: they are shown by tests/test_testing.py."""
PYTHON = [text for text in BLOCKS if text not in FILES]
LITERAL = "[operators] default_deferrable"
"""How the README names the one default that Airflow's configuration decides."""


def table(head: str) -> list[list[str]]:
    """The cells of the table whose first column is called `head`."""
    lines = README.partition(f"\n| {head} |")[2].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]


def section(title: str) -> str:
    """The text under a heading."""
    found = README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    assert found, title
    return found


# ---------------------------------------------------------------- tables


@pytest.mark.parametrize("kind", [CmlRunJobOperator, CmlJobRunSensor, CmlJobRunEventTrigger])
def test_parameters(kind: Any) -> None:
    """Names, order, defaults and which are templates: as in the constructor, none missing."""
    told = [
        (name.strip("`"), default, "Templated" in meaning) for name, default, meaning in table(f"`{kind.__name__}`")
    ]
    parameters = [
        parameter
        for parameter in inspect.signature(kind.__init__).parameters.values()
        if parameter.name not in {"self", "kwargs"}
    ]
    expected = []
    for parameter in parameters:
        default = "required" if parameter.default is parameter.empty else repr(parameter.default).replace("'", '"')
        default = LITERAL if parameter.name == "deferrable" else default
        is_template = parameter.name in getattr(kind, "template_fields", ())
        expected.append((parameter.name, default if default == "required" else f"`{default}`", is_template))

    assert expected == told


def test_connection_fields() -> None:
    """Every field of Extra, in the form's order, with its default."""
    told = {name.removeprefix("Extra ").strip("`"): default for name, default, _ in table("field") if "Extra" in name}
    defaults = {name: field["schema"].get("default") for name, field in FORM.items()}
    shown = {
        name: "empty" if value is None else f"`{str(value).lower() if isinstance(value, bool) else value}`"
        for name, value in defaults.items()
    }

    assert list(shown.items()) == list(told.items())


def test_words_of_on_busy() -> None:
    """The table names each of them."""
    (meaning,) = [cells[2] for cells in table("`CmlRunJobOperator`") if cells[0] == "`on_busy`"]

    assert list(ON_BUSY) == re.findall(r"`(\w+)`", meaning)


def test_times_of_a_run() -> None:
    """The README names the XComs of a run's times."""
    named = re.findall(r"`(\w+_at)`", section("Run a job"))

    assert list(events._TIMES) == named


# ---------------------------------------------------------------- figures

MARGIN = timedelta(minutes=15)


@pytest.mark.parametrize(
    ("where", "words", "figure"),
    [
        ("Connect", "gives up after 8 seconds", connection_test.SECONDS == 8),
        ("Run a job", "in a status nobody knows, for half an hour", waiting.UNKNOWN_BOUND == 1800),
        ("Run a job", "could not be asked for ten minutes", waiting.POLL_PATIENCE == 600),
        ("Run a job", "no workspace at the address for half a minute", history.UNREACHABLE_PATIENCE == 30),
        ("Run a job", "5xx and timeouts for ten minutes", history.OUTAGE_PATIENCE == 600),
        ("Run a job", "an active run explains, for ten minutes", posting.CONFLICT_PATIENCE == 600),
        ("Run a job", "waits 90 seconds before its first start", starting.SETTLE == 90),
        (
            "Limits",
            "a margin of 15 minutes (a day",
            (history.AGE_MARGIN, history.CLOCK_MARGIN) == (MARGIN, 96 * MARGIN),
        ),
        ("Run a job", "waits five minutes before a", timedelta(minutes=5) == UNANSWERED_DELAY),
        ("Start a DAG when a run ends", "after ten minutes at the latest", watcher.LONGEST_GAP == 600),
        ("Backfills", "one request in each gap (5 s", starting.BUSY_GAP == 5),
        ("Why did it fail", "three seconds at most", usage.READ_TIMEOUT == 1.5),
        ("Cancel and time out", "within 3 s", task.KILL_SECONDS == 3),
        ("API v1", "15 seconds", posting.REFUSAL_GAPS[0] == 15),
        ("API v1", "gaps that grow to five minutes", posting.REFUSAL_GAPS[-1] == 300),
        ("What you can rely on", "180 seconds after it was sent", posting.GRACE == 180),
        ("What you can rely on", "lie at most 5 seconds", starting.FRESH == 5),
        ("What you can rely on", "ends within 3 seconds", task.KILL_SECONDS == 3),
        ("What you can rely on", "outages of up to ten minutes", waiting.POLL_PATIENCE == 600),
        ("Limits", "acts on a request within 180 seconds", posting.GRACE == 180),
        ("Limits", "lists a new run within 90", starting.SETTLE == 90),
    ],
)
def test_figures(where: str, words: str, figure: bool) -> None:
    """A number the README gives is the one in the code."""
    assert words in " ".join(section(where).split())
    assert figure


def test_variable_of_the_key() -> None:
    """The one variable every run has is called what it is."""
    assert f"`{RUN_KEY_VARIABLE}`" in section("Run a job")


# ---------------------------------------------------------------- links and names


def test_links_lead_somewhere() -> None:
    """Files are there, and headings."""
    headings = {re.sub(r"[^\w -]", "", head).lower().replace(" ", "-") for head in re.findall(r"(?m)^#+ (.*)", README)}
    for target in re.findall(r"\]\(([^)]+)\)", README):
        if target.startswith("#"):
            assert target[1:] in headings
        elif "://" not in target:
            assert (ROOT / target).exists()


def test_no_line_of_a_paragraph_begins_like_something_else() -> None:
    """Markdown takes a line that begins with `>`, `#`, `+` or `-` for a quote, a heading or a list."""
    lines = re.sub(r"(?ms)^```.*?^```", "", README).splitlines()
    for before, line in itertools.pairwise(lines):
        mark = re.match(r"\s*([>#+-]|\d+\.) ", line)
        if mark and before.strip():
            assert re.match(r"\s*([>#+-]|\d+\.) |  ", before), line


def test_targets_are_in_the_makefile() -> None:
    """Every `make ...` of the README is there."""
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text()))

    assert set(re.findall(r"`?\bmake ([a-z-]+)\b(?=`|  |\n)", README)) <= targets


def test_names_in_backticks_are_there() -> None:
    """A dotted name of the package can be imported."""
    for name in set(re.findall(r"`(airflow_provider_cml(?:\.\w+)*)`", README)):
        assert import_module(name)


# ---------------------------------------------------------------- Python


@pytest.fixture
def readme(connections: Emulator, workspace: Workspace, project: Project) -> Iterator[dict[str, Any]]:
    """All Python of the README, run from top to bottom beside the workspace it speaks of; the names it leaves."""
    workspace.add_job(project, "value at risk", number=208, life=Life(running=3.0))
    is_2 = find_spec("airflow.sdk") is None
    make_dag = import_module("airflow.models" if is_2 else "airflow.sdk").DAG
    asset = import_module("airflow.datasets").Dataset if is_2 else import_module("airflow.sdk").Asset
    names: dict[str, Any] = {"Asset": asset, "print": lambda *_: None}
    for number, block in enumerate(PYTHON):
        if is_2 and "AssetWatcher" in block:
            continue  # 3.0+, as the README says
        text = block
        if is_2:
            # The one line that differs; it tells so itself.
            text = re.sub(r"(?m)^from airflow\.sdk import DAG  # Airflow 2\.11: (.*)$", r"\1", text)
        with nullcontext() if "with DAG(" in text else make_dag(f"readme_{number}", schedule=None):
            exec(compile(text, "README.md", "exec"), names)
    yield names
    names["hook"].close()


def test_python_runs(readme: dict[str, Any]) -> None:
    """Each block can be pasted: nothing it names is missing."""
    assert {"CmlRunJobOperator", "CmlJobRunSensor", "CmlHook", "start", "wait", "usage"} <= set(readme)
    assert readme["start"].downstream_task_ids == {"wait"}


def test_first_task_runs(readme: dict[str, Any], connections: Emulator) -> None:
    """The DAG of the first screen starts a run, deferred, with the date in its environment, and ends green."""
    (first,) = readme["dag"].tasks
    ran = run_task(lambda: first, context_of(first) | {"ds": "2026-11-20"})
    (run,) = connections.ledger.executed()

    assert (ran.value, run.environment["END_DATE"]) == (run.id, "2026-11-20")
    assert len(ran.deferrals) == 1


def test_first_task_runs_in_the_example_workspace(
    readme: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under *Try it without CML*: the same DAG with the job `hello`, whose script really runs."""
    assert 'job="hello"' in section("Try it without CML")
    folder = shutil.copytree(ROOT / "example_dags" / "workspace", tmp_path / "workspace")
    (first,) = readme["dag"].tasks
    first.job = "hello"
    with Emulator(load_workspace(folder)) as cml:
        set_connection(monkeypatch, host=cml.url, password=cml.api_key)
        run_task(lambda: first, context_of(first) | {"ds": "2026-01-01"})
        (run,) = cml.ledger.executed()

    assert run.status == "ENGINE_SUCCEEDED"
    assert "This run is for 2026-01-01." in Path(run.output).read_text()


def test_recipe_for_child_jobs(
    readme: dict[str, Any],
    connections: Emulator,
    workspace: Workspace,
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The sensor waits for the run that CML starts when the parent's run has succeeded, not for an earlier one."""
    (above,) = workspace.jobs_of(project)
    below = workspace.add_job(project, "child", parent=above, life=Life(running=0.2))
    workspace.add_run(below, "failed", created_at=datetime(2026, 1, 1, tzinfo=UTC).timestamp())
    parent, child = readme["parent"], readme["child"]
    child.poke_interval = 0.05
    parents, own = context_of(parent), context_of(child)
    monkeypatch.setattr(own["ti"], "xcom_pull", lambda *, task_ids, key: parents["ti"].pushed[key], raising=False)

    run_task(lambda: parent, parents)
    found = run_task(lambda: child, own).value

    assert child.upstream_task_ids == {"parent"}
    assert connections.ledger.executed(below.id)[-1].id == found


def test_blocks_that_are_files_compile() -> None:
    """What is a file of its own is shown by the test the README names."""
    assert FILES
    for text in FILES:
        compile(text, "README.md", "exec")


# ---------------------------------------------------------------- changelog


def test_changelog_is_of_this_version() -> None:
    """The newest entry is the version the package says it is."""
    newest = re.search(r"(?m)^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text())

    assert newest is not None
    assert __version__ == newest[1]
