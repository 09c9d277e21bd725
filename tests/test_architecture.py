"""The shape of the code: who may import whom, what the core never touches, how long things may get.

A rule is a function from a source file to the sentences to be said about it. Every rule is run over the tree, and over
small sources that break it, since a rule that cannot fail holds nothing.
"""

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

ROOT = Path(__file__).parent.parent

VOCABULARY = "errors config events bounded_dict addresses"
PARTS = (
    VOCABULARY + " http1.timers http1.state http1.date http1.grammar http1.buffer http1.connection_field http1.output "
    "http1.fields http1.head http1.statuses http1.hop_fields http1.framing http1.request_head http1.head_cache "
    "http1.body http1.writer http1.lifecycle"
)
CONN = PARTS + " http1 http1.receiving http1.conn"
CORE = CONN + " app.* server.* h1core"
HOSTS = "drivers.selectors_driver drivers.asyncio_driver drivers.trio_driver"

# Who may import whom; the standard library is not spoken of here. Names are those below h1core, and `h1core` is the
# package itself. `server.*` means server and all in it; an exact row goes before a row with a star; `-name` takes a
# name out again. A row names rows above it, and its own.
MAY_IMPORT = {
    "errors": "",
    "config": "errors",
    "bounded_dict": "",
    "addresses": "errors",
    "http1": "",
    "http1.timers": "",
    "http1.state": "",
    "http1.date": "",
    "events": "errors http1.state http1.timers",
    "http1.grammar": "",
    "http1.buffer": "",
    "http1.connection_field": "",
    "http1.hop_fields": "",
    "http1.statuses": "",
    "http1.output": "errors events",
    "http1.fields": "errors bounded_dict http1.grammar",
    "http1.head": "errors config events http1.grammar http1.fields",
    "http1.framing": "errors config http1.grammar http1.statuses",
    "http1.request_head": "errors config events http1.connection_field http1.fields http1.head http1.framing",
    "http1.head_cache": (
        "errors config events bounded_dict http1.grammar http1.fields http1.framing http1.request_head"
    ),
    "http1.body": "errors config http1.grammar http1.fields http1.head",
    "http1.writer": (
        "errors events bounded_dict http1.state http1.statuses http1.grammar http1.connection_field http1.hop_fields "
        "http1.output http1.framing"
    ),
    "http1.lifecycle": "errors config events http1.state http1.timers http1.buffer http1.output",
    "http1.receiving": PARTS,
    "http1.conn": PARTS + " http1.receiving",
    "app.*": "errors events bounded_dict http1.statuses app.*",
    "server.*": PARTS + " http1.conn server.*",
    "h1core": PARTS + " http1.conn app.exchange server.*",
    "testing.*": CORE + " testing.*",
    "drivers.net.*": CORE + " drivers.net.*",
    "drivers.engine.*": CORE + " drivers.net.* drivers.engine.*",
    "drivers.log_stream": "",
    "drivers.app_interface": CORE + " drivers.engine.files drivers.log_stream",
    "drivers.trio_streams": CORE + " drivers.net.*",
    "drivers.trio_tasks": "",
    "drivers.selectors_driver": CORE + " drivers.net.* drivers.engine.* drivers.app_interface",
    "drivers.asyncio_driver": CORE + " drivers.net.* drivers.engine.* drivers.app_interface",
    "drivers.trio_driver": (
        CORE + " drivers.net.* drivers.engine.* drivers.app_interface drivers.trio_streams drivers.trio_tasks"
    ),
    "drivers.cli.*": CORE + f" drivers.net.* drivers.engine.* drivers.app_interface drivers.cli.* {HOSTS}",
    "drivers.__main__": "drivers.cli.*",
    "drivers": "",
    "testing.selectors_loop": CORE + " drivers.* -drivers.__main__ -drivers.cli.* testing.*",
    "testing.client": CORE + " drivers.* -drivers.__main__ -drivers.cli.* testing.*",
    "testing.asyncio_loop": CORE + " drivers.* -drivers.__main__ -drivers.cli.* testing.*",
    "testing.trio_loop": CORE + " drivers.* -drivers.__main__ -drivers.cli.* testing.*",
    "__main__": "drivers.__main__ drivers.cli.main",
}

IMPURE = frozenset(
    "_thread asyncio concurrent logging multiprocessing os queue random select selectors signal socket socketserver "
    "ssl subprocess tempfile threading time trio".split()
)
IMPURE_CALLS = frozenset({"open", "input", "print", "datetime.now", "datetime.utcnow", "datetime.today", "date.today"})

# Modules of h1core/ that may import something impure all the same: name of the module → (what, reason).
IMPURE_ALLOWED: dict[str, tuple[frozenset[str], str]] = {
    "testing.asyncio_loop": (frozenset({"asyncio", "selectors", "threading"}), "it is an event loop without waiting"),
    "testing.trio_network": (frozenset({"trio"}), "it is a fake of trio's streams"),
    "testing.trio_loop": (frozenset({"trio", "threading"}), "trio in memory has a thread of its own"),
}

MAX_MODULE_LINES = 600
MAX_DRIVER_LINES = 400
MAX_HOST_LINES = 300
MAX_LINES_OF_DRIVERS = 5400
"""4300 with three hosts; 1000 for what holds no worker and ends streams in a drain; 100 for what applications say."""
MAX_FUNCTION_LINES = 90

WAIVER = re.compile(
    r"(?:ruff: *)?noqa|type: *ignore|(?:pyright|mypy): *ignore(?:-errors)?|pragma: *no *(?:cover|branch)", re.I
)
MIN_REASON_WORDS = 2
WAIVED_CODES = re.compile(r"\[[\w, -]*\]|\b[A-Z]+[0-9]+\b")

# Tests that may really sleep: path below tests/ → reason.
SLEEP_ALLOWED: dict[str, str] = {
    "drivers/test_forced_end.py": "two signals at once are one for the system",
    "drivers/test_pauses.py": "a real process is stopped for longer than its deadlines",
}


class Source:
    """A file, parsed. `name` is the dotted name below h1core, or a path for what lies outside of both trees."""

    def __init__(self, name: str, text: str, path: str = "seeded.py") -> None:
        self.name = name
        self.text = text
        self.path = path
        self.is_package = path.endswith("__init__.py")
        self.tree = ast.parse(text, path)

    @property
    def is_core(self) -> bool:
        return not matches("drivers.*", self.name)


Rule: TypeAlias = Callable[[Source], list[str]]
"""The sentences to be said about a file; none when it keeps the rule."""


def module_sources(*trees: str) -> Iterator[Source]:
    """Every module of `h1core` and `drivers`, under the name that it is imported by, without the `h1core.`."""
    for tree in trees:
        for path in sorted((ROOT / tree).rglob("*.py")):
            relative = path.relative_to(ROOT)
            parts = relative.with_suffix("").parts[1 if tree == "h1core" else 0 :]
            name = ".".join(part for part in parts if part != "__init__") or "h1core"
            yield Source(name, path.read_text("utf-8"), str(relative))


def file_sources(*trees: str) -> Iterator[Source]:
    """Every Python file below `trees`, under its path."""
    for tree in trees:
        for path in sorted((ROOT / tree).rglob("*.py")):
            yield Source(str(path.relative_to(ROOT)), path.read_text("utf-8"), str(path.relative_to(ROOT)))


CORE_SOURCES = list(module_sources("h1core"))
SHIPPED_SOURCES = [*CORE_SOURCES, *module_sources("drivers")]
TEST_SOURCES = list(file_sources("tests"))
ALL_SOURCES = [*SHIPPED_SOURCES, *TEST_SOURCES, *file_sources("fuzz", "benchmarks", "examples")]
MODULES = frozenset(source.name for source in SHIPPED_SOURCES)


def matches(pattern: str, name: str) -> bool:
    if pattern.endswith(".*"):
        return name == pattern[:-2] or name.startswith(pattern[:-1])
    return name == pattern


def row_of(name: str) -> str | None:
    """The row of `MAY_IMPORT` that speaks of the module `name`."""
    if name in MAY_IMPORT:
        return name
    return next((row for row in MAY_IMPORT if matches(row, name)), None)


def allows(row: str, name: str) -> bool:
    names = MAY_IMPORT[row].split()
    taken_out = any(matches(pattern[1:], name) for pattern in names if pattern.startswith("-"))
    return not taken_out and any(matches(pattern, name) for pattern in names)


def absolute_imports(source: Source) -> Iterator[tuple[int, str, tuple[str, ...]]]:
    """(line, module, names taken from it) for every import in any scope, relative ones made absolute."""
    package = [] if source.name == "h1core" else source.name.split(".")
    if package and not source.is_package:
        package.pop()
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, ()
        elif isinstance(node, ast.ImportFrom):
            names = tuple(alias.name for alias in node.names)
            base = node.module or ""
            if node.level:
                above = ["h1core", *package[: len(package) - node.level + 1]]
                base = ".".join([*above, node.module] if node.module else above)
            yield node.lineno, base, names


def first_party_imports(source: Source) -> Iterator[tuple[int, str]]:
    """(line, name below h1core) for every module of ours that `source` imports."""
    for line, module, names in absolute_imports(source):
        if module.split(".")[0] != "h1core":
            continue
        base = module.partition(".")[2]
        submodules = [f"{base}.{name}".lstrip(".") for name in names]
        found = [name for name in submodules if name in MODULES or name in MAY_IMPORT]
        yield from ((line, name) for name in found)
        if len(found) < len(names) or not names:
            yield line, base or "h1core"


def calls(source: Source) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every call, with the names that imports brought in spelled out."""
    spelled_out: dict[str, str] = {}
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            spelled_out.update({alias.asname: alias.name for alias in node.names if alias.asname})
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            spelled_out.update({alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names})
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            first, dot, rest = ast.unparse(node.func).partition(".")
            yield node.lineno, spelled_out.get(first, first) + dot + rest


# The rules.


def direction(source: Source) -> list[str]:
    row = row_of(source.name)
    if row is None:
        return [f"{source.path} has no row: add {source.name!r} to MAY_IMPORT, with what it may import"]
    return [
        f"{source.path}:{line} imports {name}: the row {row!r} of MAY_IMPORT does not allow it"
        for line, name in first_party_imports(source)
        if not allows(row, name)
    ]


def one_name(source: Source) -> list[str]:
    """The folder `drivers` is importable from the root of the repository, and would be loaded a second time."""
    return [
        f"{source.path}:{line} imports {module}: the name of that package is h1core.drivers"
        for line, module, _ in absolute_imports(source)
        if matches("drivers.*", module)
    ]


def purity(source: Source) -> list[str]:
    if not source.is_core:
        return []
    allowed = IMPURE_ALLOWED[source.name][0] if source.name in IMPURE_ALLOWED else frozenset()
    impure_imports = [
        f"{source.path}:{line} imports {module}: h1core/ does no I/O, reads no clock, starts no thread"
        for line, module, _ in absolute_imports(source)
        if module.split(".")[0] in IMPURE - allowed
    ]
    impure_calls = [
        f"{source.path}:{line} calls {name}: h1core/ does no I/O and reads no clock"
        for line, name in calls(source)
        if name.removeprefix("datetime.") in IMPURE_CALLS or name in IMPURE_CALLS
    ]
    return impure_imports + impure_calls


def one_grammar(source: Source) -> list[str]:
    if not source.is_core or source.name == "http1.grammar":
        return []
    return [
        f"{source.path}:{line} calls {name}: patterns stand in grammar.py, each under its line of the RFC"
        for line, name in calls(source)
        if name.startswith("re.") and name != "re.escape"
    ]


def sizes(source: Source) -> list[str]:
    found = []
    lines = len(source.text.splitlines())
    most = MAX_MODULE_LINES if source.is_core else MAX_HOST_LINES if source.name in HOSTS.split() else MAX_DRIVER_LINES
    if lines > most:
        found.append(f"{source.path} has {lines} lines, more than {most}: let it answer one question only")
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                where = f"{source.path}:{node.lineno} {node.name}"
                found.append(f"{where} has {lines} lines, more than {MAX_FUNCTION_LINES}: give its steps names")
    return found


def reasons(source: Source) -> list[str]:
    found = []
    for token in tokenize.generate_tokens(io.StringIO(source.text).readline):
        if token.type == tokenize.COMMENT and WAIVER.search(token.string):
            reason = WAIVED_CODES.sub(" ", WAIVER.sub(" ", token.string))
            if len(re.findall(r"[^\W\d_]{2,}", reason)) < MIN_REASON_WORDS:
                where = f"{source.path}:{token.start[0]}"
                found.append(f"{where} waives a check without a reason on its line: {token.string}")
    return found


def no_sleep(source: Source) -> list[str]:
    if source.path.removeprefix("tests/") in SLEEP_ALLOWED:
        return []
    return [
        f"{source.path}:{line} sleeps: wait for what the test is about, or use the fake clock"
        for line, name in calls(source)
        if name == "time.sleep"
    ]


RULES: list[tuple[Rule, list[Source]]] = [
    (direction, SHIPPED_SOURCES),
    (one_name, ALL_SOURCES),
    (purity, CORE_SOURCES),
    (one_grammar, CORE_SOURCES),
    (sizes, SHIPPED_SOURCES),
    (reasons, ALL_SOURCES),
    (no_sleep, TEST_SOURCES),
]


@pytest.mark.parametrize(("rule", "sources"), RULES, ids=[rule.__name__ for rule, _ in RULES])
def test_the_tree_keeps_the_rule(rule: Rule, sources: list[Source]) -> None:
    assert sources
    found = [sentence for source in sources for sentence in rule(source)]
    assert not found, "\n" + "\n".join(found)


def test_the_drivers_do_not_grow() -> None:
    lines = sum(len(source.text.splitlines()) for source in SHIPPED_SOURCES if not source.is_core)
    assert lines <= MAX_LINES_OF_DRIVERS


def part_of_drivers(name: str) -> str:
    part = name.split(".")[1]
    return {"trio_streams": "trio_driver", "trio_tasks": "trio_driver", "__main__": "cli"}.get(part, part)


def test_the_document_lists_the_imports_between_the_parts_of_drivers() -> None:
    arrows = re.findall(r"^(\w+) +──▶ ([\w ]+)$", (ROOT / "ARCHITECTURE.md").read_text("utf-8"), re.MULTILINE)
    listed = {(importer, imported) for importer, names in arrows for imported in names.split()}
    found = {
        (part_of_drivers(source.name), part_of_drivers(imported))
        for source in SHIPPED_SOURCES
        if source.name.startswith("drivers.")
        for _, imported in first_party_imports(source)
        if imported.startswith("drivers.")
    }
    assert listed == {(importer, imported) for importer, imported in found if importer != imported}
    assert len(listed) <= 20


def test_a_row_names_only_rows_above_it_and_its_own() -> None:
    order = list(MAY_IMPORT)
    for position, (row, names) in enumerate(MAY_IMPORT.items()):
        for name in names.split():
            target = row_of(name.removeprefix("-").removesuffix(".*"))
            assert target is not None, f"{row} names {name}, which has no row"
            assert order.index(target) <= position or name.startswith("-"), f"{row} names {name}, which stands below it"


LONG_FUNCTION = "def long() -> None:\n" + "    pass\n" * MAX_FUNCTION_LINES

BREACHES: list[tuple[Rule, str, str]] = [
    (direction, "unheard_of", ""),
    (direction, "errors", "from h1core.config import Limits"),
    (direction, "http1.grammar", "import h1core.errors"),
    (direction, "http1.body", "from h1core.http1 import conn"),
    (direction, "http1.body", "from . import conn"),
    (direction, "http1.body", "from .conn import Conn"),
    (direction, "http1.body", "from h1core import Conn"),
    (direction, "http1.body", "def late():\n    from h1core.http1.conn import Conn"),
    (direction, "http1.conn", "from h1core.server.core import ServerCore"),
    (direction, "http1.conn", "from h1core import drivers"),
    (direction, "http1.conn", "from h1core.drivers.selectors_driver import Server"),
    (direction, "server.core", "from ..drivers import selectors_driver"),
    (direction, "server.core", "from h1core.app.handler import Handler"),
    (direction, "app.wsgi", "from h1core.http1.conn import Conn"),
    (direction, "app.wsgi", "from h1core.drivers.net import listeners"),
    (direction, "testing.clock", "from h1core.drivers import trio_driver"),
    (direction, "drivers.trio_streams", "from h1core.drivers.engine import engine"),
    (direction, "drivers.trio_driver", "from .cli.main import main"),
    (direction, "drivers.trio_driver", "from . import cli"),
    (direction, "drivers.trio_driver", "from .asyncio_driver import Server"),
    (direction, "drivers.engine.pool", "from ..cli import main"),
    (direction, "drivers.engine.pool", "from .. import selectors_driver"),
    (direction, "drivers.net.listeners", "from ..engine import files"),
    (direction, "drivers.app_interface", "from . import selectors_driver"),
    (direction, "drivers.cli.main", "from .. import __main__"),
    (direction, "testing.client", "from h1core.drivers.cli.main import main"),
    (direction, "server.core", "from h1core.http1 import receiving"),
    (one_name, "drivers.cli.main", "import drivers.net.listeners"),
    (one_name, "tests.test_seeded", "from drivers.net import listeners"),
    *((purity, "http1.conn", f"import {module}") for module in sorted(IMPURE)),
    (purity, "http1.conn", "import os.path"),
    (purity, "server.core", "from time import monotonic"),
    (purity, "app.asgi", "def late():\n    import asyncio"),
    (purity, "http1.conn", "from concurrent.futures import Future"),
    (purity, "http1.conn", "open('/etc/passwd')"),
    (purity, "http1.date", "from datetime import datetime\ndatetime.now()"),
    (purity, "http1.date", "import datetime\ndatetime.datetime.now()"),
    (purity, "http1.date", "import datetime as dt\ndt.date.today()"),
    (one_grammar, "http1.head", "import re\nre.compile(b'x')"),
    (one_grammar, "http1.head", "import re as r\nr.match(b'x', b'x')"),
    (one_grammar, "http1.head", "from re import fullmatch\nfullmatch(b'x', b'x')"),
    (sizes, "http1.conn", "\n" * (MAX_MODULE_LINES + 1)),
    (sizes, "drivers.engine.engine", "\n" * (MAX_DRIVER_LINES + 1)),
    *((sizes, host, "\n" * (MAX_HOST_LINES + 1)) for host in HOSTS.split()),
    (sizes, "http1.conn", LONG_FUNCTION),
    (sizes, "http1.conn", "class Conn:\n" + "".join(f"    {line}\n" for line in LONG_FUNCTION.splitlines())),
    (reasons, "http1.conn", "import x  # noqa"),
    (reasons, "http1.conn", "import x  # noqa: F401, E402"),
    (reasons, "http1.conn", "# ruff: noqa: F401"),
    (reasons, "http1.conn", "import x  # type: ignore[import-untyped, no-any-return]"),
    (reasons, "http1.conn", "import x  # type: ignore[import-untyped]  # sorry"),
    (reasons, "http1.conn", "if x:  # pragma: no cover\n    pass"),
    (no_sleep, "tests.test_seeded", "import time\ntime.sleep(1)"),
    (no_sleep, "tests.test_seeded", "import time as t\nt.sleep(1)"),
    (no_sleep, "tests.test_seeded", "from time import sleep\nsleep(1)"),
]


def ids(seeded: list[tuple[Rule, str, str]]) -> list[str]:
    return [f"{rule.__name__}-{name}-{text.strip()[:50]}" for rule, name, text in seeded]


@pytest.mark.parametrize(("rule", "name", "text"), BREACHES, ids=ids(BREACHES))
def test_the_rule_finds_a_breach(rule: Rule, name: str, text: str) -> None:
    assert len(rule(Source(name, text))) == 1


def test_an_unlisted_module_is_told_where_to_go() -> None:
    [sentence] = direction(Source("unheard_of", "", "h1core/unheard_of.py"))
    assert sentence == "h1core/unheard_of.py has no row: add 'unheard_of' to MAY_IMPORT, with what it may import"


def test_a_relative_import_in_a_package_starts_at_the_package() -> None:
    assert direction(Source("server", "from .core import ServerCore", "h1core/server/__init__.py")) == []
    assert len(direction(Source("server", "from ..app import wsgi", "h1core/server/__init__.py"))) == 1


KEPT: list[tuple[Rule, str, str]] = [
    (direction, "http1.conn", "from h1core.http1 import grammar\nfrom h1core.http1.state import State\nimport enum"),
    (direction, "server.core", "from .drain import Drain\nfrom ..http1.conn import Conn"),
    (direction, "drivers.trio_driver", "from h1core import Conn\nfrom h1core.server import ServerCore"),
    (direction, "drivers.trio_driver", "from .net.listeners import bind"),
    (direction, "drivers.cli.main", "from h1core.app import wsgi\nfrom .. import selectors_driver"),
    (direction, "__main__", "from h1core.drivers.__main__ import main"),
    (one_name, "tests.test_seeded", "from h1core.drivers.net import listeners"),
    (purity, "drivers.trio_driver", "import socket, time"),
    (purity, "http1.date", "from datetime import datetime\ndatetime.fromtimestamp(0)"),
    (purity, "http1.conn", "def reopen(timers): timers.open()"),
    (one_grammar, "http1.grammar", "import re\nre.compile(b'x')"),
    (one_grammar, "drivers.net.listeners", "import re\nre.compile(b'x')"),
    (sizes, "http1.conn", "\n" * MAX_MODULE_LINES),
    (sizes, "drivers.trio_streams", "\n" * MAX_DRIVER_LINES),
    *((sizes, host, "\n" * MAX_HOST_LINES) for host in HOSTS.split()),
    (sizes, "http1.conn", LONG_FUNCTION.removesuffix("    pass\n")),
    (reasons, "http1.conn", "import x  # noqa: F401  (imported for its side effect)"),
    (reasons, "http1.conn", "import x  # type: ignore[import-untyped]  # the peer ships no types"),
    (reasons, "http1.conn", "text = '# noqa'"),
    (no_sleep, "tests.test_seeded", "import trio\nasync def wait(): await trio.sleep(1)"),
]


@pytest.mark.parametrize(("rule", "name", "text"), KEPT, ids=ids(KEPT))
def test_the_rule_lets_good_code_pass(rule: Rule, name: str, text: str) -> None:
    assert rule(Source(name, text)) == []
