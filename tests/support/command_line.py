"""Runs the command line in the process of a test."""

import gc
import os
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tagferry.cli import COMMANDS, main
from tagferry.cli.commands import NAMES, load, subcommands


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


class CommandLine:
    """Runs commands, as a shell does.

    Args:
        capture: captures what they print.
    """

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture

    def run(self, *arguments: str) -> Ended:
        """Run a command; return how it ended."""
        umask = os.umask(0)
        os.umask(umask)
        self._capture.readouterr()
        code: Any = 0
        try:
            main(list(arguments))
        except SystemExit as ended:
            code = ended.code
        finally:
            # Commands change the process that they normally have for themselves.
            os.umask(umask)
            gc.enable()
            sys.stdout.flush()
        shown = self._capture.readouterr()
        return Ended(int(code or 0), shown.out, shown.err)

    def refuse(self, *arguments: str) -> str:
        """Run a command with wrong usage; return the one sentence that it prints."""
        ended = self.run(*arguments)
        assert (ended.code, ended.out) == (2, ""), (arguments, ended)
        assert ended.err.startswith("error: "), (arguments, ended)
        assert ended.err.count("\n") == 1, (arguments, ended)
        return ended.err.removeprefix("error: ").removesuffix("\n")


def command_paths() -> list[tuple[str, ...]]:
    """Return the names of every command, with those of its groups: `("job", "list")`."""
    assert set(COMMANDS) == {"copy", "sync", *NAMES}
    found: list[tuple[str, ...]] = [("copy",), ("sync",)]
    for name in NAMES:
        found += _below((name,), load(name))
    return found


def _below(path: tuple[str, ...], command: Any) -> Iterator[tuple[str, ...]]:
    if not subcommands(command) or command.invoke_without_command:
        yield path
    for name, one in subcommands(command).items():
        yield from _below((*path, name), one)
