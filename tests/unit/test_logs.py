"""Log lines show events unchanged, and contain no secret and nothing that a terminal would interpret."""

import io
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import structlog

from tagferry import events, logs
from tagferry.logs import REPEATED_LINES, reporting_repeated_events
from tests.support.deployment import eventually

SECRET = "hunter2-Hunter2"
Told = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    return stream


@pytest.fixture
def told(stream: io.StringIO) -> io.StringIO:
    """Log lines for people."""
    logs.configure(style="console", level="info")
    return stream


@pytest.fixture
def lines(stream: io.StringIO) -> Told:
    """Return the log lines for programs."""
    logs.configure(style="json", level="info")
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def test_what_strangers_write_controls_no_terminal(told: io.StringIO):
    structlog.get_logger("some.module").warning("refused", name="\x1b]0;title\x07", reason="one\ntwo \x9b2J\u202e")
    logging.getLogger("a.library").warning("from \x1b[2J a library")

    line, other = told.getvalue().splitlines()
    assert "name=\\x1b]0;title\\x07" in line
    assert line.isprintable()
    assert "from \\x1b[2J a library" in other


class Quoting:
    """An object whose text has a secret."""

    def __repr__(self) -> str:
        return f"<Request Authorization: Bearer {SECRET}>"


def log_secrets() -> None:
    """Log a secret in every way that a line can get one."""
    log = structlog.get_logger("some.module")
    log.warning(f"refused https://user:{SECRET}@registry.example.com/")
    log.warning("refused", reason=f"the server quoted Authorization: Basic {SECRET}")
    log.warning("refused", password=SECRET, nested={"headers": [{"X-Auth-Token": SECRET, "token": SECRET}]})
    log.warning("refused", request=Quoting(), body=f'{{"password": "{SECRET}"}}'.encode())
    log.warning("refused", url=f"https://storage.example.com/blob?X-Amz-Signature={SECRET}")
    log.bind(client_secret=SECRET).warning("refused")
    with structlog.contextvars.bound_contextvars(token=SECRET, note=f"bearer {SECRET}"):
        log.warning("refused")
    try:
        raise ValueError(f"could not connect to postgresql://tagferry:{SECRET}@db.example.com/tagferry")
    except ValueError:
        log.exception("failed")
    library = logging.getLogger("a.library")
    library.warning("sent Authorization: Bearer %s", SECRET)
    library.warning("requested %s", Quoting())
    try:
        raise RuntimeError(f"password={SECRET}")
    except RuntimeError:
        library.exception("failed")
    structlog.get_logger("tagferry.audit").info("request", reason=f"secret_key={SECRET}", password=SECRET)


@pytest.mark.parametrize("style", ["console", "json"])
@pytest.mark.parametrize("is_terminal", [True, False])
def test_no_secret_gets_into_a_line_whatever_its_way(
    stream: io.StringIO,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    style: Literal["console", "json"],
    is_terminal: bool,
):
    monkeypatch.setattr(stream, "isatty", lambda: is_terminal, raising=False)
    monkeypatch.setattr(sys, "stderr", stream)
    logs.configure(style=style, level="info", audit_log=tmp_path / "audit.log")
    log_secrets()
    for handler in logging.getLogger("tagferry.audit").handlers:
        handler.close()

    written = stream.getvalue() + (tmp_path / "audit.log").read_text()
    assert SECRET not in written
    assert written.count("***") >= 14
    if style == "json":
        for line in written.splitlines():
            json.loads(line)


def test_a_secret_beyond_the_fields_does_not_break_a_line(lines: Told):
    structlog.get_logger("x").warning("refused", reason=f'{{"password": "{SECRET}"}}', after="kept")

    ((reason, after),) = [(line["reason"], line["after"]) for line in lines()]
    assert (reason, after) == ('{"password": "***"}', "kept")


def test_a_warning_that_repeats_without_end_is_counted_instead(lines: Told):
    log = structlog.get_logger("some.module")
    for number in range(REPEATED_LINES + 50):
        log.warning("the registry refused", number=number)
        log.info("asked")
        logging.getLogger("a.library").error("failed %d times", number)
    for _ in range(REPEATED_LINES + 50):
        structlog.get_logger("tagferry.jobs").warning("sync job ended")
    assert len([line for line in lines() if line["event"] == "sync job ended"]) == REPEATED_LINES + 50

    for interval in events._logged.values():
        interval.seconds = 0
    events.report_repeated()

    written = lines()
    assert len([line for line in written if line["event"] == "the registry refused"]) == REPEATED_LINES
    assert len([line for line in written if line["event"] == "asked"]) == REPEATED_LINES + 50
    left_out = {line["left_out"]: (line["module"], line["times"]) for line in written if "left_out" in line}
    assert left_out == {"the registry refused": ("some.module", 50), "failed %d times": ("a.library", 50)}


async def test_counts_are_reported_while_the_process_runs_and_at_its_end(
    stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys, "stderr", stream)
    logs.configure(style="json", level="info")
    soon, later = events.SparseEvents("soon", seconds=0.01), events.SparseEvents("later", seconds=1000)

    def counted(name: str) -> list[int]:
        written = [json.loads(line) for line in stream.getvalue().splitlines()]
        return [line["times"] for line in written if line["logger"] == name]

    async with reporting_repeated_events(seconds=0.005):
        for _ in range(3):
            soon.warning("refused")
            later.warning("refused")

        async def is_complete() -> bool:
            return sum(counted("soon")) == 3

        await eventually(is_complete)
        assert counted("later") == [1]
    assert counted("later") == [1, 2]
