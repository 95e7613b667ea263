"""Options that several commands share, and the consoles that they print to (`console`)."""

from pathlib import Path
from typing import Annotated

import typer

from tagferry.cli.console import err as err
from tagferry.cli.console import out as out

ConfigFile = Annotated[
    Path,
    typer.Option(
        "--config", "-c", metavar="FILE", envvar="TAGFERRY_CONFIG", help="The configuration file.", show_default=True
    ),
]
Endpoint = Annotated[
    str,
    typer.Option(
        metavar="URL", envvar="TAGFERRY_ENDPOINT", help="The address of a region's API, e.g. http://127.0.0.1:5004."
    ),
]
AccessKey = Annotated[str, typer.Option("--ak", metavar="KEY", envvar="CLOUD_SDK_AK", help="The access key.")]
SecretKey = Annotated[
    str,
    typer.Option(
        "--sk", metavar="SECRET", envvar="CLOUD_SDK_SK", help="The secret key. Prefer the environment variable."
    ),
]
OptionalEndpoint = Annotated[
    str,
    typer.Option(
        "--endpoint",
        metavar="URL",
        envvar="TAGFERRY_ENDPOINT",
        help="Ask the server at this address, e.g. http://127.0.0.1:5004.",
    ),
]
OptionalAccessKey = Annotated[
    str, typer.Option("--ak", metavar="KEY", envvar="CLOUD_SDK_AK", help="The access key for the server.")
]
OptionalSecretKey = Annotated[
    str,
    typer.Option(
        "--sk", metavar="SECRET", envvar="CLOUD_SDK_SK", help="The secret key. Prefer the environment variable."
    ),
]
CaFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="PEM file with certificate authorities to trust in addition to the system's."),
]
DEFAULT_CONFIG = Path("tagferry.toml")


def is_default(context: typer.Context, option: str) -> bool:
    """Return whether an option was set neither on the command line nor in the environment."""
    source = context.get_parameter_source(option)
    return source is not None and source.name == "DEFAULT"
