"""Freed memory goes back to the system, and looking for garbage stops a process rarely."""

import gc
import sys
import threading
from pathlib import Path

import pytest

from tagferry.memory import collect_rarely, return_freed_memory

_MIB = 1024 * 1024


def resident() -> int:
    """This process's resident memory in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_memory_that_threads_freed_is_returned() -> None:
    # Blocks below the threshold of mmap, and one that stays behind them, so that the arena's top cannot shrink.
    kept: list[bytearray] = []

    def use() -> None:
        blocks = [bytearray(60_000) for _ in range(1000)]
        kept.append(bytearray(60_000))
        del blocks

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    before = resident()
    assert return_freed_memory()
    assert before - resident() > 20 * _MIB


def test_many_objects_that_are_kept_cause_no_full_collection() -> None:
    gc.collect()
    thresholds, before = gc.get_threshold(), gc.get_stats()[2]["collections"]
    collect_rarely()
    try:
        kept = [[number] for number in range(500_000)]
    finally:
        gc.set_threshold(*thresholds)

    assert len(kept) == 500_000
    assert gc.get_stats()[2]["collections"] == before
