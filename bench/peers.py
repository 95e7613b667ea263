"""The compared programs, and the command of each for a copy."""

import compileall
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tagferry as tagferry_package
from bench.programs import ORAS_MODULE, SKOPEO_MODULE, built, version_of
from tests.interop import programs as interop

TUNED = "-tuned"
"""The end of the name of a program that runs with its best setting for concurrency, instead of its default."""
_AT_ONCE = 32
"""The default of `tagferry copy --jobs`, which was also the fastest of 8, 16 and 32."""


@dataclass(frozen=True)
class Errand:
    """A copy of all tags of a repository from one registry to another.

    Attributes:
        source: HOST:PORT.
        target: HOST:PORT.
        folder: where a program's configuration can be written.
    """

    source: str
    target: str
    repository: str
    tags: Sequence[str]
    folder: Path

    @property
    def images(self) -> list[tuple[str, str]]:
        """Source and target of each tag."""
        source, target = self.repositories
        return [(f"{source}:{tag}", f"{target}:{tag}") for tag in self.tags]

    @property
    def repositories(self) -> tuple[str, str]:
        """Source and target, without a tag."""
        return f"{self.source}/{self.repository}", f"{self.target}/{self.repository}"


@dataclass(frozen=True)
class Peer:
    """A program that copies images.

    Attributes:
        name: its name in the results; with `TUNED` at the end if it does not run with its defaults.
        version: as the program or its module reports it, with what the report says about the program.
        command: returns the command line for a copy.
    """

    name: str
    version: str
    command: Callable[[Errand], list[str]] = field(repr=False)


def tagferry() -> Peer:
    """Return `tagferry copy` in a new process, with compiled modules as after an installation."""
    compileall.compile_dir(Path(tagferry_package.__file__).parent, quiet=1)
    return Peer("tagferry", tagferry_package.__version__, _tagferry)


def _tagferry(errand: Errand) -> list[str]:
    hosts = [part for host in (errand.source, errand.target) for part in ("--plain-http", host)]
    command = [str(Path(sys.executable).with_name("tagferry")), "copy", *hosts]
    if len(errand.tags) == 1:
        return [*command, *errand.images[0]]
    return [*command, "--all-tags", *errand.repositories]


def installed_peers() -> list[Peer]:
    """Return Debian's skopeo and, if Go is installed, the newest peers, which are built from their modules."""
    return [_debian_skopeo(), *(built_peers() if shutil.which("go") else [])]


def built_peers() -> list[Peer]:
    """Return the newest peers, each with its defaults and with its best setting; their programs are built first."""
    return [*_skopeo_modules(), *_crane(), *_regctl(), *_oras()]


def _debian_skopeo() -> Peer:
    answer = subprocess.run(["skopeo", "--version"], capture_output=True, text=True, check=True, timeout=60)
    return Peer("skopeo", answer.stdout.strip().removeprefix("skopeo version "), _skopeo)


def _skopeo(errand: Errand) -> list[str]:
    insecure = ["--all", "--src-tls-verify=false", "--dest-tls-verify=false"]
    if len(errand.tags) == 1:
        return ["skopeo", "copy", *insecure, *(f"docker://{image}" for image in errand.images[0])]
    # One process for the repository is faster than one for each tag.
    return ["skopeo", "sync", "--src", "docker", "--dest", "docker", *insecure, *_synced(errand)]


def _synced(errand: Errand) -> tuple[str, str]:
    """Source and target for `skopeo sync`, which adds the last part of the name itself."""
    source, target = errand.repositories
    return source, target.rpartition("/")[0]


def _skopeo_modules() -> list[Peer]:
    program = built("skopeo")
    version = f"{version_of(SKOPEO_MODULE)} of {SKOPEO_MODULE}, with a main of this benchmark"

    def command(errand: Errand, *options: str) -> list[str]:
        if len(errand.tags) == 1:
            return [program, *options, "copy", *errand.images[0]]
        return [program, *options, "sync", *_synced(errand)]

    return _pair("skopeo-modules", version, command, ["--image-parallel-copies", str(_AT_ONCE)])


def _crane() -> list[Peer]:
    program = interop.built(interop.CRANE)

    def command(errand: Errand, *options: str) -> list[str]:
        if len(errand.tags) == 1:
            return [program, "copy", "--insecure", *options, *errand.images[0]]
        return [program, "copy", "--insecure", *options, "--all-tags", *errand.repositories]

    return _pair("crane", _interop_version(interop.CRANE_MODULE), command, ["--jobs", str(_AT_ONCE)])


def _oras() -> list[Peer]:
    program = built("oras")

    def command(errand: Errand, *options: str) -> list[str]:
        # A process copies one image.
        copies = [
            [program, "cp", "--recursive", "--from-plain-http", "--to-plain-http", *options, *image]
            for image in errand.images
        ]
        return copies[0] if len(copies) == 1 else ["sh", "-c", " && ".join(map(shlex.join, copies))]

    return _pair("oras", version_of(ORAS_MODULE), command, ["--concurrency", str(_AT_ONCE)])


def _regctl() -> list[Peer]:
    regctl, regsync = interop.built(interop.REGCTL), interop.built(interop.REGSYNC)
    version = _interop_version(interop.REGCTL_MODULE)

    def one_image(errand: Errand) -> list[str]:
        if len(errand.tags) > 1:
            return once(errand, {}, {})
        hosts = [flag for host in (errand.source, errand.target) for flag in ("--host", f"reg={host},tls=disabled")]
        return [regctl, *hosts, "image", "copy", *errand.images[0]]

    def once(errand: Errand, of_host: dict[str, int], defaults: dict[str, int]) -> list[str]:
        """Return one run of regsync, which copies all tags in one process."""
        kind, (source, target) = ("repository", errand.repositories)
        if len(errand.tags) == 1:
            kind, (source, target) = ("image", errand.images[0])
        hosts = [{"registry": host, "tls": "disabled", **of_host} for host in (errand.source, errand.target)]
        sync = {"source": source, "target": target, "type": kind}
        config = errand.folder / "regsync.json"
        config.write_text(json.dumps({"version": 1, "creds": hosts, "defaults": defaults, "sync": [sync]}))
        return [regsync, "once", "--config", str(config)]

    return [
        Peer("regctl", f"{version} (several tags by one `regsync once`)", one_image),
        Peer(
            f"regctl{TUNED}",
            f"`regsync once` with parallel and reqConcurrent {_AT_ONCE}",
            lambda errand: once(errand, {"reqConcurrent": _AT_ONCE}, {"parallel": _AT_ONCE}),
        ),
    ]


def _pair(name: str, version: str, command: Callable[..., list[str]], options: list[str]) -> list[Peer]:
    """Return a program with its defaults, and with its option for concurrency."""
    return [
        Peer(name, version, command),
        Peer(f"{name}{TUNED}", f"`{' '.join(options)}`", lambda errand: command(errand, *options)),
    ]


def _interop_version(module: str) -> str:
    return version_of(module, interop.MODULE)
