"""Measures all that docs/performance.md tells, into benchmarks/results: core.py, growth.py, servers.py.

python benchmarks/measure.py [--rounds N] [--seconds S] [--idle N] [--peers-python PYTHON]

About 20 minutes with what is the default; nothing else should run meanwhile. Then: python benchmarks/report.py
"""

import argparse
import os
import subprocess
import sys
import time

from results import FOLDER
from serving import HERE, path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="of servers.py; three times as many of the others")
    parser.add_argument("--seconds", type=int, default=1, help="for each turn of servers.py")
    parser.add_argument("--idle", type=int, default=5000, help="idle connections of servers.py")
    parser.add_argument("--peers-python", default=sys.executable, help="the interpreter that has the peers")
    options = parser.parse_args()
    few, many = ("--rounds", str(options.rounds)), ("--rounds", str(3 * options.rounds))
    turns = ("--seconds", str(options.seconds), "--idle", str(options.idle), "--peers-python", options.peers_python)
    for python, name, arguments in (
        (options.peers_python, "core", many),
        (sys.executable, "growth", many),
        (sys.executable, "servers", (*few, *turns)),
    ):
        began_at = time.monotonic()
        command = [python, str(HERE / f"{name}.py"), *arguments, "--json", str(FOLDER / f"{name}.json")]
        status = subprocess.run(command, env={**os.environ, "PYTHONPATH": path()}, check=False).returncode
        print(f"{name}.py ended with {status} after {time.monotonic() - began_at:.0f} s\n", file=sys.stderr)


if __name__ == "__main__":
    main()
