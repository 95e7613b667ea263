"""A served tagferry: its start, and the measured call."""

import http.client
import json
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from bench.measure import cpu_of
from bench.registries import free_address, put_aside
from tagferry import signing
from tests.support.processes import stop, tied

ORGANIZATION = "bench"
SOURCE_REGION, TARGET_REGION = "cn-north-4", "cn-north-208"
_START_SECONDS = 120.0
_TIMEOUT = 300.0


@dataclass(frozen=True)
class Tagferry:
    """A running server.

    Attributes:
        address: HOST:PORT of its region.
        process_id: the server's.
    """

    address: str
    process_id: int
    user: str
    password: str
    access_key: str
    secret_key: str

    @property
    def login(self) -> tuple[str, str]:
        """Return user and password for `docker login`."""
        return self.user, self.password

    def sync_images(self, repository: str, tags: Sequence[str]) -> float:
        """Synchronize the tags by one call over HTTP, on a separate connection; returns its seconds."""
        body = json.dumps(
            {
                "imageTag": list(tags),
                "override": True,
                "remoteNamespace": ORGANIZATION,
                "remoteRegionId": TARGET_REGION,
            }
        ).encode()
        path = f"/v2/manage/namespaces/{ORGANIZATION}/repos/{repository}/sync_images"
        headers = {"Host": self.address, "Content-Type": "application/json", "Prefer": f"wait={_TIMEOUT:.0f}"}
        headers["X-Request-Nonce"] = secrets.token_hex(8)
        request = signing.Request(method="POST", path=path, query="", headers=list(headers.items()), body=body)
        headers |= signing.sign(request, self.access_key, self.secret_key, now=datetime.now(UTC))
        begun = time.perf_counter()
        connection = http.client.HTTPConnection(self.address, timeout=_TIMEOUT)
        connection.request("POST", path, body=body, headers=headers)
        response = connection.getresponse()
        content = response.read()
        seconds = time.perf_counter() - begun
        connection.close()
        if response.status != 200 or json.loads(content) != []:
            raise RuntimeError(f"sync_images was answered {response.status}: {content[:500].decode()}")
        return seconds


@contextmanager
def served(
    folder: Path,
    registries: Sequence[str] = (),
    *,
    python: str = sys.executable,
    database_url: str = "",
    metrics_listen: str = "",
) -> Iterator[Tagferry]:
    """Serve a region over `registries` (source and target, as HOST:PORT), or over an embedded one.

    Args:
        folder: created for it, and put aside at the end.
        registries: none, or two.
        database_url: a database instead of a file of SQLite in the folder; needs a `bench.serve` that has the option.
        python: the Python whose tagferry serves; that of another checkout runs the `bench.serve` of that checkout.
        metrics_listen: the address of `/metrics`, which needs a `bench.serve` that has the option; empty for none.
    """
    folder.mkdir(parents=True)
    address = free_address()
    command = [python, "-m", "bench.serve", str(folder / "data"), address, *registries]
    if database_url:
        command += ["--database-url", database_url]
    if metrics_listen:
        command += ["--metrics-listen", metrics_listen]
    try:
        with (folder / "server.log").open("wb") as log:
            process = subprocess.Popen(tied(command), stdout=subprocess.PIPE, stderr=log, cwd=_checkout(python))
            guard = threading.Timer(_START_SECONDS, process.kill)
            guard.start()
            try:
                assert process.stdout is not None  # noqa: S101
                line = process.stdout.readline()
                guard.cancel()
                if not line:
                    raise RuntimeError(f"tagferry did not start: {(folder / 'server.log').read_text()[-2000:]}")
                yield Tagferry(address=address, process_id=process.pid, **json.loads(line))
            finally:
                guard.cancel()
                stop(process)
                if process.stdout is not None:
                    process.stdout.close()
    finally:
        put_aside(folder)


@dataclass(frozen=True)
class Restarted:
    """A server that runs with existing data.

    Attributes:
        regions: the server, by region, with the region's address.
        start_cpu: seconds of CPU until it was ready.
    """

    regions: dict[str, Tagferry]
    start_cpu: float


@contextmanager
def restarted(
    before: Tagferry,
    data: Path,
    *,
    regions: Sequence[str] = (SOURCE_REGION,),
    database_url: str = "",
    python: str = sys.executable,
    settings: Sequence[str] = (),
    region_settings: str = "",
) -> Iterator[Restarted]:
    """Run `tagferry serve` with the data of a server that has ended.

    Args:
        before: that server, for its secrets.
        data: its data.
        regions: the regions, each with an embedded registry.
        database_url: its database, if that is no file in the data.
        python: the Python whose tagferry serves.
        settings: lines of TOML, with the names of sections before a dot.
        region_settings: the same for each region, as one text.
    """
    addresses = {region: free_address() for region in regions}
    config = data.with_suffix(".toml")
    lines = [f'data_dir = "{data}"', *settings]
    if database_url:
        lines.append(f'database_url = "{database_url}"')
    lines += [f'[regions.{region}]\nlisten = "{address}"\n{region_settings}' for region, address in addresses.items()]
    config.write_text("\n".join([*lines, ""]))
    command = [python, "-c", "from tagferry.cli import main; main()", "serve", "--config", str(config)]
    with config.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(tied(command), stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + _START_SECONDS
            while not all(map(_is_ready, addresses.values())):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"tagferry did not start: {Path(log.name).read_text()[-2000:]}")
                time.sleep(0.01)
            servers = {
                region: replace(before, address=address, process_id=process.pid)
                for region, address in addresses.items()
            }
            yield Restarted(servers, cpu_of(process.pid))
        finally:
            stop(process)


def _is_ready(address: str) -> bool:
    connection = http.client.HTTPConnection(address, timeout=_TIMEOUT)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _checkout(python: str) -> Path:
    """Return the checkout whose `.venv` has this Python, or this one for a Python from elsewhere."""
    checkout = Path(python).absolute().parents[2]
    return checkout if (checkout / "bench" / "serve.py").is_file() else Path(__file__).parents[1]
