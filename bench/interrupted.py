"""`python -m bench.interrupted`: interrupt `tagferry copy` at ten points, run it again, and count the bytes sent again.

Each copy is of an image of four layers to a new registry, through a forwarder that counts what the client sends. It is
interrupted once, after a part of the bytes, and then repeated to its end. What both runs sent beyond a copy without an
interruption was sent again: content, and the few requests of a second start.
"""

import argparse
import asyncio
import base64
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop

from bench import machine
from bench.client import RegistryClient
from bench.content import MIB, Images, one_image
from bench.durable.tap import Tap
from bench.measure import Failed
from bench.registries import docker_registry, free_address
from bench.served import ORGANIZATION, served
from tagferry.remote import Endpoint
from tests.support.processes import exit_on_signals

_HERE = Path(__file__).parent
_PROGRAM = Path(sys.executable).with_name("tagferry")
_POINTS = 10
_LAYERS, _LAYER = 4, 64 * MIB
_CHUNK = Endpoint(name="", url="http://any").chunk_size
_TIMEOUT = 300.0
Login = tuple[str, str] | None


@dataclass(frozen=True)
class _Stop:
    """An interruption: by a signal, once this many bytes were sent."""

    after: int
    number: signal.Signals


@dataclass(frozen=True)
class _Copy:
    """A copy of the image.

    Attributes:
        folder: for its state, its configuration and the target's data.
        source: HOST:PORT.
    """

    folder: Path
    source: str
    images: Images

    async def sent(self, start: Callable[[Path], AbstractContextManager[tuple[str, Login]]], *stops: _Stop) -> int:
        """Return the bytes that are sent to a new registry, by all runs."""
        self.folder.mkdir()
        with start(self.folder / "target") as (target, login):
            tap, address = Tap(target), free_address()
            config = self.folder / "docker.json"
            text = base64.b64encode(":".join(login).encode()).decode() if login else ""
            config.write_text(json.dumps({"auths": {address: {"auth": text}} if login else {}}))
            async with tap.listening(address):
                for stop in stops:
                    await self._run(address, config, tap, stop)
                await self._run(address, config, tap, None)
            with RegistryClient(target, login) as client:
                found = {tag: client.digest_of(self.images.repository, tag) for tag in self.images.tags}
        if found != self.images.digests:
            raise Failed(f"{self.images.repository} arrived as {found}")
        return tap.sent

    async def _run(self, address: str, config: Path, tap: Tap, stop: _Stop | None) -> None:
        source, target = (f"{host}/{self.images.repository}:{self.images.tags[0]}" for host in (self.source, address))
        hosts = [part for host in (self.source, address) for part in ("--plain-http", host)]
        with (self.folder / "log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(str(_PROGRAM), "copy", *hosts, "--docker-config", str(config), source, target),
                env={**os.environ, "XDG_STATE_HOME": str(self.folder / "state")},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
            ended = asyncio.create_task(process.wait())
            try:
                async with asyncio.timeout(_TIMEOUT):
                    if stop is not None:
                        reached = asyncio.create_task(tap.until(stop.after))
                        await asyncio.wait([reached, ended], return_when=asyncio.FIRST_COMPLETED)
                        reached.cancel()
                        if not ended.done():
                            process.send_signal(stop.number)
                    code = await ended
            finally:
                if not ended.done():
                    process.kill()
                    await ended
        if (code == 0) != (stop is None):
            raise Failed(f"tagferry copy ended with {code}: {_end_of(self.folder / 'log')}")


def _end_of(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:]


@contextmanager
def _embedded(folder: Path) -> Iterator[tuple[str, Login]]:
    with served(folder) as server:
        yield server.address, server.login


@contextmanager
def _docker_registry(folder: Path) -> Iterator[tuple[str, Login]]:
    with docker_registry(folder) as registry:
        yield registry.address, None


_COLUMNS = {
    "embedded registry, SIGTERM": (_embedded, signal.SIGTERM),
    "embedded registry, SIGKILL": (_embedded, signal.SIGKILL),
    "docker-registry 2.8, SIGKILL": (_docker_registry, signal.SIGKILL),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print the table; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.interrupted", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--points", type=int, default=_POINTS, help="interruptions (10)")
    parser.add_argument("--out", type=Path, help="folder for interrupted.*; by default bench, or build/bench for less")
    options = parser.parse_args(arguments)
    os.chdir(_HERE.parent)
    exit_on_signals()
    about = machine.facts()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        again = runner.run(_measure(options.points))
    report = f"{machine.sentence(about)}\n\n{_table(again)}"
    print(report)
    out = options.out or (_HERE if options.points == _POINTS else _HERE.parent / "build" / "bench")
    out.mkdir(parents=True, exist_ok=True)
    (out / "interrupted.md").write_text(f"# A copy that is interrupted and repeated\n\n{report}")
    figures = {"sent_again": again, "bound": _LAYERS * _CHUNK, "machine": about}
    (out / "interrupted.json").write_text(json.dumps(figures, indent=2) + "\n")
    return 0


async def _measure(points: int) -> dict[str, list[int]]:
    """Return the bytes sent again after an interruption at each point, by registry and signal."""
    again: dict[str, list[int]] = {column: [] for column in _COLUMNS}
    with (
        tempfile.TemporaryDirectory(prefix="tagferry-bench-") as name,
        docker_registry(Path(name) / "source") as source,
    ):
        with RegistryClient(source.address) as client:
            images = one_image(client, f"{ORGANIZATION}/interrupted", layers=_LAYERS, layer_size=_LAYER)
        for column, (start, number) in _COLUMNS.items():
            folder = Path(name) / column.replace(" ", "-")
            folder.mkdir()
            whole = await _Copy(folder / "whole", source.address, images).sent(start)
            for point in range(1, points + 1):
                stop = _Stop(images.size * point // (points + 1), number)
                sent = await _Copy(folder / str(point), source.address, images).sent(start, stop)
                again[column].append(max(sent - whole, 0))
                shown = f"{again[column][-1] / MIB:.1f} of {images.size / MIB:.0f} MiB sent again"
                print(f"{column}, after {stop.after / MIB:.0f} MiB: {shown}", file=sys.stderr)
    return again


def _table(again: dict[str, list[int]]) -> str:
    heads = list(again)
    points = len(again[heads[0]])
    rows = [f"| interrupted after | {' | '.join(heads)} |", "|---|" + "--:|" * len(heads)]
    for point, row in enumerate(zip(*again.values(), strict=True), 1):
        rows.append(f"| {point}/{points + 1} | {' | '.join(f'{size / MIB:.1f} MiB' for size in row)} |")
    rows.append(f"| **at most** | {' | '.join(f'**{max(column) / MIB:.1f} MiB**' for column in again.values())} |")
    whole, bound = _LAYERS * _LAYER // MIB, _LAYERS * _CHUNK // MIB
    says = f"Bytes sent again, of an image of {_LAYERS} layers and {whole} MiB. One chunk of each layer is {bound} MiB."
    return "\n".join(rows) + f"\n\n{says}\n"


if __name__ == "__main__":
    sys.exit(main())
