"""TLS and proxies as a connection says them, in worker and triggerer alike: with certificates made on the spot."""

from __future__ import annotations

import asyncio
import json
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
import trustme

from airflow_provider_cml.api import v2
from airflow_provider_cml.api.errors import CmlConnectionError
from airflow_provider_cml.emulator import Emulator
from airflow_provider_cml.hooks.cml import CmlHook
from tests.airflow_side import set_connection
from tests.api.listening import HOST, Listener, answer, answering, forwarding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from airflow_provider_cml.api.models import JobRun
    from airflow_provider_cml.api.wire import Exchange
    from airflow_provider_cml.emulator import Job, Run, Workspace

    See: TypeAlias = Callable[..., str]


@dataclass(frozen=True)
class House:
    """A private authority on premises, with the files it hands out."""

    root: trustme.CA
    intermediate: trustme.CA
    folder: Path

    def file(self, name: str, *blobs: trustme.Blob) -> str:
        """A PEM file."""
        path = self.folder / name
        path.write_bytes(b"".join(blob.bytes() for blob in blobs))
        return str(path)

    @property
    def ca_bundle(self) -> str:
        return self.file("root.pem", self.root.cert_pem)

    def context(self, *, whole_chain: bool = True, asks: bool = False) -> ssl.SSLContext:
        """Of a server with a certificate of this house."""
        leaf = self.intermediate.issue_cert(HOST)
        shown = leaf.cert_chain_pems if whole_chain else leaf.cert_chain_pems[:1]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file("server.pem", leaf.private_key_pem, *shown))
        if asks:
            context.maximum_version = ssl.TLSVersion.TLSv1_2  # 1.3 refuses only after the request
            context.verify_mode = ssl.CERT_REQUIRED
            self.root.configure_trust(context)
        return context


def house(folder: Path) -> House:
    folder.mkdir(exist_ok=True)
    root = trustme.CA()
    return House(root, root.create_child_ca(), folder)


@pytest.fixture
def own(tmp_path: Path) -> House:
    return house(tmp_path / "own")


@pytest.fixture
def foreign(tmp_path: Path) -> House:
    """An authority that signed nothing here."""
    return house(tmp_path / "foreign")


@pytest.fixture
def serve(workspace: Workspace) -> Iterator[Callable[[ssl.SSLContext], Emulator]]:
    """Serves the workspace over TLS."""
    served: list[Emulator] = []

    def start(context: ssl.SSLContext) -> Emulator:
        served.append(Emulator(workspace, ssl_context=context).start())
        return served[-1]

    yield start
    for emulator in served:
        emulator.stop()


@pytest.fixture
def run(workspace: Workspace, job: Job) -> Run:
    return workspace.add_run(job)


@pytest.fixture(params=["worker", "triggerer"])
def see(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, job: Job, run: Run) -> See:
    """Asks a workspace for a run, as a worker does or as a triggerer does, by a connection with this Extra."""

    def question() -> Exchange[JobRun]:
        return v2.get_job_run(job.project_id, job.id, run.id, patience=0)

    async def asynchronously(hook: CmlHook) -> str:
        try:
            return (await (await hook.aget_conn()).perform(question())).id
        finally:
            await hook.aclose()

    def look(cml: Emulator | Listener, conn_id: str = "cml_default", **extra: Any) -> str:
        key = cml.api_key if isinstance(cml, Emulator) else "a-key"
        set_connection(monkeypatch, conn_id, host=cml.url, password=key, extra=extra)
        hook = CmlHook(conn_id)
        if request.param == "triggerer":
            return asyncio.run(asynchronously(hook))
        try:
            return hook.get_conn().perform(question()).id
        finally:
            hook.close()

    return look


Serve: TypeAlias = "Callable[[ssl.SSLContext], Emulator]"


def test_authority_of_the_connection_beats_the_environments(
    serve: Serve, see: See, own: House, foreign: House, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`ca_bundle` is trusted although REQUESTS_CA_BUNDLE names others; without it the environment's counts."""
    cml = serve(own.context())
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", foreign.ca_bundle)

    assert see(cml, ca_bundle=own.ca_bundle) == run.id
    with pytest.raises(CmlConnectionError, match="Extra 'ca_bundle'"):
        see(cml)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", own.ca_bundle)
    assert see(cml) == run.id
    with pytest.raises(CmlConnectionError, match="Extra 'ca_bundle'"):
        see(cml, ca_bundle=foreign.ca_bundle)


def test_each_connection_has_its_own(serve: Serve, see: See, own: House, foreign: House, run: Run) -> None:
    """What one connection trusts, or does not check, is nothing to another of the same process."""
    one, other = serve(own.context()), serve(foreign.context())

    assert see(one, "one", ca_bundle=own.ca_bundle) == see(other, "other", ca_bundle=foreign.ca_bundle) == run.id
    assert see(one, "careless", verify_ssl=False) == run.id
    with pytest.raises(CmlConnectionError, match="issuer is not known"):
        see(one, "one", ca_bundle=foreign.ca_bundle)
    with pytest.raises(CmlConnectionError, match="issuer is not known"):
        see(one, "strict")


def test_server_that_shows_its_leaf_only(serve: Serve, see: See, own: House, run: Run) -> None:
    """The error explains what is missing on the way, and its remedy is one."""
    cml = serve(own.context(whole_chain=False))
    with pytest.raises(CmlConnectionError, match="the server sends only its own certificate, add the intermediate"):
        see(cml, ca_bundle=own.ca_bundle)
    whole = own.file("whole.pem", own.root.cert_pem, own.intermediate.cert_pem)

    assert see(cml, ca_bundle=whole) == run.id


def test_verification_off_is_warned_about(
    serve: Serve, see: See, own: House, foreign: House, run: Run, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """Off is off, whatever the environment says; the log tells once what it means, and urllib3 not at every request."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", foreign.ca_bundle)

    assert see(serve(own.context()), verify_ssl="false") == run.id
    assert caplog.text.count("Verify TLS certificate: is off; anybody on the way can read the API key.") == 1


def test_certificate_of_ours(see: See, own: House, foreign: House, run: Run) -> None:
    """A gateway that asks for a certificate gets the connection's; without one the error names the field."""
    mine, strange = (
        house.file("client.pem", leaf.private_key_pem, *leaf.cert_chain_pems)
        for house, leaf in ((house, house.root.issue_cert("airflow@example.com")) for house in (own, foreign))
    )
    with Listener(answering(_document(run)), own.context(asks=True)) as gateway:
        assert see(gateway, ca_bundle=own.ca_bundle, client_cert=mine) == run.id
        for extra in ({}, {"client_cert": strange}):
            with pytest.raises(CmlConnectionError, match="set the connection's Extra 'client_cert'"):
                see(gateway, ca_bundle=own.ca_bundle, **extra)


def _document(run: Run) -> bytes:
    """As much of an answer as anybody here reads."""
    fields = {"id": run.id, "status": "ENGINE_RUNNING", "valid": True, "username": "alice"}
    return answer(json.dumps(fields).encode())


def test_proxy_of_the_connection(serve: Serve, see: See, own: House, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tunnel is dug by the connection's proxy, whatever the environment says; only it sees the proxy's password."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    with Listener(forwarding) as proxy:
        found = see(
            serve(own.context()),
            ca_bundle=own.ca_bundle,
            proxy=proxy.url,
            proxy_user="airflow",
            proxy_password="proxy-pass-77",
        )

    assert found == run.id
    assert {heard.method for heard in proxy.heard} == {"CONNECT"}
    assert proxy.heard[0].headers["proxy-authorization"] == "Basic YWlyZmxvdzpwcm94eS1wYXNzLTc3"
    assert "authorization" not in proxy.heard[0].headers


@pytest.mark.parametrize("status", ["302 Found", "307 Temporary Redirect"])
def test_redirect_takes_no_key_along(see: See, status: str) -> None:
    """An answer that leads elsewhere is an error, and nobody goes there."""
    with Listener(answering(answer(b"{}"))) as elsewhere:
        headers = f"Location: {elsewhere.url}/api/v2/projects\r\n"
        with (
            Listener(answering(answer(b"", status, headers))) as cml,
            pytest.raises(Exception, match="Redirects are not followed"),
        ):
            see(cml)

    assert elsewhere.connections == 0


# ---------------------------------------------------------------- the Test button


@pytest.mark.parametrize("api_version", ["v1", "v2"])
@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        ("unknown authority", "Set the connection's Extra 'ca_bundle'"),
        ("leaf only", "add the intermediate certificate to the file"),
        ("certificate asked for", "set the connection's Extra 'client_cert'"),
        ("none", ""),
    ],
)
def test_button_names_the_field(
    run: Run, own: House, monkeypatch: pytest.MonkeyPatch, trouble: str, words: str, api_version: str
) -> None:
    """Every trouble with TLS is told in words that name what to set, before anything is sent; else all is well."""
    context = own.context(whole_chain=trouble != "leaf only", asks=trouble == "certificate asked for")
    extra = {"api_version": api_version} | ({} if trouble == "unknown authority" else {"ca_bundle": own.ca_bundle})
    with Listener(answering(_document(run)), context) as server:
        set_connection(monkeypatch, host=server.url, password="a-key", extra=extra)
        good, said = CmlHook().test_connection()

    assert good is (trouble == "none")
    assert words in said
    assert len(server.heard) == (1 if good else 0)
