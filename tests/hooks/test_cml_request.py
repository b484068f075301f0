"""The README's worked examples of `CmlHook.request`: each request is one of CML's published document, and fits it.

The server here knows no more of applications and models than the answers the examples read; the emulator has none.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from airflow_provider_cml.hooks.cml import CmlHook
from tests.airflow_side import set_connection
from tests.api.listening import Listener, answer
from tests.api.published import check, described

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

    from tests.api.listening import Behaviour

README = (Path(__file__).parents[2] / "README.md").read_text()
PROJECT = "k9yi-cww6-iw3w-buq0"
MODEL = "0f8b3a52-9a3c-4c1f-8f0c-0e7a5a1e0001"
APPLICATION = "tdi8-nf35-teoc-8mv3"
AT = f"/api/v2/projects/{PROJECT}"

ANSWERS: dict[str, list[dict[str, Any]]] = {
    f"GET {AT}": [{"id": PROJECT, "name": "Risk Analysis"}],
    f"GET {AT}/applications": [
        {"applications": [{"id": APPLICATION, "name": "board"}, {"id": "aaaa-bbbb-cccc-dddd", "name": "board 2"}]}
    ],
    f"POST {AT}/applications/{APPLICATION}:restart": [{"id": APPLICATION, "status": "APPLICATION_STARTING"}],
    f"POST {AT}/models/{MODEL}/builds": [{"id": "7", "status": "queued"}],
    f"GET {AT}/models/{MODEL}/builds/7": [{"id": "7", "status": word} for word in ("queued", "pushing", "built")],
    f"POST {AT}/models/{MODEL}/builds/7/deployments": [{"id": "9", "status": "pending"}],
    f"GET {AT}/models/{MODEL}/builds/7/deployments/9": [{"id": "9", "status": word} for word in ("new", "deployed")],
}
"""What is answered to each request, in turn."""


def example(name: str) -> dict[str, Any]:
    """The names that a file of the README leaves."""
    (text,) = re.findall(rf"(?ms)^```python\n(# {name}\n.*?)^```", README)
    names: dict[str, Any] = {}
    exec(compile(text, name, "exec"), names)
    return names


def saying(answers: dict[str, list[dict[str, Any]]]) -> Behaviour:
    """Give the answers in turn, once each; each fits the document, too."""

    def behave(listener: Listener, connection: socket.socket) -> None:
        while (heard := listener.hear(connection)) is not None:
            path = urlsplit(heard.target).path
            body = answers[f"{heard.method} {path}"].pop(0)
            check(described(heard.method, path)[1]["responses"]["200"]["schema"], body)
            connection.sendall(answer(json.dumps(body).encode()))

    return behave


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Listener]]:
    """A server with these answers, `cml_default` to it, and every request it heard checked in the end."""
    servers: list[Listener] = []

    def start(**changed: list[dict[str, Any]]) -> Listener:
        servers.append(Listener(saying({key: list(value) for key, value in (ANSWERS | changed).items()})))
        set_connection(monkeypatch, host=servers[-1].__enter__().url, password="a-key")
        return servers[-1]

    yield start
    for server in servers:
        server.__exit__(None, None, None)
        for heard in server.heard:
            check_request(heard.method, heard.target, heard.body)


def check_request(method: str, target: str, body: bytes) -> None:
    """As the document wants it: an operation of it, its parameters, and a body exactly where it has one."""
    parts = urlsplit(target)
    _, operation = described(method, parts.path)
    declared = {each["name"]: each for each in operation.get("parameters", [])}
    assert {name for name, _ in parse_qsl(parts.query)} <= declared.keys()
    schemas = [each["schema"] for each in declared.values() if each["in"] == "body"]
    assert bool(body) == bool(schemas)
    for schema in schemas:
        check(schema, json.loads(body))


def test_restart_an_application(serve: Callable[..., Listener]) -> None:
    """The one of exactly this name is restarted, by one request."""
    server = serve()
    example("restart_application.py")["restart_application"](PROJECT, "board")

    assert [f"{heard.method} {urlsplit(heard.target).path}" for heard in server.heard] == [
        f"GET {AT}",
        f"GET {AT}/applications",
        f"POST {AT}/applications/{APPLICATION}:restart",
    ]


def test_build_and_deploy_a_model(serve: Callable[..., Listener]) -> None:
    """A build is made and awaited, then its deployment; each is asked for once."""
    server = serve()
    example("deploy_model.py")["deploy_model"](PROJECT, MODEL, "image:1", gap=0)

    sent = {urlsplit(heard.target).path: json.loads(heard.body) for heard in server.heard if heard.method == "POST"}
    ids = {"project_id": PROJECT, "model_id": MODEL}
    assert sent == {
        f"{AT}/models/{MODEL}/builds": ids
        | {"file_path": "predict.py", "function_name": "predict", "runtime_identifier": "image:1"},
        f"{AT}/models/{MODEL}/builds/7/deployments": ids | {"build_id": "7", "cpu": 1, "memory": 2},
    }
    assert len(server.heard) == 1 + 1 + 3 + 1 + 2


@pytest.mark.parametrize("word", ["build failed", "timedout"])
def test_build_that_fails_is_not_deployed(serve: Callable[..., Listener], word: str) -> None:
    """The example ends with the word that CML has for it."""
    server = serve(**{f"GET {AT}/models/{MODEL}/builds/7": [{"id": "7", "status": word}]})
    with pytest.raises(RuntimeError, match=word):
        example("deploy_model.py")["deploy_model"](PROJECT, MODEL, "image:1", gap=0)

    assert not [heard for heard in server.heard if heard.target.endswith("/deployments")]


@pytest.mark.parametrize("model", ["..", "a/../../x", "a b", "a?b"])
def test_ids_of_a_template_cannot_leave_their_place(serve: Callable[..., Listener], model: str) -> None:
    """What a template rendered as an id is refused by `request` before anything is built."""
    server = serve()
    with pytest.raises(Exception, match="path: "):
        example("deploy_model.py")["deploy_model"](PROJECT, model, "image:1", gap=0)

    assert [heard.method for heard in server.heard] == ["GET"]


def test_post_is_sent_once(serve: Callable[..., Listener], monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that is lost is an error, not a second request."""
    heard: list[str] = []

    def breaking_off(listener: Listener, connection: socket.socket) -> None:
        found = listener.hear(connection)
        heard.append(found.method if found else "")

    with Listener(breaking_off) as server:
        set_connection(monkeypatch, host=server.url, password="a-key")
        hook = CmlHook()
        with pytest.raises(Exception, match="broke the connection off"):
            hook.request("POST", f"{AT}/applications/{APPLICATION}:restart")
        hook.close()

    assert heard == ["POST"]
