"""The parser of commands that scripts run often: the standard library's, which starts faster than typer."""

import argparse
import os
from collections.abc import Sequence
from typing import NoReturn

USAGE = 2
"""The exit code for wrong usage."""


class Parser(argparse.ArgumentParser):
    """A parser of one command's arguments.

    Args:
        command: the name of the command.
        description: what it does.
        usage: its positional arguments.
        epilog: more text, at the end of the help.
    """

    def __init__(self, command: str, *, description: str, usage: str, epilog: str = "") -> None:
        super().__init__(
            prog=f"tagferry {command}",
            usage=f"tagferry {command} [OPTIONS] {usage}",
            description=description,
            epilog=epilog,
            allow_abbrev=False,
            formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=32, width=100),
        )

    def add_from_environment(self, *names: str, variable: str, help: str) -> None:  # noqa: A002 - as in argparse
        """Add a mandatory option that may be in an environment variable instead."""
        value = os.environ.get(variable)
        text = f"{help} [env var: {variable}]"
        self.add_argument(*names, default=value or None, required=not value, help=text)

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse arguments, options before, between or after the others."""
        return self.parse_intermixed_args(arguments)

    def error(self, message: str) -> NoReturn:
        """Print an error and exit."""
        self.exit(USAGE, f"error: {message}; see: {self.prog} --help\n")


def number(text: str, *, lowest: int, highest: int) -> int:
    """Parse a number within these limits; for `functools.partial` as the type of an option."""
    try:
        value = int(text)
    except ValueError:
        value = lowest - 1
    if not lowest <= value <= highest:
        raise argparse.ArgumentTypeError(f'must be a number, {lowest} to {highest}: got "{text}"')
    return value
