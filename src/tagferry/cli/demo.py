"""`tagferry demo`: copy an image between two regions of this process, without any other software."""

import asyncio
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.filesize import decimal
from rich.panel import Panel
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from tagferry import logs
from tagferry.app import App, FirstAdmin, ensure_admin, open_app
from tagferry.cli import demo_hints
from tagferry.cli.client import ManagementClient
from tagferry.cli.demo_image import DemoImage, build
from tagferry.cli.event_loop import run
from tagferry.cli.follow import Followed, display_on, follow
from tagferry.cli.options import out
from tagferry.errors import Corrupt, Unavailable
from tagferry.names import Digest, Namespace, RegionId, Repository, RepositoryName, Tag
from tagferry.oci.images import ImageStore
from tagferry.oci.model import Descriptor
from tagferry.oci.verify import verified
from tagferry.remote import Credentials, Endpoint, RemoteStore
from tagferry.settings import Settings
from tagferry.web.server.serve import listening, until_signalled

app = typer.Typer(add_completion=False)

SOURCE, TARGET = RegionId("cn-north-4"), RegionId("cn-north-208")
SOURCE_ORG, TARGET_ORG = Namespace("team"), Namespace("release")
REPOSITORY, TAG = Repository("shop/web"), Tag("v1")
_PIECE = 1024 * 1024
_PORTS = {SOURCE: 5004, TARGET: 5208}


Advance = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Stage:
    """The running demo."""

    app: App
    admin: FirstAdmin
    urls: dict[RegionId, str]
    directory: Path


@dataclass(frozen=True, slots=True)
class Timing:
    """The duration of each step, in seconds."""

    pushed: float
    synchronized: float
    verified: float


@app.command()
def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the regions running until Ctrl-C, and print commands to try.")
    ] = False,
) -> None:
    """Push a multi-platform image to one region, synchronize it to another, and compare all digests."""
    run(_demo(keep=keep))


async def _demo(*, keep: bool) -> None:
    logs.configure(style="console", level="warning")
    out.print("[bold]tagferry demo")
    with tempfile.TemporaryDirectory(prefix="tagferry-demo-") as directory:
        async with _stage(Path(directory)) as stage:
            image = await _build_image(stage)
            timing = Timing(
                pushed=await _timed(_push(stage, image)),
                synchronized=await _timed(_synchronize(stage)),
                verified=await _timed(_pull_back(stage, image)),
            )
            _summarize(image, timing, stage)
            if keep:
                out.print(demo_hints.text(stage.urls, stage.admin), soft_wrap=True, markup=False)
                await until_signalled()


@asynccontextmanager
async def _stage(directory: Path) -> AsyncIterator[Stage]:
    """Serve two embedded regions, with an administrator and an organization in each."""
    addresses = {region: f"127.0.0.1:{_free_port(port)}" for region, port in _PORTS.items()}
    regions = {region: {"listen": address} for region, address in addresses.items()}
    settings = Settings.parse({"data_dir": directory / "data", "regions": regions})
    async with open_app(settings) as app, listening(app.listeners, settings.limits):
        admin = await ensure_admin(app.accounts)
        assert admin is not None  # noqa: S101
        urls = {region: f"http://{address}" for region, address in addresses.items()}
        stage = Stage(app=app, admin=admin, urls=urls, directory=directory)
        for region, organization in ((SOURCE, SOURCE_ORG), (TARGET, TARGET_ORG)):
            async with _client(stage, region) as client:
                await client.create_organization(organization)
            out.print(f"[green]✓[/green] region [bold]{region}[/bold] on {urls[region]}, organization {organization}")
        yield stage


async def _build_image(stage: Stage) -> DemoImage:
    def report(step: str) -> None:
        out.print(f"  [dim]{step}[/dim]", soft_wrap=True)

    image = await asyncio.to_thread(build, stage.directory / "image", progress=report)
    platforms = ", ".join(child.platform or "?" for child in image.index.children)
    out.print(f"[green]✓[/green] built an image for {platforms}: {len(image.blobs)} blobs, {decimal(image.size)}")
    return image


async def _push(stage: Stage, image: DemoImage) -> None:
    """Push the image through the registry API, as docker does."""
    repository = RepositoryName.of(SOURCE_ORG, REPOSITORY)
    async with _registry(stage, SOURCE) as registry:
        with _bar(f"pushing to {SOURCE}", image.size) as advance:
            blobs = [blob for manifest in image.manifests for blob in manifest.blobs]
            for blob in {blob.digest: blob for blob in blobs}.values():
                await registry.write_blob(repository, blob, partial(_file, image.blobs[blob.digest], advance))
        for manifest in image.manifests:
            await registry.put_manifest(repository, manifest)
        await registry.put_manifest(repository, image.index, TAG)


async def _synchronize(stage: Stage) -> None:
    """Start the synchronization with one API call, and follow it."""
    body = {
        "imageTag": [TAG],
        "override": False,
        "remoteNamespace": TARGET_ORG,
        "remoteRegionId": TARGET,
    }
    out.print(f"  [dim]POST /v2/manage/namespaces/{SOURCE_ORG}/repos/{REPOSITORY.replace('/', '$')}/sync_images[/dim]")
    async with _client(stage, SOURCE) as client:
        started = await client.start_sync(SOURCE_ORG, REPOSITORY, body)
        followed = Followed(SOURCE_ORG, REPOSITORY, started.tags)
        for job in await follow(client, [followed], on=display_on(sys.stdout)):
            if job["status"] != "success":
                raise Corrupt(f"the synchronization ended with status {job['status']}: {job['reason']}")


async def _pull_back(stage: Stage, image: DemoImage) -> None:
    """Pull the image from the target region, and compare it with the one that was built."""
    repository = RepositoryName.of(TARGET_ORG, REPOSITORY)
    async with _registry(stage, TARGET) as registry:
        index = await registry.get_manifest(repository, TAG)
        if index.raw != image.index.raw:
            raise Corrupt(f"{TAG} has the digest {index.digest} in {TARGET}; expected {image.index.digest}")
        blobs: dict[Digest, Descriptor] = {}
        for child in index.children:
            manifest = await registry.get_manifest(repository, child.digest)
            blobs |= {blob.digest: blob for blob in manifest.blobs}
        if blobs.keys() != image.blobs.keys():
            raise Corrupt(f"the image in {TARGET} does not list the blobs of the image that was pushed")
        with _bar(f"pulling from {TARGET}", image.size) as advance:
            for blob in blobs.values():
                async with registry.read_blob(repository, blob) as chunks:
                    async for chunk in verified(chunks, blob):
                        advance(len(chunk))


def _summarize(image: DemoImage, timing: Timing, stage: Stage) -> None:
    table = Table.grid(padding=(0, 2))
    for name, seconds in (
        ("pushed", timing.pushed),
        ("synchronized", timing.synchronized),
        ("pulled and compared", timing.verified),
    ):
        table.add_row(name, f"{seconds:.2f} s", f"{decimal(int(image.size / max(seconds, 0.001)))}/s")
    table.add_row("")
    target = f"{stage.urls[TARGET].removeprefix('http://')}/{TARGET_ORG}/{REPOSITORY}:{TAG}"
    table.add_row("identical", f"1 index, {len(image.manifests)} manifests, {len(image.blobs)} blobs", "")
    table.add_row("digest", image.index.digest.partition(":")[2][:32] + "…", "")
    out.print(Panel(table, title=f"[bold green]{target}", expand=False))


@asynccontextmanager
async def _registry(stage: Stage, region: RegionId) -> AsyncIterator[ImageStore]:
    credentials = Credentials(username=stage.admin.name, password=stage.admin.password)
    store = RemoteStore(Endpoint(name=f"demo {region}", url=stage.urls[region], credentials=credentials))
    try:
        yield store
    finally:
        await store.close()


def _client(stage: Stage, region: RegionId) -> ManagementClient:
    return ManagementClient(stage.urls[region], stage.admin.key.access_key, stage.admin.key.secret_key)


@asynccontextmanager
async def _file(path: Path, advance: Advance, offset: int) -> AsyncIterator[AsyncIterator[bytes]]:
    async def pieces() -> AsyncIterator[bytes]:
        while piece := await asyncio.to_thread(file.read, _PIECE):
            advance(len(piece))
            yield piece

    with await asyncio.to_thread(path.open, "rb") as file:
        file.seek(offset)
        yield pieces()


@contextmanager
def _bar(label: str, total: int) -> Iterator[Advance]:
    columns = (TextColumn("  {task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=out, disable=not out.is_terminal) as progress:
        task = progress.add_task(label, total=total)
        yield lambda size: progress.advance(task, size)
    out.print(f"[green]✓[/green] {label}")


async def _timed(work: Coroutine[Any, Any, None]) -> float:
    started = time.perf_counter()
    await work
    return time.perf_counter() - started


def _free_port(preferred: int) -> int:
    for port in (preferred, 0):
        with socket.socket() as candidate:
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                candidate.bind(("127.0.0.1", port))
            except OSError:
                continue
            number: int = candidate.getsockname()[1]
            return number
    raise Unavailable("no free port on 127.0.0.1")
