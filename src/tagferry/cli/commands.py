"""The commands that are built with typer, each imported only when it runs."""

import gc
import importlib
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from tagferry.cli.exit_codes import INTERRUPTED, OK, USAGE, described
from tagferry.cli.usage import spelling, suggestion
from tagferry.errors import Invalid
from tagferry.printable import printable

NAMES = (
    "init",
    "serve",
    "worker",
    "reload",
    "job",
    "tags",
    "locate",
    "demo",
    "user",
    "key",
    "secret",
    "org",
    "region",
    "registry",
    "doctor",
    "audit",
)
# typer's errors have no public names, and are of a copy of click in newer versions.
UsageError: type[Exception] = typer.BadParameter.__bases__[0]


class _Commands(TyperGroup):
    """A group that loads each command from the module of the same name, where it is `app`."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(NAMES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in NAMES:
            return None
        command = load(cmd_name)
        # Imported modules live until exit, so the garbage collector need not scan them.
        gc.freeze()
        return command


app = typer.Typer(
    name="tagferry", cls=_Commands, pretty_exceptions_enable=False, add_completion=False, rich_markup_mode=None
)


@app.callback()
def tagferry() -> None:
    """Copy container images between registries, complete and bit-identical."""


def run(arguments: Sequence[str]) -> int:
    """Run a command; return its exit code. Wrong usage prints one sentence.

    Raises:
        TagferryError: the command failed.
    """
    gc.enable()
    try:
        code = app(list(arguments), prog_name="tagferry", standalone_mode=False)
    except UsageError as error:
        sys.stderr.write(_usage(error, arguments))
        return USAGE
    except Invalid as error:
        raise _respelled(
            error, spelling(_spellings(error.field, arguments), arguments, otherwise=error.field)
        ) from None
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    return code if isinstance(code, int) else OK


def load(name: str) -> Any:
    """Return the command of this name: its help is plain text, and an option that is given twice is refused."""
    command = get_command(importlib.import_module(f"tagferry.cli.{name}").app)
    command.name = name
    _adapt(command)
    return command


def subcommands(command: Any) -> dict[str, Any]:
    """Return the commands of a group by name; none of a single command."""
    return getattr(command, "commands", {})


def _adapt(command: Any) -> None:
    command.rich_markup_mode = None
    # The mark keeps the lines as they are.
    command.epilog = f"\b\n{described()}"
    command.make_parser = partial(_strict_parser, command.make_parser)
    for option in command.params:
        if option.param_type_name == "option" and option.metavar is None and not option.is_flag:
            option.metavar = "NUMBER" if option.type_descriptor.annotation in (int, float) else "TEXT"
    for one in subcommands(command).values():
        _adapt(one)
        # typer would cut the sentence to the width of the terminal.
        one.short_help = one.short_help or _first_sentence(one.help or "")


def _first_sentence(text: str) -> str:
    """Return the first sentence of a docstring in one line."""
    line = " ".join(text.partition("\n\n")[0].split())
    return re.sub(r"(?<=\.) .*", "", line)


def _strict_parser(make_parser: Callable[[Any], Any], context: Any) -> Any:
    parser = make_parser(context)
    parse = parser.parse_args

    def parse_args(args: list[str]) -> Any:
        typed = list(args)
        values, rest, order = parse(args)
        for parameter in order:
            # A switch that is repeated means the same; one with an opposite may not.
            is_switch = getattr(parameter, "is_flag", False) and not parameter.secondary_opts
            is_single = parameter.param_type_name == "option" and not parameter.multiple and not is_switch
            if is_single and order.count(parameter) > 1:
                raise Invalid(spelling(parameter.opts + parameter.secondary_opts, typed), "must be given only once")
        return values, rest, order

    parser.parse_args = parse_args
    return parser


def _spellings(field: str, arguments: Sequence[str]) -> list[str]:
    """Return the spellings of an option of the command that the arguments name, with the command's former options."""
    command = load(arguments[0])
    for word in arguments[1:]:
        command = subcommands(command).get(word, command)
    options = [one for one in command.params if one.param_type_name == "option"]
    own = [name for one in options if field in one.opts for name in one.opts]
    return [*own, *(name for one in options if one.hidden for name in one.opts)] if own else []


def _respelled(error: Invalid, field: str) -> Invalid:
    error.message = f"{field} {error.message.removeprefix(error.field).lstrip()}"
    error.field = field
    return error


def _usage(error: Any, arguments: Sequence[str]) -> str:
    """Return the sentence for wrong usage, or the help of a group without a command."""
    program = error.ctx.command_path if error.ctx is not None else "tagferry"
    if type(error).__name__ == "NoArgsIsHelpError":
        return f"{error.ctx.get_help()}\n"
    return f"error: {printable(_sentence(error, program, arguments))}; see: {program} --help\n"


def _sentence(error: Any, program: str, arguments: Sequence[str]) -> str:
    parameter = getattr(error, "param", None)
    match type(error).__name__:
        case "NoSuchOption":
            known = [name for one in error.ctx.command.params for name in one.opts + one.secondary_opts]
            return f'{program} has no option "{error.option_name}"{suggestion(error.option_name, known)}'
        case "BadOptionUsage":
            takes = "takes no value" if "not take" in error.message else "needs a value"
            return f"{error.option_name}: {takes}"
        case "MissingParameter" if parameter is not None:
            return _missing(parameter)
        case "BadParameter" if parameter is not None:
            is_option = parameter.param_type_name == "option"
            name = f"{spelling(parameter.opts, arguments)}:" if is_option else _argument(parameter)
            return f"{name} {_rule(parameter, error)}"
    if match := re.match(r"No such command '(.*?)'", error.message):
        return f'{program} has no command "{match[1]}"{suggestion(match[1], list(subcommands(error.ctx.command)))}'
    if match := re.match(r"Got unexpected extra arguments? ?\(?s?\)? \((.*)\)", error.message):
        return f'{program} does not take the argument "{match[1]}"'
    if error.message == "Missing command.":
        return f"{program} needs a command: {', '.join(subcommands(error.ctx.command))}"
    return f"{error.message[:1].lower()}{error.message[1:].rstrip('.')}"


def _missing(parameter: Any) -> str:
    if parameter.param_type_name != "option":
        return f"{_argument(parameter)} is required"
    variable = f" as an option or in {parameter.envvar}" if isinstance(parameter.envvar, str) else ""
    return f"{max(parameter.opts, key=len)} is required{variable}"


def _argument(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name).strip("[].…").upper()


def _rule(parameter: Any, error: Any) -> str:
    """Return the rule that a value violates, and the value."""
    value = _value(error)
    got = f': got "{value[:120]}"' if value is not None else ""
    choices = [str(getattr(one, "value", one)) for one in parameter.type_descriptor.choices or ()]
    if choices:
        return f"must be one of {', '.join(choices)}{got}{suggestion(value or '', choices)}"
    if parameter.type_descriptor.annotation in (int, float):
        lowest, highest = parameter.min, parameter.max
        limits = f", {lowest} to {highest}" if highest is not None else f", {lowest} or more"
        return f"must be a number{limits if lowest is not None else ''}{got}"
    return f"must be valid ({error.message.rstrip('.')}){got}"


def _value(error: Any) -> str | None:
    """Return the value that was not valid, which only the cause of the error has."""
    errors = getattr(error.__cause__, "errors", None)
    return str(errors()[0]["input"]) if errors is not None else None
