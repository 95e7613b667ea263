"""The compared programs, and the command of each for a copy."""

import compileall
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import tagferry as tagferry_package


@dataclass(frozen=True)
class Errand:
    """A copy of all tags of a repository from one registry to another.

    Attributes:
        source: HOST:PORT.
        target: HOST:PORT.
    """

    source: str
    target: str
    repository: str
    tags: Sequence[str]


@dataclass(frozen=True)
class Peer:
    """A program that copies images.

    Attributes:
        command: returns the command line for a copy.
        version: as the program reports it.
    """

    name: str
    version: str
    command: Callable[[Errand], list[str]]


def tagferry() -> Peer:
    """Return `tagferry copy` in a new process, with compiled modules as after an installation."""
    compileall.compile_dir(Path(tagferry_package.__file__).parent, quiet=1)
    return Peer("tagferry", tagferry_package.__version__, _tagferry)


def _tagferry(errand: Errand) -> list[str]:
    source, target = (f"{registry}/{errand.repository}" for registry in (errand.source, errand.target))
    hosts = [part for host in (errand.source, errand.target) for part in ("--plain-http", host)]
    command = [str(Path(sys.executable).with_name("tagferry")), "copy", *hosts]
    if len(errand.tags) == 1:
        return [*command, f"{source}:{errand.tags[0]}", f"{target}:{errand.tags[0]}"]
    return [*command, "--all-tags", source, target]


def installed_peers() -> list[Peer]:
    """Return the other programs on the PATH; skopeo is required."""
    found = [Peer("skopeo", _version("skopeo", "--version"), _skopeo)]
    if shutil.which("crane"):
        found.append(Peer("crane", _version("crane", "version"), _crane))
    if shutil.which("regctl"):
        found.append(Peer("regctl", _version("regctl", "version", "--format", "{{.VCSTag}}"), _regctl))
    return found


def _skopeo(errand: Errand) -> list[str]:
    insecure = ["--all", "--src-tls-verify=false", "--dest-tls-verify=false"]
    if len(errand.tags) == 1:
        image = f"{errand.repository}:{errand.tags[0]}"
        return ["skopeo", "copy", *insecure, f"docker://{errand.source}/{image}", f"docker://{errand.target}/{image}"]
    # One process for the repository is faster than one for each tag. It adds the last part of the name itself.
    folder = errand.repository.rpartition("/")[0]
    return [
        "skopeo", "sync", "--src", "docker", "--dest", "docker", *insecure,
        f"{errand.source}/{errand.repository}", f"{errand.target}/{folder}",
    ]  # fmt: skip


def _crane(errand: Errand) -> list[str]:
    source, target = (f"{registry}/{errand.repository}" for registry in (errand.source, errand.target))
    if len(errand.tags) == 1:
        return ["crane", "copy", "--insecure", f"{source}:{errand.tags[0]}", f"{target}:{errand.tags[0]}"]
    return ["crane", "copy", "--insecure", "--all-tags", source, target]


def _regctl(errand: Errand) -> list[str]:
    source, target = (f"{registry}/{errand.repository}" for registry in (errand.source, errand.target))
    hosts = [flag for host in (errand.source, errand.target) for flag in ("--host", f"reg={host},tls=disabled")]
    copy = partial(_regctl_copy, hosts, source, target)
    if len(errand.tags) == 1:
        return copy(errand.tags[0])
    script = " && ".join(" ".join(copy(tag)) for tag in errand.tags)
    return ["sh", "-c", script]


def _regctl_copy(hosts: list[str], source: str, target: str, tag: str) -> list[str]:
    return ["regctl", *hosts, "image", "copy", f"{source}:{tag}", f"{target}:{tag}"]


def _version(*command: str) -> str:
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return answer.stdout.strip().removeprefix("skopeo version ")
