"""Writes the figures of docs/performance.md, and its plots, from what benchmarks/results holds.

python benchmarks/report.py [--no-plots | --check]

What stands between a line `<!-- figures: NAME -->` and the next `<!-- end -->` is replaced; the rest of the page is
written by hand. Prints the bars. Plots need matplotlib (the extra `plots`). measure.py makes the results. With --check
nothing is written, and the status is 1 unless the page has the figures of the results.
"""

import argparse
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import results
from bars import Figures, Loss, Verdict, losses, verdicts
from candidates import SERVERS
from loads import LOADS

PAGE = results.HERE.parent / "docs" / "performance.md"
PLOTS = PAGE.parent / "performance"
PART = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(columns: Iterable[str], rows: Iterable[Iterable[object]], rule: str = "---:") -> str:
    names = list(columns)
    lines = [names, ["---", *(rule for _ in names[1:])], *rows]
    return "".join(f"| {' | '.join(str(cell) for cell in line)} |\n" for line in lines)


def bars_table(found: Iterable[Verdict]) -> str:
    rows = [(each.what, each.bar, each.measured, each.by_cpu, "yes" if each.is_met else "**no**") for each in found]
    return table(("what", "bar", "measured", "by processor time", "met"), rows)


def losses_table(found: list[Loss]) -> str:
    """One row for each pair, with the loads at which the peer is faster."""
    pairs: dict[tuple[str, str], list[str]] = {}
    for loss in found:
        by_cpu = f" ({loss.by_cpu:.2f})" if loss.by_cpu else ""
        pairs.setdefault((loss.ours, loss.peer), []).append(f"{loss.load} {loss.times:.2f}{by_cpu}")
    rows = [(ours, peer, "; ".join(loads)) for (ours, peer), loads in pairs.items()]
    return (
        table(("h1core", "is slower than", "at, times (by processor time)"), rows, "---")
        if rows
        else "Nowhere in this run.\n"
    )


def core_table(core: dict[str, Any]) -> str:
    streams = core["microseconds"]
    libraries = list(dict.fromkeys(name for row in streams.values() for name in row))
    rows = [(name, *(f"{row[name]:.2f}" if name in row else "–" for row in streams.values())) for name in libraries]
    return table(("µs for an exchange", *streams), rows)


def servers_table(servers: dict[str, Any], figure: str, write: Callable[[float], str]) -> str:
    """One figure of every server at every load."""
    loads = [load for load in LOADS if load in servers]
    rows = [
        (name, *(write(servers[load][name][figure]) if name in servers[load] else "" for load in loads))
        for name in SERVERS
        if any(name in servers[load] for load in loads)
    ]
    return table(("", *loads), rows)


def thousands(rate: float) -> str:
    return f"{rate / 1000:.1f}"


def few_digits(figure: float) -> str:
    return "–" if not figure else f"{figure:.1f}" if figure < 100 else f"{figure:.0f}"


def idle_table(servers: dict[str, Any]) -> str:
    rows = []
    for name, row in servers.get("idle", {}).items():
        without, beside = row["without"], row["beside"]
        ratio = f"{beside['rate'] / max(without['rate'], 1):.2f}"
        by_cpu = f"{without['cpu_us'] / max(beside['cpu_us'], 0.01):.2f}"
        rows.append((name, thousands(without["rate"]), thousands(beside["rate"]), ratio, by_cpu, row["bytes"]))
    return table(("", "without", "beside", "ratio", "by processor time", "bytes for each"), rows)


def errors_list(servers: dict[str, Any]) -> str:
    """What went wrong in any turn, for a rate is worth nothing where answers are errors."""
    lines = [
        f"- {name}, {load}: {row['errors']}\n"
        for load in LOADS
        for name, row in servers.get(load, {}).items()
        if row["errors"]
    ]
    return "".join(lines) or "No answer was an error, and no connection failed.\n"


def growth_table(growth: dict[str, Any]) -> str:
    rows = []
    for name, row in growth["subjects"].items():
        sizes, us = row["sizes"], row["us"]
        found = f"{us[0]:.1f} µs at {sizes[0]}, {us[-1]:.1f} at {sizes[-1]}"
        rows.append((name, row["verdict"], found))
    return table(("what grows", "cost is", "for example"), rows)


def setting(core: dict[str, Any], servers: dict[str, Any]) -> str:
    how, core_how = servers["measured"], core["measured"]
    versions = ", ".join(f"{name} {version}" for name, version in servers["versions"].items())
    return (
        f"h1core at `{servers['h1core']}` on {servers['on']}; {versions}. Servers: {how['rounds']} rounds of"
        f" {how['seconds']} s with {how['connections']} connections; core: {core_how['rounds']} rounds of"
        f" {core_how['exchanges']} exchanges.\n"
    )


def parts() -> dict[str, str]:
    """What stands between the markers, by name."""
    core, servers, growth = results.read("core"), results.read("servers"), results.read("growth")
    figures = Figures(core, servers)
    return {
        "setting": setting(core, servers),
        "bars": bars_table(verdicts(figures)),
        "losses": losses_table(list(losses(figures))),
        "core": core_table(core),
        "rates": servers_table(servers, "rate", thousands),
        "cpu": servers_table(servers, "cpu_us", few_digits),
        "p99": servers_table(servers, "p99_ms", few_digits),
        "errors": errors_list(servers),
        "idle": idle_table(servers),
        "growth": growth_table(growth),
    }


def page(text: str) -> str:
    """The page with its figures as the results have them. Raises KeyError for a name that is none."""
    found = parts()
    return PART.sub(lambda part: f"{part[1]}\n{found[part[2]]}\n{part[3]}", text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-plots", action="store_true", help="leave the plots as they are")
    parser.add_argument("--check", action="store_true", help="only say whether the page is up to date")
    options = parser.parse_args()
    text = PAGE.read_text("utf-8")
    if options.check:
        return int(page(text) != text)
    PAGE.write_text(page(text), "utf-8")
    if not options.no_plots:
        import plots

        plots.draw(Path(PLOTS))
    print(parts()["bars"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
