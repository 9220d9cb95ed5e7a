"""Runs the measurements, prints a table of medians and ratios, and can keep it.

Peers take turns within each round, so that a machine that drifts drifts for all of them. A ratio
is the peer's figure over ours in the same round: above 1 we are better. With ``--busy 0,1,2,4``
it measures beside so many processes that compute, and nothing else.
"""

import argparse
import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.alone import ALONE, Alone
from benchmarks.beside import BESIDE, Beside, Figures, measure_beside
from benchmarks.once import WORKERS
from benchmarks.peers import PEERS, is_installed
from benchmarks.quantities import QUANTITIES, Quantity, import_time

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


def rows_beside(quantity: Beside, count: int, parts: Mapping[str, Figures]) -> list[str]:
    """Return a line of the table for each part and peer, in milliseconds."""
    lines = []
    must = quantity.must.get(count)
    for part, figures in parts.items():
        ours = statistics.median(figures[OURS])
        ideal = f"; {ours / quantity.ideal:.2f} of the ideal" if quantity.ideal else ""
        for peer in figures:
            if peer == OURS:
                continue
            values = ratios(figures, peer)
            lines.append(
                f"{', '.join(filter(None, (quantity.name, part))):27} beside {count}"
                f" {peer:22} {ours * 1e3:>10.4g} {statistics.median(figures[peer]) * 1e3:>10.4g}"
                f" {statistics.median(values):>8.2f}   {min(values):.2f} - {max(values):.2f}"
                + (f"   (must {must:g}{ideal})" if must else "")
            )
    return lines


def measure_all_beside(counts: Sequence[int], only: str, rounds: int) -> dict[str, Any]:
    """Measure beside so many neighbours; return each peer's figures by quantity and number."""
    report: dict[str, Any] = {}
    print(f"{'quantity, in ms':36} {'peer':22} {'ours':>10} {'theirs':>10} {'ratio':>8}   spread")
    for quantity in BESIDE:
        if only not in quantity.name:
            continue
        peers = [OURS, *filter(is_installed, quantity.peers)]
        for count in counts:
            parts = measure_beside(quantity, peers, count, rounds)
            report.setdefault(quantity.name, {})[str(count)] = parts
            print("\n".join(rows_beside(quantity, count, parts)), flush=True)
    return report


def _processor() -> str:
    """Return the name of the processors, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def machine() -> dict[str, object]:
    """Say on what the figures were taken."""
    return {
        "processor": _processor(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "processors": os.cpu_count(),
        "load": os.getloadavg(),
    }


def measure_warm(only: str, rounds: int) -> dict[str, Any]:
    """Measure what one pool can serve in all rounds, and what has no peer."""
    report: dict[str, Any] = {"figures": {}}
    print(f"{'quantity':34} {'peer':22} {'ours':>10} {'theirs':>10} {'ratio':>8}   spread")
    for quantity in QUANTITIES:
        if only not in quantity.name:
            continue
        peers = [OURS, *(name for name in quantity.must if is_installed(name))]
        figures = measure(quantity, peers, rounds)
        report["figures"][quantity.name] = figures
        print("\n".join(row(quantity, figures)), flush=True)
    for alone in ALONE:
        if only in alone.name:
            values = [alone.measure() for _ in range(rounds)]
            report.setdefault("alone", {})[alone.name] = values
            print(row_alone(alone, values), flush=True)
    if only in "import":
        added = [import_time(OURS) - import_time("nothing") for _ in range(rounds)]
        report["import_seconds"] = added
        print(f"import of mirai_executor adds {statistics.median(added) * 1000:.2f} ms")
    return report


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="part of a quantity's name")
    parser.add_argument(
        "--busy",
        default="",
        help="measure only what is measured beside other work: so many processes that compute, "
        "as in 0,1,2,4",
    )
    parser.add_argument("--json", type=Path, help="keep the figures in this file")
    parser.add_argument("--plot", type=Path, help="draw the ratios into this file (SVG)")
    options = parser.parse_args()
    counts = [int(count) for count in options.busy.split(",") if count]
    report: dict[str, Any] = {"machine": machine()}
    print(report["machine"])
    if not counts:
        report |= measure_warm(options.only, options.rounds)
    report["beside"] = measure_all_beside(counts or [0], options.only, options.rounds)
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
        for name, figures in report.get("figures", {}).items()
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
