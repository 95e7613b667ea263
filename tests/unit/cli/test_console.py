"""The consoles of commands."""

import io
import re

import pytest
from rich.table import Table

from tagferry.cli.console import console_on

LONG = "a reason that is much longer than the eighty columns of a terminal, and that ends with the word end"


def test_without_a_terminal_a_table_is_neither_cut_nor_wrapped_nor_colored(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("COLUMNS", "40")
    table = Table("id", "image", "reason", box=None)
    table.add_row("1", f"team/{'long-name/' * 12}:v1", f"[red]{LONG}")
    out = console_on()

    out.print(table)
    out.print(f"{LONG} {LONG}")

    header, row, plain = capsys.readouterr().out.splitlines()
    assert header.split() == ["id", "image", "reason"]
    assert re.fullmatch(rf" *1 +team/(long-name/)+:v1 +{LONG} *", row)
    assert plain == f"{LONG} {LONG}"


def test_a_terminal_gets_lines_of_its_width(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "40")

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)

    console_on().print(LONG)

    assert max(len(line) for line in terminal.getvalue().splitlines()) <= 40


def test_names_with_colons_are_no_pictures(capsys: pytest.CaptureFixture[str]):
    console_on().print("team/app:smile:")
    assert capsys.readouterr().out == "team/app:smile:\n"
