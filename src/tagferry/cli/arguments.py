"""The parser of commands that scripts run often: the standard library's, which starts faster than typer."""

import argparse
import os
from collections.abc import Sequence
from typing import Any, NoReturn

from tagferry.cli.exit_codes import USAGE, described
from tagferry.cli.usage import spelling, suggestion
from tagferry.printable import printable

_RULES = {
    "expected one argument": "needs a value",
    "expected at least one argument": "needs a value",
    "ignored explicit argument": "takes no value",
}
"""The sentences for argparse's messages, by their beginning."""
_REQUIRED = "the following arguments are required: "
_UNKNOWN = "unrecognized arguments: "


class _Once(argparse.Action):
    """Stores the value of an option, which may be given only once."""

    _is_given = False

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        if option_string is not None and self._is_given:
            raise argparse.ArgumentError(self, "must be given only once")
        self._is_given = option_string is not None
        setattr(namespace, self.dest, values)


class Switch(argparse.BooleanOptionalAction):
    """An option with an opposite, `--no-…`, with which it cannot be combined."""

    _given: str | None = None

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        if self._given not in (None, option_string):
            raise argparse.ArgumentError(None, f"{option_string}: cannot be combined with {self._given}")
        self._given = option_string
        super().__call__(parser, namespace, values, option_string)


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
        self.register("action", None, _Once)
        self._typed: Sequence[str] = ()
        self._variables: dict[str, str] = {}

    def add_from_environment(self, *names: str, variable: str, help: str) -> None:  # noqa: A002 - as in argparse
        """Add a mandatory option that may be in an environment variable instead."""
        value = os.environ.get(variable)
        text = f"{help} [env var: {variable}]"
        self.add_argument(*names, default=value or None, required=not value, help=text)
        self._variables[names[0]] = variable

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse arguments, options before, between or after the others."""
        self._typed = arguments
        return self.parse_intermixed_args(arguments)

    def format_help(self) -> str:
        """Return the help, with the exit codes at its end."""
        return f"{super().format_help()}\n{described()}"

    def error(self, message: str) -> NoReturn:
        """Print an error and exit."""
        self.exit(USAGE, f"error: {printable(self._sentence(message))}; see: {self.prog} --help\n")

    def _sentence(self, message: str) -> str:
        """Return argparse's message with options as they were typed."""
        unknown = self._unknown_option()
        if unknown is not None:
            return f'{self.prog} has no option "{unknown}"{suggestion(unknown, list(self._option_string_actions))}'
        if message.startswith(_REQUIRED):
            missing = message.removeprefix(_REQUIRED).split(", ")[0]
            variable = self._variables.get(missing)
            return f"{missing} is required" + (f" as an option or in {variable}" if variable else "")
        if message.startswith(_UNKNOWN):
            first = message.removeprefix(_UNKNOWN).split()[0]
            return f'{self.prog} {"has no option" if first.startswith("-") else "does not take the argument"} "{first}"'
        if not message.startswith("argument "):
            return message
        name, _, rule = message.removeprefix("argument ").partition(": ")
        if not name.startswith("-"):
            return f"{name} {rule}"
        rule = next((better for start, better in _RULES.items() if rule.startswith(start)), rule)
        return f"{spelling(name.split('/'), self._typed)}: {rule}"

    def _unknown_option(self) -> str | None:
        """Return the first option that was typed and does not exist; argparse reports missing ones before it."""
        for word in self._typed:
            if word == "--":
                break
            name = word.partition("=")[0]
            if word.startswith("--") and name not in self._option_string_actions:
                return name
        return None


def number(text: str, *, lowest: int, highest: int) -> int:
    """Parse a number within these limits; for `functools.partial` as the type of an option."""
    try:
        value = int(text)
    except ValueError:
        value = lowest - 1
    if not lowest <= value <= highest:
        raise argparse.ArgumentTypeError(f'must be a number, {lowest} to {highest}: got "{text}"')
    return value


def seconds(text: str) -> float:
    """Parse a positive number of seconds, as the type of an option."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f'must be a number of seconds, more than 0: got "{text}"')
    return value
