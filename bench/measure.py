"""Run a client's process and measure it: wall, CPU with its children, peak resident memory."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

MIB, GIB = 1024**2, 1024**3
_STOPWATCH = Path(__file__).with_name("stopwatch.py")


@dataclass(frozen=True)
class Run:
    """A measured process.

    Attributes:
        wall: seconds from its start to its end.
        cpu: seconds of user and system time, those of its children included.
        rss: bytes of memory at the peak.
    """

    wall: float
    cpu: float
    rss: int


class Failed(Exception):
    """A measured process did not do its work."""


def run(command: Sequence[str], *, log: Path, timeout: float) -> Run:
    """Run a command to its end; raises Failed if it fails or takes too long."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", str(_STOPWATCH), str(log), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        told, _ = process.communicate(timeout=timeout)
    except BaseException as interruption:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if isinstance(interruption, subprocess.TimeoutExpired):
            raise Failed(f"{command[0]} did not end within {timeout:g} s: {_tail(log)}") from None
        raise
    if process.returncode != 0:
        raise Failed(f"{command[0]} could not be run")
    wall, cpu, rss, code = told.split()
    if code != "0":
        raise Failed(f"{command[0]} ended with {code}: {_tail(log)}")
    return Run(wall=float(wall), cpu=float(cpu), rss=int(rss) * 1024)


def _tail(log: Path) -> str:
    return log.read_bytes()[-2000:].decode(errors="replace")


def middle(values: Sequence[float]) -> float:
    """The median."""
    return float(median(values))


def cpu_of(process_id: int) -> float:
    """Return the CPU seconds of a process by its CPU-time clock, which counts nanoseconds (Linux)."""
    return time.clock_gettime((~process_id << 3) | 2)


def cpu_of_all(process_id: int) -> float:
    """Return the CPU seconds of a process with those of its children, also those that have ended; 0 for no process."""
    if not process_id:
        return 0.0
    children = Path(f"/proc/{process_id}/task/{process_id}/children").read_text().split()
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    seconds = (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK") + cpu_of(process_id)
    for child in children:
        # It may have ended a moment ago.
        with contextlib.suppress(OSError):
            seconds += cpu_of(int(child))
    return seconds


def peak_rss_of(process_id: int) -> int:
    """Return the peak memory of a running process in bytes."""
    for line in Path(f"/proc/{process_id}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("the kernel does not report a process's peak memory")
