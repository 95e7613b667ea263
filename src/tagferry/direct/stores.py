"""Open the image stores of references: one for each registry, layout and archive of a command."""

import os
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, NamedTuple

from tagferry import open_files
from tagferry.direct.certificates import HostCertificates, certificate_directories, host_certificates
from tagferry.direct.early_start import MOST_CONNECTIONS, connection_origin
from tagferry.direct.references import ImageReference, LayoutReference, RegistryReference, registry_url
from tagferry.direct.state import FileCapabilities, FileUploadCheckpoints
from tagferry.direct.state_file import LAYOUTS, REGISTRIES, UPLOADS, StateFile
from tagferry.errors import Invalid, TagferryError
from tagferry.http.early_sockets import FILE_PARTS, EarlySockets
from tagferry.http.proxies import Proxies
from tagferry.http.urls import Origin
from tagferry.names import RepositoryName
from tagferry.oci.images import ImageStore
from tagferry.remote import Credentials, Endpoint, RemoteStore

if TYPE_CHECKING:
    from pathlib import Path

    from tagferry.layout import LayoutStore
    from tagferry.remote.transport.docker_config import DockerCredentials

_LAYOUT_REPOSITORY = RepositoryName("images")
"""The name of the one repository of a layout; it is not stored."""


class RegistryAccess(NamedTuple):
    """How registries are reached, and as whom.

    Attributes:
        plain_http: the hosts, as `host[:port]`, that are reached without TLS.
        insecure: the hosts whose certificates are not verified.
        ca_file: PEM file of authorities to trust in addition to the system's.
        certificates: the directory with a directory of certificates for each registry; None for those that docker,
            podman and skopeo use.
        docker_config: the configuration file of docker or podman; None for those that docker, podman and skopeo use.
        credentials: credentials of hosts that are not in that file.
    """

    plain_http: frozenset[str] = frozenset()
    insecure: frozenset[str] = frozenset()
    ca_file: str | None = None
    certificates: str | None = None
    docker_config: str | None = None
    credentials: Mapping[str, Credentials] | None = None


class Stores:
    """The stores of one command, opened when they are first needed.

    Args:
        access: how registries are reached.
        state_directory: the directory for what the next run needs.
        is_leaving: returns whether this process was interrupted, so that the next one continues its uploads.
        environment: the environment variables.
        early: connections that have begun already.
    """

    def __init__(
        self,
        access: RegistryAccess,
        *,
        state_directory: str,
        is_leaving: Callable[[], bool] = lambda: False,
        environment: Mapping[str, str] = os.environ,
        early: EarlySockets | None = None,
    ) -> None:
        self._access = access
        self._early = early
        self._state_directory = state_directory
        self._is_leaving = is_leaving
        self._environment = environment
        self._begun: set[Origin] = set()
        self._stores: dict[str, ImageStore] = {}
        self._layouts: dict[str, LayoutStore] = {}
        self._stack = AsyncExitStack()

    def open(self, reference: ImageReference, *, for_write: bool = False) -> tuple[ImageStore, RepositoryName]:
        """Return the store of a reference, and the repository in it; raises Invalid if a file cannot be used.

        Args:
            reference: the repository or layout.
            for_write: whether it will be written to. A layout that no caller writes to is not touched.
        """
        if isinstance(reference, LayoutReference):
            layout = self.open_layout(reference)
            if for_write:
                layout.allow_writes()
            return layout, _LAYOUT_REPOSITORY
        store = self._stores.get(reference.host)
        if store is None:
            store = self._stores[reference.host] = self._registry(reference)
            self._stack.push_async_callback(store.close)
        return store, reference.repository

    def open_layout(self, reference: LayoutReference) -> "LayoutStore":
        """Return the store of a layout or archive."""
        key = layout_key(reference)
        store = self._layouts.get(key)
        if store is None:
            from pathlib import Path

            from tagferry.layout import ArchiveFiles, DirectoryFiles, LayoutStore

            path = Path(reference.path)
            files = ArchiveFiles(path) if reference.is_archive else DirectoryFiles(path)
            kept = StateFile(f"{self._state_directory}/{LAYOUTS}", key)
            store = self._layouts[key] = LayoutStore(files, name=str(reference.without_image), kept=kept)
            self._stack.push_async_callback(store.close)
        return store

    def begin_connections(self, reference: ImageReference, count: int) -> bool:
        """Begin this many connections to a registry that soon gets as many requests; once for each registry.

        Returns:
            Whether connections have begun.
        """
        if self._early is None:
            return False
        try:
            origin = connection_origin(
                reference, plain_http=self._access.plain_http, proxies=Proxies(environment=self._environment)
            )
        except (Invalid, ValueError):
            return False
        if origin is None or origin in self._begun:
            return False
        self._begun.add(origin)
        self._early.open(origin[1], origin[2], min(count, MOST_CONNECTIONS))
        return True

    async def commit(self) -> dict[str, TagferryError]:
        """Write the archives to which something was added; return the errors, by the `layout_key` of the archive."""
        errors: dict[str, TagferryError] = {}
        for key, store in self._layouts.items():
            try:
                await store.commit()
            except TagferryError as error:
                errors[key] = error
        return errors

    async def close(self) -> None:
        """Close all stores."""
        await self._stack.aclose()

    def _registry(self, reference: RegistryReference) -> RemoteStore:
        host = reference.host
        is_plain = host in self._access.plain_http
        url = registry_url(host, is_plain=is_plain)
        try:
            own = HostCertificates() if is_plain else self._certificates(host)
            endpoint = Endpoint(
                name=host,
                url=url,
                credentials=(self._access.credentials or {}).get(host) or self._docker_credentials(host, is_plain),
                ca_file=_path(self._access.ca_file),
                more_ca_files=tuple(path for path in map(_path, own.authorities) if path is not None),
                client_certificate=_path(own.certificate),
                client_key=_path(own.key),
                insecure_skip_verify=host in self._access.insecure,
                # An upload needs a connection of its own, and several files if it stays in the kernel.
                max_connections=min(MOST_CONNECTIONS, open_files.share(FILE_PARTS)),
            )
            endpoint.check()
        except Invalid as error:
            is_option = error.field == "ca_file" and error.value == self._access.ca_file
            field = "--ca-file" if is_option else _FILES.get(error.field, error.field)
            raise Invalid(
                field, error.rule.replace("client_certificate", _FILES["client_certificate"]), error.value
            ) from None
        checkpoints = FileUploadCheckpoints(f"{self._state_directory}/{UPLOADS}", url, is_leaving=self._is_leaving)
        capabilities = FileCapabilities(StateFile(f"{self._state_directory}/{REGISTRIES}", url))
        return RemoteStore(endpoint, checkpoints=checkpoints, capabilities=capabilities, early=self._early)

    def _certificates(self, host: str) -> HostCertificates:
        named = self._access.certificates
        return host_certificates(host, [named] if named else certificate_directories(self._environment))

    def _docker_credentials(self, host: str, is_plain: bool) -> "DockerCredentials | None":
        """Return the credentials of a registry from the first file that has some for it."""
        named = self._access.docker_config
        for path in [named] if named else credential_files(self._environment):
            if not named and not os.path.exists(path):  # noqa: PTH110
                continue
            from pathlib import Path

            from tagferry.remote.transport.docker_config import DockerCredentials

            setting = "--docker-config" if named else "the docker configuration"
            credentials = DockerCredentials(Path(path), host, default_port=80 if is_plain else 443, setting=setting)
            if credentials.covers_registry:
                return credentials
        return None


def layout_key(reference: LayoutReference) -> str:
    """Return what all references to the same layout or archive have in common."""
    return os.path.realpath(reference.path)


def _path(name: str | None) -> "Path | None":
    if name is None:
        return None
    from pathlib import Path

    return Path(name)


def credential_files(environment: Mapping[str, str]) -> list[str]:
    """Return the files in which podman, skopeo and docker keep credentials, in skopeo's order.

    Where no session sets `XDG_RUNTIME_DIR`, as for root, in cron and in CI, `skopeo login` and `podman login` write to
    `/run/containers/UID`. Source: containers-auth.json(5), and `pkg/docker/config` of containers/image.
    """
    home = environment.get("HOME") or os.path.expanduser("~")  # noqa: PTH111
    if named := environment.get("REGISTRY_AUTH_FILE"):
        return [named]
    runtime = environment.get("XDG_RUNTIME_DIR")
    return [
        f"{runtime}/containers/auth.json" if runtime else f"/run/containers/{os.getuid()}/auth.json",
        f"{environment.get('XDG_CONFIG_HOME') or f'{home}/.config'}/containers/auth.json",
        f"{environment.get('DOCKER_CONFIG') or f'{home}/.docker'}/config.json",
    ]


_FILES = {
    "ca_file": "the certificate authority",
    "client_certificate": "the client certificate",
    "client_key": "the client's key",
}
"""The names in errors of the files in an endpoint's settings."""
