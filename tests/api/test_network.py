"""How the way to the workspace is chosen, and what its failures are called: on real sockets, with both libraries."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import certifi
import pytest
import trustme

from airflow_provider_cml.api import v2
from airflow_provider_cml.api.endpoint import Endpoint, Proxy, Tls
from airflow_provider_cml.api.errors import CmlConnectionError, CmlError, CmlInputError, CmlServerError
from airflow_provider_cml.api.network import ca_file, proxy_url, ssl_context
from airflow_provider_cml.api.wire import Exchange
from tests.api.conftest import Driver
from tests.api.listening import (
    HOST,
    Behaviour,
    Listener,
    answer,
    answering,
    breaking_off,
    closed_port,
    cutting,
    dripping,
    forwarding,
    knowing_no_tls,
    refusing_proxy,
    shaking_no_hands,
    silent,
)

KEY = "key-that-nobody-may-see"
Drive = Callable[[Endpoint], Driver]
PROJECT = answer(b'{"id": "from-the-workspace"}')


def look() -> Exchange[str]:
    """One request, not repeated, and the id in its answer."""
    return (yield from v2.get_project("p", patience=0)).id


def endpoint_of(base_url: str, **settings: object) -> Endpoint:
    return Endpoint(base_url, key=KEY, **settings)  # type: ignore[arg-type]


def failure(drive: Drive, endpoint: Endpoint, exchange: Exchange[object] | None = None) -> CmlConnectionError:
    """The error one request ends in; it shows no secret."""
    with pytest.raises(CmlConnectionError) as caught:
        drive(endpoint).perform(exchange or look())
    assert [] == [secret for secret in endpoint.secrets if secret in str(caught.value)]
    return caught.value


class Authority:
    """A private authority, with an intermediate below it, and what its servers show."""

    def __init__(self, folder: Path) -> None:
        self.root = trustme.CA(organization_name="House of root")
        self.intermediate = self.root.create_child_ca()
        self.pem = self._write(folder / "root.pem", self.root.cert_pem)
        both = self.root.cert_pem.bytes() + self.intermediate.cert_pem.bytes()
        self.both_pem = str(folder / "both.pem")
        Path(self.both_pem).write_bytes(both)

    @staticmethod
    def _write(path: Path, blob: trustme.Blob) -> str:
        blob.write_to_path(path)
        return str(path)

    def context(self, *names: str, whole_chain: bool = True, signed_by_root: bool = False) -> ssl.SSLContext:
        """A server's context, with a certificate for these names."""
        issuer = self.root if signed_by_root else self.intermediate
        leaf = issuer.issue_cert(*(names or (HOST,)))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with leaf.private_key_and_cert_chain_pem.tempfile() as whole, contextlib.ExitStack() as files:
            alone = files.enter_context(
                trustme.Blob(leaf.private_key_pem.bytes() + leaf.cert_chain_pems[0].bytes()).tempfile()
            )
            context.load_cert_chain(whole if whole_chain else alone)
        return context


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def listen() -> Iterator[Callable[..., Listener]]:
    """Starts a server that behaves so, until the test is over."""
    with contextlib.ExitStack() as servers:
        yield lambda behave, context=None: servers.enter_context(Listener(behave, context))


# ------------------------------------------------------------------------------------------------ unsent


def test_closed_port(drive: Drive) -> None:
    """Nothing listens there: unsent, and the address is the likely mistake."""
    error = failure(drive, endpoint_of(f"http://{HOST}:{closed_port()}"))

    assert (False, True, True) == (error.sent, error.unreachable, "nothing listens there" in str(error))


@pytest.mark.parametrize("name", ["workspace.invalid", "x" * 64 + ".invalid", "a..invalid"])
def test_unknown_host(drive: Drive, name: str) -> None:
    """A name that stands for nothing, or cannot stand for anything: unsent."""
    error = failure(drive, endpoint_of(f"https://{name}"))

    assert (False, True, True) == (error.sent, error.unreachable, "is not a known host" in str(error))


def test_unknown_authority(drive: Drive, authority: Authority, listen: Callable[..., Listener]) -> None:
    """A private authority nobody told us of: unsent, and the message says where to put it."""
    server = listen(answering(PROJECT), authority.context(signed_by_root=True))

    error = failure(drive, endpoint_of(server.url))

    assert (False, True, []) == (error.sent, error.unreachable, server.heard)
    assert "issuer is not known here. Set the connection's Extra 'ca_bundle'" in str(error)


def test_leaf_sent_alone(drive: Drive, authority: Authority, listen: Callable[..., Listener]) -> None:
    """The server forgets its intermediate: the message names that case, and the remedy it names works."""
    server = listen(answering(PROJECT), authority.context(whole_chain=False))

    error = failure(drive, endpoint_of(server.url, tls=Tls(ca_bundle=authority.pem, explicit=True)))

    assert (False, True) == (error.sent, "add the intermediate certificate to the file" in str(error))
    remedied = endpoint_of(server.url, tls=Tls(ca_bundle=authority.both_pem, explicit=True))
    assert "from-the-workspace" == drive(remedied).perform(look())


def test_certificate_for_another_name(drive: Drive, authority: Authority, listen: Callable[..., Listener]) -> None:
    """A good certificate of another host: unsent."""
    server = listen(answering(PROJECT), authority.context("elsewhere.example"))

    error = failure(drive, endpoint_of(server.url, tls=Tls(ca_bundle=authority.pem, explicit=True)))

    assert (False, True) == (error.sent, "use the Host the certificate was made for" in str(error))


def test_plain_http_where_tls_is_expected(drive: Drive, listen: Callable[..., Listener]) -> None:
    """An https address of a server that does not speak TLS: unsent, and the message says so."""
    server = listen(knowing_no_tls)

    error = failure(drive, endpoint_of(f"https://{HOST}:{server.port}"))

    assert (False, True, True) == (error.sent, error.unreachable, "does not speak TLS there" in str(error))


def test_no_handshake(drive: Drive, listen: Callable[..., Listener]) -> None:
    """A server that takes the connection and never answers the greeting of TLS: unsent."""
    server = listen(shaking_no_hands)

    error = failure(drive, endpoint_of(f"https://{HOST}:{server.port}", connect_timeout=0.3))

    assert (False, True) == (error.sent, "could not be reached in 0.3 s" in str(error))


@pytest.mark.parametrize("address", ["socks5://127.0.0.1:1", "gopher://127.0.0.1:1"])
def test_a_proxy_of_another_kind(drive: Drive, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """A proxy neither library can talk to: unsent, and the message names the variable."""
    monkeypatch.setenv("ALL_PROXY", address)

    error = failure(drive, endpoint_of("https://workspace.invalid"))

    assert (False, True) == (error.sent, "PROXY" in str(error))


@pytest.mark.parametrize(
    "address",
    [
        "http://u:s3cret@127.0.0.1:99999",
        "http://u:s3cret@127.0.0.1:many",
        "http://u:s3cret/x@127.0.0.1:9",
        "http://u:s3cret#x@127.0.0.1:9",
        "http://u:s3cret@[::1",
        "http://u:s3cret@h..x:80",
        "http://u:s3cret",
        "u:s3cret@127.0.0.1:9",
        "socks5://u:s3cret@127.0.0.1:9",
    ],
)
def test_a_password_in_the_proxy_of_the_environment(
    drive: Drive, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """Whatever is wrong with the proxy's address, it is quoted neither by the error nor by what that came from."""
    monkeypatch.setenv("HTTPS_PROXY", address)

    error = failure(drive, endpoint_of("https://workspace.invalid"))

    assert (False, True) == (error.sent, "PROXY" in str(error))
    assert error.__context__ is None
    assert "s3cret" not in "".join(traceback.format_exception(error))


@pytest.mark.parametrize("host", ["h\\x", "127.0.0.1:70000"])
def test_what_is_no_address(drive: Drive, host: str) -> None:
    """What a library takes for no address is an error of ours, too; a connection refuses it before."""
    error = failure(drive, endpoint_of(f"https://{host}"))

    assert f"https://{host}" in str(error)


@pytest.mark.parametrize(
    ("base_url", "cause"),
    [("https://workspace.invalid", socket.gaierror), ("http://127.0.0.1:PORT", ConnectionRefusedError)],
    ids=["unknown host", "closed port"],
)
def test_what_the_system_said_is_kept(drive: Drive, base_url: str, cause: type[OSError]) -> None:
    """A number of the operating system's holds no secret, and helps whoever looks for the reason."""
    error = failure(drive, endpoint_of(base_url.replace("PORT", str(closed_port()))))

    assert cause is type(error.__cause__)


@pytest.mark.parametrize("tls", [False, True])
def test_no_room_to_connect(drive: Drive, tls: bool) -> None:
    """A host that does not even answer the knock, as behind a firewall: unsent, after the connect timeout."""
    with socket.create_server((HOST, 0), backlog=0) as full, contextlib.ExitStack() as waiting:
        for _ in range(3):
            knock = waiting.enter_context(socket.socket())
            knock.setblocking(False)
            knock.connect_ex(full.getsockname())
        base_url = f"{'https' if tls else 'http'}://{HOST}:{full.getsockname()[1]}"
        began = time.monotonic()

        error = failure(drive, endpoint_of(base_url, connect_timeout=0.3))

    assert (False, True, True) == (error.sent, error.unreachable, "could not be reached in 0.3 s" in str(error))
    assert time.monotonic() - began < 3


# ------------------------------------------------------------------------------------------------ sent


def test_tls_where_plain_http_is_expected(drive: Drive, authority: Authority, listen: Callable[..., Listener]) -> None:
    """An http address of a server that speaks TLS: the request went out, in clear, so it counts as sent."""
    server = listen(answering(PROJECT), authority.context())

    error = failure(drive, endpoint_of(f"http://{HOST}:{server.port}"))

    assert error.sent


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize(
    "behave",
    [
        pytest.param(breaking_off, id="closes"),
        pytest.param(cutting(b'{"id": "x', 50), id="cuts the body"),
        pytest.param(lambda listener, connection: connection.sendall(b"SSH-2.0-OpenSSH_9\r\n"), id="another protocol"),
    ],
)
def test_breaking_off(
    drive: Drive, authority: Authority, listen: Callable[..., Listener], behave: Behaviour, tls: bool
) -> None:
    """A connection that ends without a whole answer: the request may have had its effect."""
    server = listen(behave, authority.context() if tls else None)

    error = failure(drive, endpoint_of(server.url, tls=Tls(ca_bundle=authority.pem, explicit=True)))

    assert (True, False) == (error.sent, error.unreachable)
    assert "broke the connection off without an answer" in str(error)


@pytest.mark.parametrize("tls", [False, True])
def test_never_answering(drive: Drive, authority: Authority, listen: Callable[..., Listener], tls: bool) -> None:
    """A server that stays silent: sent, after the read timeout, which the message gives."""
    server = listen(silent, authority.context() if tls else None)
    settings = endpoint_of(server.url, read_timeout=0.3, tls=Tls(ca_bundle=authority.pem, explicit=True))
    began = time.monotonic()

    error = failure(drive, settings)

    assert (True, False, True) == (error.sent, error.unreachable, "did not answer in 0.3 s" in str(error))
    assert time.monotonic() - began < 3


def test_a_request_may_have_a_shorter_patience(drive: Drive, listen: Callable[..., Listener]) -> None:
    """A request's own read timeout beats the endpoint's."""
    server = listen(silent)

    error = failure(drive, endpoint_of(server.url), v2.validate_api_key(read_timeout=0.2))

    assert (True, True) == (error.sent, "did not answer in 0.2 s" in str(error))


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize(
    ("head", "drop"),
    [
        ("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", " "),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\n \r\n"),
        ("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", " "),
        ("HTTP/1.1 200 OK\r\nX-Padding: ", "x"),
        ("", "HTTP/1.1 100 Continue\r\n\r\n"),
    ],
    ids=["length", "chunked", "until close", "a header", "not yet"],
)
def test_slow_drip(
    drive: Drive, authority: Authority, listen: Callable[..., Listener], head: str, drop: str, tls: bool
) -> None:
    """An answer that comes byte by byte never exceeds a single read's timeout; the whole has a bound, too."""
    server = listen(dripping(0.05, head, drop), authority.context() if tls else None)
    began = time.monotonic()

    error = failure(drive, endpoint_of(server.url, read_timeout=0.3, tls=Tls(ca_bundle=authority.pem, explicit=True)))

    assert (True, True) == (error.sent, time.monotonic() - began < 2)


# ------------------------------------------------------------------------------------------------ authorities


def test_explicit_bundle(drive: Drive, authority: Authority, listen: Callable[..., Listener]) -> None:
    """With its authority named, the workspace is trusted."""
    server = listen(answering(PROJECT), authority.context())

    settings = endpoint_of(server.url, tls=Tls(ca_bundle=authority.pem, explicit=True))

    assert "from-the-workspace" == drive(settings).perform(look())


def test_verification_off(drive: Drive, authority: Authority, listen: Callable[..., Listener]) -> None:
    """Switched off, anything is trusted, and urllib3 does not warn at every request."""
    server = listen(answering(PROJECT), authority.context("elsewhere.example", whole_chain=False))

    settings = endpoint_of(server.url, tls=Tls(verify=False, explicit=True))

    assert "from-the-workspace" == drive(settings).perform(look())


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_the_environments_bundle_counts_when_nothing_is_explicit(
    drive: Drive, authority: Authority, listen: Callable[..., Listener], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The connection says nothing, so the environment's bundle is taken, by both libraries."""
    server = listen(answering(PROJECT), authority.context())
    monkeypatch.setenv(name, authority.pem)

    assert "from-the-workspace" == drive(endpoint_of(server.url)).perform(look())


def test_the_environments_bundle_does_not_beat_an_explicit_one(
    drive: Drive, authority: Authority, listen: Callable[..., Listener], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library requests would let it, if it were asked."""
    server = listen(answering(PROJECT), authority.context())
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", authority.pem)

    error = failure(drive, endpoint_of(server.url, tls=Tls(ca_bundle=certifi.where(), explicit=True)))

    assert "issuer is not known" in str(error)


def test_the_environments_bundle_does_not_bring_verification_back(
    drive: Drive, authority: Authority, listen: Callable[..., Listener], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Off is off: requests would verify again with REQUESTS_CA_BUNDLE set."""
    server = listen(answering(PROJECT), authority.context())
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certifi.where())

    assert "from-the-workspace" == drive(endpoint_of(server.url, tls=Tls(verify=False, explicit=True))).perform(look())


@pytest.mark.parametrize(
    ("tls", "environment", "expected"),
    [
        (Tls(), {}, certifi.where()),
        (Tls(), {"REQUESTS_CA_BUNDLE": "/r"}, "/r"),
        (Tls(), {"CURL_CA_BUNDLE": "/c"}, "/c"),
        (Tls(), {"REQUESTS_CA_BUNDLE": "", "CURL_CA_BUNDLE": "/c"}, "/c"),
        (Tls(), {"REQUESTS_CA_BUNDLE": "/r", "CURL_CA_BUNDLE": "/c"}, "/r"),
        (Tls(explicit=True), {"REQUESTS_CA_BUNDLE": "/r"}, certifi.where()),
        (Tls(ca_bundle="/own", explicit=True), {"REQUESTS_CA_BUNDLE": "/r"}, "/own"),
    ],
)
def test_ca_file(monkeypatch: pytest.MonkeyPatch, tls: Tls, environment: dict[str, str], expected: str) -> None:
    """The connection's word first, then the environment's, then certifi's authorities."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert expected == ca_file(tls)


def test_a_folder_of_authorities(tmp_path: Path, authority: Authority) -> None:
    """A folder is taken as one, as requests does."""
    (tmp_path / "ca.pem").write_bytes(Path(authority.pem).read_bytes())

    assert isinstance(ssl_context(Tls(ca_bundle=str(tmp_path), explicit=True)), ssl.SSLContext)


@pytest.mark.parametrize("content", [None, b"", b"no certificate\n", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
@pytest.mark.parametrize("what", ["ca_bundle", "client_cert", "REQUESTS_CA_BUNDLE"])
def test_a_file_that_holds_no_certificate(
    drive: Drive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, content: bytes | None
) -> None:
    """Refused as input, before a connection opens, naming where the file was given."""
    path = tmp_path / "file.pem"
    if content is not None:
        path.write_bytes(content)
    tls = Tls() if what.isupper() else Tls(**{what: str(path)}, explicit=what == "ca_bundle")  # type: ignore[arg-type]
    if what.isupper():
        monkeypatch.setenv(what, str(path))

    with pytest.raises(CmlInputError) as caught:
        drive(endpoint_of("https://127.0.0.1:9", tls=tls)).perform(look())

    assert (True, True) == (what in str(caught.value), str(path) in str(caught.value))


def test_client_certificate(
    drive: Drive, authority: Authority, listen: Callable[..., Listener], tmp_path: Path
) -> None:
    """A gateway that asks for a certificate gets it."""
    context = authority.context()
    authority.root.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    server = listen(answering(PROJECT), context)
    path = tmp_path / "client.pem"
    authority.root.issue_cert("client@example.com").private_key_and_cert_chain_pem.write_to_path(path)

    tls = Tls(ca_bundle=authority.pem, client_cert=str(path), explicit=True)

    assert "from-the-workspace" == drive(endpoint_of(server.url, tls=tls)).perform(look())
    assert failure(drive, endpoint_of(server.url, tls=replace(tls, client_cert=None))).sent


# ------------------------------------------------------------------------------------------------ proxies


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("source", ["explicit", "environment", "environment without a scheme"])
def test_proxy(
    drive: Drive,
    authority: Authority,
    listen: Callable[..., Listener],
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    tls: bool,
) -> None:
    """The connection's proxy, or the environment's, is gone through; user and password are shown to it alone."""
    workspace = listen(answering(PROJECT), authority.context() if tls else None)
    proxy = listen(forwarding)
    settings = endpoint_of(workspace.url, tls=Tls(ca_bundle=authority.pem, explicit=True))
    if source == "explicit":
        settings = replace(settings, proxy=Proxy(proxy.url, "p@ss:word/", "us er"))
    else:
        address = "us%20er:p%40ss%3Aword%2F@" + proxy.url.partition("//")[2]
        monkeypatch.setenv(
            "HTTPS_PROXY" if tls else "http_proxy", address if "without" in source else f"http://{address}"
        )

    found = drive(settings).perform(look())

    assert "from-the-workspace" if tls else "from-the-proxy" == found
    assert ["CONNECT" if tls else "GET"] == [heard.method for heard in proxy.heard]
    assert "Basic dXMgZXI6cEBzczp3b3JkLw==" == proxy.heard[0].headers["proxy-authorization"]
    assert [] == [heard for heard in workspace.heard if "proxy-authorization" in heard.headers]
    assert tls == ("authorization" not in proxy.heard[0].headers)


def test_the_environments_proxy_does_not_beat_an_explicit_one(
    drive: Drive, listen: Callable[..., Listener], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection's word first."""
    monkeypatch.setenv("HTTP_PROXY", f"http://{HOST}:{closed_port()}")
    monkeypatch.setenv("http_proxy", f"http://{HOST}:{closed_port()}")
    proxy = listen(forwarding)

    found = drive(endpoint_of("http://workspace.invalid", proxy=Proxy(proxy.url))).perform(look())

    assert "from-the-proxy" == found


@pytest.mark.parametrize("no_proxy", [HOST, "*", "elsewhere, 127.0.0.1", "127.0.0.1:{port}"])
def test_no_proxy(
    drive: Drive, listen: Callable[..., Listener], monkeypatch: pytest.MonkeyPatch, no_proxy: str
) -> None:
    """NO_PROXY, with or without a port, keeps the straight way."""
    workspace = listen(answering(PROJECT))
    monkeypatch.setenv("http_proxy", f"http://{HOST}:{closed_port()}")
    monkeypatch.setenv("no_proxy", no_proxy.format(port=workspace.port))

    assert "from-the-workspace" == drive(endpoint_of(workspace.url)).perform(look())


@pytest.mark.parametrize("base_url", ["http://workspace.invalid", "https://workspace.invalid"])
@pytest.mark.parametrize("kind", ["closed port", "unknown host"])
def test_a_proxy_that_is_not_there(drive: Drive, base_url: str, kind: str) -> None:
    """The proxy is blamed, not the workspace; and nothing was sent."""
    address = f"{HOST}:{closed_port()}" if kind == "closed port" else "proxy.invalid:3128"

    error = failure(drive, endpoint_of(base_url, proxy=Proxy(f"http://{address}", "proxy-password", "user")))

    assert (False, True) == (error.sent, "could not be reached through the proxy" in str(error))
    assert "Check the connection's Extra 'proxy', or HTTPS_PROXY" in str(error)


def test_a_proxy_that_refuses(drive: Drive, listen: Callable[..., Listener]) -> None:
    """A tunnel that is not dug let nothing through."""
    proxy = listen(refusing_proxy)

    error = failure(drive, endpoint_of("https://workspace.invalid", proxy=Proxy(proxy.url)))

    assert (False, True) == (error.sent, "could not be reached through the proxy, which answered 407." in str(error))


def test_a_bad_certificate_beyond_a_proxy(drive: Drive, authority: Authority, listen: Callable[..., Listener]) -> None:
    """The workspace's certificate is blamed, not the proxy."""
    workspace = listen(answering(PROJECT), authority.context())
    proxy = listen(forwarding)

    error = failure(drive, endpoint_of(workspace.url, proxy=Proxy(proxy.url)))

    assert (False, True) == (error.sent, "issuer is not known" in str(error))


@pytest.mark.parametrize(
    ("base_url", "environment", "expected"),
    [
        ("https://cml.example", {}, None),
        ("https://cml.example", {"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
        ("https://cml.example", {"https_proxy": "http://p:1", "HTTPS_PROXY": "http://q:1"}, "http://p:1"),
        ("https://cml.example", {"HTTP_PROXY": "http://p:1"}, None),
        ("http://cml.example", {"HTTP_PROXY": "http://p:1"}, "http://p:1"),
        ("https://cml.example", {"ALL_PROXY": "http://p:1"}, "http://p:1"),
        ("https://cml.example", {"HTTPS_PROXY": "p:1"}, "http://p:1"),
        ("https://cml.example", {"HTTPS_PROXY": ""}, None),
        ("https://cml.example", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "example"}, None),
        ("https://cml.example", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "cml.example"}, None),
        ("https://cml.example:8443", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "cml.example:8443"}, None),
        ("https://cml.example:8443", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "cml.example:1"}, "http://p:1"),
        ("https://cml.example", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "ml.example"}, "http://p:1"),
    ],
)
def test_proxy_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, base_url: str, environment: dict[str, str], expected: str | None
) -> None:
    """What the environment's variables mean for a workspace."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert expected == proxy_url(endpoint_of(base_url))


@pytest.mark.parametrize(
    ("proxy", "expected"),
    [
        (Proxy("http://p:1"), "http://p:1"),
        (Proxy("http://p:1", "secret"), "http://p:1"),
        (Proxy("http://p:1", None, "user"), "http://user:@p:1"),
        (Proxy("http://p:1", "a@b:c/d", "us er"), "http://us%20er:a%40b%3Ac%2Fd@p:1"),
    ],
)
def test_proxy_of_the_connection(proxy: Proxy, expected: str) -> None:
    """User and password are put into the address only here, encoded."""
    assert expected == proxy_url(endpoint_of("https://cml.example", proxy=proxy))


# ------------------------------------------------------------------------------------------------ nothing else


def test_netrc_is_ignored(
    drive: Drive, listen: Callable[..., Listener], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The library requests would replace our credential by the one of ~/.netrc."""
    server = listen(answering(PROJECT))
    netrc = tmp_path / ".netrc"
    netrc.write_text(f"machine {HOST} login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(netrc))

    drive(endpoint_of(server.url)).perform(look())

    assert [f"Bearer {KEY}"] == [heard.headers["authorization"] for heard in server.heard]


def test_nothing_writes_the_environment(drive: Drive, authority: Authority, listen: Callable[..., Listener]) -> None:
    """Other connections of the same process see nothing of this one's settings."""
    before = dict(os.environ)
    server = listen(answering(PROJECT), authority.context())
    proxy = listen(forwarding)

    tls = Tls(ca_bundle=authority.pem, explicit=True)
    drive(endpoint_of(server.url, tls=tls, proxy=Proxy(proxy.url))).perform(look())

    assert before == dict(os.environ)


def test_an_error_of_the_server_is_no_connection_error(drive: Drive, listen: Callable[..., Listener]) -> None:
    """An answer is an answer, whatever its status."""
    server = listen(answering(answer(b"", "503 Service Unavailable")))

    with pytest.raises(CmlError) as caught:
        drive(endpoint_of(server.url)).perform(look())

    assert CmlServerError is type(caught.value)
