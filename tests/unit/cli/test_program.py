"""The end of the program's process: the exit code, the output, and what other parts of Python left to do at exit."""

import subprocess
import sys
from pathlib import Path


def run(main: str) -> subprocess.CompletedProcess[str]:
    """Run the program with this body of its `main`."""
    body = "\n".join(f"    {line}" for line in main.splitlines())
    script = (
        f"import atexit, os, sys, threading, time\nfrom tagferry import cli\ndef main():\n{body}\n"
        "cli.main = main\ncli.program()\n"
    )
    return subprocess.run([sys.executable, "-E", "-c", script], capture_output=True, text=True, timeout=60, check=False)


def test_the_exit_code_is_that_of_the_command():
    assert run("sys.exit(3)").returncode == 3
    assert run("pass").returncode == 0


def test_all_output_is_written():
    ended = run("sys.stdout.write('x' * 1_000_000)\nsys.stderr.write('y' * 1_000_000)\nsys.exit(0)")
    assert (len(ended.stdout), len(ended.stderr), ended.returncode) == (1_000_000, 1_000_000, 0)


def test_functions_that_were_registered_for_the_exit_run():
    assert run("atexit.register(print, 'registered')\nsys.exit(4)").stdout == "registered\n"


def test_the_process_waits_for_its_threads():
    ended = run("threading.Thread(target=lambda: (time.sleep(0.1), print('done'))).start()\nsys.exit(5)")
    assert (ended.stdout, ended.returncode) == ("done\n", 5)


def test_a_profile_of_the_program_is_written(tmp_path: Path):
    profile = tmp_path / "profile"
    command = [sys.executable, "-m", "cProfile", "-o", str(profile), "-m", "tagferry", "--version"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert profile.stat().st_size > 0


def test_an_unexpected_error_is_shown():
    ended = run("raise LookupError('unexpected')")
    assert ended.returncode == 1
    assert ended.stderr.endswith("LookupError: unexpected\n")


def test_a_message_as_exit_code_is_printed():
    ended = run("sys.exit('a message')")
    assert (ended.stderr, ended.returncode) == ("a message\n", 1)


def test_no_connection_gets_the_number_of_a_standard_stream():
    script = "import os, sys; from tagferry.cli import main; main(['--version']); sys.stderr.write(str(os.dup(2)))"
    for closed in ("<&-", "<&- >&-"):
        shell = ["sh", "-c", f'exec {sys.executable} -c "{script}" {closed}']
        ended = subprocess.run(shell, capture_output=True, text=True, timeout=60, check=True)
        assert int(ended.stderr) > 2


def test_an_event_without_a_log_is_shown_on_standard_error():
    script = "from tagferry.events import Events; Events('test').warning('something happened', region='r')"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == ""
    assert "something happened" in ended.stderr


def test_an_output_that_was_closed_changes_nothing():
    ended = run("reader, writer = os.pipe()\nos.dup2(writer, 1)\nos.close(reader)\nos.close(writer)\nprint('x')")
    assert (ended.stderr, ended.returncode) == ("", 0)
    assert run("sys.stdout.close()\nsys.stderr.close()\nsys.exit(6)").returncode == 6
