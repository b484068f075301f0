"""How the way to the workspace is chosen and how its failures are named: the same for both transports.

The law: the connection's word first, then the environment's (REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE, HTTPS_PROXY,
NO_PROXY), then certifi's authorities. Neither HTTP library is left to consult the environment itself: requests
lets REQUESTS_CA_BUNDLE override an explicit choice, and ~/.netrc the credential. Nothing here writes os.environ.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
import urllib.request
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from airflow_provider_cml.api.errors import CmlConnectionError, CmlInputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_cml.api.endpoint import Endpoint, Tls
    from airflow_provider_cml.api.wire import Request

_OF_THE_PROXY = {"ProxyError", "ClientProxyConnectionError", "ClientHttpProxyError"}
_OF_THE_ADDRESS = {"InvalidSchema", "MissingSchema", "InvalidProxyURL", "NonHttpUrlClientError"}
_TUNNEL_REFUSED = re.compile(r"Tunnel connection failed: (\d{3})\b")
_ISSUER_UNKNOWN = {20, 21}
"""OpenSSL: the issuer of a certificate was not found. So it is with a private authority, and with a leaf sent alone."""
_CLIENT_REFUSED = ("ALERT_HANDSHAKE_FAILURE", "ALERT_UNKNOWN_CA", "ALERT_BAD_CERTIFICATE", "ALERT_CERTIFICATE")
"""OpenSSL: the server did not like our certificate, or that there is none."""


def ca_file(tls: Tls) -> str:
    """The file (or folder) of authorities to trust."""
    return _authorities(tls)[1]


def ssl_context(tls: Tls) -> ssl.SSLContext:
    """What aiohttp checks the workspace's certificate with.

    :raises CmlInputError: a file does not hold what it should.
    """
    field, path = _authorities(tls)
    try:
        if tls.verify:
            is_folder = os.path.isdir(path)  # noqa: PTH112 - as the environment gives it: a string
            context = ssl.create_default_context(cafile=None if is_folder else path, capath=path if is_folder else None)
        else:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if tls.client_cert:
            field, path = "Client certificate (Extra 'client_cert')", tls.client_cert
            context.load_cert_chain(path)
    except OSError as error:  # ssl.SSLError is one, too
        message = f"{field}: {path!r} cannot be read as a certificate in PEM form ({type(error).__name__})."
        raise CmlInputError(message) from error
    return context


def check_files(tls: Tls) -> None:
    """Read the files somebody named before requests does: its failures do not tell them from a broken connection.

    :raises CmlInputError: a file does not hold what it should.
    """
    if tls.client_cert or (tls.verify and _authorities(tls)[0]):
        ssl_context(tls)


def _authorities(tls: Tls) -> tuple[str, str]:
    """Where the file of authorities was named, "" if nowhere, and the file."""
    import certifi  # noqa: PLC0415 - requests brings it; not needed at DAG parse time

    if tls.ca_bundle:
        return "CA bundle (Extra 'ca_bundle')", tls.ca_bundle
    for name in () if tls.explicit else ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        path = os.environ.get(name)
        if path:
            return f"{name} (environment)", path
    return "", certifi.where()


def proxy_url(endpoint: Endpoint) -> str | None:
    """The proxy to go through, with user and password in it, or None for the straight way."""
    if endpoint.proxy is not None:
        proxy = endpoint.proxy
        if not proxy.user:
            return proxy.url
        scheme, _, rest = proxy.url.partition("://")
        return f"{scheme}://{quote(proxy.user, safe='')}:{quote(proxy.password or '', safe='')}@{rest}"
    parts = urlsplit(endpoint.base_url)
    if urllib.request.proxy_bypass(parts.netloc):
        return None
    environment = urllib.request.getproxies_environment()
    found = environment.get(parts.scheme) or environment.get("all")
    # requests takes an address without a scheme, aiohttp does not.
    return f"http://{found}" if found and "://" not in found else found


def connection_error(endpoint: Endpoint, request: Request, error: BaseException) -> CmlConnectionError:
    """What `error` of either HTTP library means, to be raised outside of its `except`.

    The library's own text is neither quoted nor chained, and Airflow prints what is chained: the text may hold the
    address of a proxy, with its password. What the operating system or OpenSSL said holds none.
    """
    found = _meaning(endpoint, request, error)
    found.__cause__ = next((_alone(cause) for cause in _causes(error) if _is_of_the_system(cause)), None)
    return found


def _is_of_the_system(cause: BaseException) -> bool:
    is_numbered = isinstance(cause, TimeoutError) or (isinstance(cause, OSError) and cause.errno is not None)
    return is_numbered and type(cause).__module__ in {"builtins", "socket", "ssl"}


def _alone(cause: BaseException) -> BaseException:
    """The same without what it was raised from."""
    return type(cause)(*cause.args)


def _meaning(endpoint: Endpoint, request: Request, error: BaseException) -> CmlConnectionError:
    """The error in words.

    Only a failure that cannot have let the request out is called unsent: name look-up, connecting, the certificate.
    A TLS connection that breaks later ("unexpected EOF") may have carried it.
    """
    causes = list(_causes(error))
    names = {type(cause).__name__ for cause in causes}
    where = f"{request.method} {request.path}: {endpoint.base_url}"
    # aiohttp's own error is one of these too, but an empty one.
    certificates = (cause for cause in causes if isinstance(cause, ssl.SSLCertVerificationError))
    certificate = next((cause for cause in certificates if hasattr(cause, "verify_code")), None)
    if certificate is not None:
        return CmlConnectionError(f"{where} {_certificate_advice(certificate)}", sent=False, unreachable=True)
    is_unknown_host = "InvalidURL" in names or any(
        isinstance(cause, socket.gaierror | UnicodeError) for cause in causes
    )
    if names & _OF_THE_PROXY or (is_unknown_host and proxy_url(endpoint) is not None):
        # Before the rest: a proxy can be an unknown host or a closed port, too, and only it is looked up here.
        return CmlConnectionError(
            f"{where} could not be reached through the proxy{_refusal_of_the_proxy(causes)}. "
            f"Check the connection's Extra 'proxy', or HTTPS_PROXY.",
            sent=False,
            unreachable=True,
        )
    if names & _OF_THE_ADDRESS:
        return CmlConnectionError(
            f"{where} is an address, or its proxy has one, that cannot be used ({_kind(causes)}). "
            f"Check the connection's Host and Extra 'proxy', or HTTPS_PROXY and ALL_PROXY.",
            sent=False,
            unreachable=True,
        )
    if is_unknown_host:
        return CmlConnectionError(
            f"{where} is not a known host. Check the connection's Host, and that this machine can resolve it.",
            sent=False,
            unreachable=True,
        )
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return CmlConnectionError(
            f"{where} refused the connection: nothing listens there. Check Host and port of the connection.",
            sent=False,
            unreachable=True,
        )
    if any("WRONG_VERSION_NUMBER" in str(cause) for cause in causes if isinstance(cause, ssl.SSLError)):
        return CmlConnectionError(
            f"{where} does not speak TLS there. Check the port, or whether Host should begin with http://.",
            sent=False,
            unreachable=True,
        )
    if any(word in str(cause) for cause in causes if isinstance(cause, ssl.SSLError) for word in _CLIENT_REFUSED):
        # With TLS 1.3 this comes after our handshake is over, when the request may be out.
        return CmlConnectionError(
            f"{where} refused the TLS connection. It seems to ask for a certificate of ours: set the connection's "
            f"Extra 'client_cert' to a PEM file with a certificate it knows, and its private key.",
            sent=True,
            unreachable=True,
        )
    # The one handshake that requests calls a read.
    is_handshake = any("handshake" in str(cause) for cause in causes if isinstance(cause, TimeoutError))
    if is_handshake or names & {"ConnectTimeout", "ConnectTimeoutError", "ConnectionTimeoutError"}:
        return CmlConnectionError(
            f"{where} could not be reached in {endpoint.connect_timeout:g} s. Check Host, port, firewall and proxy.",
            sent=False,
            unreachable=True,
        )
    if names & {"NewConnectionError", "ClientConnectorError", "ClientConnectorSSLError"}:
        return CmlConnectionError(f"{where} could not be reached ({_kind(causes)}).", sent=False)
    if any(isinstance(cause, TimeoutError) for cause in causes) or names & {"ReadTimeout", "ReadTimeoutError"}:
        seconds = request.read_timeout or endpoint.read_timeout
        return CmlConnectionError(f"{where} did not answer in {seconds:g} s.", sent=True)
    return CmlConnectionError(f"{where} broke the connection off without an answer ({_kind(causes)}).", sent=True)


def _refusal_of_the_proxy(causes: list[BaseException]) -> str:
    """The status of its answer, which aiohttp has as a number and http.client only in words."""
    numbers = [str(getattr(cause, "status", "")) for cause in causes]
    words = [word.group(1) for cause in causes if (word := _TUNNEL_REFUSED.match(str(cause)))]
    found = next(filter(str.isdigit, numbers + words), None)
    return f", which answered {found}" if found else ""


def _certificate_advice(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in _ISSUER_UNKNOWN:
        return (
            "shows a TLS certificate whose issuer is not known here. Set the connection's Extra 'ca_bundle' to a PEM "
            "file with the authority that signed it. If that file holds only the root, and the server sends only its "
            "own certificate, add the intermediate certificate to the file: it is missing on the way."
        )
    return (
        f"shows a TLS certificate that does not hold ({error.verify_message}). Set the connection's Extra 'ca_bundle' "
        f"to a PEM file with the authority that signed it, and use the Host the certificate was made for."
    )


def _kind(causes: list[BaseException]) -> str:
    return type(causes[-1]).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and everything it was made from: both libraries hide the cause in attributes of their own."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        found = waiting.pop(0)
        if not isinstance(found, BaseException) or id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        inner = (getattr(found, name, None) for name in ("reason", "os_error", "certificate_error"))
        waiting += [*found.args, *inner, found.__cause__, found.__context__]
