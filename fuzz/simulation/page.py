"""A run as a page: time goes down, a lane for each connection, with its states, bytes and deadlines.

One file without anything to load. Each thing that happened is a row of a grid; a state is a bar beside the rows that it
lasted. What is in a byte string is shown in part, and whole when it is pointed at.
"""

from collections.abc import Iterator
from html import escape

from . import report
from .runs import Outcome
from .trace import WORLD, Entry
from .world import START

MOST_ROWS = 4000
PAUSE_S = 0.5
"""A gap of time that is pointed out."""

STATE_HUES = {
    "HEAD": 210, "RECEIVING": 175, "HANDLING": 45, "DUPLEX": 290, "RESPONDING": 265, "DRAINING": 20, "ENDING": 0,
    "SWITCHED": 320, "CLOSED": None,
}  # fmt: skip

STYLE = """
:root { color-scheme: light; --line: #d9dde3; --ink: #1c2430; --soft: #667085; }
* { box-sizing: border-box; }
body { margin: 0; font: 13px/1.35 system-ui, sans-serif; color: var(--ink); background: #f6f7f9; }
header { padding: 14px 20px; background: #fff; border-bottom: 1px solid var(--line); }
h1 { margin: 0 0 4px; font-size: 18px; }
h1 code { font-size: 14px; color: var(--soft); font-weight: normal; margin-left: 8px; }
.bad { color: #fff; background: #b42318; border-radius: 6px; padding: 8px 12px; margin: 8px 0; }
.bad b { font-size: 15px; }
.good { color: #05603a; font-weight: 600; }
details { color: var(--soft); margin-top: 4px; } summary { cursor: pointer; }
details p { margin: 3px 0; max-width: 120ch; overflow-wrap: anywhere; }
.tools { margin-top: 8px; display: flex; gap: 16px; flex-wrap: wrap; }
.legend span { padding: 1px 7px; border-radius: 9px; margin-right: 4px; font-size: 11px; }
main { overflow: auto; height: calc(100vh - var(--top, 170px)); }
.grid { display: grid; width: max-content; min-width: 100%; padding-bottom: 60px; }
.name { position: sticky; top: 0; z-index: 3; background: #fff; border-bottom: 2px solid var(--ink); padding: 5px 8px;
  font-weight: 600; } .name small { display: block; font-weight: normal; color: var(--soft); }
.name.blamed { background: #fee4e2; }
.at { position: sticky; left: 0; z-index: 2; background: #f6f7f9; color: var(--soft); text-align: right;
  padding: 1px 8px 1px 6px; font: 11px/1.5 ui-monospace, monospace; white-space: nowrap; }
.corner { left: 0; z-index: 4; }
.gap { grid-column: 1 / -1; border-top: 1px dashed #98a2b3; color: var(--soft); font-size: 11px;
  padding: 0 8px 3px 110px; margin-top: 5px; }
.lane { border-left: 1px solid var(--line); z-index: 0; }
.state { border-left: 5px solid; margin-left: 1px; z-index: 1; padding-left: 2px; font-size: 9px; font-weight: 600;
  writing-mode: vertical-rl; overflow: hidden; justify-self: start; width: 17px; letter-spacing: .05em; }
.it { z-index: 1; margin: 1px 6px 1px 22px; padding: 1px 6px; border-radius: 4px; max-width: 44ch; overflow: hidden;
  text-overflow: ellipsis; white-space: nowrap; font: 11.5px/1.5 ui-monospace, monospace; background: #fff;
  border: 1px solid var(--line); align-self: start; justify-self: start; }
.it b { font-weight: 600; font-family: system-ui, sans-serif; }
.client { border-left: 3px solid #1570ef; } .server { border-left: 3px solid #039855; justify-self: end; }
.app { border-left: 3px solid #dc6803; background: #fffaeb; } .pool { border-left: 3px solid #7a5af8; }
.world { border-left: 3px solid #b42318; background: #fef3f2; }
.conn { background: none; border-color: transparent; color: var(--soft); padding: 0 4px; font-size: 10.5px; }
.fatal { background: #b42318; color: #fff; border-color: #b42318; white-space: normal; max-width: 60ch; }
.hide-client .client, .hide-server .server, .hide-app .app, .hide-conn .conn { display: none; }
"""

SCRIPT = """
const grid = document.querySelector('.grid');
document.querySelectorAll('input[data-hide]').forEach(box =>
  box.onchange = () => grid.classList.toggle('hide-' + box.dataset.hide, !box.checked));
document.documentElement.style.setProperty('--top', document.querySelector('header').offsetHeight + 'px');
const fatal = document.querySelector('.fatal');
if (fatal) fatal.scrollIntoView({block: 'center', inline: 'center'});
"""


def page(outcome: Outcome, driver: str) -> str:
    """The page of a run that was `detailed`."""
    entries = outcome.world.trace.all
    left_out = max(0, len(entries) - MOST_ROWS)
    return "\n".join(
        (
            "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
            f"<title>h1core simulation, seed {outcome.seed}</title><style>{STYLE}</style></head><body>",
            *_header(outcome, driver, left_out),
            *_grid(outcome, entries[left_out:]),
            f"<script>{SCRIPT}</script></body></html>",
        )
    )


def _header(outcome: Outcome, driver: str, left_out: int) -> Iterator[str]:
    yield f"<header><h1>Seed {outcome.seed}, {driver} driver <code>trace {outcome.hex}</code></h1>"
    violation = outcome.violation
    if violation is None:
        yield f"<div class='good'>Everything held: {outcome.requests} requests, {outcome.simulated_s:.3f} s.</div>"
    else:
        name, sentence = violation.invariant.name, escape(violation.invariant.value)
        yield f"<div class='bad'><b>{name}</b> does not hold: {sentence}.<br>{escape(violation.detail[:600])}</div>"
    yield f"<code>{escape(report.replay_command(outcome, driver))}</code>"
    yield "<details><summary>The run: clients, applications, faults, limits, timeouts</summary>"
    yield from (f"<p>{escape(text)}</p>" for text in report.about(outcome.world))
    yield "</details><div class='tools'><span>"
    for what in ("client", "server", "app", "conn"):
        label = "states and deadlines" if what == "conn" else what
        yield f"<label><input type='checkbox' data-hide='{what}' checked> {label}</label>&ensp;"
    yield "</span><span class='legend'>"
    for state, hue in STATE_HUES.items():
        yield f"<span style='background:{_tint(hue, 88)}'>{state}</span>"
    yield "</span>"
    if left_out:
        yield f"<span>{left_out} earlier rows are left out</span>"
    yield "</div></header>"


def _tint(hue: int | None, lightness: int) -> str:
    return f"hsl(0 0% {lightness - 5}%)" if hue is None else f"hsl({hue} 70% {lightness}%)"


def _grid(outcome: Outcome, entries: list[Entry]) -> Iterator[str]:
    world, violation = outcome.world, outcome.violation
    lanes = [WORLD, *range(len(world.peers))]
    column = {lane: number + 2 for number, lane in enumerate(lanes)}
    columns = f"max-content max-content repeat({len(lanes) - 1}, minmax(26ch, auto))"
    yield f"<main><div class='grid' style='grid-template-columns:{columns}'>"
    yield "<div class='name corner' style='grid-area:1/1'>time</div>"
    for lane in lanes:
        blamed = " blamed" if violation is not None and violation.lane == lane and lane != WORLD else ""
        title = "world" if lane == WORLD else f"c{lane} {world.peers[lane].kind}<small>{_end_of(outcome, lane)}</small>"
        yield f"<div class='name{blamed}' style='grid-area:1/{column[lane]}'>{title}</div>"
    rows = 2
    last_at = START
    states: dict[int, tuple[str, int]] = {}
    for entry in entries:
        if entry.at - last_at > PAUSE_S:
            yield f"<div class='gap' style='grid-row:{rows}'>{entry.at - last_at:.3f} s later</div>"
            rows += 1
        if entry.at != last_at or rows == 2:
            yield f"<div class='at' style='grid-area:{rows}/1'>{entry.at - START:+.6f}</div>"
        last_at = entry.at
        if entry.actor == "conn" and entry.verb == "state":
            yield from _bar(states, entry.lane, column, rows)
            states[entry.lane] = str(entry.detail), rows
        yield _cell(entry, rows, column[entry.lane])
        rows += 1
    for lane in list(states):
        yield from _bar(states, lane, column, rows)
    for lane in lanes:
        yield f"<div class='lane' style='grid-area:2/{column[lane]}/{rows + 1}/{column[lane] + 1}'></div>"
    if violation is not None:
        text = f"{violation.invariant.name}: {violation.detail[:300]}"
        yield f"<div class='it fatal' style='grid-area:{rows}/{column.get(violation.lane, 2)}'>{escape(text)}</div>"
    yield "</div></main>"


def _end_of(outcome: Outcome, lane: int) -> str:
    """Why a connection ended, as far as the story goes; what came of tearing the world down is no part of it."""
    if outcome.world.peers[lane].stream.conn is None:
        return "never accepted"
    reasons = [e.detail for e in outcome.world.trace.all if e.lane == lane and e.verb == "ends because"]
    return str(reasons[-1]).lower().replace("_", " ") if reasons else "open"


def _bar(states: dict[int, tuple[str, int]], lane: int, column: dict[int, int], end: int) -> Iterator[str]:
    """The bar of a state that is over."""
    if lane in states and states[lane][0] != "CLOSED":
        state, begin = states[lane]
        hue = STATE_HUES[state]
        style = f"grid-area:{begin}/{column[lane]}/{end}/{column[lane] + 1}"
        colours = f"border-color:{_tint(hue, 60)};background:{_tint(hue, 92)};color:{_tint(hue, 30)}"
        yield f"<div class='state' style='{style};{colours}' title='{state}'>{state}</div>"


def _cell(entry: Entry, row: int, column: int) -> str:
    detail = entry.detail
    arrow = {"sends": "▶ ", "writes": "◀ ", "reads": "⇥ "}.get(entry.verb, "")
    verb = f"{entry.actor} {entry.verb}" if entry.actor in ("app", "world", "pool") else entry.verb
    if isinstance(detail, bytes):
        shown, whole = f"{len(detail)}: {_text(detail[:80])}", _text(detail[:3000])
    else:
        shown = whole = report.in_words(entry)
    return (
        f"<div class='it {entry.actor}' style='grid-area:{row}/{column}' title='{escape(whole, quote=True)}'>"
        f"<b>{arrow}{escape(verb)}</b> {escape(shown)}</div>"
    )


def _text(data: bytes) -> str:
    return repr(data)[2:-1].replace("\\r\\n", "⏎ ")
