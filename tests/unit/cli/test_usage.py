"""Wrong usage is one sentence that names options as they were typed."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tagferry.cli import copy, sync
from tagferry.cli.commands import load, subcommands
from tests.support.command_line import CommandLine, command_paths

PATHS = command_paths()
ARGUMENTS = {
    ("job", "show"): ("1",),
    ("job", "wait"): ("1",),
    ("job", "cancel"): ("1",),
    ("job", "retry"): ("team/app",),
    ("tags",): ("team/app",),
    ("locate",): (f"sha256:{'a' * 64}",),
    ("org", "quota"): ("cn-north-4/team",),
    ("org", "grant"): ("cn-north-4/team", "ci"),
    ("sync",): ("team/app:v1", "--to", "cn-north-4/release"),
    ("copy",): ("oci:source:v1", "oci:target"),
}
"""The arguments that a command needs before its options are looked at."""
BAD = {
    ("copy", "--platform"): "linux/",
    ("copy", "--bandwidth"): "fast",
    ("copy", "--tags"): "(",
    ("copy", "--exclude-tags"): "(",
    ("copy", "--certs-dir"): "nowhere",
    ("copy", "--from"): "nowhere",
    ("copy", "--plain-http"): "http://127.0.0.1:5000",
    ("copy", "--insecure"): "127.0.0.1:5000/team",
    ("copy", "--jobs"): "many",
    ("copy", "-j"): "0",
    ("sync", "--to"): "nowhere",
    ("sync", "--timeout"): "soon",
    ("sync", "--endpoint"): "nowhere",
    ("sync", "--ak"): "a key",
    ("sync", "--sk"): "a\nsecret",
    ("sync", "--ca-file"): "nowhere",
    ("job", "list", "--status"): "faild",
    ("job", "list", "--state"): "failed,tmeout",
    ("job", "list", "--to"): "North",
    ("job", "list", "--org"): "Team",
    ("job", "list", "--since"): "yesterday",
    ("job", "list", "--endpoint"): "nowhere",
    ("job", "list", "--ak"): "a key",
    ("job", "list", "--sk"): "a\nsecret",
    ("job", "list", "--ca-file"): "nowhere",
    ("job", "wait", "--timeout"): "-1",
    ("tags", "--to"): "North",
    ("locate", "--repository"): "Team/App",
    ("audit", "list", "--method"): "DELTE",
    ("audit", "list", "--organization"): "Team",
    ("audit", "list", "--repository"): "Team/App",
    ("audit", "list", "--since"): "yesterday",
    ("audit", "list", "--until"): "tomorrow",
    ("org", "quota", "--bytes"): "lots",
    ("org", "quota", "--repositories"): "1GiB",
    ("org", "quota", "--uploads"): "-1",
    ("region", "check", "--repository"): "Team/App",
    ("init", "--region"): "north",
    ("user", "list", "--endpoint"): "nowhere",
}
"""A bad value of each option whose values the command itself checks before it does anything."""


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Name a server that does not exist, in a directory without a configuration."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TAGFERRY_CONFIG", raising=False)
    monkeypatch.setenv("TAGFERRY_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("CLOUD_SDK_AK", "AK")
    monkeypatch.setenv("CLOUD_SDK_SK", "SK")


class Option:
    """An option of a command, of either parser."""

    def __init__(self, names: list[str], *, takes_value: bool, is_repeatable: bool, is_number: bool) -> None:
        self.names = names
        self.takes_value = takes_value
        self.is_repeatable = is_repeatable
        self.is_number = is_number


def options_of(path: tuple[str, ...]) -> Iterator[Option]:
    if path[0] in ("copy", "sync"):
        parser = copy.parser() if path[0] == "copy" else sync.parser()
        for action in parser._actions:
            if action.option_strings and action.dest != "help":
                yield Option(
                    list(action.option_strings),
                    takes_value=action.nargs != 0,
                    is_repeatable=type(action).__name__ == "_AppendAction",
                    is_number=False,
                )
        return
    command: Any = load(path[0])
    for name in path[1:]:
        command = subcommands(command)[name]
    for one in command.params:
        if one.param_type_name == "option":
            yield Option(
                one.opts,
                takes_value=not one.is_flag,
                is_repeatable=one.multiple,
                is_number=one.type_descriptor.annotation in (int, float),
            )


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_an_unknown_option_is_named_and_the_closest_one_is_suggested(path: tuple[str, ...], cli: CommandLine):
    program = f"tagferry {' '.join(path)}"
    assert cli.refuse(*path, "--nope").startswith(f'{program} has no option "--nope"')
    for option in options_of(path):
        name = option.names[0]
        if len(name) > 6:
            said = cli.refuse(*path, f"{name}x")
            assert said.startswith(f'{program} has no option "{name}x"; did you mean "{name}"?'), said
            assert said.endswith(f"; see: {program} --help")


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_an_option_without_its_value_is_named_as_it_was_typed(path: tuple[str, ...], cli: CommandLine):
    for option in options_of(path):
        for name in option.names if option.takes_value else ():
            assert cli.refuse(*path, name).startswith(f"{name}: needs a value; see: ")


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_an_option_that_is_given_twice_is_refused_unless_both_count(path: tuple[str, ...], cli: CommandLine):
    for option in options_of(path):
        if option.takes_value and not option.is_repeatable:
            for name in option.names:
                assert cli.refuse(*path, name, "1", name, "1").startswith(f"{name}: must be given only once")


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_a_value_that_is_no_number_is_named_with_its_option(path: tuple[str, ...], cli: CommandLine):
    for option in options_of(path):
        for name in option.names if option.is_number else ():
            said = cli.refuse(*path, *ARGUMENTS.get(path, ()), name, "many")
            assert said.startswith(f"{name}: must be a number")
            assert ': got "many"; see: tagferry' in said


@pytest.mark.parametrize("command", BAD, ids=" ".join)
def test_a_bad_value_is_named_with_its_option(command: tuple[str, ...], cli: CommandLine):
    path, option, value = command[:-1], command[-1], BAD[command]
    arguments = list(ARGUMENTS.get(path, ()))
    if option in arguments:
        arguments = arguments[: arguments.index(option)]
    if option == "--from":
        arguments = arguments[1:]
    more: tuple[str, ...] = {"--to": ("--compare",)}.get(option, ()) if path == ("tags",) else ()
    more = ("--ak", "AK", "--sk", "SK") if option == "--endpoint" and path != ("sync",) else more

    said = cli.refuse(*path, *arguments, option, value, *more)

    assert said.startswith(f"{option}: "), said
    assert value.strip() in said or option in ("--ak", "--sk", "--state", "--tags", "--exclude-tags"), said
    assert cli.refuse(*path, *arguments, f"{option}={value}" if option != "-j" else "-j0", *more).startswith(
        f"{option}: "
    )


def test_a_mistyped_status_is_named_with_the_one_that_was_meant(cli: CommandLine):
    said = cli.refuse("job", "list", "--status", "faild")
    assert said.startswith("--status: must be one or more of waiting, running, success, ")
    assert said.endswith('got "faild"; did you mean "failed"?')


def test_a_mistyped_command_is_quoted_and_the_closest_one_is_suggested(cli: CommandLine):
    assert cli.refuse("snyc") == 'tagferry has no command "snyc"; did you mean "sync"?; see: tagferry --help'
    assert (
        cli.refuse("job", "lst") == 'tagferry job has no command "lst"; did you mean "list"?; see: tagferry job --help'
    )
    assert cli.refuse("--verson").startswith('tagferry has no option "--verson"; did you mean "--version"?')


def test_a_choice_is_named_as_the_argument(cli: CommandLine):
    said = cli.refuse("org", "grant", "cn-north-4/team", "ci", "mange")
    assert said.startswith('PERMISSION must be one of read, edit, manage: got "mange"; did you mean "manage"?')


def test_what_is_missing_is_named_with_its_variable(cli: CommandLine, monkeypatch: pytest.MonkeyPatch):
    assert cli.refuse("sync", "team/app:v1").startswith("--to is required; see: ")
    assert cli.refuse("tags").startswith("ORG/REPO is required; see: ")
    monkeypatch.delenv("TAGFERRY_ENDPOINT")
    for arguments in (("sync", "team/app:v1", "--to", "a/b"), ("job", "list")):
        assert cli.refuse(*arguments).startswith("--endpoint is required as an option or in TAGFERRY_ENDPOINT; see: ")


def test_superfluous_arguments_are_quoted(cli: CommandLine):
    assert cli.refuse("user", "delete", "ann", "bob").startswith(
        'tagferry user delete does not take the argument "bob"'
    )


def test_switches_that_contradict_each_other_are_refused(cli: CommandLine):
    said = cli.refuse("copy", "--override", "oci:a:v1", "--no-override", "oci:b")
    assert said.startswith("--no-override: cannot be combined with --override")
    assert cli.refuse("user", "create", "ann", "--admin", "--no-admin").startswith("--admin: must be given only once")
    assert cli.run("copy", "--dry-run", "--dry-run", "oci:a:v1", "oci:b").code == 3


def test_a_former_option_is_named_as_it_was_typed(cli: CommandLine):
    assert cli.run("init").code == 0
    for option in ("--max-concurrent-tags", "--slots", "--workers"):
        assert cli.refuse("serve", option, "0").startswith(f"{option}: can be 0 only with PostgreSQL")


def test_a_switch_takes_no_value(cli: CommandLine):
    for arguments in (("sync", "--json=yes"), ("job", "list", "--json=yes")):
        assert cli.refuse(*arguments).startswith("--json: takes no value")


def test_an_image_as_docker_writes_it_is_refused_with_what_to_change(cli: CommandLine):
    said = cli.refuse("sync", "127.0.0.1:5004/team/app:v1", "--to", "south/release")
    assert said.startswith("ORG/REPO:TAG must begin with the organization, without a registry's address: got ")
    said = cli.refuse("sync", f"team/app@sha256:{'a' * 64}", "--to", "south/release")
    assert said.startswith("ORG/REPO:TAG must name a tag; a digest cannot be synchronized without one: got ")


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_the_help_cuts_no_sentence_and_names_no_type_as_the_value_of_an_option(path: tuple[str, ...], cli: CommandLine):
    for words in (path, path[:1]):
        shown = cli.run(*words, "--help").out
        assert not re.search(r"[a-z]\.\.\.$", shown, re.MULTILINE), shown
        assert not re.search(r"^  -.*<[a-z]", shown, re.MULTILINE), shown
