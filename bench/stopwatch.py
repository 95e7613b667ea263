"""Run one command and print its wall seconds, CPU seconds, peak memory (KiB) and exit code.

A separate process with almost no imports: the kernel includes the parent's memory in a child's peak, so the parent must
be smaller than the measured program.

    python -I -S stopwatch.py LOG COMMAND...
"""

import os
import sys
import time


def main() -> None:
    """Measure the command; its output goes to LOG."""
    log, *command = sys.argv[1:]
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    redirected = [(os.POSIX_SPAWN_DUP2, output, 1), (os.POSIX_SPAWN_DUP2, output, 2)]
    begun = time.perf_counter()
    process = os.posix_spawnp(command[0], command, os.environ, file_actions=redirected)
    _, status, usage = os.wait4(process, 0)
    wall = time.perf_counter() - begun
    print(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss, os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
