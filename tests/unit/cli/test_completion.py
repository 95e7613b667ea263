"""The completion of the command line."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tagferry.cli import COMMANDS
from tagferry.cli.completion import candidates, install
from tests.support.command_line import CommandLine


def values(*words: str) -> list[str]:
    return [value for value, _ in candidates(words)]


def test_commands_and_their_subcommands_are_completed_with_what_they_do():
    assert values("") == list(COMMANDS)
    assert candidates(["reg"]) == [(name, COMMANDS[name]) for name in ("region", "registry")]
    assert values("job", "") == ["list", "show", "wait", "cancel", "retry"]
    assert dict(candidates(["job", "s"]))["show"].startswith("Show a sync job")
    assert values("nope", "") == []


def test_options_of_both_parsers_are_completed():
    assert values("--v") == ["--version"]
    assert values("sync", "team/app:v1", "--dr") == ["--dry-run"]
    assert values("copy", "--no-over") == ["--no-override"]
    assert values("job", "list", "--st") == ["--status", "--state"]
    assert "--endpoint" in values("user", "list", "--")
    assert "--help" in values("user", "list", "--")


def test_known_values_are_completed_and_others_are_left_to_the_shell():
    assert values("org", "grant", "cn-north-4/team", "ci", "m") == ["manage"]
    assert values("--show-completion", "") == ["bash", "zsh", "fish"]
    assert values("copy", "--ca-file", "") == []
    assert values("job", "list", "--status", "=", "fa") == values("job", "list", "--status=fa")


def test_only_the_program_itself_has_the_options_of_completion(cli: CommandLine):
    assert cli.run("--show-completion", "bash").out.startswith("_tagferry() {")
    assert "tagferry job has no option" in cli.refuse("job", "--install-completion")
    assert cli.refuse("--show-completion", "tcsh").startswith(
        '--show-completion: needs the name of a shell: bash, zsh, fish: got "tcsh"'
    )


def test_an_installation_is_repeatable_and_keeps_the_shells_own_files(
    cli: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".bashrc").write_text("alias ll='ls -l'")
    for shell in ("bash", "bash", "zsh", "fish"):
        ended = cli.run("--install-completion", shell)
        assert (ended.code, ended.err) == (0, "")

    lines = (tmp_path / ".bashrc").read_text().splitlines()
    assert lines == ["alias ll='ls -l'", "source ~/.local/share/bash-completion/completions/tagferry"]
    assert (tmp_path / ".zfunc/_tagferry").read_text().startswith("#compdef tagferry\n")
    assert (tmp_path / ".config/fish/completions/tagferry.fish").exists()


@pytest.fixture
def shell_environment(tmp_path: Path) -> dict[str, str]:
    """The environment of a shell with an own home, in which `tagferry` runs these sources."""
    program = tmp_path / "bin" / "tagferry"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m tagferry "$@"\n')
    program.chmod(0o755)
    path = f"{program.parent}:{os.environ['PATH']}"
    return {"HOME": str(tmp_path), "PATH": path, "TERM": "dumb", "LANG": "C.UTF-8"}


def shell(*command: str, environment: dict[str, str]) -> list[str]:
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=100, check=True, stdin=subprocess.DEVNULL
    )
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_after_the_installation(tmp_path: Path, shell_environment: dict[str, str]):
    install("bash", tmp_path)
    script = """
        source ~/.bashrc
        COMP_WORDS=(tagferry job "$1"); COMP_CWORD=2
        $(complete -p tagferry | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    found = shell("bash", "--norc", "-c", script, "bash", "ca", environment=shell_environment)
    assert found == ["cancel"]


@pytest.mark.skipif(shutil.which("fish") is None, reason="needs fish")
def test_fish_completes_after_the_installation(tmp_path: Path, shell_environment: dict[str, str]):
    install("fish", tmp_path)
    found = shell("fish", "-c", "complete --do-complete 'tagferry job ca'", environment=shell_environment)
    assert found[0] == "cancel"


@pytest.mark.skipif(shutil.which("zsh") is None, reason="needs zsh")
def test_zsh_loads_the_completion_after_the_installation(tmp_path: Path, shell_environment: dict[str, str]):
    install("zsh", tmp_path)
    script = """
        source ~/.zshrc
        compadd() { shift 4; print -l ${(P)1}; }
        words=(tagferry job ca); CURRENT=3
        autoload +X _tagferry
        _tagferry
    """
    assert shell("zsh", "-f", "-c", script, environment=shell_environment) == ["cancel"]


def test_the_program_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "tagferry", "--version"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("tagferry ")
