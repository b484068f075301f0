"""However a workspace's address is written, worker and triggerer ask the same server for the same path."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_cml.hooks.cml import CmlHook
from tests.api.listening import Listener, answer, answering

if TYPE_CHECKING:
    from collections.abc import Iterator

ID = "aaaa-bbbb-cccc-dddd"
BODY = {"id": ID, "name": "Risk Analysis"}
KEY = "a-key-of-32-letters-and-digits-0"


@pytest.fixture
def server() -> Iterator[Listener]:
    with Listener(answering(answer(json.dumps(BODY).encode()))) as listener:
        yield listener


SPELLINGS: dict[str, Any] = {
    "scheme, port": {"host": "http://127.0.0.1:PORT"},
    "slash": {"host": "http://127.0.0.1:PORT/"},
    "slashes": {"host": "http://127.0.0.1:PORT//"},
    "api": {"host": "http://127.0.0.1:PORT/api"},
    "api v1": {"host": "http://127.0.0.1:PORT/api/v1"},
    "api v2": {"host": "http://127.0.0.1:PORT/api/v2"},
    "api v2, slash": {"host": "http://127.0.0.1:PORT/api/v2/"},
    "blanks": {"host": " http://127.0.0.1:PORT "},
    "scheme in capitals": {"host": "HTTP://127.0.0.1:PORT"},
    "port twice": {"host": "http://127.0.0.1:PORT", "port": "PORT"},
    "port apart": {"host": "http://127.0.0.1", "port": "PORT"},
    "scheme apart": {"host": "127.0.0.1:PORT", "schema": "http"},
    "all apart": {"host": "127.0.0.1", "schema": "http", "port": "PORT"},
    "uri": f"cml://:{KEY}@http%3A%2F%2F127.0.0.1:PORT/",
    "uri, all apart": f"cml://:{KEY}@127.0.0.1:PORT/http",
    "uri, api v2": f"cml://:{KEY}@http%3A%2F%2F127.0.0.1%3APORT%2Fapi%2Fv2/",
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_every_spelling_reaches_the_same(server: Listener, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Both transports send the same request, with the key, under the same host."""
    given = SPELLINGS[name]
    text = given if isinstance(given, str) else json.dumps({"conn_type": "cml", "password": KEY, **given})
    monkeypatch.setenv(
        "AIRFLOW_CONN_CML_DEFAULT", text.replace('"PORT"', str(server.port)).replace("PORT", str(server.port))
    )

    async def awaited() -> str:
        async with CmlHook() as hook:
            return (await hook.aget_project(ID)).id

    hook = CmlHook()
    assert hook.get_project(ID).id == asyncio.run(awaited()) == ID
    hook.close()

    asked = [
        (heard.method, heard.target, heard.headers["host"], heard.headers["authorization"]) for heard in server.heard
    ]
    assert asked == [("GET", f"/api/v2/projects/{ID}", f"127.0.0.1:{server.port}", f"Bearer {KEY}")] * 2
