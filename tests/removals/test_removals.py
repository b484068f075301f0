"""The list of removals and the README's promises keep step; whether each is noticed shows `make removals`."""

from __future__ import annotations

import ast
import re
from collections import defaultdict

import pytest

from tests.removals.removals import REMOVALS, ROOT, Removal

_PROMISE = re.compile(r"(?m)^(\d+)\. (.*(?:\n {2,}.*)*)")
_TEST = re.compile(r"`([\w/]+\.py::\w+)`")


def promises() -> dict[int, list[str]]:
    """The tests each numbered promise of the README names."""
    _, _, section = (ROOT / "README.md").read_text().partition("\n## What you can rely on\n")
    section, _, _ = section.partition("\n## ")
    return {
        int(number): [f"tests/{test}" for test in _TEST.findall(text)] for number, text in _PROMISE.findall(section)
    }


PROMISES = promises()


@pytest.mark.parametrize("removal", REMOVALS, ids=lambda removal: f"{removal.promise}: {removal.without}")
def test_removal_applies(removal: Removal) -> None:
    """What it takes out is there, once, and what is left is Python."""
    path = removal.place()

    assert removal.text != removal.instead
    ast.parse(path.read_text().replace(removal.text, removal.instead))


def test_promises_are_numbered() -> None:
    """From one on, without a gap, so that a number means one promise."""
    assert list(PROMISES) == list(range(1, len(PROMISES) + 1))
    assert len(PROMISES) >= 30


def test_every_named_test_has_a_removal() -> None:
    """A promise names the very tests for which lines are taken out, and none besides."""
    removals = defaultdict(set)
    for removal in REMOVALS:
        removals[removal.promise].add(removal.test)

    assert {number: set(tests) for number, tests in PROMISES.items()} == dict(removals)


@pytest.mark.parametrize("number", PROMISES)
def test_named_tests_exist(number: int) -> None:
    """Every test a promise names is a test."""
    for test in PROMISES[number]:
        path, _, name = test.partition("::")
        tree = ast.parse((ROOT / path).read_text())
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}

        assert name in functions
