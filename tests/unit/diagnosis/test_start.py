"""The doctor also reports each problem that would refuse a start."""

from pathlib import Path
from typing import Any

import pytest

from tagferry.app.startup.problem import Problem
from tagferry.diagnosis.doctor import diagnose
from tagferry.diagnosis.model import Component, Level
from tagferry.diagnosis.start import check_start, finding_of
from tagferry.settings import Settings
from tests.support.certificates import Authority


def settings(folder: Path, **region: Any) -> Settings:
    return Settings.parse({"data_dir": folder, "regions": {"north": {"listen": "127.0.0.1:5004", **region}}})


@pytest.mark.parametrize(
    ("problem", "level", "message", "fix"),
    [
        (Problem("data_dir", "it is full", "free some space"), Level.PROBLEM, "it is full", "free some space"),
        (Problem("x", "it is old; renew it", severity="warning"), Level.WARNING, "it is old", "renew it"),
        (Problem("x", "it is wrong"), Level.PROBLEM, "it is wrong", "correct it in the configuration"),
        (Problem("x", "it is new", "back it up", "note"), Level.OK, "it is new; back it up", ""),
        (Problem("x", "it runs", severity="note"), Level.OK, "it runs", ""),
    ],
)
def test_a_problem_of_a_start_is_a_finding_with_advice(problem: Problem, level: Level, message: str, fix: str):
    found = finding_of(Component.FILES, problem)

    assert (found.level, found.message, found.fix) == (level, message, fix)


def test_certificates_keys_and_folders_are_checked_as_by_a_start(tmp_path: Path):
    old = Authority().issue(tmp_path / "old.pem", "127.0.0.1", expired=True)
    file = tmp_path / "file"
    file.touch()

    assert check_start(settings(tmp_path)) == []
    (expired,) = check_start(settings(tmp_path, tls_certificate=old, tls_key=old))
    (no_folder,) = check_start(settings(file))
    assert (expired.level, expired.component, expired.subject) == (Level.PROBLEM, Component.FILES, "region north")
    assert "old.pem" in expired.message
    assert no_folder.level is Level.PROBLEM


def test_a_mistyped_variable_of_the_environment_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TAGFERRY_LOGLEVEL", "debug")
    (found,) = check_start(settings(tmp_path))

    assert (found.level, found.component) == (Level.WARNING, Component.CONFIGURATION)
    assert "TAGFERRY_LOG_LEVEL" in found.fix


async def test_all_errors_of_a_configuration_are_found(tmp_path: Path):
    file = tmp_path / "tagferry.toml"
    file.write_text('log_level = "loud"\n[regions.x]\nlisten = "nowhere"\n')
    found = await diagnose(file)

    assert len(found) == 2
    assert {(one.level, one.component) for one in found} == {(Level.PROBLEM, Component.CONFIGURATION)}
