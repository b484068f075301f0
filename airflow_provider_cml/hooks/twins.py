"""One conversation, two methods of the hook: for the worker, and for an event loop.

The law: what is asked is declared once, as a conversation, with its parameters and its description; both methods have
them from there.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from airflow_provider_cml.api.wire import Exchange
    from airflow_provider_cml.hooks.cml import CmlHook

P = ParamSpec("P")
T = TypeVar("T")


def twins(
    conversation: Callable[P, Exchange[T]],
) -> tuple[Callable[Concatenate[CmlHook, P], T], Callable[Concatenate[CmlHook, P], Coroutine[Any, Any, T]]]:
    """The method that holds a conversation and waits for its end, and the one that is awaited."""

    def blocking(self: CmlHook, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._perform(conversation(*args, **kwargs))

    async def awaited(self: CmlHook, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._aperform(conversation(*args, **kwargs))

    for method, prefix in ((blocking, ""), (awaited, "a")):
        _describe(method, prefix, conversation)
    return blocking, awaited


def _describe(method: Callable[..., Any], prefix: str, conversation: Callable[..., Any]) -> None:
    """Name, parameters and description, for `help()` and editors."""
    method.__name__ = f"{prefix}{conversation.__name__}"
    method.__qualname__ = f"CmlHook.{method.__name__}"
    method.__doc__ = conversation.__doc__
    told = inspect.signature(conversation)
    self = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    result = str(told.return_annotation).removeprefix("Exchange[").removesuffix("]")
    parameters = [self, *told.parameters.values()]
    method.__signature__ = told.replace(parameters=parameters, return_annotation=result)  # type: ignore[attr-defined]
