"""What a benchmark found, kept as JSON beside what it was found on: small enough to be committed, and to be read."""

import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
FOLDER = HERE / "results"
LIBRARIES = (
    "cheroot granian gunicorn h11 httptools hypercorn trio uvicorn uvloop waitress zttp"  # whose version is told
).split()
VERSIONS = f"""
import importlib.metadata, json, platform
found = {{"CPython": platform.python_version()}}
for name in {LIBRARIES}:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


def write(path: str, command: dict[str, Any], found: dict[str, Any], python: str = sys.executable) -> None:
    """Keep it: how it was measured, on what, and what was found, one entry of an entry a line."""
    head = {"measured": command, "on": machine(), "versions": versions(python), "h1core": revision()}
    lines = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
    for key, value in found.items():
        rows = [f"  {json.dumps(name)}: {json.dumps(row, ensure_ascii=False)}" for name, row in value.items()]
        lines.append(f" {json.dumps(key)}: {{\n" + ",\n".join(rows) + "\n }")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")


def read(name: str) -> dict[str, Any]:
    """What a benchmark has kept in the folder."""
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    return found


def machine() -> str:
    """The processor, how many of them, and the kernel."""
    processor = platform.machine()
    info = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return f"{len(names)} × {names[0] if names else processor}, {platform.system()} {platform.release().split('-')[0]}"


def versions(python: str) -> dict[str, str]:
    said = subprocess.run([python, "-c", VERSIONS], capture_output=True, text=True, check=True).stdout
    found: dict[str, str] = json.loads(said)
    return found


def revision() -> str:
    """The commit that was measured, with a mark when the tree held more than it."""
    asked = ["git", "-C", str(HERE), "describe", "--always", "--dirty", "--abbrev=10"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip() or "unknown"
