"""The arithmetic of the bench, and that its parts can be imported and play together; nothing is measured here."""

from __future__ import annotations

import asyncio
from importlib import import_module
from pathlib import Path

import pytest

from tests.bench import delays
from tests.bench.answers import CML_PATH, DATABRICKS_PATH, DBT_PATH, answer, end_of, run_number
from tests.bench.verdicts import (
    BARE,
    CONNECTIONS,
    DATABRICKS,
    DBT,
    OURS,
    Verdict,
    busiest,
    comparison,
    middle,
    per_thousand,
    ratio,
    table,
    verdict_table,
    verdicts,
)

PARTS = sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py") if not path.stem.startswith("test_"))


def found(**of_polling):
    """What a bench finds where all is well; `of_polling` is ours instead."""
    polling = {"cpu_per_thousand": 250.0, "most_open": 20, "opened": 0, "rate": 333, "worst_lag": 0.01, "errors": 0}
    crowd = {"worst_lag": 0.05, "told": 10_000, "errors": 0, "busiest": 1.1, "most_open": 20, "cpu": 9.0}
    delay = {"mean": {"5": 0.6, "600": 13.5}, "worst": {"5": 1.1, "600": 30.0}}
    return {
        "polling": {
            OURS: [{**polling, **of_polling}],
            BARE: [{**polling, "most_open": 50}],
            DATABRICKS: [{**polling, "cpu_per_thousand": 500.0, "most_open": 300}],
            DBT: [{**polling, "cpu_per_thousand": 1500.0, "most_open": 200}],
        },
        "crowd": {OURS: [crowd], BARE: [crowd]},
        "memory": {OURS: [{"bytes": 10_240, "errors": 0}], DATABRICKS: [{"bytes": 200_000, "errors": 0}]},
        "bursts": {OURS: [{"bursts": 1, "errors": 0}], BARE: [{"bursts": 2, "errors": 0}]},
        "delays in virtual time": {OURS: [delay]},
    }


@pytest.mark.parametrize("part", [part for part in PARTS if part not in {"__init__", "__main__"}])
def test_parts_can_be_imported(part):
    """Without the peers and without matplotlib, which only the bench's own environment has."""
    assert import_module(f"tests.bench.{part}").__doc__


def test_all_holds():
    """Numbers within their bounds hold, each target is judged once, and the table says so."""
    judged = verdicts(found(), 30.0, 10_000)

    assert all(verdict.holds for verdict in judged)
    assert len({verdict.what for verdict in judged}) == len(judged)
    assert "NO" not in verdict_table(judged)


@pytest.mark.parametrize(
    ("numbers", "what"),
    [
        (
            {"cpu_per_thousand": 313.0},
            {"CPU per 1,000 polls, of the bare loop's", "CPU per 1,000 polls, of Databricks'"},
        ),
        ({"cpu_per_thousand": 301.0}, {"CPU per 1,000 polls, of Databricks'"}),
        ({"most_open": CONNECTIONS + 1}, {"connections, 300 runs"}),
        ({"errors": 1}, {"errors"}),
    ],
)
def test_what_does_not_hold_is_said(numbers, what):
    """A number above its bound fails its target and no other, and the table says NO."""
    judged = verdicts(found(**numbers), 30.0, 10_000)

    assert what == {verdict.what for verdict in judged if not verdict.holds}
    assert len(what) == verdict_table(judged).count("| NO ")


def test_bound_itself_holds():
    """At most means at most."""
    assert Verdict("x", 1.25, 1.25).holds
    assert not Verdict("x", 1.2500001, 1.25).holds
    assert not Verdict("x", float("nan"), 1.25).holds


def test_medians_and_ratios():
    """A ratio is the median over rounds, each of which ran both; one bad round of the machine's decides nothing."""
    rounds = {OURS: [{"x": 10.0}, {"x": 90.0}, {"x": 12.0}], BARE: [{"x": 10.0}, {"x": 10.0}, {"x": 10.0}]}

    assert 12.0 == middle(rounds[OURS], "x")
    assert 1.2 == ratio({"polling": rounds}, "polling", "x", BARE)
    assert 500.0 == per_thousand(1.5, 3000)


def test_busiest_seconds():
    """Steady is 1; a burst in the window counts, one outside does not."""
    assert 1.0 == busiest([100] * 20, 0, 20)
    assert 1.0 == busiest([900] + [100] * 20, 1, 21)
    assert pytest.approx(3.0) == busiest([100] * 5 + [500] * 5 + [100] * 20, 0, 30)


def test_tables():
    """Columns are aligned, and what was not measured is a dash."""
    text = comparison(found())

    assert 1 == len({len(line) for line in text.splitlines()})
    assert "| 250 " in text
    assert " - " in text
    assert ["| a  | b |", "|----|---|", "| cc | d |"] == table([["a", "b"], ["cc", "d"]]).splitlines()


def test_runs_carry_their_end():
    """Each of the three APIs says of the same run that it is over from its end on, and not before."""
    number = run_number(1000.25, 17)
    cases = [
        (f"{CML_PATH}/{number}", b"", b"ENGINE_RUNNING", b"ENGINE_SUCCEEDED"),
        (DATABRICKS_PATH, f'{{"run_id": {number}}}'.encode(), b"RUNNING", b"TERMINATED"),
        (f"{DBT_PATH}{number}/", b"", b'"status": 3', b'"status": 10'),
    ]

    assert 1000.25 == end_of(number)
    for target, body, before, after in cases:
        assert before in answer("GET", target, body, 1000.0)
        assert after in answer("GET", target, body, 1000.25)


def test_delay_of_fixed_looks():
    """A look at once and one each interval: a run of 31 s is told at the third look of 30 s."""
    assert 29.0 == delays.delay_of_fixed_looks(31.0, 30.0)
    assert 0.0 == delays.delay_of_fixed_looks(60.0, 60.0)


@pytest.mark.parametrize("length", delays.LENGTHS)
def test_delay_promise(length):
    """The mean over many runs is at most 6 percent of the length plus a second, and never above half the interval."""
    told = [delays.our_delay(length * (0.9 + 0.2 * at / 200)) for at in range(200)]
    mean = sum(told) / len(told)

    assert min(told) >= 0.0
    assert mean <= 0.06 * length + 1.0
    assert mean <= delays.INTERVALS[OURS] / 2 + 1.0
    assert max(told) <= delays.INTERVALS[OURS] + 1.0


def test_server_counts_what_comes(tmp_path):
    """Requests and connections over TLS, by a client that knows the authority."""
    aiohttp = pytest.importorskip("aiohttp")
    from tests.bench.processes import Certificates
    from tests.bench.server import Counts, listen, port_of

    certificates = Certificates.make(tmp_path)
    counts = Counts()

    async def ask():
        import ssl

        server = await listen(str(certificates.server), counts)
        context = ssl.create_default_context(cafile=str(certificates.authority))
        connector = aiohttp.TCPConnector(ssl=context, limit=1)
        async with aiohttp.ClientSession(connector=connector) as session:
            url = f"https://127.0.0.1:{port_of(server)}{CML_PATH}"
            statuses = []
            for number in (run_number(1.0, 1), run_number(4e9, 2)):
                async with session.get(f"{url}/{number}") as response:
                    statuses.append((await response.json())["status"])
            async with session.post(url, json={}) as response:
                await response.json()
        server.close()
        await asyncio.sleep(0.05)
        return statuses

    assert ["ENGINE_SUCCEEDED", "ENGINE_RUNNING"] == asyncio.run(ask())
    assert (3, 1, 1, 1) == (counts.requests, counts.opened, counts.most_open, len(counts.posts))
    counts.forget()
    assert (0, []) == (counts.requests, counts.to_json()["by_second"])
