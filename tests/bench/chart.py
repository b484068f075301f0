"""The picture of a bench."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.bench.delays import LENGTHS
from tests.bench.verdicts import (
    BARE,
    BYTES,
    CONNECTIONS,
    DATABRICKS,
    DBT,
    DELAY_MORE,
    DELAY_SHARE,
    NAMES,
    OURS,
    Found,
    middle,
)

if TYPE_CHECKING:
    from pathlib import Path

COLOURS = {OURS: "#0b6e99", BARE: "#8a8f98", DATABRICKS: "#d9822b", DBT: "#b8403a"}


def draw(found: Found, path: Path) -> None:
    """CPU, connections, memory and delay side by side."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(11, 7.5), constrained_layout=True)
    bars = [
        ("CPU per 1,000 polls, ms\n300 waiting runs, a look each second", "polling", "cpu_per_thousand", 1.0, None),
        ("Connections open at most\n300 waiting runs, a look each second", "polling", "most_open", 1.0, CONNECTIONS),
        ("Memory per waiting trigger, KiB", "memory", "bytes", 1 / 1024, BYTES / 1024),
    ]
    for axis, (title, measurement, name, factor, bound) in zip(axes.flat, bars, strict=False):
        who = [client for client in NAMES if found[measurement].get(client)]
        values = [middle(found[measurement][client], name) * factor for client in who]
        drawn = axis.barh([NAMES[client] for client in who], values, color=[COLOURS[client] for client in who])
        labels = [f"{value:,.0f}" if value >= 10 else f"{value:.1f}" for value in values]
        axis.bar_label(drawn, labels, padding=4, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})
        axis.invert_yaxis()
        axis.set_xlim(0, max(values) * 1.15)
        if bound is not None:
            axis.axvline(bound, color="black", linestyle=":", linewidth=1)
            axis.annotate(
                f"bound {bound:.3g}",
                (bound, 1),
                xycoords=("data", "axes fraction"),
                va="top",
                xytext=(3, -2),
                textcoords="offset points",
                fontsize=8,
            )
        axis.set_title(title, fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    axis = axes.flat[3]
    for client, runs in found["delays in virtual time"].items():
        means = runs[0]["mean"]
        lengths = [float(length) for length in means]
        axis.plot(lengths, list(means.values()), marker="o", color=COLOURS[client], label=NAMES[client])
    for client, runs in found.get("delays in real time", {}).items():
        means = runs[0]["mean"]
        lengths = [float(length) for length in means]
        axis.plot(lengths, list(means.values()), marker="x", linestyle="", markersize=9, color=COLOURS[client])
    bounds = [min(DELAY_SHARE * length + DELAY_MORE, 30.0 / 2 + DELAY_MORE) for length in LENGTHS]
    axis.plot(LENGTHS, bounds, color="black", linestyle=":", linewidth=1, label="bound of this provider")
    axis.set_xscale("log")
    axis.set_xticks(ticks := [5, 10, 20, 60, 120, 300, 600], [str(tick) for tick in ticks])
    axis.minorticks_off()
    axis.set_xlabel("length of the run, seconds")
    axis.set_title(
        "Mean delay from the end of a run to its event, seconds\nline: virtual time, cross: real time", fontsize=10
    )
    axis.legend(frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)
