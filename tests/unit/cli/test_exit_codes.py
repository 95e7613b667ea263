"""The exit codes of all commands."""

import re
from pathlib import Path

import pytest

from tagferry import errors
from tagferry.cli.exit_codes import MEANINGS, combined, of_error, of_job, of_registry_error
from tagferry.cli.server_error import ServerError, ServerUnreachable
from tests.support.command_line import CommandLine, command_paths

PAGE = Path(__file__).parents[3] / "docs/cli.md"


def answered(status: int, code: str = "SVCSTG.SWR.1") -> ServerError:
    return ServerError(status, "no", code=code, request_id="1")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.NotFound("tag", "v1"), 1),
        (errors.Unsupported("no"), 1),
        (errors.StorageUnavailable("the disk is full"), 1),
        (errors.DatabaseUnavailable("locked"), 1),
        (errors.Invalid("regions.north.listen", "must be an address"), 1),
        (errors.Invalid("TAGFERRY_LISTEN", "must be an address"), 1),
        (errors.Invalid("--to", "must name a region"), 2),
        (errors.InvalidName("ORG/REPO", "must name a repository"), 2),
        (errors.Misused("the list", "must be a list"), 2),
        (errors.Conflict("user", "exists"), 4),
        (errors.Expired("late"), 5),
        (errors.Unavailable("cannot listen on 127.0.0.1:5004"), 1),
        (ServerUnreachable("away"), 6),
        (errors.Denied("no"), 7),
        (errors.Unauthenticated("who"), 7),
        (errors.Refused("no"), 7),
        (answered(400), 2),
        (answered(401), 7),
        (answered(403), 7),
        (answered(404), 1),
        (answered(409), 4),
        (answered(429), 6),
        (answered(500), 1),
        (answered(500, "SVCSTG.SWR.5000021"), 6),
        (answered(503), 6),
        (answered(504), 5),
    ],
    ids=str,
)
def test_an_error_has_the_code_of_its_kind(error: Exception, code: int):
    assert of_error(error) == code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.NotFound("tag", "v1"), 3),
        (errors.StorageUnavailable("the disk is full"), 3),
        (errors.Expired("late"), 5),
        (errors.Unavailable("away"), 6),
        (errors.Untrusted("expired"), 6),
        (errors.Throttled("slow down", retry_after=1), 6),
        (errors.Refused("no"), 7),
    ],
    ids=str,
)
def test_an_error_of_a_registry_has_the_code_of_its_kind_or_that_of_a_tag(error: Exception, code: int):
    assert of_registry_error(error) == code


@pytest.mark.parametrize(
    ("status", "code"), [("success", 0), ("failed", 3), ("cancel", 3), ("existed", 4), ("timeout", 5)]
)
def test_a_job_has_the_code_of_its_status(status: str, code: int):
    assert of_job(status) == code


@pytest.mark.parametrize(
    ("codes", "code"), [([], 0), ([0, 0], 0), ([0, 4], 4), ([5, 5], 5), ([4, 5], 3), ([0, 3, 6], 3)]
)
def test_several_results_have_the_code_that_the_failed_ones_agree_on(codes: list[int], code: int):
    assert combined(codes) == code


def test_the_page_of_the_command_line_has_every_code_with_its_meaning():
    table = re.search(r"^\| exit code \| meaning \|\n\|[-:|]+\n((?:\|.*\n)+)", PAGE.read_text("utf-8"), re.MULTILINE)
    assert table is not None
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in table[1].splitlines()]

    assert {int(code): meaning.replace("`", "") for code, meaning in rows} == MEANINGS


def test_the_help_has_the_codes(cli: CommandLine):
    for arguments in (("--help",), ("sync", "--help"), ("copy", "--help"), ("job", "list", "--help")):
        shown = cli.run(*arguments)
        assert shown.code == 0
        for code in MEANINGS:
            assert re.search(rf"^ *{code} ", shown.out, re.MULTILINE), (arguments, code)


def test_every_command_documents_itself_in_plain_text(cli: CommandLine):
    for path in command_paths():
        shown = cli.run(*path, "--help")
        assert (shown.code, shown.err) == (0, "")
        assert shown.out.startswith("Usage: tagferry") or shown.out.startswith("usage: tagferry"), path
        assert not set(shown.out) & set("╭╰│─"), path
