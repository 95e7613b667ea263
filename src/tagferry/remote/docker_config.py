"""Credentials from docker's own configuration: `config.json` and the credential helpers that it names."""

import asyncio
import base64
import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from tagferry.errors import Invalid, NotFound, Unavailable
from tagferry.remote.endpoint import Credentials

HELPER_TIMEOUT = 30.0
"""Seconds that a credential helper may take."""

_HELPER_OUTPUT_LIMIT = 64 * 1024
_DOCKER_HUB = "https://index.docker.io/v1/"
_DOCKER_HUB_HOSTS = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
_TOKEN_USER = "<token>"  # noqa: S105 - how helpers mark an identity token


async def find_credentials(
    host: str, *, config: Path | None = None, timeout: float = HELPER_TIMEOUT
) -> Credentials | None:
    """What docker would use for a registry, or None where it knows nothing.

    Args:
        host: the registry's `host[:port]`.
        config: the file; by default `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`.
        timeout: seconds that a credential helper may take.

    Raises:
        Invalid: the file cannot be read, or holds something else than docker writes.
        NotFound: of the kind `credential helper`: the configuration names a program that is not installed.
        Unavailable: the helper failed or took too long.
    """
    document = await asyncio.to_thread(_load, config or _default_config())
    keys = _keys(host)
    helper = _helper(document, keys)
    if helper is not None:
        for key in keys:
            found = await _ask_helper(helper, key, timeout=timeout)
            if found is not None:
                return found
    return _from_auths(document, keys)


def _default_config() -> Path:
    folder = os.environ.get("DOCKER_CONFIG")
    return (Path(folder) if folder else Path.home() / ".docker") / "config.json"


def _load(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        raise Invalid("docker configuration", "must be a readable JSON file", str(path)) from None
    if not isinstance(document, dict):
        raise Invalid("docker configuration", "must be a JSON object", str(path))
    return document


def _keys(host: str) -> list[str]:
    """The names under which a host's entry may stand, most exact first."""
    hub = [_DOCKER_HUB, *sorted(_DOCKER_HUB_HOSTS)] if host in _DOCKER_HUB_HOSTS else []
    return list(dict.fromkeys([*hub, host, f"https://{host}", f"http://{host}"]))


def _helper(document: dict[str, Any], keys: list[str]) -> str | None:
    helpers = _object(document, "credHelpers")
    named = next((helpers[key] for key in keys if key in helpers), document.get("credsStore"))
    if not named:
        return None
    if not isinstance(named, str) or not all(part.isalnum() or part in "-_." for part in named):
        raise Invalid("docker configuration", "must name credential helpers by letters, digits, '-', '_' and '.'")
    return named


def _from_auths(document: dict[str, Any], keys: list[str]) -> Credentials | None:
    auths = _object(document, "auths")
    trimmed = {_trim(key): entry for key, entry in auths.items()}
    for key in keys:
        entry = auths.get(key, trimmed.get(_trim(key)))
        if isinstance(entry, dict) and (found := _read_entry(key, entry)):
            return found
    return None


def _trim(key: str) -> str:
    """Docker wrote URLs once and writes hosts now: `https://host/v1/` and `host` mean the same registry."""
    return key.removeprefix("https://").removeprefix("http://").partition("/")[0]


def _read_entry(key: str, entry: dict[str, Any]) -> Credentials | None:
    token = entry.get("identitytoken")
    username, password = entry.get("username"), entry.get("password")
    if isinstance(auth := entry.get("auth"), str) and auth:
        username, password = _decode(key, auth)
    if isinstance(token, str) and token:
        return Credentials(username=str(username or ""), identity_token=token)
    if isinstance(username, str) and username and isinstance(password, str):
        return Credentials(username=username, password=password)
    return None


def _decode(key: str, auth: str) -> tuple[str, str]:
    try:
        decoded = base64.b64decode(auth, validate=True).decode()
    except ValueError:
        decoded = ""
    username, separator, password = decoded.partition(":")
    if not separator:
        raise Invalid(f"auths[{key}].auth", "must be the base64 form of user:password")
    return username, password.rstrip("\0")


async def _ask_helper(helper: str, key: str, *, timeout: float) -> Credentials | None:
    program = shutil.which(f"docker-credential-{helper}")
    if program is None:
        raise NotFound("credential helper", f"docker-credential-{helper}", "put it on the PATH")
    process = await asyncio.create_subprocess_exec(
        program,
        "get",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(timeout):
            output, _ = await process.communicate(key.encode())
    except TimeoutError:
        raise Unavailable(f"credential helper {helper} did not answer within {timeout:g} seconds") from None
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode != 0:
        if b"not found" in output[:_HELPER_OUTPUT_LIMIT].lower():
            return None
        raise Unavailable(f"credential helper {helper} failed for {key} (exit code {process.returncode})")
    return _read_helper(helper, output)


def _read_helper(helper: str, output: bytes) -> Credentials | None:
    try:
        document = json.loads(output)
        username, secret = document["Username"], document["Secret"]
    except (ValueError, KeyError, TypeError):
        raise Unavailable(f"credential helper {helper} answered something else than credentials") from None
    if username == _TOKEN_USER:
        return Credentials(identity_token=str(secret))
    return Credentials(username=str(username), password=str(secret)) if username else None


def _object(document: dict[str, Any], name: str) -> dict[str, Any]:
    found = document.get(name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise Invalid("docker configuration", f"must hold an object under {name}")
    return found
