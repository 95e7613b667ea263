"""Where a command on accounts works: on the database of a configuration, or through the API of a server."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from inspect import Signature, signature
from pathlib import Path
from typing import Any

import typer

from tagferry.cli.client import ManagementClient
from tagferry.cli.options import (
    DEFAULT_CONFIG,
    CaFile,
    ConfigFile,
    OptionalAccessKey,
    OptionalEndpoint,
    OptionalSecretKey,
)
from tagferry.errors import Invalid

_TYPED = "COMMANDLINE"
_OF_SERVER = {"access_key": "--ak", "secret_key": "--sk", "ca_file": "--ca-file"}


@dataclass(frozen=True, slots=True)
class Site:
    """An installation.

    Attributes:
        config: its configuration file, for a command that works on its database.
        endpoint: the address of one of its regions, for a command that uses its API; "" for one that does not.
        access_key: the access key for the API.
        secret_key: its secret.
        ca_file: PEM file with further certificate authorities for the API.
    """

    config: Path
    endpoint: str = ""
    access_key: str = ""
    secret_key: str = ""
    ca_file: Path | None = None

    @property
    def is_remote(self) -> bool:
        """True if the command uses the API of a server."""
        return bool(self.endpoint)

    def client(self) -> ManagementClient:
        """Return a client of the server."""
        return ManagementClient(self.endpoint, self.access_key, self.secret_key, ca_file=self.ca_file)


def on_site(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command its parameter `site` from the options that say which installation it works on.

    `--endpoint` selects a server and `--config` a configuration. If neither is typed, the configuration is used if
    there is one, and otherwise the server that the environment names.
    """
    return _with_site(command, prefers_server=False)


def on_server(command: Callable[..., None]) -> Callable[..., None]:
    """Do the same, but use the server that the environment names, if it names one, also if there is a configuration."""
    return _with_site(command, prefers_server=True)


def _with_site(command: Callable[..., None], *, prefers_server: bool) -> Callable[..., None]:
    @wraps(command)
    def with_site(context: typer.Context, **values: Any) -> None:
        given = {name: values.pop(name) for name in _OPTIONS}
        command(site=site_of(context, **given, prefers_server=prefers_server), **values)

    own = [parameter for name, parameter in signature(command).parameters.items() if name != "site"]
    # typer reads the options of a command from its signature.
    parameters = [*own, *_OPTIONS.values(), _CONTEXT]
    setattr(with_site, "__signature__", Signature(parameters))  # noqa: B010 - mypy knows no such attribute
    return with_site


def site_of(
    context: typer.Context,
    config: Path,
    endpoint: str,
    access_key: str,
    secret_key: str,
    ca_file: Path | None,
    *,
    prefers_server: bool = False,
) -> Site:
    """Return the installation that the options of a command name.

    Args:
        context: the context of the command, which knows what was typed and what is from the environment.
        config: the configuration file.
        endpoint: the address of a server; "" for none.
        access_key: the access key for the server.
        secret_key: its secret.
        ca_file: further certificate authorities for the server.
        prefers_server: use the server that the environment names also if there is a configuration.

    Raises:
        Invalid: the options contradict each other.
    """
    typed = {name for name in _OPTIONS if getattr(context.get_parameter_source(name), "name", "") == _TYPED}
    if {"config", "endpoint"} <= typed:
        raise Invalid("--endpoint", "cannot be combined with --config")
    is_complete = bool(endpoint and access_key and secret_key)
    is_wanted = prefers_server or not config.exists()
    if "endpoint" in typed or ("config" not in typed and is_complete and is_wanted):
        if not is_complete:
            raise Invalid("--endpoint", "needs --ak and --sk, or CLOUD_SDK_AK and CLOUD_SDK_SK in the environment")
        return Site(config, endpoint, access_key, secret_key, ca_file)
    for name, option in _OF_SERVER.items():
        if name in typed:
            raise Invalid(option, "needs --endpoint, the address of a server")
    return Site(config)


def _site_options(
    *,
    config: ConfigFile = DEFAULT_CONFIG,
    endpoint: OptionalEndpoint = "",
    access_key: OptionalAccessKey = "",
    secret_key: OptionalSecretKey = "",
    ca_file: CaFile = None,
) -> None:
    """Declare the options of a site."""


def _with_context(*, context: typer.Context) -> None:
    """Declare the parameter for typer's context."""


_OPTIONS = dict(signature(_site_options).parameters)
_CONTEXT = signature(_with_context).parameters["context"]
