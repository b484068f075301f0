"""The person at Airflow's user interface: adds a connection, tests it, starts a DAG, and follows its button to CML.

Every step leaves a picture in .airflow/screenshots.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_provider_cml.connection import FIELD_BEHAVIOUR, FORM, HOOK_NAME
from tests.airflow.conftest import UNTIL_TOLD
from tests.airflow.deployment import DagRun
from tests.airflow.leaks import files_with

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Page

    from airflow_provider_cml.emulator import Emulator, Job
    from tests.airflow.deployment import Deployment
    from tests.airflow.leaks import Secrets

pytestmark = pytest.mark.airflow

PICTURES = Path(__file__).parents[2] / ".airflow" / "screenshots"
EXAMPLE = "example_cml_run_job"
PATIENCE = 60_000
"""Milliseconds the slowest page may take on a busy machine."""
WRONG = "a-key-that-never-was-0123456789"
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser_page(airflow: Deployment) -> Iterator[Page]:
    """A page of a browser with a profile of its own."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None and not os.environ.get("CI"):
        pytest.skip("there is no chromium")
    assert chromium is not None, "there is no chromium: install the Debian package of that name"
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, headless=True, args=OPTIONS)
        page = browser.new_page(viewport={"width": 1400, "height": 1300}, base_url=airflow.address)
        page.set_default_timeout(PATIENCE)
        yield page
        browser.close()


@pytest.fixture
def page(browser_page: Page, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page, with a picture of how the test left it."""
    yield browser_page
    picture(browser_page, request.node.name)


def picture(page: Page, name: str) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}.png")


def add_connection(page: Page, name: str, host: str, key: str, port: str = "") -> None:
    """Through the form, as the README says."""
    page.goto("/connections")
    page.get_by_role("button", name="Add Connection").click()
    form = page.get_by_role("dialog")
    form.get_by_label("Connection ID").fill(name)
    form.get_by_role("combobox").fill(HOOK_NAME)
    page.get_by_role("option", name=HOOK_NAME, exact=True).click()
    form.get_by_label(FIELD_BEHAVIOUR["relabeling"]["host"], exact=True).fill(host)
    form.get_by_label("Port", exact=True).fill(port)
    form.get_by_label(FIELD_BEHAVIOUR["relabeling"]["password"], exact=True).fill(key)
    picture(page, f"{name}-form")
    form.get_by_role("button", name="Save").click()
    form.wait_for(state="hidden")


def press_test(page: Page, name: str) -> str:
    """What Airflow shows after its Test button was pressed."""
    page.get_by_role("row", name=name).get_by_role("button", name="Test Connection").click()
    verdict = page.get_by_role("status").filter(has_text="Test Connection")
    verdict.wait_for()
    page.wait_for_timeout(500)  # until it has moved in
    picture(page, f"{name}-verdict")
    return verdict.inner_text()


def test_form_shows_every_field(page: Page) -> None:
    """Labels, hints, choices and defaults are those declared; what CML has no use for is hidden."""
    page.goto("/connections")
    page.get_by_role("button", name="Add Connection").click()
    form = page.get_by_role("dialog")
    form.get_by_role("combobox").fill(HOOK_NAME)
    page.get_by_role("option", name=HOOK_NAME, exact=True).click()
    for field, text in FIELD_BEHAVIOUR["placeholders"].items():
        assert form.locator(f"[name={field}]").get_attribute("placeholder") == text
    labels = form.locator("label").all_inner_texts()
    assert [label for label in FIELD_BEHAVIOUR["relabeling"].values() if label not in labels] == []
    assert form.locator("[name=schema]").count() == 0
    assert form.locator("[name=password]").get_attribute("type") == "password"

    form.get_by_role("button", name="Extra Fields", exact=True).click()
    extra = {name: form.locator(f"[name=element_{name}]") for name in FORM}
    extra["proxy_password"].wait_for()
    shown = form.inner_text()
    for field in FORM.values():
        assert field["label"] in shown
        assert field["description"] in shown
    assert extra["proxy_password"].get_attribute("type") == "password"
    assert extra["api_version"].input_value() == "v2"
    assert extra["timeout"].input_value() == "60"
    assert extra["verify_ssl"].is_checked()
    form.get_by_role("combobox").nth(1).click()
    assert page.get_by_role("option").all_inner_texts() == FORM["api_version"]["schema"]["enum"]


def test_good_key_is_green(page: Page, airflow: Deployment, cml: Emulator, secrets: Secrets) -> None:
    """A connection added through the form, as the README says, tests green, and its key is in no file of Airflow."""
    port = str(cml.port)
    add_connection(page, "clicked_good", f"http://127.0.0.1:{port}", secrets.api_key, port)
    said = press_test(page, "clicked_good")

    assert said.splitlines() == ["Test Connection Successful", f"Connected to API v2 as {cml.workspace.user.username}."]
    assert airflow.get("connections/clicked_good")["password"] == "***"
    assert files_with(secrets.api_key.encode(), airflow.home.parent) == []
    assert files_with(b"clicked_good", airflow.home.parent) != []


def test_bad_key_is_red(page: Page, airflow: Deployment, cml: Emulator) -> None:
    """A key CML does not take is called that, with the way out; the key itself is shown and kept nowhere."""
    port = str(cml.port)
    add_connection(page, "clicked_bad", f"http://127.0.0.1:{port}", WRONG, port)
    said = press_test(page, "clicked_bad")

    assert said.startswith("Test Connection Failed\nCML does not take the key.")
    assert "User Settings > API Keys" in said
    assert WRONG not in page.content()
    assert files_with(WRONG.encode(), airflow.home.parent) == []


def test_connection_without_a_port(page: Page, cml: Emulator, secrets: Secrets) -> None:
    """Airflow 3.3 asks nobody: it takes the empty port for 0, and 0 for another host. The README says so."""
    add_connection(page, "clicked_portless", cml.url, secrets.api_key)
    said = press_test(page, "clicked_portless")

    assert said.splitlines() == ["Test Connection Failed", "Bad Request"]


def test_example_is_started_and_followed(
    page: Page, airflow: Deployment, cml: Emulator, declare: Callable[..., Job]
) -> None:
    """The form behind Trigger gives the run its days, and the task's button leads to CML while the run is active."""
    job = declare("value at risk", UNTIL_TOLD)
    airflow.wait("the example", lambda: airflow.has_dags({EXAMPLE}))
    page.goto(f"/dags/{EXAMPLE}")
    page.get_by_role("button", name="Trigger").first.click()
    form = page.get_by_role("dialog")
    assert "First day" in form.inner_text()
    form.locator("[name=element_start_date]").fill("2020-02-03")
    picture(page, "trigger-form")
    form.get_by_role("button", name="Trigger").click()
    airflow.wait("a run", lambda: bool(cml.ledger.runs(job.id)))
    (run,) = cml.ledger.runs(job.id)
    assert run.environment["START_DATE"] == "2020-02-03"

    (dag_run,) = airflow.get(f"dags/{EXAMPLE}/dagRuns")["dag_runs"]
    task = DagRun(airflow, EXAMPLE, dag_run["dag_run_id"]).task("value_at_risk")
    task.wait_until(lambda: "run_url" in task.xcoms(), "the address of the run")
    address = f"/dags/{EXAMPLE}/runs/{dag_run['dag_run_id']}/tasks/value_at_risk"
    page.goto(address)
    page.get_by_role("link", name="Details", exact=True).or_(page.get_by_role("tab", name="Details")).first.click()
    link = page.get_by_role("link", name=HOOK_NAME)
    link.wait_for()
    picture(page, "button-while-running")
    assert cml.ledger.runs(job.id)[0].status == "ENGINE_RUNNING"
    with page.context.expect_page() as opened:
        link.click()
    opened.value.wait_for_url(f"{cml.url}/alice/risk-analysis/jobs**")
    opened.value.close()

    cml.workspace.set_status(run.id, "succeeded")
    airflow.wait("success", lambda: airflow.get(f"dags/{EXAMPLE}/dagRuns")["dag_runs"][0]["state"] == "success")
    page.goto(address)
    page.get_by_text("Success").first.wait_for()
