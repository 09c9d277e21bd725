"""What the targets share: how they are run under atheris, or without it.

A target is a function of bytes that raises when h1core breaks a promise. `python -m fuzz.fuzz_conn FILE…` replays
inputs and needs nothing; without files it runs under atheris (`./setup-venv fuzz`), and where there is none, under the
stand-in of `stand_in.py`, which is no replacement: it only mutates, and keeps what takes new steps.
"""

import argparse
import contextlib
import importlib
import importlib.util
import sys
import tempfile
from collections.abc import Callable, Iterable
from hashlib import sha1
from pathlib import Path
from typing import Any, TypeAlias

from fuzz import stand_in

Target: TypeAlias = Callable[[bytes], None]

CORPUS = Path(__file__).parent / "corpus"
SEED = 20261123
MAX_INPUT_BYTES = 4096


def has_atheris() -> bool:
    return importlib.util.find_spec("atheris") is not None


def atheris() -> Any:
    return importlib.import_module("atheris")


def instrumented(name: str) -> contextlib.AbstractContextManager[object]:
    """Around the imports of a target: h1core counts its branches when `name` is the program that was started."""
    if name != "__main__" or not has_atheris():
        return contextlib.nullcontext()
    manager: contextlib.AbstractContextManager[object] = atheris().instrument_imports(include=["h1core"])
    return manager


def inputs(name: str) -> list[Path]:
    """The inputs that the repository keeps for a target: its corpus, and `regression_*`, what broke h1core once."""
    return sorted((CORPUS / name).iterdir())


def keep(name: str, target: Target, work: Path) -> None:
    """Let the corpus in the repository be the few inputs of it and of a grown one that take all steps of both."""
    old = [path for path in inputs(name) if not path.name.startswith("regression_")]
    everything = {path.read_bytes() for path in [*old, *(work / "corpus").iterdir()]}
    for path in old:
        path.unlink()
    kept = stand_in.worth_keeping(target, everything)
    for data in kept:
        (CORPUS / name / sha1(data).hexdigest()[:16]).write_bytes(data)
    print(f"{name}: {len(kept)} of {len(everything)} inputs are kept")


def main(name: str, target: Target, seeds: Iterable[bytes]) -> None:
    """The command line of a target."""
    parser = argparse.ArgumentParser(prog=f"python -m fuzz.fuzz_{name}")
    parser.add_argument("files", nargs="*", type=Path, help="replay these inputs, and do nothing else")
    parser.add_argument("--minutes", type=float, default=60.0, help="how long to look (60)")
    parser.add_argument("--work", type=Path, help="where findings and the grown corpus go (a new temporary folder)")
    parser.add_argument("--stand-in", action="store_true", help="do without atheris even where it is installed")
    parser.add_argument("--keep", action="store_true", help="only put into fuzz/corpus what is new in --work")
    options = parser.parse_args()
    if options.files:
        for file in options.files:
            target(file.read_bytes())
            print(f"{file}: nothing broke")
        return
    if options.keep:
        keep(name, target, options.work)
        return
    work = options.work or Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
    grown, first, found = work / "corpus", work / "seeds", work / "found"
    for folder in (grown, first, found):
        folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (first / f"{number:04}").write_bytes(seed)
    print(f"{name}: the grown corpus and what is found go to {work}", flush=True)
    if has_atheris() and not options.stand_in:
        # The alarm is of the wall clock: minutes can pass over 40 bytes where the process is stopped now and then.
        flags = [f"-artifact_prefix={found}/", f"-max_len={MAX_INPUT_BYTES}", f"-seed={SEED}", "-timeout=1200"]
        flags += [f"-max_total_time={int(options.minutes * 60)}", "-print_final_stats=1", "-reload=0"]
        flags += [str(grown), str(CORPUS / name), str(first)]
        engine = atheris()
        engine.Setup([sys.argv[0], *flags], target)
        engine.Fuzz()
    else:
        starts = [path.read_bytes() for path in [*first.iterdir(), *inputs(name)]]
        stand_in.run(target, starts, options.minutes * 60, found)
