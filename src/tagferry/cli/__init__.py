"""The command line: one module per command, imported only when that command runs.

This module imports next to nothing, because every start of the program pays for it. Commands that scripts run often,
`copy` and `sync`, have a parser of the standard library; the others are built with typer.
"""

import gc
import os
import sys

COMMANDS = {
    "copy": "Copy images between registries, OCI layouts and archives, without a server.",
    "init": "Write a configuration file, and create the first administrator.",
    "serve": "Serve the regions of the configuration.",
    "worker": "Run sync jobs without serving any region, or list the processes that do.",
    "reload": "Have the running processes apply their configurations again.",
    "sync": "Synchronize images to another region and follow the progress.",
    "job": "List, show, cancel and retry sync jobs.",
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


def main(arguments: list[str] | None = None) -> None:
    """Run the command line. An error prints one sentence and exits with code 1, wrong usage with 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    name = arguments[0] if arguments else "--help"
    if name == "--version":
        from tagferry import __version__

        sys.stdout.write(f"tagferry {__version__}\n")
    elif name in ("--help", "-h", "help"):
        sys.stdout.write(_usage())
        sys.exit(0 if arguments else 2)
    elif name not in COMMANDS:
        sys.stderr.write(f'error: tagferry has no command "{name[:100]}"; see: tagferry --help\n')
        sys.exit(2)
    else:
        _run(name, arguments[1:])


def _usage() -> str:
    commands = "\n".join(f"  {name:<10}{purpose}" for name, purpose in COMMANDS.items())
    return (
        "Usage: tagferry COMMAND [OPTIONS]\n\n"
        "Copy container images between registries, complete and bit-identical.\n\n"
        f"Commands:\n{commands}\n\n"
        "Options:\n"
        "  --version Show the version and exit.\n"
        "  --help    Show this text and exit; after a command, that of the command.\n"
    )


def _run(name: str, arguments: list[str]) -> None:
    # Imports make many objects and no garbage; the commands enable the collector when they begin to work.
    gc.disable()
    from tagferry.errors import DatabaseUnavailable, TagferryError

    try:
        if name == "copy":
            from tagferry.cli.copy import main as copy

            sys.exit(copy(arguments))
        if name == "sync":
            from tagferry.cli.sync import main as sync

            sys.exit(sync(arguments))
        # Files that libraries create, such as the database and the audit log, must be private from the start.
        os.umask(0o077)
        from tagferry.cli.commands import app

        gc.enable()
        app([name, *arguments], prog_name="tagferry")
    except DatabaseUnavailable as error:
        _fail(error.detail)
    except TagferryError as error:
        _fail(error.message)
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))


def _fail(message: str) -> None:
    sys.stderr.write(f"error: {message}\n")
    sys.exit(1)
