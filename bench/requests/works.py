"""The requests to a registry, and the program in Go that sends them."""

import json
import random
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bench.client import RegistryClient
from bench.content import MIB, layer
from bench.served import ORGANIZATION

REPOSITORY = f"{ORGANIZATION}/requests"
_LOAD = Path(__file__).with_name("load")
_BUILD = Path(__file__).parent.parent.parent / "build" / "bench"
_SMALL = 10 * 1024
_TAGS = 100
_SECONDS = 600.0


@dataclass(frozen=True)
class Target:
    """A registry with the content that the requests need.

    Attributes:
        address: HOST:PORT.
        login: the user and the password, if it has any.
        small: the digest of a blob of 10 KiB.
        large: the digest of a blob that is pulled.
        template: the file of a manifest, for new manifests.
        upload: the file of a blob that is pushed; each push changes it, so that it is a new one.
    """

    address: str
    login: tuple[str, str] | None
    small: str
    large: str
    template: Path
    upload: Path

    def load(self, connections: int, requests: int, *work: str) -> float:
        """Send requests; return their seconds."""
        command = [program(), "-url", f"http://{self.address}"]
        command += ["-connections", str(connections), "-requests", str(requests)]
        if self.login is not None:
            command += ["-user", self.login[0], "-password", self.login[1]]
        done = subprocess.run([*command, *work], capture_output=True, text=True, timeout=_SECONDS, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"the requests to {self.address} failed: {done.stderr}")
        return float(done.stdout)


@dataclass(frozen=True)
class Work:
    """Requests of one kind.

    Attributes:
        key: its name in the table.
        connections: those that send the requests.
        requests: the number in one run.
        arguments: the arguments of the program for a target.
    """

    key: str
    connections: int
    requests: int
    arguments: Callable[[Target], Sequence[str]]

    def run(self, target: Target) -> float:
        """Send the requests; return the seconds of one of them, on average."""
        return target.load(self.connections, self.requests, *self.arguments(target)) / self.requests


WORKS = (
    Work("manifest GET by tag, 16 connections", 16, 4000, lambda _: ("get", f"/v2/{REPOSITORY}/manifests/v7")),
    Work("blob GET 10 KiB, 16 connections", 16, 4000, lambda at: ("get", f"/v2/{REPOSITORY}/blobs/{at.small}")),
    Work("tags/list of 100, 16 connections", 16, 2000, lambda _: ("get", f"/v2/{REPOSITORY}/tags/list")),
    Work("blob push 10 KiB, 1 connection", 1, 100, lambda _: ("push", REPOSITORY, str(_SMALL))),
    Work("blob push 10 KiB, 8 connections", 8, 400, lambda _: ("push", REPOSITORY, str(_SMALL))),
    Work("manifest PUT, 1 connection", 1, 100, lambda at: ("put", REPOSITORY, str(at.template))),
    Work("manifest PUT, 8 connections", 8, 400, lambda at: ("put", REPOSITORY, str(at.template))),
    Work("pull 512 MiB, cached", 1, 3, lambda at: ("get", f"/v2/{REPOSITORY}/blobs/{at.large}")),
    Work("push 1 GiB", 1, 1, lambda at: ("upload", REPOSITORY, str(at.upload))),
)


@cache
def program() -> str:
    """Build the program that sends the requests; return its path."""
    _BUILD.mkdir(parents=True, exist_ok=True)
    command = ["go", "build", "-buildvcs=false", "-o", str(_BUILD / "load"), "."]
    subprocess.run(command, cwd=_LOAD, check=True, timeout=_SECONDS)
    return str(_BUILD / "load")


def filled(address: str, login: tuple[str, str] | None, folder: Path, *, scale: int) -> Target:
    """Push the content that the requests need, the same to each registry.

    Args:
        address: HOST:PORT of the registry.
        login: the user and the password, if it has any.
        folder: a folder for files, which all targets can share.
        scale: a divisor of the sizes of the large blobs.
    """
    with RegistryClient(address, login) as client:
        client.ping()
        small = client.push_bytes(REPOSITORY, random.Random("small").randbytes(_SMALL))  # noqa: S311
        large, _ = client.push_stream(REPOSITORY, layer("pulled", 512 * MIB // scale))
        # The first read of a blob may verify it.
        client.pull(REPOSITORY, large)
        descriptor = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": small, "size": _SMALL}
        blob = {**descriptor, "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip"}
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor,
            "layers": [blob] * 10,
            "annotations": {"serial": "SERIAL"},
        }
        for number in range(_TAGS):
            client.push_manifest(REPOSITORY, f"v{number}", {**manifest, "annotations": {"serial": str(number)}})
    template, upload = folder / "manifest.json", folder / "upload"
    template.write_text(json.dumps(manifest))
    if not upload.exists():
        with upload.open("wb") as file:
            file.writelines(layer("pushed", 1024 * MIB // scale))
    return Target(address, login, small, large, template, upload)


def remove_uploads(target: Target, server: Path) -> None:
    """Remove the pushed large blobs from the folder of a server, so that its disk use stays bounded."""
    size = target.upload.stat().st_size
    for path in server.rglob("*"):
        if path.is_file() and path.stat().st_size == size:
            path.unlink()
