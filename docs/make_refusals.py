"""Write docs/refusals.md from `RefuseReason`: `.venv/bin/python docs/make_refusals.py`."""

from pathlib import Path

from h1core import RefuseReason

PAGE = Path(__file__).parent / "refusals.md"

INTRODUCTION = """\
# What is refused

Every reason why h1core itself answers a peer and ends the connection. Sentence and source are the body of the answer,
and what `Refused.reason` says to a log. No option softens a row. Each has a case in `tests/corpus/invalid/`, one byte
beside a message that is accepted. What the RFCs ask, and where this goes further, is in
[conformance.md](conformance.md).

Made from `h1core/errors.py` by `docs/make_refusals.py`; a test holds the two together.

| reason | status | what the peer and the log are told | source |
| --- | --- | --- | --- |
"""


def page() -> str:
    """The page as it has to be."""
    rows = (f"| `{row.name}` | {row.status} | {row.text} | {row.source} |\n" for row in RefuseReason)
    return INTRODUCTION + "".join(rows)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
