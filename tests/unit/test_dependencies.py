"""pyproject.toml declares the packages that the sources import, and the versions of Python that CI tests with."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
OWN = {"tagferry", *(folder.name for folder in ROOT.iterdir())}
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())


def names(requirements: list[Any]) -> set[str]:
    """Return the names of the required distributions, without their extras, versions and included groups."""
    return {normalized(re.split(r"[\[<>=!~; ]", one)[0]) for one in requirements if isinstance(one, str)}


def normalized(name: str) -> str:
    """Return a distribution's name in the form of the packaging specifications."""
    return re.sub(r"[-_.]+", "-", name).lower()


def imported(folder: str) -> set[str]:
    """Return the top-level modules that the sources of a folder import, other than those of Python and our own."""
    modules = {name for file in (ROOT / folder).rglob("*.py") for name in imports(ast.parse(file.read_text("utf-8")))}
    return modules - sys.stdlib_module_names - OWN


def imports(source: ast.Module) -> Iterator[str]:
    """Yield the top-level modules that a module imports anywhere, also within functions."""
    for node in ast.walk(source):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None and not node.level:
            yield node.module.partition(".")[0]


DISTRIBUTIONS = {
    module: {normalized(name) for name in distributions} for module, distributions in packages_distributions().items()
}
OPTIONAL = set().union(*(names(extra) for extra in PROJECT["project"]["optional-dependencies"].values()))
RUNTIME = names(PROJECT["project"]["dependencies"]) | OPTIONAL
DEVELOPMENT = RUNTIME.union(*(names(group) for group in PROJECT["dependency-groups"].values()))


@pytest.mark.parametrize(("folder", "declared"), [("src", RUNTIME), ("tests", DEVELOPMENT)], ids=["src", "tests"])
def test_every_imported_package_is_declared(folder: str, declared: set[str]):
    undeclared = {
        module for module in imported(folder) if not DISTRIBUTIONS.get(module, {normalized(module)}) & declared
    }
    assert undeclared == set()


def test_every_declared_package_is_imported():
    # An extra that is not installed has no modules to look for.
    missing = OPTIONAL - set().union(*DISTRIBUTIONS.values())
    used = set().union(*(DISTRIBUTIONS.get(module, set()) for module in imported("src")))
    assert RUNTIME - missing - used == set()


def test_the_supported_versions_of_python_are_those_that_ci_tests_with():
    classifiers = " ".join(PROJECT["project"]["classifiers"])
    tested = re.findall(r"with Python (\d+\.\d+)", (ROOT / ".ci" / "run").read_text())
    assert re.findall(r"Python :: (\d+\.\d+)", classifiers) == tested
