"""A real multi-platform image, made of Debian packages as the package archive serves them.

apt works on a private state directory with the sources that this machine has, so that packages of another
architecture come without touching the system or being root.
"""

import gzip
import json
import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tagferry.names import Digest
from tagferry.oci.model import OCI_INDEX, OCI_MANIFEST
from tests.support.programs import missing, require_program

ARCHITECTURES = ("amd64", "arm64")
PACKAGES = ("base-files", "busybox-static", "ca-certificates")
TAG = "debian"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_PATIENCE = 300


@dataclass(frozen=True, slots=True)
class DebianImage:
    """An OCI image layout on disk, with one image under one tag.

    Attributes:
        directory: the layout.
        digest: of the index that the tag points to.
    """

    directory: Path
    digest: Digest

    @property
    def skopeo_name(self) -> str:
        """How skopeo calls it."""
        return f"oci:{self.directory}:{TAG}"


def build(directory: Path) -> DebianImage:
    """Download the packages of every architecture and build the layout; skips where that is not possible."""
    require_program("apt-get")
    require_program("dpkg-deb")
    suite, source = _archive()
    layout = _Layout(directory / "layout")
    children = []
    for architecture in ARCHITECTURES:
        packages = _download(directory / architecture, architecture, suite, source)
        children.append({**_image(layout, architecture, packages), "platform": _platform(architecture)})
    index = layout.add_json(OCI_INDEX, {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children})
    layout.finish(index, tag=TAG)
    return DebianImage(directory=layout.directory, digest=index["digest"])


def _archive() -> tuple[str, str]:
    """This machine's release and the address that its package lists come from."""
    suite = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    listed = _run(
        "apt-get", "indextargets", "--no-release-info", "--format", "$(CREATED_BY)|$(RELEASE)|$(COMPONENT)|$(REPO_URI)"
    )
    wanted = f"Packages|{suite}|main|"
    source = next((line.removeprefix(wanted) for line in listed.splitlines() if line.startswith(wanted)), None)
    return (suite, source) if source else missing(f"apt has no source of the release {suite or 'of this system'}")


def _download(directory: Path, architecture: str, suite: str, source: str) -> list[Path]:
    for name in ("lists/partial", "cache/archives/partial", "packages"):
        (directory / name).mkdir(parents=True)
    (directory / "status").touch()
    # Without a list of targets, apt would also fetch indexes that other tools of this machine have configured.
    (directory / "sources.list").write_text(f"deb [arch={architecture} target=Packages] {source} {suite} main\n")
    options = {
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Sandbox::User": "",
        "APT::Update::Error-Mode": "any",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
        "Dir::Cache": f"{directory}/cache",
        "Dir::Etc::sourcelist": f"{directory}/sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State": str(directory),
        "Dir::State::lists": f"{directory}/lists",
        "Dir::State::status": f"{directory}/status",
    }
    arguments = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
    _run("apt-get", *arguments, "update", cwd=directory)
    _run("apt-get", *arguments, "download", *PACKAGES, cwd=directory / "packages")
    return sorted((directory / "packages").glob("*.deb"))


def _image(layout: "_Layout", architecture: str, packages: list[Path]) -> dict[str, Any]:
    tars = [_run_bytes("dpkg-deb", "--fsys-tarfile", str(package)) for package in packages]
    config = {
        **_platform(architecture),
        "config": {"Cmd": ["/bin/busybox", "sh"], "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [Digest.of(tar) for tar in tars]},
        "history": [{"created_by": f"dpkg-deb --extract {package.name}"} for package in packages],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": layout.add_json(_CONFIG, config),
        "layers": [layout.add(_LAYER, gzip.compress(tar, mtime=0)) for tar in tars],
    }
    return layout.add_json(OCI_MANIFEST, manifest)


def _platform(architecture: str) -> dict[str, str]:
    return {"architecture": architecture, "os": "linux"}


class _Layout:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._blobs = directory / "blobs" / "sha256"
        self._blobs.mkdir(parents=True)

    def add(self, media_type: str, content: bytes) -> dict[str, Any]:
        digest = Digest.of(content)
        (self._blobs / digest.encoded).write_bytes(content)
        return {"mediaType": media_type, "digest": digest, "size": len(content)}

    def add_json(self, media_type: str, document: dict[str, Any]) -> dict[str, Any]:
        return self.add(media_type, json.dumps(document, indent=2, sort_keys=True).encode())

    def finish(self, image: dict[str, Any], *, tag: str) -> None:
        named = {**image, "annotations": {"org.opencontainers.image.ref.name": tag}}
        (self.directory / "oci-layout").write_text(json.dumps({"imageLayoutVersion": "1.0.0"}))
        (self.directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [named]}))


def _run(*command: str, cwd: Path | None = None) -> str:
    return _run_bytes(*command, cwd=cwd).decode()


def _run_bytes(*command: str, cwd: Path | None = None) -> bytes:
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, timeout=_PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        missing(f"{command[0]} got no answer from the package archive within {_PATIENCE} seconds")
    if done.returncode:
        missing(f"{command[0]} failed: {done.stderr.decode(errors='replace').strip()[-500:]}")
    return done.stdout
