"""Runs urllib3's own tests of connections against h1core, on trio and asyncio, and against the server they come with.

    python benchmarks/urllib3_suite.py [FOLDER]

Everything is installed into FOLDER (a temporary one by default), from PyPI: urllib3's source archive, which has the
tests, what they need, and this checkout. The tests are left as they are: urllib3_server.py swaps the server when they
run. Fails when a test that passes with hypercorn does not pass with h1core.
"""

import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

ROOT = Path(__file__).parent.parent
NEEDED = (
    "trio hypercorn quart quart-trio trustme pytest pytest-timeout pytest-socket cryptography PySocks h2 httpx".split()
)
SUITE = [
    f"test/with_dummyserver/test_{name}.py" for name in "connectionpool poolmanager chunked_transfer connection".split()
]
DRIVERS = ["none", "trio", "asyncio"]


def prepare(folder: Path) -> tuple[Path, Path]:
    """Install what the suite needs; return a Python and the folder of the suite."""
    python = folder / "venv" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        pip = [python, "-m", "pip", "-q"]
        subprocess.run([*pip, "install", *NEEDED, ROOT], check=True)
        archive = [*pip, "download", "--no-deps", "--no-binary", "urllib3", "-d", folder, "urllib3"]
        subprocess.run(archive, check=True)
        for path in folder.glob("urllib3-*.tar.gz"):
            subprocess.run(["tar", "xzf", path, "-C", folder], check=True)
    (suite,) = (path for path in folder.glob("urllib3-*") if path.is_dir())
    subprocess.run([python, "-m", "pip", "-q", "install", "--no-deps", suite], check=True)
    return python, suite


def passed_with(driver: str, python: Path, suite: Path) -> set[str]:
    """The names of the tests that pass."""
    report = suite.parent / f"{driver}.xml"
    command = [python, "-m", "pytest", "-q", "-p", "urllib3_server", f"--junitxml={report}", "-W", "ignore", *SUITE]
    environ = os.environ | {
        "H1CORE_DRIVER": driver,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "benchmarks"), str(suite)]),
    }
    done = subprocess.run(command, cwd=suite, env=environ, capture_output=True, text=True, check=False)
    print(driver, *done.stdout.splitlines()[-1:], flush=True)
    served = re.search(r"h1core servers: (\d+)", done.stdout)
    if served is None or (int(served[1]) == 0) != (driver == "none"):
        sys.exit(
            f"h1core was not the server, or was where it should not be:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
    cases = ET.parse(report).iter("testcase")
    return {f"{case.get('classname')}::{case.get('name')}" for case in cases if not list(case)}


def main() -> int:
    """Run the suite three times, and compare."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(sys.argv[1] if len(sys.argv) > 1 else temporary)
        folder.mkdir(exist_ok=True)
        python, suite = prepare(folder)
        expected, *found = (passed_with(driver, python, suite) for driver in DRIVERS)
    missed = {driver: sorted(expected - passed) for driver, passed in zip(DRIVERS[1:], found, strict=True)}
    print(f"{len(expected)} tests pass with hypercorn; with h1core fail: {missed}")
    return int(any(missed.values()) or not expected)


if __name__ == "__main__":
    sys.exit(main())
