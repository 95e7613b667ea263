"""`python -m bench.limited`: copy to a registry that allows ten requests a second, also with regctl if it is installed.

Every refused request is answered 429 with `Retry-After: 1`, as by many registries. The registry is
tagferry's own, so that only its limit matters.
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from bench.client import RegistryClient
from bench.content import KIB, Images, many_tags
from bench.measure import Failed, middle, run
from bench.peers import Errand, Peer, installed_peers, tagferry
from bench.registries import docker_registry, free_address
from tagferry.registry.api.app import RegistryApp
from tagferry.registry.storage.store import DiskStore
from tests.support.open_authorizer import OpenAuthorizer
from tests.support.processes import exit_on_signals, stop, tied, wait_until_it_listens
from tests.support.rate_limit import Bucket, RateLimited

RATE, BURST = 10, 10
_TAGS = 7
_TIMEOUT = 300.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print the seconds of each program and the ratio; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.limited", description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--serve", nargs=2, metavar=("HOST:PORT", "FOLDER"), help="be the registry")
    options = parser.parse_args(arguments)
    if options.serve:
        asyncio.run(_serve(options.serve[0], Path(options.serve[1])))
        return 0
    exit_on_signals()
    programs = [tagferry(), *(peer for peer in installed_peers() if peer.name == "regctl")]
    with tempfile.TemporaryDirectory(prefix="tagferry-bench-") as name:
        folder = Path(name)
        with docker_registry(folder / "source") as source:
            with RegistryClient(source.address) as client:
                images = many_tags(client, "team/limited", tags=_TAGS, layer_size=50 * KIB)
            seconds: dict[str, list[float]] = {program.name: [] for program in programs}
            for number in range(options.runs):
                for program in programs:
                    taken = _measure(program, source.address, images, folder / f"{program.name}-{number}")
                    if taken is not None:
                        seconds[program.name].append(taken)
    ours = middle(seconds["tagferry"])
    for program in programs:
        theirs = seconds[program.name]
        told = f"{middle(theirs):.1f} s, {middle(theirs) / ours:.2f} of tagferry's" if theirs else "failed"
        print(f"{_TAGS} tags at {RATE} requests a second: {program.name} {program.version}: {told}")
    return 0


def _measure(program: Peer, source: str, images: Images, folder: Path) -> float | None:
    """Return the seconds of a copy to a new registry; None if another program than tagferry fails."""
    with _limited(folder) as target:
        try:
            errand = Errand(source, target, images.repository, images.tags, folder.parent)
            taken = run(program.command(errand), log=folder.with_suffix(".log"), timeout=_TIMEOUT).wall
        except Failed as failure:
            if program.name == "tagferry":
                raise
            print(failure, file=sys.stderr)
            return None
    print(f"{program.name:10}{taken:8.2f} s", file=sys.stderr)
    return taken


@contextmanager
def _limited(folder: Path) -> Iterator[str]:
    """Run a registry with a limit; yields its address."""
    address = free_address()
    process = subprocess.Popen(tied([sys.executable, "-m", "bench.limited", "--serve", address, str(folder)]))
    try:
        wait_until_it_listens(process, address)
        yield address
    finally:
        stop(process)


async def _serve(address: str, folder: Path) -> None:
    host, _, port = address.partition(":")
    store = await DiskStore.open(folder)
    app = RateLimited(RegistryApp(store, OpenAuthorizer()), Bucket(rate=RATE, most=BURST))
    await uvicorn.Server(uvicorn.Config(app, host=host, port=int(port), log_level="warning", lifespan="off")).serve()
    await store.close()


if __name__ == "__main__":
    sys.exit(main())
