"""Checks of directories in which operations failed, when several threads ask at the same time."""

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from tagferry.registry.storage import directory_faults
from tagferry.registry.storage.directory_faults import DirectoryFaults
from tagferry.registry.storage.layout import Layout
from tagferry.registry.storage.threads import DISK_FAILED

SECONDS = 30
"""The longest wait for an event that comes at once."""


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    for directory in (layout.pool, layout.temporary):
        directory.mkdir(parents=True)
    return layout


@pytest.fixture
def faults(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> DirectoryFaults:
    """The pool failed once, and can be used again."""
    monkeypatch.setattr(directory_faults, "_FRESH_SECONDS", 0)
    faults = DirectoryFaults(layout)
    faults.record(OSError(errno.EIO, os.strerror(errno.EIO), str(layout.pool)))
    return faults


def hold_checks(faults: DirectoryFaults, monkeypatch: pytest.MonkeyPatch) -> tuple[Event, Event]:
    """Let each check wait; returns the events that one has begun and that it may end."""
    begun, may_end = Event(), Event()

    def takes_a_file(_: DirectoryFaults) -> bool:
        begun.set()
        return may_end.wait(SECONDS)

    monkeypatch.setattr(DirectoryFaults, "_takes_a_file", takes_a_file)
    return begun, may_end


def test_a_check_waits_for_the_one_in_progress(faults: DirectoryFaults, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory_faults, "_CHECK_SECONDS", SECONDS)
    begun, may_end = hold_checks(faults, monkeypatch)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(faults.error)
        assert begun.wait(SECONDS)
        second = threads.submit(faults.error)
        may_end.set()
        assert (first.result(SECONDS), second.result(SECONDS)) == (None, None)


def test_a_disk_that_hangs_holds_other_checks_for_a_short_time_only(
    faults: DirectoryFaults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory_faults, "_CHECK_SECONDS", 0.01)
    begun, may_end = hold_checks(faults, monkeypatch)
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(faults.error)
        assert begun.wait(SECONDS)
        assert faults.error() == DISK_FAILED
        may_end.set()
        assert first.result(SECONDS) is None


def test_a_directory_that_fails_during_a_check_stays_recorded(
    faults: DirectoryFaults, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, may_end = hold_checks(faults, monkeypatch)
    layout.repositories.write_text("no directory")
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(faults.error)
        assert begun.wait(SECONDS)
        faults.record(FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(layout.repositories)))
        may_end.set()
        assert first.result(SECONDS) is None
        assert faults.error() == DISK_FAILED
