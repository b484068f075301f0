"""workspace.toml."""

from __future__ import annotations

import pytest

from airflow_provider_cml.emulator import WorkspaceFileError, load_workspace

FULL = """
[workspace]
user = "bob"
scheduling = 0
stopping = 2.5
busy = 200

[[users]]
username = "bob"
name = "Bob"
email = "bob@bank.example"
password = "secret"

[[projects]]
owner = "alice"
name = "Risk Analysis"
environment = { A = "1" }
visibility = "public"
member = false

[[projects.jobs]]
number = 208
name = "nightly VaR"
script = "job.py"
arguments = "--fast"
environment = { B = "2" }
timeout = 60
cpu = 2
memory = 0.5
retry_enabled = true
max_retry = 3

[[projects.jobs]]
number = 7
name = "report"
parent = 208
life = { running = 5, ending = "failed" }

[[projects]]
owner = "team"
name = "Other"
slug = "other-one"
"""

TWICE = 'owner = "alice"\nname = "risk analysis"'


@pytest.fixture
def load(tmp_path):
    folder = tmp_path / "alice" / "risk-analysis"
    folder.mkdir(parents=True)
    (folder / "job.py").write_text("")

    def read(text):
        (tmp_path / "workspace.toml").write_text(text)
        return load_workspace(tmp_path)

    return read


def test_everything_that_is_declared_is_there(load):
    """Users, projects, jobs, their order and their relations."""
    workspace = load(FULL)
    risk, other = workspace.projects.values()
    var, report = workspace.jobs_of(risk)

    assert ("bob", "Bob", "secret") == (workspace.user.username, workspace.user.name, workspace.user.password)
    assert (0, 0.3, 2.5, 200) == (
        workspace.engine.scheduling,
        workspace.engine.starting,
        workspace.engine.stopping,
        workspace.busy,
    )
    assert ("risk-analysis", "public", False, {"A": "1"}) == (
        risk.slug,
        risk.visibility,
        risk.member,
        risk.environment,
    )
    assert ("team", "other-one") == (other.owner.username, other.slug)
    assert (208, "--fast", {"B": "2"}, 60, 2, 0.5, True, 3) == (
        var.number,
        var.arguments,
        var.environment,
        var.timeout,
        var.cpu,
        var.memory,
        var.retry_enabled,
        var.max_retry,
    )
    assert (var.id, 5, "failed") == (report.parent_id, report.life.running, report.life.ending)


def test_ids_stay_from_one_reading_to_the_next(load):
    """They are derived from owner, slug and number."""
    assert list(load(FULL).jobs) == list(load(FULL).jobs)


def test_a_missing_file_says_what_to_do(tmp_path):
    """With the smallest file that would do."""
    with pytest.raises(WorkspaceFileError, match=r"workspace\.toml does not exist") as caught:
        load_workspace(tmp_path)

    assert "[[projects.jobs]]" in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "Bob"', "name = 1", r"users\[0\]\.name: must be text"),
        ('username = "bob"', "", r"users\[0\]\.username: is missing"),
        ('username = "bob"', 'username = "../bob"', r"users\[0\]\.username: letters"),
        ('owner = "alice"', 'owner = ".."', r"projects\[0\]\.owner: letters"),
        ('owner = "alice"', 'owners = "alice"', r"projects\[0\]\.owners: no such field"),
        ('visibility = "public"', 'visibility = "secret"', r"projects\[0\]\.visibility"),
        ('{ A = "1" }', "{ A = 1 }", r"projects\[0\]\.environment\.A: must be text"),
        ('slug = "other-one"', 'slug = "a/b"', r"projects\[1\]\.slug: letters"),
        ('owner = "team"\nname = "Other"\nslug = "other-one"', TWICE, r"projects\[1\]: .*already"),
        ('script = "job.py"', 'script = "jop.py"', r"projects\[0\]\.jobs\[0\]\.script: 'jop\.py' is no file"),
        ('script = "job.py"', "", r"projects\[0\]\.jobs\[0\]\.script: a job needs a script, or a life"),
        ("number = 7", "number = 208", r"projects\[0\]\.jobs\[1\]\.number: .*208"),
        ("number = 7", 'number = "7"', r"projects\[0\]\.jobs\[1\]\.number: must be a whole number"),
        ("parent = 208", "parent = 7", r"projects\[0\]\.jobs\[1\]\.parent: .*number 7"),
        ("timeout = 60", "timeout = -1", r"projects\[0\]\.jobs\[0\]\.timeout: must not be negative"),
        ("timeout = 60", "timeout = true", r"projects\[0\]\.jobs\[0\]\.timeout: must be a whole number"),
        ("memory = 0.5", 'memory = "1"', r"projects\[0\]\.jobs\[0\]\.memory: must be a number"),
        ("running = 5", "runing = 5", r"projects\[0\]\.jobs\[1\]\.life\.runing: no such field"),
        ('user = "bob"', 'user = "eve"', r"workspace\.user: there is no user or owner 'eve'"),
        ("busy = 200", "busy = 500", r"workspace\.busy: "),
        ("[[users]]", "[[user]]", r"user: no such field"),
        ("[[users]]", "[[users", r"line"),
    ],
)
def test_mistakes_are_named_by_their_field(load, old, new, message):
    """And by the file."""
    assert old in FULL
    with pytest.raises(WorkspaceFileError, match=message) as caught:
        load(FULL.replace(old, new, 1))

    assert "workspace.toml: " in str(caught.value)


def test_a_workspace_without_projects_is_a_mistake(load):
    """There is nothing to try in it."""
    with pytest.raises(WorkspaceFileError, match="projects: is missing"):
        load("")
