"""The wire corpus through h1core and its peers, and docs/verdicts.md of where they differ: `python -m fuzz.verdicts`.

Measures every library of peers.py that is installed (`pip install -e .[test,peers]`, somewhere), keeps in verdicts.json
what was measured before of any other, and writes the page. tests/fuzz/test_verdicts.py holds all three together.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill

from fuzz.peers import PEERS, READERS, is_installed, version
from fuzz.verdict_reasons import REASONS, Reason, reasons_for
from tests.corpus_files import Case, load

RECORD = Path(__file__).parent / "verdicts.json"
PAGE = Path(__file__).parent.parent / "docs" / "verdicts.md"

INTRODUCTION = """\
# Verdicts

What h1core makes of the wire corpus (`tests/corpus/`), beside what other parsers for Python servers make of it: every
case on which they differ, under the reason. *accepts 2* means that two whole requests came out and nothing is left
open; *refuses* that the library raised or answered with an error, *after 1* that a request came out before; *waits*
that it wants more bytes; *reads otherwise* that a method, target or body came out differently. A row says `·` where a
peer agrees with h1core.

The peers are driven as servers drive them that answer at once (`fuzz/peers.py`), with their defaults. They are
libraries for servers that may add checks of their own; a difference is no bug of theirs by itself, and where the RFC
leaves a choice, the reason says so. The corpus was written for h1core, so that the number of differences measures
nothing.

Made from `fuzz/verdicts.json`, which holds what was measured, and `fuzz/verdict_reasons.py` by
`python -m fuzz.verdicts`; a test holds them together.

"""


@dataclass(slots=True)
class Record:
    """What was measured: the version of each library, and for each case its verdicts by library."""

    versions: dict[str, str]
    verdicts: dict[str, dict[str, str]]


@dataclass(frozen=True, slots=True)
class Difference:
    peer: str
    case: str
    ours: str
    theirs: str
    reasons: tuple[Reason, ...]


def cases() -> dict[str, Case]:
    return {case.name: case for case in load("valid") + load("invalid")}


def verdict(library: str, case: Case) -> str:
    """What a library makes of a case, in words."""
    read = READERS[library](case.wire, case.eof)
    count = len(read.messages)
    text = f"accepts {count}" if read.end == "accepts" else f"{read.end} after {count}" if count else read.end
    expected = [(message.method, message.target, message.body) for message in case.requests]
    shared = min(count, len(expected))
    return text if read.messages[:shared] == expected[:shared] else f"{text}, reads otherwise"


def measure(before: Record) -> Record:
    """Ask every library that is installed; the others say what they said before."""
    asked = [library for library in READERS if is_installed(library)]
    versions = {name: version(name) if name in asked else before.versions[name] for name in PEERS}
    verdicts = {
        name: {
            library: verdict(library, case) if library in asked else before.verdicts[name][library]
            for library in READERS
        }
        for name, case in cases().items()
    }
    return Record(versions, verdicts)


def differences(record: Record) -> Iterator[Difference]:
    for name, case in cases().items():
        said = record.verdicts[name]
        for peer in PEERS:
            if said[peer] != said["h1core"]:
                reasons = tuple(reasons_for(peer, name, case.reason))
                yield Difference(peer, name, said["h1core"], said[peer], reasons)


def page(record: Record) -> str:
    """The page as it has to be."""
    found = list(differences(record))
    return INTRODUCTION + "".join([*summary(record, found), *(section(reason, record, found) for reason in REASONS)])


def summary(record: Record, found: list[Difference]) -> Iterator[str]:
    ways = ["accepts what h1core refuses", "waits where h1core refuses", "refuses what h1core accepts", "otherwise"]
    yield f"| of {len(record.verdicts)} cases | {' | '.join(f'{peer} {record.versions[peer]}' for peer in PEERS)} |\n"
    yield "| --- |" + " ---: |" * len(PEERS) + "\n"
    counts = Counter((way(difference), difference.peer) for difference in found)
    agreed = {peer: len(record.verdicts) - sum(difference.peer == peer for difference in found) for peer in PEERS}
    yield f"| agrees with h1core | {' | '.join(str(agreed[peer]) for peer in PEERS)} |\n"
    for kind in ways:
        yield f"| {kind} | {' | '.join(str(counts[kind, peer]) for peer in PEERS)} |\n"


def way(difference: Difference) -> str:
    ours, theirs = difference.ours.split()[0], difference.theirs.split()[0]
    if ours == "refuses" and theirs in ("accepts", "waits"):
        return f"{theirs} {'what' if theirs == 'accepts' else 'where'} h1core refuses"
    return "refuses what h1core accepts" if (ours, theirs) == ("accepts", "refuses") else "otherwise"


def section(reason: Reason, record: Record, found: list[Difference]) -> str:
    """The cases that differ for a reason, with the section of the RFC that decides each."""
    all_cases = cases()
    theirs = {(each.case, each.peer): each.theirs for each in found if reason in each.reasons}
    lines = [f"\n## {reason.title}\n\n{fill(reason.text, 120, break_on_hyphens=False)}\n\n"]
    lines.append(f"| case | decided by | h1core | {' | '.join(PEERS)} |\n| --- | --- | --- |{' --- |' * len(PEERS)}\n")
    for name in sorted({case for case, _ in theirs}):
        # A peer that differs here for another reason stands under that one.
        cells = " | ".join(theirs.get((name, peer), "·") for peer in PEERS)
        case = all_cases[name]
        kind = "invalid" if case.reason else "valid"
        lines.append(f"| `{kind}/{name}` | {case.source} | {record.verdicts[name]['h1core']} | {cells} |\n")
    return "".join(lines)


def read_record() -> Record:
    return Record(**json.loads(RECORD.read_text("utf-8")))


def write_record(record: Record) -> None:
    """One line for each case, so that a change of one is a change of a line."""
    rows = ",\n".join(f"    {json.dumps(name)}: {json.dumps(said)}" for name, said in record.verdicts.items())
    RECORD.write_text(
        f'{{\n  "versions": {json.dumps(record.versions)},\n  "verdicts": {{\n{rows}\n  }}\n}}\n', "utf-8"
    )


if __name__ == "__main__":
    measured = measure(read_record() if RECORD.exists() else Record({}, {}))
    write_record(measured)
    PAGE.write_text(page(measured), "utf-8")
    missing = [name for name in PEERS if not is_installed(name)]
    print(f"{PAGE} is written{'; kept as it was: ' + ', '.join(missing) if missing else ''}")
