"""What a user gets: the wheel, built through the sdist, installed where there is nothing else."""

import os
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser
from pathlib import Path
from shutil import copytree, ignore_patterns

import pytest

ROOT = Path(__file__).parent.parent
NOT_SOURCE = ignore_patterns(".*", "__pycache__", "build", "dist", "*.egg-info")

# The modules that need an extra, and the name that is missing without it.
NEEDS_TRIO = ("h1core.drivers.trio_", "h1core.testing.trio_")

IMPORT_ALL = """
import importlib, sys
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        print(name, error.name)
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Run `command` to its end and give what it printed. Settings of Python and pip in the environment do not count."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


def source_modules() -> set[str]:
    """The .py files of both trees, under the path that each has in the wheel."""
    core = {str(path.relative_to(ROOT)) for path in (ROOT / "h1core").rglob("*.py")}
    drivers = {"h1core/" + str(path.relative_to(ROOT)) for path in (ROOT / "drivers").rglob("*.py")}
    assert not core & drivers
    return core | drivers


def module_name(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # A copy, since setuptools leaves build/ behind, and would ship from it what was deleted from the tree.
    tree = tmp_path_factory.mktemp("tree") / "h1core"
    copytree(ROOT, tree, symlinks=True, ignore=NOT_SOURCE)
    build = "from setuptools.build_meta import build_sdist; build_sdist('dist')"
    run(sys.executable, "-c", build, cwd=tree)
    [archive] = (tree / "dist").iterdir()
    return archive


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    options = ("--isolated", "--no-build-isolation", "--no-deps", "--no-index", "--wheel-dir", folder)
    run(sys.executable, "-m", "pip", "wheel", *options, sdist, cwd=folder)
    [wheel] = folder.glob("*.whl")
    return wheel


@dataclass
class Installed:
    bin: Path
    empty: Path
    """A folder in which nothing can be imported by accident."""


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("installed")
    empty = folder / "empty"
    empty.mkdir()
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=empty)
    python = folder / "venv" / "bin" / "python"
    options = ("--isolated", "--no-compile", "--no-deps", "--no-index")
    run(sys.executable, "-m", "pip", "--python", python, "install", *options, wheel, cwd=empty)
    return Installed(python.parent, empty)


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def read(wheel: Path, ending: str) -> str:
    """The one file of `wheel` whose name ends so."""
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(ending)]
        return archive.read(name).decode()


def metadata(wheel: Path) -> Message:
    return Parser().parsestr(read(wheel, ".dist-info/METADATA"))


def test_sdist_keeps_both_trees_where_they_are(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames() if name.endswith(".py")}
    for tree in ("h1core", "drivers"):
        assert {name for name in packed if name.startswith(f"{tree}/")} == {
            str(path.relative_to(ROOT)) for path in (ROOT / tree).rglob("*.py")
        }


def test_wheel_holds_every_module_of_both_trees_and_no_other(wheel: Path) -> None:
    assert {name for name in names(wheel) if name.endswith(".py")} == source_modules()


def test_wheel_claims_one_name(wheel: Path) -> None:
    assert read(wheel, ".dist-info/top_level.txt").split() == ["h1core"]
    assert {name.split("/")[0] for name in names(wheel) if ".dist-info/" not in name} == {"h1core"}


def test_wheel_says_that_it_is_typed_and_under_which_licence(wheel: Path) -> None:
    assert "h1core/py.typed" in names(wheel)
    assert read(wheel, "/LICENSE") == (ROOT / "LICENSE").read_text("utf-8")
    assert metadata(wheel)["License-Expression"] == "MIT"


def test_wheel_needs_nothing_at_run_time(wheel: Path) -> None:
    needed = metadata(wheel).get_all("Requires-Dist", [])
    assert [requirement for requirement in needed if "extra ==" not in requirement] == []


def test_every_module_imports_with_nothing_else_installed(installed: Installed) -> None:
    modules = sorted(module_name(path) for path in source_modules())
    missing = run(installed.bin / "python", "-c", IMPORT_ALL, *modules, cwd=installed.empty).splitlines()
    assert missing == [f"{module} trio" for module in modules if module.startswith(NEEDS_TRIO)]


def test_drivers_are_one_module_under_one_name(installed: Installed) -> None:
    question = "import h1core.drivers, importlib.util; print(importlib.util.find_spec('drivers'))"
    assert run(installed.bin / "python", "-c", question, cwd=installed.empty) == "None\n"


@pytest.mark.parametrize("command", [("h1core",), ("python", "-m", "h1core"), ("python", "-m", "h1core.drivers")])
def test_the_command_line_is_installed(command: tuple[str, ...], installed: Installed) -> None:
    program, *arguments = command
    assert "MODULE:NAME" in run(installed.bin / program, *arguments, "--help", cwd=installed.empty)
