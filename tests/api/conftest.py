"""The two transports, driven alike: what a test says once holds for both."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

import pytest

from airflow_provider_cml.api.transports import AsyncTransport, Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_cml.api.endpoint import Endpoint
    from airflow_provider_cml.api.transports import Tell
    from airflow_provider_cml.api.wire import Exchange

T = TypeVar("T")


class Driver:
    """One transport, whichever: `perform` runs a conversation on it, from a place without an event loop."""

    def __init__(self, library: str, endpoint: Endpoint) -> None:
        self.library = library
        self.endpoint = endpoint
        self._blocking = Transport(endpoint) if library == "requests" else None
        self._runner = asyncio.Runner()
        self._awaiting = AsyncTransport(endpoint) if library == "aiohttp" else None

    def perform(self, exchange: Exchange[T], tell: Tell | None = None) -> T:
        if self._blocking is not None:
            return self._blocking.perform(exchange, tell)
        assert self._awaiting is not None
        return self._runner.run(self._awaiting.perform(exchange, tell))

    def close(self) -> None:
        if self._blocking is not None:
            self._blocking.close()
        if self._awaiting is not None:
            self._runner.run(self._awaiting.close())
            # aiohttp closes TLS connections in the background.
            self._runner.run(asyncio.sleep(0.01))
        self._runner.close()


@pytest.fixture(params=["requests", "aiohttp"])
def drive(request: pytest.FixtureRequest) -> Iterator[Callable[[Endpoint], Driver]]:
    """Makes a driver for an endpoint, on each library in turn."""
    drivers: list[Driver] = []

    def make(endpoint: Endpoint) -> Driver:
        drivers.append(Driver(request.param, endpoint))
        return drivers[-1]

    yield make
    for driver in drivers:
        driver.close()
