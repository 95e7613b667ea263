"""Credentials from the configuration of docker or podman: `config.json` or `auth.json`, and credential helpers.

Sources: docker's documentation of `docker login`, and containers-auth.json(5) for entries of a part of a registry.
"""

import asyncio
import base64
import binascii
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tagferry.docker_hub import HOSTS as DOCKER_HUB_HOSTS
from tagferry.docker_hub import LOGIN_KEY as DOCKER_HUB_KEY
from tagferry.errors import Invalid, Refused, TagferryError, Unavailable
from tagferry.events import Events, SparseEvents
from tagferry.file_stamp import file_stamp
from tagferry.remote.transport.endpoint import Credentials

POLL_SECONDS = 1.0
"""Minimum seconds between checks whether the file has changed."""
RENEW_SECONDS = 5.0
"""Minimum seconds before the file and the helpers are read again because credentials were refused or unavailable."""
HELPER_TIMEOUT = 30.0
"""Seconds that a credential helper may take."""
_SCHEME = re.compile(r"^https?://", re.IGNORECASE)
_MAX_REPOSITORIES = 4096
"""Maximum number of repositories whose entry is remembered."""

log, sparse = Events(__name__), SparseEvents(__name__)


class _Entry(NamedTuple):
    """An entry of `auths` for this registry.

    Attributes:
        path: the part of the registry that it covers; empty for all of it.
        rank: how exactly its key names the registry; the lowest rank wins.
    """

    path: str
    rank: int
    key: str
    content: dict[str, Any]


class _HelperResult(NamedTuple):
    credentials: Credentials | None
    error: TagferryError | None
    at: float


class DockerCredentials:
    """The credentials of one registry, as docker and podman find them; reloaded when they change.

    Args:
        path: the file.
        host: the registry's `host[:port]`.
        default_port: the port of a `host` without one.
        setting: the setting that names the file, for errors.
        timeout: seconds that a credential helper may take.
        clock: monotonic seconds.

    Raises:
        Invalid: the file does not exist, cannot be read or is not a JSON object.
    """

    def __init__(
        self,
        path: Path,
        host: str,
        *,
        default_port: int = 443,
        setting: str = "docker_config",
        timeout: float = HELPER_TIMEOUT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._keys = _keys(host, default_port)
        self._timeout = timeout
        self._clock = clock
        self._polled_at = clock()
        self._stamp = file_stamp(path)
        try:
            self._document = _load(path)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            rule = f"must name a readable configuration file of docker or podman ({reason})"
            raise Invalid(setting, rule, str(path)) from None
        self._entries_by_repository: dict[str, _Entry | None] = {}
        self._from_helper: _HelperResult | None = None
        self._renewed_at: float | None = None
        self._asking = asyncio.Lock()

    @property
    def origin(self) -> str:
        if not self.covers_registry:
            return f"anonymous user ({self._path} has no entry for {self._keys[0]})"
        return f"user of {self._path}"

    @property
    def covers_registry(self) -> bool:
        """True if the file has an entry or a credential helper for the registry."""
        return self._helper() is not None or next(self._entries(), None) is not None

    async def find(self, repository: str) -> Credentials | None:
        """See `CredentialSource.find`; the most specific entry wins."""
        self._reload_if_changed()
        entry = self._entry(repository)
        if (entry is None or not entry.path) and (helper := self._helper()) is not None:
            found = await self._ask_helper(helper)
            if found is not None:
                return found
        return _read_entry(entry) if entry is not None else None

    async def renew(self, repository: str, refused: Credentials | None) -> Credentials | None:
        """See `CredentialSource.renew`; reads the credentials again at most once in a few seconds."""
        async with self._asking:
            now = self._clock()
            if self._renewed_at is None or now - self._renewed_at >= RENEW_SECONDS:
                found = self._from_helper
                # If the credentials are not the refused ones, another request has renewed them.
                if found is None or found.credentials in (refused, None):
                    self._renewed_at = now
                    self._from_helper = None
                    self._reload()
        return await self.find(repository)

    def _reload_if_changed(self) -> None:
        """Reload the file if it has changed."""
        now = self._clock()
        if now - self._polled_at < POLL_SECONDS:
            return
        self._polled_at = now
        if file_stamp(self._path) != self._stamp:
            self._reload()

    def _reload(self) -> None:
        stamp = file_stamp(self._path)
        is_new, self._stamp = stamp != self._stamp, stamp
        try:
            document = _load(self._path)
        except (OSError, ValueError) as error:
            # The file may be incomplete while it is being written; the previous contents stay in use.
            if is_new:
                log.warning("could not read the docker configuration", path=str(self._path), error=str(error))
            return
        if document != self._document:
            self._document = document
            self._from_helper = None
            self._entries_by_repository.clear()

    def _helper(self) -> str | None:
        helpers = self._document.get("credHelpers")
        if isinstance(helpers, dict):
            for key in self._keys:
                for spelled, helper in helpers.items():
                    if spelled == key or _parse_key(spelled) == (key, ""):
                        # An empty name excludes the registry from the store, as in docker.
                        return str(helper) if helper else None
        store = self._document.get("credsStore")
        return str(store) if store else None

    async def _ask_helper(self, helper: str) -> Credentials | None:
        """Run the helper once; reuse its credentials until they are refused, and its failure for a few seconds."""
        async with self._asking:
            answer = self._from_helper
            is_old = answer is not None and answer.error is not None and self._clock() - answer.at >= RENEW_SECONDS
            if answer is None or is_old:
                answer = self._from_helper = await self._run_helper(helper)
        if answer.error is not None:
            error = type(answer.error)(answer.error.message)
            if isinstance(error, Unavailable):
                # Another attempt would have the same result for the next seconds.
                error.is_final = True
            raise error
        return answer.credentials

    async def _run_helper(self, helper: str) -> _HelperResult:
        # Loaded with the first helper; few registries have one.
        from tagferry.remote.transport.credential_helper import ask_helper

        try:
            for key in _helper_keys(self._keys):
                found = await ask_helper(helper, key, timeout=self._timeout)
                if found is not None:
                    return _HelperResult(found, None, self._clock())
        except TagferryError as error:
            host = self._keys[0]
            sparse.warning("a credential helper failed", key=host, helper=helper, host=host, error=error.message)
            return _HelperResult(None, error, self._clock())
        return _HelperResult(None, None, self._clock())

    def _entry(self, repository: str) -> _Entry | None:
        """Return the most specific entry that covers the repository."""
        if repository not in self._entries_by_repository:
            if len(self._entries_by_repository) >= _MAX_REPOSITORIES:
                self._entries_by_repository.clear()
            self._entries_by_repository[repository] = self._most_specific(repository)
        return self._entries_by_repository[repository]

    def _most_specific(self, repository: str) -> _Entry | None:
        fitting = [
            entry
            for entry in self._entries()
            if not entry.path or repository == entry.path or repository.startswith(f"{entry.path}/")
        ]
        return min(fitting, key=lambda entry: (-len(entry.path), entry.rank), default=None)

    def _entries(self) -> Iterator[_Entry]:
        """Yield this registry's entries that hold credentials."""
        auths = self._document.get("auths")
        for key, content in auths.items() if isinstance(auths, dict) else ():
            host, path = _parse_key(key)
            if host in self._keys and isinstance(content, dict) and _holds_something(content):
                rank = self._keys.index(host) if key != DOCKER_HUB_KEY else -1
                yield _Entry(path, rank, key, content)


def _load(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(document, dict):
        raise ValueError("it is not a JSON object")  # noqa: TRY004 - one of the ways not to be readable
    parts = {name: document.get(name) for name in ("auths", "credHelpers")}
    for name, part in parts.items():
        if part is not None and not isinstance(part, dict):
            raise ValueError(f"{name} is not an object")
    return document


def _keys(host: str, default_port: int) -> list[str]:
    """Return the hosts under which a registry's entries are stored, the most exact first."""
    host = host.lower()
    if host in DOCKER_HUB_HOSTS:
        return [host, *sorted(DOCKER_HUB_HOSTS - {host})]
    # The colons of an IPv6 address are in brackets.
    has_port = ":" in host.rpartition("]")[2]
    return [host, *({host.removesuffix(f":{default_port}")} - {host} if has_port else [f"{host}:{default_port}"])]


def _helper_keys(hosts: list[str]) -> list[str]:
    """Return the keys to ask a helper for: docker's own key for Docker Hub, otherwise the host."""
    if hosts[0] in DOCKER_HUB_HOSTS:
        return [DOCKER_HUB_KEY, *hosts]
    return [hosts[0], f"https://{hosts[0]}"]


def _parse_key(key: str) -> tuple[str, str]:
    """Return the host of a key, and the part of the registry that it covers.

    Docker has written URLs and hosts: `https://host/v1/` and `host` both cover all of the registry.
    """
    host, _, path = _SCHEME.sub("", key.strip(), count=1).partition("/")
    path = path.strip("/")
    return host.lower(), "" if path in ("v1", "v2") else path


def _holds_something(content: dict[str, Any]) -> bool:
    return any(content.get(name) for name in ("auth", "username", "identitytoken"))


def _read_entry(entry: _Entry) -> Credentials | None:
    content = entry.content
    token = content.get("identitytoken")
    username, password = content.get("username"), content.get("password")
    if isinstance(auth := content.get("auth"), str) and auth:
        username, password = _decode(entry.key, auth)
    if isinstance(token, str) and token:
        return Credentials(username=str(username or ""), identity_token=token)
    if isinstance(username, str) and username and isinstance(password, str):
        return Credentials(username=username, password=password)
    return None


def _decode(key: str, auth: str) -> tuple[str, str]:
    try:
        decoded = base64.b64decode("".join(auth.split()), validate=True).decode()
    except (binascii.Error, ValueError):
        decoded = ""
    username, separator, password = decoded.partition(":")
    if not separator:
        raise Refused(f"auths[{key}].auth of the docker configuration must be user:password in base64")
    return username, password.rstrip("\0")
