"""Starting and stopping an emulator."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from airflow_provider_cml.emulator import Emulator, Life, Workspace


def test_nothing_is_left_after_the_end(workspace, client_of):
    """No thread, no socket; also when requests were being answered or effects to come."""
    before = set(threading.enumerate())
    with Emulator(workspace) as cml:
        project = workspace.add_project("alice", "x")
        client = client_of(cml)
        cml.fault("GetProject", "delay_answer", seconds=60)
        cml.fault("ListProjects", "late_effect", seconds=60)
        for path in (f"/api/v2/projects/{project.id}", "/api/v2/projects"):
            with pytest.raises(requests.RequestException):
                client.call("GET", path, timeout=0.1)

    assert before >= set(threading.enumerate())
    with pytest.raises(requests.ConnectionError):
        client.get("/api/v2/projects")


def test_an_emulator_comes_back_under_the_same_address(workspace, client_of, job):
    """With keys, runs and ledger as they were: what a client sees of a rolling restart."""
    cml = Emulator(workspace)
    with cml:
        url = cml.url
        client = client_of(cml)
        run_id = client.start(job).json()["id"]
    with cml:
        assert cml.url == url
        assert client.run(job, run_id).status_code == 200
    assert ["CreateJobRun", "GetJobRun"] == [record.operation for record in cml.ledger.requests()]


def test_a_port_that_is_taken_is_an_error_at_once(workspace):
    """In the thread that wanted to start."""
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match=r"."):
        Emulator(workspace, taken.getsockname()[1]).start()


def test_it_starts_once(cml):
    """A second start is a mistake."""
    with pytest.raises(RuntimeError):
        cml.start()


def test_only_this_machine_is_served(cml):
    """The socket is bound to 127.0.0.1."""
    with pytest.raises(OSError, match=r"."), socket.create_connection(("127.0.0.2", cml.port), timeout=1):
        pass


def test_keys_are_new_each_time_unless_given(workspace):
    """And not in a repr."""
    one, other = Emulator(workspace), Emulator(workspace)
    given = Emulator(workspace, api_key="a", legacy_key="b")

    assert len({one.api_key, other.api_key, one.legacy_key, other.legacy_key}) == 4
    assert ("a", "b") == (given.api_key, given.legacy_key)
    assert one.api_key not in repr(one)


def test_hundreds_of_runs_need_no_process(client_of, until):
    """Scripted lives cost next to nothing."""
    workspace = Workspace()
    project = workspace.add_project("alice", "x")
    jobs = [workspace.add_job(project, f"job {number}", life=Life(0.01, 0.01, 0.05)) for number in range(20)]
    with Emulator(workspace) as cml:
        client = client_of(cml)

        def ten_runs(job):
            for _ in range(10):
                while client.start(job).status_code != 200:
                    until(lambda: workspace.active_run(job) is None)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(ten_runs, jobs))
        until(lambda: all(run.is_over for run in workspace.runs.values()))

    executed = cml.ledger.executed()
    assert (200, {"ENGINE_SUCCEEDED"}) == (len(executed), {run.status for run in executed})


def test_starts_at_the_same_time_make_one_run(client, workspace, job):
    """The rule of one active run holds between threads."""
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: client.start(job).status_code, range(24)))

    assert (1, 23) == (statuses.count(200), statuses.count(400))
    assert 24 == len(workspace.runs_of(job))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_https_is_served_with_a_context(tmp_path, workspace, client_of):
    """With the certificate of the context, and https in the address."""
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subprocess.run([*command, "-days", "2", *subject, *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with Emulator(workspace, ssl_context=context) as cml:
        assert cml.url.startswith("https://127.0.0.1:")
        response = client_of(cml).call("GET", "/api/v2/projects", verify=str(certificate))

    assert response.status_code == 200
