"""`tagferry doctor` prints every finding with its advice, and its exit code shows whether there is a problem."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tagferry import __version__
from tagferry.cli.commands import app
from tagferry.errors import NotFound
from tests.support.processes import free_port


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["doctor", *arguments])


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configuration of a new installation."""
    monkeypatch.delenv("TAGFERRY_CONFIG", raising=False)
    path = tmp_path / "tagferry.toml"
    path.write_text(
        f'data_dir = "data"\n[regions.north]\nlisten = "127.0.0.1:{free_port()}"\n'
        f'[regions.hub]\nregistry = "http://127.0.0.1:{free_port()}"\n'
    )
    return path


def found(*arguments: str) -> tuple[int, dict[str, Any]]:
    result = invoke("--json", *arguments)
    document: dict[str, Any] = json.loads(result.stdout)
    return result.exit_code, document


def test_json_has_a_stable_shape(file: Path):
    code, document = found("--config", str(file))

    assert code == 1
    assert set(document) == {"version", "status", "findings"}
    assert (document["version"], document["status"]) == (__version__, "problem")
    for finding in document["findings"]:
        assert set(finding) == {"level", "component", "subject", "message", "fix"}
        assert finding["level"] in ("ok", "warning", "problem")
        assert bool(finding["fix"]) is (finding["level"] != "ok")


def test_a_registry_that_does_not_run_is_printed_with_its_advice(file: Path):
    result = invoke("--config", str(file))

    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    (place,) = [number for number, line in enumerate(lines) if line.startswith("problem")]
    assert "registry hub" in lines[place]
    assert "connection refused" in lines[place]
    assert lines[place + 1].strip().startswith("fix: check registry in [regions.hub]")
    assert lines[-1].startswith("1 problem, ")


def test_only_the_registries_of_the_named_regions_are_checked(file: Path):
    code, document = found("--config", str(file), "--region", "north")

    assert code == 0
    assert document["status"] == "warning"
    assert "registry" not in {finding["component"] for finding in document["findings"]}


def test_a_region_that_is_not_configured_is_an_error(file: Path):
    result = invoke("--config", str(file), "--region", "south")

    assert isinstance(result.exception, NotFound)
    assert "the configuration has north, hub" in str(result.exception)


def test_nothing_is_created(file: Path):
    invoke("--config", str(file))

    assert [path.name for path in file.parent.iterdir()] == ["tagferry.toml"]


@pytest.mark.parametrize("content", ["regions = 1", "[regions.x]\nlisten = 'nowhere'", "[", "listem = 1"])
def test_of_an_invalid_configuration_only_its_errors_are_found(file: Path, content: str):
    file.write_text(content)
    code, document = found("--config", str(file))

    assert code == 1
    assert document["findings"]
    assert {(found["level"], found["component"]) for found in document["findings"]} == {("problem", "configuration")}


def test_a_missing_configuration_is_a_finding(tmp_path: Path):
    code, document = found("--config", str(tmp_path / "missing.toml"))

    assert code == 1
    assert "tagferry init" in document["findings"][0]["fix"]
