"""Log lines show events unchanged, and contain nothing that a terminal would interpret."""

import io
import logging
import sys

import pytest
import structlog

from tagferry import logs


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Log lines for people."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    logs.configure(style="console", level="info")
    return stream


def test_what_strangers_write_controls_no_terminal(told: io.StringIO):
    structlog.get_logger("some.module").warning("refused", name="\x1b]0;title\x07", reason="one\ntwo \x9b2J\u202e")
    logging.getLogger("a.library").warning("from \x1b[2J a library")

    line, other = told.getvalue().splitlines()
    assert "name=\\x1b]0;title\\x07" in line
    assert line.isprintable()
    assert "from \\x1b[2J a library" in other
