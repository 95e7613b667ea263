"""The command line: one module per command, imported only when that command runs.

This module imports next to nothing, because every start of the program pays for it. Commands that scripts run often,
`copy` and `sync`, have a parser of the standard library; the others are built with typer.
"""

import atexit
import gc
import os
import sys

from tagferry.cli.exit_codes import FAILED, INTERRUPTED, OK, USAGE, described, of_error

COMMANDS = {
    "copy": "Copy images between registries, OCI layouts and archives, without a server.",
    "init": "Write a configuration file, and create the first administrator.",
    "serve": "Serve the regions of the configuration.",
    "worker": "Run sync jobs without serving any region, or list the processes that do.",
    "reload": "Have the running processes apply their configurations again.",
    "sync": "Synchronize images to another region and follow the progress.",
    "job": "List, show, wait for, cancel and retry sync jobs.",
    "tags": "List the tags of a repository, and compare them with its copies in other regions.",
    "locate": "Find the regions and repositories that hold an image, by its digest.",
    "demo": "Serve two regions with a sample image, and show what to try.",
    "user": "Manage users.",
    "key": "Manage access keys.",
    "secret": "Rotate the key that encrypts stored secrets.",
    "org": "Manage organizations, their permissions and quotas.",
    "region": "List and check regions.",
    "registry": "Verify and repair the content of embedded registries.",
    "doctor": "Check an installation, and say what is wrong and how to fix it.",
    "audit": "List who did what, for administrators.",
}
"""The commands, each with what it does."""

OPTIONS = {
    "--version": "Show the version and exit.",
    "--install-completion [SHELL]": "Install the completion of bash, zsh or fish.",
    "--show-completion [SHELL]": "Print the completion script of bash, zsh or fish.",
    "--help": "Show this text and exit; after a command, that of the command.",
}
"""The options of the program itself, each with what it does."""


def program() -> None:
    """Run the command line as a process of its own, and end the process; does not return.

    Python would free every object first, which takes longer than some commands need for their work. Only what was
    registered by `atexit` runs, and the output is written; files must have been closed.
    """
    try:
        main()
        code = OK
    except SystemExit as ended:
        if not isinstance(ended.code, int):
            raise
        code = ended.code
    threading = sys.modules.get("threading")
    has_threads = threading is not None and threading.active_count() > 1
    if has_threads or sys.gettrace() is not None or sys.getprofile() is not None:
        # Python ends the process as always: it waits for the threads, and a profiler writes its results.
        sys.exit(code)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            # The reader of the output has ended, or a command has closed it.
            continue
    os._exit(code)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line. An error prints one sentence; the codes are those of `exit_codes`."""
    arguments = sys.argv[1:] if arguments is None else arguments
    _open_streams()
    name = arguments[0] if arguments else "--help"
    if name == "--version":
        from tagferry import __version__

        _print(f"tagferry {__version__}\n")
    elif name in ("--help", "-h", "help"):
        _print(_usage())
        sys.exit(OK if arguments else USAGE)
    elif name in COMMANDS or name in ("--complete", "--install-completion", "--show-completion"):
        sys.exit(_run(name, arguments[1:]))
    else:
        from tagferry.cli.usage import suggestion

        what = "option" if name.startswith("-") else "command"
        hint = suggestion(name, [option.partition(" ")[0] for option in OPTIONS] if what == "option" else COMMANDS)
        sys.exit(_fail(f'tagferry has no {what} "{name[:100]}"{hint}; see: tagferry --help', USAGE))


def _usage() -> str:
    commands = "\n".join(f"  {name:<10}{purpose}" for name, purpose in COMMANDS.items())
    options = "\n".join(f"  {name:<30}{purpose}" for name, purpose in OPTIONS.items())
    return (
        "Usage: tagferry COMMAND [OPTIONS]\n\n"
        "Copy container images between registries, complete and bit-identical.\n\n"
        f"Commands:\n{commands}\n\nOptions:\n{options}\n\n{described()}"
    )


def _run(name: str, arguments: list[str]) -> int:
    """Run a command; return its exit code."""
    # Imports make many objects and no garbage; the commands enable the collector when they begin to work.
    gc.disable()
    from tagferry.errors import DatabaseUnavailable, TagferryError

    try:
        code = _call(name, arguments)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else OK
    except BrokenPipeError:
        # The reader of the output has ended, as `head` does.
        _discard_output()
        return FAILED
    except DatabaseUnavailable as error:
        return _fail(error.detail, of_error(error))
    except TagferryError as error:
        from tagferry.cli.usage import describe

        return _fail(describe(error), of_error(error))
    except OSError as error:
        _discard_output()
        return _fail(f'"{error.filename}": {error.strerror}' if error.filename else str(error.strerror or error))
    except KeyboardInterrupt:
        return INTERRUPTED
    # What is left in the buffer would fail when Python exits, after the code was chosen.
    _print("")
    return code


def _call(name: str, arguments: list[str]) -> int:
    if name == "copy":
        from tagferry.cli.copy import main as copy

        return copy(arguments)
    if name == "sync":
        from tagferry.cli.sync import main as sync

        return sync(arguments)
    # Files that libraries create, such as the database and the audit log, must be private from the start.
    os.umask(0o077)
    if name.startswith("--"):
        from tagferry.cli.completion import run as complete

        return complete(name, arguments)
    from tagferry.cli.commands import run

    return run([name, *arguments])


def _open_streams() -> None:
    """Make standard output and error usable if the caller closed them, and for text that their encoding lacks.

    The numbers of all three standard streams are taken, so that no connection gets one of them: libuv closes none.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stdout is None or sys.stderr is None:
        nowhere = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - open until the process ends
        sys.stdout, sys.stderr = sys.stdout or nowhere, sys.stderr or nowhere
    if (reconfigure := getattr(sys.stdout, "reconfigure", None)) is not None:
        reconfigure(errors="backslashreplace")


def _print(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
        sys.exit(FAILED)
    except OSError as error:
        _discard_output()
        sys.exit(_fail(f"cannot write to standard output: {error.strerror}"))


def _fail(message: str, code: int = FAILED) -> int:
    from tagferry.printable import printable

    sys.stderr.write(f"error: {printable(message)}\n")
    return code


def _discard_output() -> None:
    """Make Python's last flush of standard output succeed."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
