"""The real docker-registry (CNCF distribution) on loopback."""

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.access_log import AccessLog, Seen
from tests.support.processes import free_port, stop, wait_until_it_listens
from tests.support.programs import require_program
from tests.support.token_server import ISSUER, SERVICE, TokenServer
from tests.support.token_server import PASSWORD as PASSWORD
from tests.support.token_server import USERNAME as USERNAME

_HTPASSWD = f"{USERNAME}:$2y$05$abcdefghijklmnopqrstuuLK7U1u6pVRmL7L1BBM2aS35PSZnDXlK\n"


class DockerRegistry:
    """A running registry, with its address and received requests."""

    def __init__(self, url: str, log: AccessLog, process_id: int) -> None:
        self.url = url
        self._log = log
        self._process_id = process_id

    @property
    def bytes_read(self) -> int:
        """Return the bytes that it has read so far: from connections, and a few from files."""
        return int(Path(f"/proc/{self._process_id}/io").read_text().split()[1])

    def forget_requests(self) -> None:
        """Start `requests` again from here."""
        self._log.forget()

    async def requests(self) -> list[Seen]:
        """Return the requests since the start or the last `forget_requests`, once the log has settled."""
        return await asyncio.to_thread(self._log.requests)


@contextmanager
def docker_registry(
    folder: Path,
    *,
    auth: bool | TokenServer = False,
    deletes: bool = True,
    notify: tuple[str, str] | None = None,
    host: str = "127.0.0.1",
    program: str | None = None,
) -> Iterator[DockerRegistry]:
    """Run a registry with its data and log in a folder.

    Args:
        folder: its own.
        auth: it wants USERNAME and PASSWORD, or tokens of this server.
        deletes: whether it supports deletion of manifests and blobs, which is off by default.
        notify: the URL for notifications of pushes, and the bearer token for it.
        host: the address that it listens on.
        program: the path of another release than the one on the PATH.
    """
    program = program or require_program("docker-registry")
    address = f"{host}:{free_port()}"
    config, log = folder / "registry.yml", folder / "registry.log"
    config.write_text(_config(folder, address, auth=auth, deletes=deletes, notify=notify))
    with log.open("wb") as output:
        process = subprocess.Popen([program, "serve", str(config)], stdout=output, stderr=subprocess.STDOUT)
        try:
            try:
                wait_until_it_listens(process, address)
            except RuntimeError as error:
                raise RuntimeError(f"{error}: {log.read_text()[-2000:]}") from None
            registry = DockerRegistry(f"http://{address}", AccessLog(log), process.pid)
            registry.forget_requests()
            yield registry
        finally:
            stop(process)


def _config(
    folder: Path, address: str, *, auth: bool | TokenServer, deletes: bool, notify: tuple[str, str] | None
) -> str:
    lines = [
        "version: 0.1",
        "log: {level: error}",
        f"storage: {{filesystem: {{rootdirectory: '{folder / 'data'}'}}, delete: {{enabled: {str(deletes).lower()}}}}}",
        f"http: {{addr: '{address}'}}",
    ]
    if isinstance(auth, TokenServer):
        signed = f"issuer: {ISSUER}, rootcertbundle: '{auth.certificate}'"
        lines.append(f"auth: {{token: {{realm: '{auth.url}', service: {SERVICE}, {signed}}}}}")
    elif auth:
        passwords = folder / "htpasswd"
        passwords.write_text(_HTPASSWD)
        lines.append(f"auth: {{htpasswd: {{realm: tests, path: '{passwords}'}}}}")
    if notify:
        url, token = notify
        endpoint = f"name: tests, url: '{url}', headers: {{Authorization: ['Bearer {token}']}}"
        lines.append(f"notifications: {{endpoints: [{{{endpoint}, timeout: 5s, threshold: 5, backoff: 1s}}]}}")
    return "\n".join(lines) + "\n"
