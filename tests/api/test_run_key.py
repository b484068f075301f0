"""The key that every start carries: written, read, and compared."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_cml.api.run_key import RunKey, has_landed, same_series

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

PARTS = str(KEY).split(";")[1:]

letters = st.text("abcdefghijklmnopqrstuvwxyz0123456789", max_size=6)
counts = st.integers(0, 10_000)
keys = st.builds(
    RunKey,
    deployment=st.text(),
    dag_id=st.text(),
    run_id=st.text(),
    task_id=st.text(),
    map_index=st.integers(-1, 5000),
    loop_index=st.integers(-1, 5000),
    region=letters,
    is_configured=st.booleans(),
    clear_number=st.none() | counts,
    start=st.integers(-(10**17), 10**17),
    max_tries=counts,
    retries=counts,
    try_number=counts,
    nonce=letters,
    post=letters,
)


def test_the_key_is_readable() -> None:
    """Whoever looks at a run in CML reads who started it: each fact has its name."""
    text = (
        "v2;deployment=prod;configured=no;dag=daily;run=scheduled__2026-11-21T00:00:00+00:00;task=group.run_job;"
        "map=-1;loop=-1;region=;start=1790000000123456;nonce=;clear=;max_tries=2;retries=2;try=1;post=1.a7f3"
    )

    assert text == str(KEY)


def test_a_key_with_all_facts_is_readable() -> None:
    """Those that most keys do not have stand where they are empty otherwise."""
    key = replace(
        KEY, is_configured=True, map_index=3, loop_index=2, region="9f00d1e2c3b4", nonce="0a1b", clear_number=4
    )
    text = (
        "v2;deployment=prod;configured=yes;dag=daily;run=scheduled__2026-11-21T00:00:00+00:00;task=group.run_job;"
        "map=3;loop=2;region=9f00d1e2c3b4;start=1790000000123456;nonce=0a1b;clear=4;max_tries=2;retries=2;try=1;post=1.a7f3"
    )

    assert (text, key) == (str(key), RunKey.parse(text))


@given(keys)
def test_round_trip(key: RunKey) -> None:
    """Whatever the names hold, the text is one line of sixteen parts that reads back as the same key."""
    text = str(key)

    assert (key, 16, 1) == (RunKey.parse(text), len(text.split(";")), len((text + "|").splitlines()))


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
        "v2",
        "hello",
        "v1;prod;daily;run 1;start;-1;start=1790000000123456;max_tries=2;retries=2;try=1;post=1.a7f3",
        "vx" + str(KEY)[2:],
        "w2" + str(KEY)[2:],
        "v12345" + str(KEY)[2:],
        "v" + str(KEY)[2:],
        str(KEY) + ";more=1",
        str(KEY).rpartition(";")[0],
        str(KEY).replace("dag=daily", "run=daily"),
        str(KEY).replace("configured=no", "configured=perhaps"),
        str(KEY).replace("start=1790000000123456", "start=now"),
        str(KEY).replace("start=1790000000123456", "begin=1"),
        str(KEY).replace("max_tries=2", "max_tries="),
        str(KEY).replace("retries=2;", "tries=2;"),
        str(KEY).replace("try=1", "try=one"),
        str(KEY).replace("post=", "mail="),
        str(KEY).replace("map=-1", "map=first"),
        str(KEY).replace("loop=-1", "loop="),
        str(KEY).replace("clear=", "clear=never"),
        ";" * 15,
        "v2" + ";" * 15,
        '{"json": "object"}',
        str(KEY).replace("try=1", "try=" + "9" * 5000),
    ],
)
def test_foreign_text_is_no_key(text: str | None) -> None:
    """Another program's variable is nobody's error."""
    assert RunKey.parse(text) is None


@given(
    st.text()
    | st.builds(
        lambda version, values: ";".join(
            [version, *(f"{part.partition('=')[0]}={value}" for part, value in zip(PARTS, values, strict=True))]
        ),
        st.sampled_from(["v1", "v2", "v3"]),
        st.lists(st.sampled_from(["", "1", "-1", "yes", "%", "%zz", "x"]), min_size=len(PARTS), max_size=len(PARTS)),
    )
)
def test_any_text_is_a_key_or_none(text: str) -> None:
    """Reading never fails."""
    key = RunKey.parse(text)

    assert key is None or isinstance(key, RunKey)


@pytest.mark.parametrize(
    ("version", "text"),
    [
        ("v3", str(KEY) + ";cluster=eu;zone="),
        ("v3", str(KEY)),
        ("v9999", "v2;" + ";".join(reversed(str(KEY).split(";")[1:]))),
        ("v1", str(KEY) + ";a;=b;%=;;"),
    ],
)
def test_a_key_of_another_version(version: str, text: str) -> None:
    """The facts that are known are read wherever they stand, and the others ignored; it is told that there are some."""
    key = RunKey.parse(version + text[2:])

    assert key is not None
    assert (replace(KEY, version=version), False, True) == (key, key.is_understood, KEY.is_understood)


@pytest.mark.parametrize("part", PARTS)
def test_a_key_of_another_version_without_a_known_fact(part: str) -> None:
    """Then nobody can tell whose it is."""
    assert RunKey.parse("v3" + str(KEY)[2:].replace(f";{part}", "")) is None


NEXT_START = KEY.start + 1
LOCAL_HOSTS = [
    *("localhost", "LocalHost", "localhost:8080", "127.0.0.1", "127.0.0.1:8080", "[::1]:8080", "0.0.0.0:80", "", "["),
]


@pytest.mark.parametrize(
    ("change", "ids", "task", "same_try", "newer"),
    [
        ({}, True, True, True, False),
        ({"post": "2.xxxx"}, True, True, True, False),
        ({"retries": 5}, True, True, True, False),
        ({"max_tries": 5}, True, True, True, False),
        ({"clear_number": 5}, True, True, True, False),
        ({"is_configured": True}, True, True, True, False),
        ({"deployment": "test"}, True, True, True, False),
        ({"nonce": "abc"}, True, True, False, False),
        ({"try_number": 2}, True, True, False, True),
        ({"try_number": 0}, True, True, False, False),
        ({"start": NEXT_START, "try_number": 0}, True, True, False, True),
        ({"start": KEY.start - 1, "try_number": 9}, True, True, False, False),
        ({"start": NEXT_START, "deployment": "test"}, True, False, False, True),
        ({"version": "v3"}, True, False, False, False),
        ({"map_index": 0}, False, False, False, False),
        ({"loop_index": 0}, False, False, False, False),
        ({"region": "9f00d1e2c3b4"}, False, False, False, False),
        ({"dag_id": "x"}, False, False, False, False),
        ({"run_id": "x"}, False, False, False, False),
        ({"task_id": "x"}, False, False, False, False),
    ],
)
def test_comparisons(change: dict[str, object], ids: bool, task: bool, same_try: bool, newer: bool) -> None:
    """Which facts make another task instance, another try, and a newer one; it does not matter who asks."""
    other = replace(KEY, **change)  # type: ignore[arg-type]

    for one, two in ((KEY, other), (other, KEY)):
        assert (ids, task, same_try) == (one.has_same_ids(two), one.is_same_task(two), one.is_same_try(two))
    assert newer is (other.order > KEY.order)


@pytest.mark.parametrize(
    ("start", "mine", "theirs", "task", "airflow"),
    [
        # One dag run: the names count only where both were set; what ends or stops needs equal ones besides.
        (KEY.start, ("prod", True), ("prod", True), True, True),
        (KEY.start, ("prod", True), ("copy", True), False, False),
        (KEY.start, ("prod", True), ("copy", False), True, False),
        (KEY.start, ("prod", True), ("prod", False), True, False),
        (KEY.start, ("a.example", False), ("b.example", False), True, False),
        (KEY.start, ("a.example", False), ("a.example", False), True, True),
        (KEY.start, ("localhost:8080", False), ("localhost:8080", False), True, True),
        # Another dag run with equal ids: the same Airflow only by a name that tells it from others.
        (NEXT_START, ("prod", True), ("prod", True), True, True),
        (NEXT_START, ("a.example", False), ("a.example", False), True, True),
        (NEXT_START, ("a.example", True), ("a.example", False), True, True),
        (NEXT_START, ("prod", True), ("copy", True), False, False),
        (NEXT_START, ("a.example", False), ("b.example", False), False, False),
        (NEXT_START, ("localhost", True), ("localhost", True), True, True),
        (NEXT_START, ("localhost", True), ("localhost", False), False, False),
        *((NEXT_START, (host, False), (host, False), False, False) for host in LOCAL_HOSTS),
    ],
)
def test_deployments(start: int, mine: tuple[str, bool], theirs: tuple[str, bool], task: bool, airflow: bool) -> None:
    """Whether two keys with equal ids are of one task, and whether the one's try may end or stop the other's."""
    key = replace(KEY, deployment=mine[0], is_configured=mine[1])
    other = replace(KEY, deployment=theirs[0], is_configured=theirs[1], start=start)

    for one, two in ((key, other), (other, key)):
        assert (task, airflow) == (one.is_same_task(two), one.is_same_task(two) and one.is_same_airflow(two))


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


# ------------------------------------------------------------------------------------------------ has_landed

FORMER = replace(KEY, try_number=2, max_tries=4, retries=2, clear_number=1)
"""The second of two tries of an earlier life of the dag run."""
AFTER = replace(FORMER, start=NEXT_START, try_number=3, clear_number=2)
"""The first try after the dag run was cleared."""


@pytest.mark.parametrize(
    ("listed", "key", "landed"),
    [
        pytest.param([], AFTER, False, id="nothing is listed"),
        pytest.param([KEY], replace(KEY, try_number=2), True, id="a retry"),
        pytest.param([KEY], replace(KEY, try_number=3), False, id="not of the try just before"),
        pytest.param([replace(KEY, try_number=2)], replace(KEY, try_number=2), False, id="this very try"),
        pytest.param([replace(KEY, loop_index=1)], replace(KEY, try_number=2), False, id="another iteration"),
        pytest.param([replace(KEY, version="v3")], replace(KEY, try_number=2), False, id="another version"),
        pytest.param([replace(KEY, deployment="other")], replace(KEY, try_number=2), True, id="two base URLs"),
        pytest.param([FORMER], AFTER, True, id="a clear"),
        pytest.param([replace(FORMER, start=NEXT_START)], AFTER, True, id="a clear of the task alone"),
        pytest.param([FORMER], replace(AFTER, clear_number=None), False, id="a clear without our clear number"),
        pytest.param([replace(FORMER, clear_number=None)], AFTER, False, id="a clear without their clear number"),
        pytest.param([FORMER], replace(AFTER, clear_number=1), False, id="no clear"),
        pytest.param([FORMER], replace(AFTER, clear_number=0), False, id="the dag run was made again"),
        pytest.param([FORMER], replace(AFTER, max_tries=5), False, id="not the first try since the clear"),
        pytest.param([FORMER], replace(AFTER, start=FORMER.start - 1), False, id="a later dag run's"),
        pytest.param([replace(FORMER, deployment="x")], AFTER, False, id="a clear on another Airflow"),
        pytest.param(
            [replace(FORMER, start=NEXT_START, nonce="a")], replace(AFTER, nonce="b"), False, id="another nonce"
        ),
        pytest.param(
            [replace(FORMER, deployment="localhost")], replace(AFTER, deployment="localhost"), True, id="a laptop"
        ),
        pytest.param(
            [replace(KEY, start=FORMER.start + 1, clear_number=0), FORMER],
            replace(AFTER, start=FORMER.start + 2),
            False,
            id="made again: try 1 of the later life is listed",
        ),
        pytest.param(
            [replace(FORMER, start=FORMER.start + 1, clear_number=0), FORMER],
            replace(AFTER, start=FORMER.start + 2, clear_number=1),
            True,
            id="made again: try 2 of the later life is the one before",
        ),
        pytest.param(
            [replace(KEY, start=FORMER.start + 1, task_id="other"), FORMER],
            replace(AFTER, start=FORMER.start + 2),
            True,
            id="made again: it is another task's",
        ),
    ],
)
def test_has_landed(listed: list[RunKey], key: RunKey, landed: bool) -> None:
    """When a listed run shows that the earlier try's start is not on its way any more."""
    assert landed is has_landed([(other, True) for other in listed], key)


@pytest.mark.parametrize("key", [AFTER, replace(AFTER, start=FORMER.start)])
def test_a_rejected_start_has_not_landed(key: RunKey) -> None:
    """The try may have sent another one after it."""
    assert (True, False) == (has_landed([(FORMER, True)], key), has_landed([(FORMER, False)], key))


def test_a_later_life_whose_start_was_rejected() -> None:
    """A rejected start, too, shows that the dag run was made again."""
    later = replace(KEY, start=FORMER.start + 1, clear_number=0)

    assert not has_landed([(later, False), (FORMER, True)], replace(AFTER, start=FORMER.start + 2))
