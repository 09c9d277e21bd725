"""The plots of docs/performance.md, as SVG, from what benchmarks/results holds; report.py calls it."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import results
from candidates import SERVERS, Server
from loads import LOADS
from matplotlib import pyplot

FLOOR, OURS, PEER = "#9aa4af", "#1f6feb", "#e09f3e"
LIBRARIES = {"floor": (FLOOR, "|"), "h1core": (OURS, "o"), "h11": ("#8a4f7d", "s"), "httptools": (PEER, "D")}
STYLE = {
    "svg.fonttype": "none",  # text stays text: small files, and they can be searched
    "svg.hashsalt": "h1core",  # the same figures make the same file
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "figure.facecolor": "white",
    "figure.constrained_layout.h_pad": 0.1,
    "figure.constrained_layout.w_pad": 0.1,
}


def draw(folder: Path) -> None:
    """Write every plot into the folder."""
    mpl.use("svg")
    folder.mkdir(exist_ok=True)
    with mpl.rc_context(STYLE):
        for name, figure in (
            ("core", core(results.read("core"))),
            ("servers", servers(results.read("servers"))),
            ("growth", growth(results.read("growth"))),
        ):
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
            pyplot.close(figure)


def core(found: dict[str, Any]) -> Any:
    """A row for each stream, a mark for each library."""
    figure, axis = pyplot.subplots(figsize=(9, 3.2), layout="constrained")
    streams = found["microseconds"]
    for library in next(iter(streams.values())):
        colour, mark = LIBRARIES.get(library, ("#4c956c", "^"))
        costs = [row[library] for row in streams.values()]
        axis.plot(costs, list(streams), mark, color=colour, label=library, markersize=8, markeredgewidth=2)
    axis.set_xscale("log")
    axis.set_xticks([1, 3, 10, 30, 100], ["1", "3", "10", "30", "100 µs"])
    axis.minorticks_off()
    axis.invert_yaxis()
    axis.set_title("One request in, one response out, without sockets (log scale, left is better)")
    axis.grid(axis="both", alpha=0.3)
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return figure


def servers(found: dict[str, Any]) -> Any:
    """A panel for each load and one for idle connections, a bar for each server."""
    names = [name for name in SERVERS if any(name in found[load] for load in LOADS if load in found)]
    panels = [
        (
            load.name,
            {name: row["rate"] / 1000 for name, row in found[load.name].items()},
            "thousand requests/s",
        )
        for load in LOADS.values()
        if load.name in found
    ]
    if "idle" in found:
        sizes = {name: row["bytes"] / 1024 for name, row in found["idle"].items()}
        panels.append(("memory of an idle connection", sizes, "KiB"))
    rows = (len(panels) + 1) // 2
    figure, axes = pyplot.subplots(
        rows, 2, figsize=(11, (0.7 + 0.18 * len(names)) * rows), sharey=True, layout="constrained"
    )
    for axis, (title, figures, unit) in zip(axes.flat, panels, strict=False):
        values = [figures.get(name, 0.0) for name in names]
        bars = axis.barh(names, values, color=[colour(SERVERS[name]) for name in names])
        axis.bar_label(bars, [label(figures.get(name)) for name in names], padding=3, fontsize=8)
        axis.set_title(f"{title}, {unit}")
        axis.margins(x=0.12)
        axis.tick_params(axis="y", length=0)
    axes.flat[0].invert_yaxis()
    return figure


def colour(server: Server) -> str:
    return FLOOR if server.is_floor else OURS if server.is_ours else PEER


def label(figure: float | None) -> str:
    if figure is None:
        return ""
    return f"{figure:.0f}" if figure >= 100 else f"{figure:.1f}" if figure >= 10 else f"{figure:.2f}"


def growth(found: dict[str, Any]) -> Any:
    """A panel for each thing that grows; dashed is what is in proportion to it."""
    subjects = found["subjects"]
    rows = (len(subjects) + 3) // 4
    figure, axes = pyplot.subplots(rows, 4, figsize=(12, 2.6 * rows), layout="constrained")
    for axis in axes.flat[len(subjects) :]:
        axis.remove()
    for axis, (name, row) in zip(axes.flat, subjects.items(), strict=False):
        sizes, costs = row["sizes"], row["us"]
        if row["verdict"] != "flat":
            axis.loglog(sizes, [costs[-1] * size / sizes[-1] for size in sizes], "--", color=FLOOR)
        axis.loglog(sizes, costs, marker="o", color=OURS)
        axis.set(title=name, xlabel=row["unit"] if row["unit"] == "KiB" else f"{row['unit']}s", ylabel="µs")
        axis.set_xticks(sizes, [str(size) for size in sizes])
        axis.minorticks_off()
        axis.set_ylim(1, max(costs) * 10 if row["verdict"] == "flat" else None)
        axis.grid(visible=True, alpha=0.3)
    return figure
