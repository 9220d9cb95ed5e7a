"""Runs the measurements, prints a table of medians and ratios, and can keep it.

Peers take turns within each round, so that a machine that drifts drifts for all of them. A ratio
is the peer's figure over ours in the same round: above 1 we are better.
"""

import argparse
import json
import os
import platform
import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.alone import ALONE, Alone
from benchmarks.peers import PEERS, is_installed
from benchmarks.quantities import QUANTITIES, WORKERS, Quantity, import_time

OURS = "mirai"


def nothing_of_main(x: int) -> int:
    return x


def measure(quantity: Quantity, peers: Sequence[str], rounds: int) -> dict[str, list[float]]:
    """Return each peer's figures, one per round."""
    figures: dict[str, list[float]] = {name: [] for name in peers}
    with ExitStack() as stack:
        warm: dict[str, Any] = {}
        if quantity.warm:
            warm = {name: stack.enter_context(PEERS[name](WORKERS)) for name in peers}
        for _ in range(rounds):
            for name in peers:
                figures[name].append(quantity.measure(warm.get(name, name)))
    return figures


def ratios(figures: dict[str, list[float]], peer: str) -> list[float]:
    """Return the peer's figure over ours, round by round."""
    return [theirs / ours for theirs, ours in zip(figures[peer], figures[OURS], strict=True)]


def row(quantity: Quantity, figures: dict[str, list[float]]) -> list[str]:
    """Return a line of the table for each peer."""
    lines = []
    ours = statistics.median(figures[OURS])
    for peer in figures:
        if peer == OURS:
            continue
        values = ratios(figures, peer)
        must = quantity.must.get(peer)
        lines.append(
            f"{quantity.name:34} {peer:22} {ours:>10.3g} {statistics.median(figures[peer]):>10.3g}"
            f" {statistics.median(values):>8.2f}   {min(values):.2f} - {max(values):.2f}"
            + (f"   (must {must:g})" if must else "")
        )
    return lines


def row_alone(alone: Alone, values: list[float]) -> str:
    """Return a line of the table for what has no peer."""
    must = f"{'at most' if alone.at_most else 'must'} {alone.must:g}"
    spread = f"{min(values):.2f} - {max(values):.2f}"
    return f"{alone.name:79} {statistics.median(values):>8.2f}   {spread}   ({must})"


def machine() -> dict[str, object]:
    """Say on what the figures were taken."""
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processors": os.cpu_count(),
        "load": os.getloadavg(),
    }


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="part of a quantity's name")
    parser.add_argument("--json", type=Path, help="keep the figures in this file")
    parser.add_argument("--plot", type=Path, help="draw the ratios into this file (SVG)")
    options = parser.parse_args()
    report: dict[str, Any] = {"machine": machine(), "figures": {}}
    print(report["machine"])
    print(f"{'quantity':34} {'peer':22} {'ours':>10} {'theirs':>10} {'ratio':>8}   spread")
    for quantity in QUANTITIES:
        if options.only not in quantity.name:
            continue
        peers = [OURS, *(name for name in quantity.must if is_installed(name))]
        figures = measure(quantity, peers, options.rounds)
        report["figures"][quantity.name] = figures
        print("\n".join(row(quantity, figures)), flush=True)
    for alone in ALONE:
        if options.only in alone.name:
            values = [alone.measure() for _ in range(options.rounds)]
            report.setdefault("alone", {})[alone.name] = values
            print(row_alone(alone, values), flush=True)
    if options.only in "import":
        added = [import_time(OURS) - import_time("nothing") for _ in range(options.rounds)]
        report["import_seconds"] = added
        print(f"import of mirai_executor adds {statistics.median(added) * 1000:.2f} ms")
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))
    if options.plot:
        draw(report, options.plot)


def draw(report: dict[str, Any], file: Path) -> None:
    """Draw the median ratios, on a logarithmic scale."""
    from matplotlib import pyplot

    pyplot.rcParams["svg.fonttype"] = "none"  # text stays text
    pyplot.rcParams["svg.hashsalt"] = "mirai_executor"  # the same figures, the same file
    bars = [
        (f"{name} / {peer}", statistics.median(ratios(figures, peer)))
        for name, figures in report["figures"].items()
        for peer in figures
        if peer != OURS
    ]
    _, axes = pyplot.subplots(figsize=(9, 0.35 * len(bars) + 1))
    axes.barh([label for label, _ in bars], [value for _, value in bars])
    axes.set_xscale("log")
    axes.axvline(1.0, color="black")
    axes.set_xlabel("their time over ours (above 1 we are faster)")
    axes.invert_yaxis()
    pyplot.tight_layout()
    pyplot.savefig(file, metadata={"Date": None})


if __name__ == "__main__":
    main()
