"""The key that every start carries: written, read, and compared."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_cml.api.run_key import RunKey, same_series

KEY = RunKey(
    deployment="prod",
    dag_id="daily",
    run_id="scheduled__2026-11-21T00:00:00+00:00",
    task_id="group.run_job",
    map_index=-1,
    start=1_790_000_000_123_456,
    max_tries=2,
    retries=2,
    try_number=1,
    post="1.a7f3",
)

letters = st.text("abcdefghijklmnopqrstuvwxyz0123456789", max_size=6)
counts = st.integers(0, 10_000)
keys = st.builds(
    RunKey,
    deployment=st.text(),
    dag_id=st.text(),
    run_id=st.text(),
    task_id=st.text(),
    map_index=st.integers(-1, 5000),
    start=st.integers(-(10**17), 10**17),
    max_tries=counts,
    retries=counts,
    try_number=counts,
    nonce=letters,
    post=letters,
)


def test_the_key_is_readable() -> None:
    """Whoever looks at a run in CML reads who started it."""
    text = (
        "v1;prod;daily;scheduled__2026-11-21T00:00:00+00:00;group.run_job;-1;"
        "start=1790000000123456;max_tries=2;retries=2;try=1;post=1.a7f3"
    )

    assert text == str(KEY)


@given(keys)
def test_round_trip(key: RunKey) -> None:
    """Whatever the names hold, the text is one line of eleven parts that reads back as the same key."""
    text = str(key)

    assert (key, 11, 1) == (RunKey.parse(text), len(text.split(";")), len((text + "|").splitlines()))


@pytest.mark.parametrize(
    "name", ["a;b", "a=b", "a%3Bb", "a\nb", "ü ß", "a/b", "", ";;;", "%", "~", "a\u2028b", "x" * 500]
)
def test_odd_names(name: str) -> None:
    """The characters that separate the facts may stand in a name."""
    key = replace(KEY, deployment=name, dag_id=name, run_id=name, task_id=name)

    assert key == RunKey.parse(str(key))


@pytest.mark.parametrize("name", ["deployment", "dag_id", "run_id", "task_id"])
@given(one=st.text(), other=st.text())
def test_different_names_are_different_keys(name: str, one: str, other: str) -> None:
    """No two task instances share a text."""
    texts = {str(replace(KEY, **{name: text})) for text in (one, other)}  # type: ignore[arg-type]

    assert len({one, other}) == len(texts)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "v1",
        "hello",
        "v2;" + str(KEY)[3:],
        str(KEY) + ";more=1",
        str(KEY).rpartition(";")[0],
        str(KEY).replace("start=1790000000123456", "start=now"),
        str(KEY).replace("start=1790000000123456", "begin=1"),
        str(KEY).replace("max_tries=2", "max_tries="),
        str(KEY).replace("retries=2;", "tries=2;"),
        str(KEY).replace("try=1", "try=one"),
        str(KEY).replace("post=", "mail="),
        str(KEY).replace(";-1;", ";first;"),
        ";" * 10,
        "v1" + ";" * 10,
        '{"json": "object"}',
        str(KEY).replace("try=1", "try=" + "9" * 5000),
    ],
)
def test_foreign_text_is_no_key(text: str | None) -> None:
    """Another program's variable is nobody's error."""
    assert RunKey.parse(text) is None


@given(
    st.text() | st.lists(st.text(max_size=5), min_size=11, max_size=11).map(lambda parts: "v1;" + ";".join(parts[1:]))
)
def test_any_text_is_a_key_or_none(text: str) -> None:
    """Reading never fails."""
    key = RunKey.parse(text)

    assert key is None or isinstance(key, RunKey)


@pytest.mark.parametrize(
    ("change", "identity", "attempt", "newer"),
    [
        ({}, True, True, False),
        ({"post": "2.xxxx"}, True, True, False),
        ({"retries": 5}, True, True, False),
        ({"max_tries": 5}, True, True, False),
        ({"nonce": "abc"}, True, False, False),
        ({"try_number": 2}, True, False, True),
        ({"try_number": 0}, True, False, False),
        ({"start": KEY.start + 1, "try_number": 0}, True, False, True),
        ({"start": KEY.start - 1, "try_number": 9}, True, False, False),
        ({"map_index": 0}, False, False, False),
        ({"deployment": "test"}, False, False, False),
        ({"dag_id": "x"}, False, False, False),
        ({"run_id": "x"}, False, False, False),
        ({"task_id": "x"}, False, False, False),
    ],
)
def test_comparisons(change: dict[str, object], identity: bool, attempt: bool, newer: bool) -> None:
    """Which facts make another task instance, another try, and a newer one."""
    other = replace(KEY, **change)  # type: ignore[arg-type]

    assert (identity, attempt, newer) == (
        other.identity == KEY.identity,
        other.attempt == KEY.attempt,
        other.order > KEY.order,
    )


def test_with_post() -> None:
    """A start request changes the number of the POST alone."""
    assert replace(KEY, post="3.zzzz") == KEY.with_post("3.zzzz")


# ------------------------------------------------------------------------------------------------ same_series


@dataclass(frozen=True)
class Begun:
    """A try that began: its key, the number of its series, and what had happened to `retries` so far."""

    key: RunKey
    series: int
    edits: int
    lowered_at: int | None


def history(retries: int, steps: tuple[str, ...]) -> list[Begun]:
    """The tries of one task instance through `steps`; [] if Airflow does not allow them.

    A clear sets max_tries to the tries so far plus retries, and counts tries on; a dag run made again starts over.
    """
    start, max_tries, tries, series, edits = 0, retries, 1, 0, 0
    lowered_at: int | None = None

    def begin() -> Begun:
        key = replace(KEY, start=start, max_tries=max_tries, retries=retries, try_number=tries)
        return Begun(key, series, edits, lowered_at)

    begun = [begin()]
    for step in steps:
        if step == "retry":
            if tries > max_tries:
                return []
            tries += 1
        elif step == "clear":
            max_tries, tries, series = tries + retries, tries + 1, series + 1
        elif step == "recreate":
            start, max_tries, tries, series = start + 1, retries, 1, series + 1
        else:
            retries += 1 if step == "raise" else -1
            if retries < 0:
                return []
            edits += 1
            lowered_at = series if step == "lower" else lowered_at
            continue
        begun.append(begin())
    return begun


def comparisons(longest: int = 5) -> Iterator[tuple[Begun, Begun]]:
    """Every earlier try against the last one, in all histories of up to five steps."""
    for length in range(1, longest + 1):
        for steps in itertools.product(("retry", "clear", "raise", "lower", "recreate"), repeat=length):
            if steps[-1] in {"raise", "lower"}:
                continue
            for retries in range(4):
                begun = history(retries, steps)
                for old in begun[:-1]:
                    yield old, begun[-1]


RULES: dict[str, Callable[[RunKey, RunKey], bool]] = {
    "same_series": same_series,
    "max_tries - retries": lambda old, now: old.max_tries - old.retries == now.max_tries - now.retries,
    "the same + start": lambda old, now: (
        (old.start, old.max_tries - old.retries) == (now.start, now.max_tries - now.retries)
    ),
    "max_tries + start": lambda old, now: (old.start, old.max_tries) == (now.start, now.max_tries),
}


def test_same_series_by_brute_force() -> None:
    """Of all simpler rules none is as rarely wrong, and where same_series is wrong it takes odd edits of `retries`."""
    wrong = {rule: [0, 0] for rule in RULES}
    pairs = list(comparisons())
    for old, now in pairs:
        for rule, judge in RULES.items():
            judged, true = judge(old.key, now.key), old.series == now.series
            wrong[rule][0] += judged and not true
            wrong[rule][1] += true and not judged
            if rule == "same_series" and judged and not true:
                assert now.edits >= 2
            if rule == "same_series" and true and not judged:
                assert now.lowered_at == now.series

    assert len(pairs) > 20_000
    taken = {rule: found[0] / len(pairs) for rule, found in wrong.items()}
    unknown = {rule: found[1] / len(pairs) for rule, found in wrong.items()}
    assert (
        taken["same_series"]
        < 0.001
        < taken["the same + start"]
        < taken["max_tries + start"]
        < taken["max_tries - retries"]
    )
    assert unknown["max_tries + start"] == 0 < unknown["same_series"] < 0.02 < unknown["max_tries - retries"]


@pytest.mark.parametrize(
    ("rule", "retries", "steps", "judged"),
    [
        ("max_tries - retries", 1, ("recreate",), True),
        ("max_tries - retries", 1, ("raise", "retry"), False),
        ("max_tries + start", 1, ("lower", "clear"), True),
        ("same_series", 1, ("recreate",), False),
        ("same_series", 1, ("raise", "retry"), True),
        ("same_series", 1, ("lower", "clear"), False),
        ("same_series", 0, ("clear",), False),
        ("same_series", 2, ("retry",), True),
        ("same_series", 2, ("retry", "retry"), True),
        ("same_series", 2, ("retry", "clear"), False),
        ("same_series", 2, ("clear", "clear"), False),
        # The two known mistakes: two edits, and a lowered figure between tries.
        ("same_series", 2, ("lower", "clear", "raise", "retry"), True),
        ("same_series", 1, ("lower", "retry"), False),
    ],
)
def test_shortest_histories(rule: str, retries: int, steps: tuple[str, ...], judged: bool) -> None:
    """The histories that show why a bare difference is not enough, and those that same_series gets right or wrong."""
    begun = history(retries, steps)

    assert judged == RULES[rule](begun[0].key, begun[-1].key)


@pytest.mark.parametrize(("try_number", "same"), [(3, True), (4, False)])
def test_past_max_tries_is_a_clear(try_number: int, same: bool) -> None:
    """A clear of a running task leaves max_tries alone; a try past max_tries + 1 gives it away."""
    assert same is same_series(KEY, replace(KEY, try_number=try_number))


def test_a_nonce_tells_dag_runs_of_a_test_apart() -> None:
    """Under `dags test` the start date is the logical date, so a random part has to tell."""
    assert not same_series(replace(KEY, nonce="a"), replace(KEY, nonce="b"))
