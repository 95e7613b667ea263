"""Standard output that is closed, full, or of another encoding."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command_line import CommandLine

PROGRAM = f"{sys.executable} -m tagferry"


def shell(script: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", script],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("command", ["--version", "--help", "sync --help", "job list --help", "--show-completion zsh"])
def test_output_that_cannot_be_written_is_a_failure(command: str, tmp_path: Path):
    done = shell(f"{PROGRAM} {command} > /dev/full", tmp_path)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ")
    assert "No space left on device" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["--version", "job list --help"])
def test_output_that_is_closed_is_ignored(command: str, tmp_path: Path):
    done = shell(f"{PROGRAM} {command} >&-", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_reader_that_ends_early_is_no_error(tmp_path: Path):
    done = shell(f"{PROGRAM} --help | true; {PROGRAM} job list --help | true", tmp_path)
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize("command", [(), ("job",), ("sync",)], ids=str)
def test_an_error_with_characters_that_a_terminal_would_obey_is_escaped(command: tuple[str, ...], cli: CommandLine):
    assert "--no\\x1b[31mpe" in cli.refuse(*command, "--no\x1b[31mpe")
