"""One-day value at risk of the S&P 500, told by history, and how well it held.

The job answers for the days from START_DATE up to, not including, END_DATE: the half-open interval that
Airflow gives a run. Two things are asked of it, and both make sense for a day as for a year:

* The risk as it stands at the interval's end: from the last WINDOW daily returns known on END_DATE, what loss
  will the next day not exceed, with 95 and with 99 % confidence? The sample is a window of trading days that
  trails the end, and not the interval itself: the 250 returns of a year tell something about one day in a
  hundred, the single return of a daily run tells nothing.
* The backtest: on each trading day of the interval, was the loss larger than what was said the evening
  before, from the WINDOW returns before it? A daily run adds one yes or no; over a year, 99 % should fail on
  two or three days.

The historical figure is the loss at that rank of the window and assumes no distribution; the parametric one
takes returns for normal; the expected shortfall is the mean of the losses from the historical figure on.

A holiday inside the table is no error: the figures are those of the last trading day, and the backtest is of
no days. Days outside the table are one: there is nothing to say about them, and the job exits with 2.

Reads from its environment:
    START_DATE, END_DATE   YYYY-MM-DD, required
    CONFIDENCE             levels between 0.5 and 1, comma-separated (default "0.95,0.99")
    WINDOW                 trading days to learn from (default 250)
    PRICES                 table with columns Date and Close, .csv or .csv.gz (default "data/sp500.csv.gz")
    JOB_ARGUMENTS          "--window N" and "--position AMOUNT" (also tells the risk of that amount)
Writes results/START_DATE_END_DATE.json below its working folder, and the same as text to its output.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import itertools
import json
import math
import os
import shlex
import statistics
import sys
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Returns = list[tuple[date, float]]

FEWEST = 30


class InputError(Exception):
    """What was asked cannot be answered, and why."""


class Arguments(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"JOB_ARGUMENTS: {message}")


def day_from(environment: Mapping[str, str], name: str) -> date:
    text = environment.get(name, "")
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InputError(f"{name} must be a date like 2018-02-05, not {text!r}") from None


def whole_number(text: str, name: str) -> int:
    if not text.isdecimal() or int(text) < FEWEST:
        raise InputError(f"{name} must be a number of trading days, at least {FEWEST}, not {text!r}")
    return int(text)


def levels_from(text: str) -> list[float]:
    try:
        levels = [float(part) for part in text.split(",")]
    except ValueError:
        levels = []
    if not levels or not all(0.5 < level < 1 for level in levels):
        raise InputError(f'CONFIDENCE must be levels between 0.5 and 1 like "0.95,0.99", not {text!r}')
    return levels


def read_returns(path: Path) -> Returns:
    """The relative change from one trading day's close to the next, oldest first."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", newline="") as file:
            closes = [
                (datetime.strptime(row["Date"], "%m/%d/%Y").date(), float(row["Close"]))  # noqa: DTZ007  (a day)
                for row in csv.DictReader(file)
            ]
    except FileNotFoundError:
        raise InputError(f"PRICES: there is no file {path}") from None
    closes.sort()
    return [(day, close / before - 1) for (_, before), (day, close) in itertools.pairwise(closes)]


def historical(returns: Sequence[float], level: float) -> float:
    """The smallest loss of the sample that at least `level` of its losses do not exceed."""
    losses = sorted(-change for change in returns)
    return losses[math.ceil(round(level * len(losses), 9)) - 1]


def parametric(returns: Sequence[float], level: float) -> float:
    return statistics.NormalDist.from_samples([-change for change in returns]).inv_cdf(level)


def shortfall(returns: Sequence[float], level: float) -> float:
    worst = historical(returns, level)
    return statistics.fmean(-change for change in returns if -change >= worst)


def value_at_risk(returns: Returns, start: date, end: date, window: int, levels: list[float]) -> dict[str, object]:
    """The figures for the days from `start` up to, not including, `end`."""
    if start >= end:
        raise InputError(f"START_DATE {start} must be before END_DATE {end}")
    first, last = returns[0][0], returns[-1][0]
    if start < first or end > last + timedelta(days=1):
        raise InputError(f"no trading days known from {start} to {end}: prices run from {first} to {last}")
    changes = [change for _, change in returns]
    known = sum(day < end for day, _ in returns)
    days = [at for at, (day, _) in enumerate(returns) if start <= day < end]
    if min([known, *days]) < window:
        usable = f"usable from {returns[window][0]} on" if window < len(returns) else "the table is shorter"
        raise InputError(f"fewer than {window} trading days before {start}: {usable}")
    sample = changes[known - window : known]
    return {
        "start": start.isoformat(),
        "end": end.isoformat(),
        "as_of": returns[known - 1][0].isoformat(),
        "window": window,
        "trading_days": len(days),
        "levels": {
            f"{level:g}": {
                "historical": round(historical(sample, level), 6),
                "parametric": round(parametric(sample, level), 6),
                "expected_shortfall": round(shortfall(sample, level), 6),
                "exceeded": sum(-changes[at] > historical(changes[at - window : at], level) for at in days),
            }
            for level in levels
        },
    }


def report(result: dict[str, object], position: float | None) -> str:
    levels = result["levels"]
    assert isinstance(levels, dict)
    lines = [
        f"S&P 500, {result['start']} to {result['end']} (excluded): trading days: {result['trading_days']}",
        f"one-day value at risk on {result['as_of']}, from {result['window']} returns:",
        "confidence  historical  parametric  shortfall  days exceeded",
    ]
    for level, figures in levels.items():
        lines.append(
            f"{float(level):>10.1%}  {figures['historical']:>10.2%}  {figures['parametric']:>10.2%}"
            f"  {figures['expected_shortfall']:>9.2%}  {figures['exceeded']:>13}"
        )
        if position is not None:
            lines.append(f"            {figures['historical'] * position:,.0f} of {position:,.0f}")
    return "\n".join(lines)


def main(environment: Mapping[str, str]) -> None:
    parser = Arguments(prog="value_at_risk", add_help=False, exit_on_error=False)
    parser.add_argument("--window")
    parser.add_argument("--position", type=float)
    try:
        arguments = parser.parse_args(shlex.split(environment.get("JOB_ARGUMENTS", "")))
    except (argparse.ArgumentError, ValueError) as error:
        raise InputError(f"JOB_ARGUMENTS: {error}") from None
    window = whole_number(arguments.window or environment.get("WINDOW", "250"), "WINDOW")
    levels = levels_from(environment.get("CONFIDENCE", "0.95,0.99"))
    start, end = day_from(environment, "START_DATE"), day_from(environment, "END_DATE")
    returns = read_returns(Path(environment.get("PRICES", "data/sp500.csv.gz")))
    result = value_at_risk(returns, start, end, window, levels)
    print(report(result, arguments.position))
    path = Path("results") / f"{start}_{end}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(f"written to {path}")


if __name__ == "__main__":
    try:
        main(os.environ)
    except InputError as error:
        print(f"value at risk: {error}", file=sys.stderr)
        sys.exit(2)
