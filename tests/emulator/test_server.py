"""Who is served."""

from __future__ import annotations

import pytest

from airflow_provider_cml.emulator.routing import CML_ROUTES
from airflow_provider_cml.emulator.spoiling import Api


@pytest.mark.parametrize("route", CML_ROUTES, ids=lambda route: route.id)
@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer x", "Basic", "Basic !!", "Basic eA==", "Bearer é"])
def test_nobody_is_served_without_a_key(client, project, job, route, header):
    """Whatever stands in the header."""
    path = route.path.format(
        owner="alice", slug="risk-analysis", number=208, project_id=project.id, job_id=job.id, run_id="x"
    )
    headers = {"Authorization": None if header is None else header.encode("latin-1")}
    response = client.call(route.method, path, json={}, headers=headers)

    assert response.status_code == 401
    assert "message" in response.json()


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1:1", "localhost.evil.example", ""])
def test_foreign_host_names_are_refused(client, cml, host):
    """Even with the key: a page of another site may have made its name point here."""
    response = client.call("GET", "/api/v2/projects", headers={"Host": host.format(port=cml.port)})

    assert response.status_code == 421
    assert [] == cml.ledger.requests()


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "localhost:{port}", "LOCALHOST:{port}"])
def test_own_host_names_are_served(client, cml, host):
    """By address or as localhost."""
    headers = {"Host": host.format(port=cml.port)}

    assert client.call("GET", "/api/v2/projects", headers=headers).status_code == 200


@pytest.mark.parametrize("path", ["/../etc/passwd", "/api/v2/projects/..%2f..", "/api/v2/projects/%00", "/%ff"])
def test_strange_paths_do_no_harm(client, path):
    """They are answered like any other that leads nowhere."""
    assert client.get(path).status_code in (400, 404)


def test_no_page_of_another_origin_may_read_answers(client, job):
    """DOC shows `Access-Control-Allow-Origin: *` on v1; here it would let any site in the browser ask."""
    assert "Access-Control-Allow-Origin" not in client.start_v1().headers


def test_routes_are_named_once():
    """Faults and ledger go by these names."""
    names = [route.id for route in CML_ROUTES]

    assert len(set(names)) == len(names)
    assert {Api.V1, Api.V2} == {route.api for route in CML_ROUTES}
