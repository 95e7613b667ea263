"""Attacks by an ordinary user: odd, large or deep content, and a failing disk."""

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

from tagferry.names import Digest
from tagferry.oci.model import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST
from tests.faults.attacks.stage import HONEST, MALLORY, Attack, Outcome, Stage, push
from tests.faults.caller import Caller
from tests.faults.calls.shim import Injection
from tests.faults.installation import SOUTH
from tests.support.images import OCI_LAYER, image

_APP = f"{MALLORY}/app"
_MIB = 1024 * 1024


async def poisoned_manifests(stage: Stage, seconds: float) -> Outcome:
    """Manifests with sizes and texts that a database cannot hold, pushed and synchronized."""
    outcome = Outcome()
    layer = b"a layer"
    config = json.dumps({"os": "linux", "architecture": "amd64"}).encode()
    caller = stage.caller()
    await asyncio.to_thread(_push_blobs, caller, config, layer)
    for number, raw in enumerate(_poisons(config, layer)):
        answer = await asyncio.to_thread(
            caller.registry, "PUT", f"/v2/{_APP}/manifests/p{number}", raw, Content_Type=OCI_MANIFEST
        )
        outcome.saw(f"push {answer.status}")
        if answer.status == 201:
            started = await stage.start_sync(_APP, [f"p{number}"])
            outcome.saw(f"sync {started.status}")
    await asyncio.sleep(seconds / 4)
    outcome.seen["job " + await _last_job(stage)] += 1
    return outcome


def _poisons(config: bytes, layer: bytes) -> list[bytes]:
    def manifest(size: Any = 7, media_type: str = OCI_LAYER, **more: Any) -> bytes:
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": OCI_CONFIG, "digest": Digest.of(config), "size": len(config)},
            "layers": [{"mediaType": media_type, "digest": Digest.of(layer), "size": size}],
            **more,
        }
        return json.dumps(document).encode()

    huge = manifest().replace(b'"size": 7', b'"size": 1' + b"0" * 400)
    deep = manifest(annotations={"a": "b"}).replace(b'{"a": "b"}', b'{"a":' * 5000 + b"1" + b"}" * 5000)
    return [
        manifest(2**63),
        manifest(2**64 * 10),
        manifest(-1),
        manifest(1e300),
        manifest(media_type="a\ud800b"),
        manifest(media_type="a\x00b"),
        manifest(artifactType="a\ud800"),
        manifest(annotations={"org.opencontainers.image.created": "0001-01-01T00:00:00+14:00"}),
        huge,
        deep,
    ]


async def odd_images_in_lists(stage: Stage, seconds: float) -> Outcome:
    """Images with dates, sizes and types that are hard to show; then the organization is listed."""
    outcome = Outcome()
    caller = stage.caller()
    for number, created in enumerate(
        ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", 1e308, ["x"], "x" * 9999)
    ):
        config = json.dumps({"os": "linux", "architecture": "amd64", "created": created}).encode()
        await asyncio.to_thread(_push_blobs, caller, config, b"a layer")
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": OCI_CONFIG, "digest": Digest.of(config), "size": len(config)},
            "layers": [{"mediaType": OCI_LAYER, "digest": Digest.of(b"a layer"), "size": 7}],
            "artifactType": "odd\ud800",
        }
        for name, raw in (
            (f"o{number}", json.dumps({**document, "artifactType": None}).replace('"artifactType": null', '"a": 1')),
            (f"s{number}", json.dumps(document)),
        ):
            path = f"/v2/{_APP}/manifests/{name}"
            answer = await asyncio.to_thread(caller.registry, "PUT", path, raw.encode(), Content_Type=OCI_MANIFEST)
            outcome.saw(f"push {answer.status}")
    for path in (
        f"/v2/manage/namespaces/{MALLORY}/repos/app/tags",
        "/v2/manage/repos",
        "/v3/manage/repos",
        "/v2/manage/overview",
        f"/v2/manage/namespaces/{MALLORY}/repos/app",
    ):
        answer = await asyncio.to_thread(caller.management, "GET", path)
        outcome.saw(f"list {answer.status}")
        if answer.status >= 500:
            outcome.failed.append(f"{path} is answered {answer.status}")
    return outcome


async def manifests_of_25_000_layers(stage: Stage, seconds: float) -> Outcome:
    """More layers than a manifest may have."""
    return await _many_layers(stage, seconds, 25_000)


async def manifests_of_10_000_layers(stage: Stage, seconds: float) -> Outcome:
    """As many layers as a manifest may have."""
    return await _many_layers(stage, seconds, 10_000)


async def _many_layers(stage: Stage, seconds: float, count: int) -> Outcome:
    """Push and synchronize manifests with this number of layers, and list them, repeatedly."""
    outcome = Outcome()
    config, layer = b"{}", b"a layer"
    caller = stage.caller()
    await asyncio.to_thread(_push_blobs, caller, config, layer)
    one = {"mediaType": OCI_LAYER, "digest": Digest.of(layer), "size": len(layer)}
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": OCI_CONFIG, "digest": Digest.of(config), "size": len(config)},
            "layers": [one] * count,
            "annotations": {"number": str(outcome.tried)},
        }
        raw = json.dumps(document, separators=(",", ":")).encode()
        path = f"/v2/{_APP}/manifests/many"
        answer = await asyncio.to_thread(caller.registry, "PUT", path, raw, Content_Type=OCI_MANIFEST)
        outcome.saw(f"push {answer.status}")
        if answer.status == 201:
            await stage.start_sync(_APP, ["many"])
            await asyncio.to_thread(caller.management, "GET", f"/v2/manage/namespaces/{MALLORY}/repos/app/tags")
    return outcome


async def nested_indexes(stage: Stage, seconds: float) -> Outcome:
    """Indexes of indexes, 400 deep, each of three MiB; then they are synchronized and listed."""
    outcome = Outcome()
    sample = image(b"innermost", seed="innermost")
    caller = stage.caller()
    await asyncio.to_thread(push, caller, _APP, "inner", sample)
    inner = sample.manifest.descriptor.to_json()
    deadline = time.monotonic() + seconds
    for _ in range(400):
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [inner],
            "annotations": {"x": "y" * 3 * _MIB},
        }
        raw = json.dumps(document).encode()
        answer = await asyncio.to_thread(
            caller.registry, "PUT", f"/v2/{_APP}/manifests/nested", raw, Content_Type=OCI_INDEX
        )
        outcome.saw(f"push {answer.status}")
        if answer.status != 201 or time.monotonic() > deadline:
            break
        inner = {"mediaType": OCI_INDEX, "digest": Digest.of(raw), "size": len(raw)}
    started = await stage.start_sync(_APP, ["nested"])
    outcome.saw(f"sync {started.status}")
    for path in (f"/v2/manage/namespaces/{MALLORY}/repos/app/tags", "/v2/manage/repos"):
        answer = await asyncio.to_thread(caller.management, "GET", path)
        outcome.saw(f"list {answer.status}")
    return outcome


async def full_disk(stage: Stage, seconds: float) -> Outcome:
    """The registries' disk is full: pushes fail with that reason, everything else works; later pushes succeed."""
    return await _failing_disk(stage, seconds, Injection("ENOSPC", sticky=True))


async def read_only_disk(stage: Stage, seconds: float) -> Outcome:
    """The registries' disk became read-only: pulls still work."""
    return await _failing_disk(stage, seconds, Injection("EROFS", sticky=True))


async def _failing_disk(stage: Stage, seconds: float, injection: Injection) -> Outcome:
    outcome = Outcome()
    registries = stage.installation.data / "registries"
    # A pull renews the age of blobs that were not requested within a minute.
    for place, _, names in os.walk(registries):
        for name in names:
            os.utime(Path(place, name), (time.time() - 3600,) * 2)
    stage.shim.watch(registries)
    stage.shim.arm(1, injection)
    deadline, number = time.monotonic() + seconds, 0
    pulling = stage.caller(HONEST)
    while time.monotonic() < deadline:
        number += 1
        answer = await stage.push(_APP, f"t{number}", image(str(number).encode(), seed=str(number)))
        outcome.saw(f"push {answer.status}")
        if answer.status < 400:
            outcome.failed.append("a push to a disk that takes nothing was acknowledged")
        pulled = await asyncio.to_thread(pulling.registry, "GET", f"/v2/{HONEST}/app/manifests/placed")
        outcome.saw(f"pull {pulled.status}")
        for layer in pulled.document["layers"] if pulled.status == 200 else ():
            blob = await asyncio.to_thread(pulling.registry, "GET", f"/v2/{HONEST}/app/blobs/{layer['digest']}")
            outcome.saw(f"pull {blob.status}")
            if blob.status == 200 and blob.digest != layer["digest"]:
                outcome.wrong += 1
    if any(seen.startswith("pull") and seen != "pull 200" for seen in outcome.seen):
        outcome.failed.append("pulls stopped")
    stage.shim.disarm()
    answer = await stage.push(_APP, "later", image(b"later", seed="later"))
    if answer.status != 201:
        outcome.failed.append(f"a push once the disk is well again is answered {answer.status}")
    return outcome


async def flipped_bits(stage: Stage, seconds: float) -> Outcome:
    """A bit of a blob and of a manifest flips on disk; they are pulled, pushed again and pulled once more."""
    outcome = Outcome()
    sample = image(b"a layer that will rot" * 100, seed="rotting")
    caller = stage.caller()
    await asyncio.to_thread(push, caller, _APP, "rotting", sample)
    for digest, kind in [*((digest, "blobs") for digest in sample.blobs), (sample.digest, "manifests")]:
        (path,) = {
            file.stat().st_ino: file for file in stage.installation.data.rglob(digest.encoded) if "north" in str(file)
        }.values()
        content = bytearray(path.read_bytes())
        content[-3] ^= 1
        path.write_bytes(content)
        answer = await asyncio.to_thread(caller.registry, "GET", f"/v2/{_APP}/{kind}/{digest}")
        outcome.saw(f"damaged: {answer.status}")
        outcome.wrong += answer.status == 200 and answer.digest != digest
    started = await stage.start_sync(_APP, ["rotting"], to=SOUTH)
    if started.status == 202:
        outcome.saw("sync: " + await stage.job_ended(_APP, started, user=MALLORY, seconds=20))
    await asyncio.to_thread(push, caller, _APP, "rotting", sample)
    for digest in (*sample.blobs, sample.digest):
        kind = "manifests" if digest == sample.digest else "blobs"
        answer = await asyncio.to_thread(caller.registry, "GET", f"/v2/{_APP}/{kind}/{digest}")
        outcome.saw(f"pushed again: {answer.status}")
        outcome.wrong += answer.status == 200 and answer.digest != digest
        if answer.status != 200 or answer.digest != digest:
            outcome.failed.append("a push does not heal")
    return outcome


def _push_blobs(caller: Caller, *contents: bytes) -> None:
    for content in contents:
        digest = Digest.of(content)
        started = caller.registry("POST", f"/v2/{_APP}/blobs/uploads/", b"")
        location = started.headers["Location"]
        path = location[location.index("/v2/") :]
        caller.registry("PUT", f"{path}{'&' if '?' in path else '?'}digest={digest}", content)


async def _last_job(stage: Stage) -> str:
    path = f"/v2/manage/namespaces/{MALLORY}/repos/app/sync_job"
    answer = await asyncio.to_thread(stage.caller().management, "GET", path)
    return str(answer.document[0]["status"]) if answer.status == 200 and answer.document else "none"


ATTACKS = (
    Attack("poisoned manifests", poisoned_manifests, short=True, repeats=True),
    Attack("odd images in lists", odd_images_in_lists, short=True, repeats=True),
    Attack("manifests of 25,000 layers", manifests_of_25_000_layers),
    Attack("manifests of 10,000 layers", manifests_of_10_000_layers),
    Attack("indexes nested 400 deep", nested_indexes),
    Attack("full disk", full_disk, with_shim=True, short=True),
    Attack("read-only disk", read_only_disk, with_shim=True),
    Attack("flipped bits", flipped_bits, short=True),
)
