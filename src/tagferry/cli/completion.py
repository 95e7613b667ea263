"""The completion of the command line in bash, zsh and fish.

The shells run `tagferry --complete WORDS...`, which prints the candidates for the last word, one a line, each with its
description after a tab. So the scripts in the shells never need an update.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tagferry.cli import COMMANDS, OPTIONS
from tagferry.cli.exit_codes import OK
from tagferry.cli.lines import write_line
from tagferry.cli.usage import require_choice
from tagferry.errors import Invalid

_BASH = """\
_tagferry() {
    local line
    COMPREPLY=()
    while IFS= read -r line; do
        COMPREPLY+=("${line%%$'\\t'*}")
    done < <(tagferry --complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -o bashdefault -o default -F _tagferry tagferry
"""
_ZSH = """\
#compdef tagferry
_tagferry() {
    local -a lines values shown
    local line
    lines=("${(@f)$(tagferry --complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    for line in $lines; do  # leaves out empty lines
        values+=("${line%%$'\\t'*}")
        shown+=("${line/$'\\t'/  -- }")
    done
    if (( $#values )); then
        compadd -l -d shown -a values
    else
        _files
    fi
}
if [[ $funcstack[1] == _tagferry ]]; then
    _tagferry "$@"
else
    compdef _tagferry tagferry
fi
"""
_FISH = """\
function __tagferry_complete
    set -l words (commandline -opc)
    set -l found (tagferry --complete $words[2..] (commandline -ct) 2>/dev/null)
    if set -q found[1]
        printf '%s\\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c tagferry -f -a '(__tagferry_complete)'
"""
_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


@dataclass(frozen=True, slots=True)
class Option:
    """An option of a command.

    Attributes:
        names: its spellings.
        purpose: what it does.
        takes_value: whether a value follows.
        choices: the values that it takes; none for any.
    """

    names: Sequence[str]
    purpose: str
    takes_value: bool
    choices: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Level:
    """The words that may follow those that were typed.

    Attributes:
        commands: the commands, each with what it does.
        options: the options.
        arguments: the values of the arguments that are known.
    """

    commands: dict[str, str] = field(default_factory=dict)
    options: Sequence[Option] = ()
    arguments: Sequence[str] = ()


def run(option: str, words: Sequence[str]) -> int:
    """Complete words, print the script of a shell, or install it; return the exit code."""
    if option == "--complete":
        for candidate, purpose in candidates(words):
            write_line(sys.stdout, f"{candidate}\t{purpose}" if purpose else candidate)
        return OK
    shell = _shell(option, words)
    if option == "--show-completion":
        sys.stdout.write(_SCRIPTS[shell])
    else:
        path = install(shell, Path.home())
        write_line(sys.stdout, f'installed the completion of {shell} in "{path}"; open a new shell to use it')
    return OK


def install(shell: str, home: Path) -> Path:
    """Write the script of a shell to where the shell loads it from; return its path."""
    match shell:
        case "fish":
            path = home / ".config/fish/completions/tagferry.fish"
        case "zsh":
            path = home / ".zfunc/_tagferry"
            _append(home / ".zshrc", "fpath=(~/.zfunc $fpath); autoload -Uz compinit; compinit")
        case _:
            path = home / ".local/share/bash-completion/completions/tagferry"
            _append(home / ".bashrc", "source ~/.local/share/bash-completion/completions/tagferry")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_SCRIPTS[shell], encoding="utf-8")
    return path


def candidates(words: Sequence[str]) -> list[tuple[str, str]]:
    """Return the candidates for the last word, each with its description.

    Args:
        words: the words after the program's name, up to the one that is completed.
    """
    *before, word = words or [""]
    if "=" in word and word.startswith("-"):
        # bash separates the value.
        name, _, word = word.partition("=")
        before.append(name)
    elif word == "=" or (before and before[-1] == "="):
        before, word = [one for one in before if one != "="], word.removeprefix("=")
    level = _level(before)
    previous = next((one for one in level.options if before and before[-1] in one.names), None)
    if previous is not None and previous.takes_value:
        found = [(choice, "") for choice in previous.choices]
    elif word.startswith("-"):
        found = [(name, one.purpose) for one in level.options for name in one.names if name.startswith("--")]
    else:
        found = [*level.commands.items(), *((value, "") for value in level.arguments)]
    return [(value, purpose) for value, purpose in found if value.startswith(word)]


def _level(words: Sequence[str]) -> Level:
    if not words:
        names = [Option([option.partition(" ")[0]], purpose, " " in option) for option, purpose in OPTIONS.items()]
        return Level(commands=COMMANDS, options=names)
    name, *rest = words
    if name in ("--install-completion", "--show-completion"):
        return Level(arguments=list(_SCRIPTS)) if not rest else Level()
    if name not in COMMANDS:
        return Level()
    if name in ("copy", "sync"):
        return Level(options=list(_of_parser(name)))
    from tagferry.cli.commands import load, subcommands

    command = load(name)
    for word in rest:
        command = subcommands(command).get(word, command)
    commands = {name: one.get_short_help_str(limit=100) for name, one in subcommands(command).items()}
    arguments = [choice for one in command.params if one.param_type_name == "argument" for choice in _choices(one)]
    return Level(commands=commands, options=list(_of_typer(command)), arguments=arguments)


def _of_parser(name: str) -> Iterator[Option]:
    """Yield the options of a command with a parser of the standard library."""
    if name == "copy":
        from tagferry.cli.copy import parser
    else:
        from tagferry.cli.sync import parser
    for action in parser()._actions:  # argparse has no other list
        if action.option_strings:
            yield Option(action.option_strings, action.help or "", action.nargs != 0)


def _of_typer(command: Any) -> Iterator[Option]:
    """Yield the options of a command that is built with typer."""
    for one in command.params:
        if one.param_type_name == "option" and not one.hidden:
            yield Option([*one.opts, *one.secondary_opts], one.help or "", not one.is_flag, _choices(one))
    yield Option(["--help"], "Show this message and exit.", takes_value=False)


def _choices(parameter: Any) -> list[str]:
    return [str(getattr(one, "value", one)) for one in parameter.type_descriptor.choices or ()]


def _shell(option: str, words: Sequence[str]) -> str:
    """Return the shell that is named, or else the user's own."""
    if len(words) > 1:
        raise Invalid(option, "takes one shell at most", " ".join(words))
    shell = words[0] if words else os.environ.get("SHELL", "").rpartition("/")[2]
    require_choice(option, shell, list(_SCRIPTS), rule="needs the name of a shell:")
    return shell


def _append(file: Path, line: str) -> None:
    """Add a line to a file unless it has it."""
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    if line not in text.splitlines():
        separator = "" if not text or text.endswith("\n") else "\n"
        file.write_text(f"{text}{separator}{line}\n", encoding="utf-8")
