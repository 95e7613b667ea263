"""Each operation of a registry, with a fault at its first call that changes the disk, at its second one, and so on.

Every trial has a copy of the same content and its own forked process. Afterwards another process reads it back: what
was acknowledged exists, nothing wrong is served, the same operation then succeeds, and once a day has passed and
garbage was collected, the disk is as after an operation without a fault.
"""

import asyncio
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tagferry.errors import TagferryError
from tests.faults.calls.operations import OPERATIONS, Operation, World, prepare, roots
from tests.faults.calls.shim import KILL, Injection, Shim
from tests.faults.calls.snapshot import Snapshot, age, copy_tree, files, read, read_now

HOUR = 3600.0
DAY = 24 * HOUR
FEW = (Injection(KILL), Injection(KILL, abandoned=True), Injection("ENOSPC", sticky=True))
"""The faults that the tests inject."""
ALL = (
    *FEW,
    Injection(KILL, torn=True),
    Injection("ENOSPC"),
    Injection("ENOSPC", torn=True),
    Injection("EDQUOT"),
    Injection("EIO"),
    Injection("EROFS", sticky=True),
)
_FULL = ("ENOSPC", "EDQUOT")


@dataclass
class Findings:
    """The outcome of all trials.

    Attributes:
        calls: the number of calls of each operation.
        outcomes: how the operations ended, by fault.
        faults: violations.
    """

    calls: dict[str, int] = field(default_factory=dict)
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    @property
    def trials(self) -> int:
        return sum(self.outcomes.values())

    def lines(self) -> Iterator[tuple[str, str]]:
        """For people."""
        for name, calls in self.calls.items():
            yield f"calls of a {name}", str(calls)
        for (injection, outcome), count in sorted(self.outcomes.items()):
            yield f"{injection}: {outcome}", str(count)
        yield "trials", str(self.trials)
        yield "lost, wrong, in part or left over", str(len(self.faults))


@dataclass(frozen=True)
class Reference:
    """An operation without a fault: its number of calls, and the content afterwards."""

    calls: int
    before: Snapshot
    after: Snapshot
    files_before: dict[str, tuple[int, int]]
    files: dict[str, tuple[int, int]]


def try_every_call(
    folder: Path,
    shim: Shim,
    injections: Iterable[Injection] = ALL,
    operations: Iterable[Operation] = OPERATIONS,
    *,
    most: int | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Findings:
    """Try each operation with each fault at each of its calls; this process must have been started with the shim.

    Args:
        folder: for the content and its copies.
        shim: the one that this process was started with.
        injections: the faults.
        operations: the operations.
        most: about how many calls of an operation are tried, evenly chosen, if it makes more; None means all.
        progress: reports the progress.
    """
    findings = Findings()
    shim.ignore()
    world = folder / "world"
    asyncio.run(prepare(world))
    before = read_now(*roots(world))
    # Reading renews the age of blobs, which keeps garbage from being collected.
    age(world, HOUR)
    for operation in operations:
        reference = _refer(folder, world, shim, operation, before)
        findings.calls[operation.name] = reference.calls
        for injection in injections:
            for at in range(1, reference.calls + 1, max(1, reference.calls // (most or reference.calls))):
                outcome, faults = _try(folder, world, shim, operation, reference, injection, at)
                findings.outcomes[str(injection), outcome] += 1
                findings.faults += [f"{operation.name}, {injection} at call {at}: {fault}" for fault in faults]
        progress(f"{operation.name}: {reference.calls} calls, {len(findings.faults)} faults so far")
    return findings


def _refer(folder: Path, world: Path, shim: Shim, operation: Operation, before: Snapshot) -> Reference:
    trial = _fresh(folder, world)
    shim.watch(trial)
    report = in_fork(lambda: carry_out(trial, operation))
    calls = shim.count
    shim.ignore()
    if report != {}:
        raise RuntimeError(f"{operation.name} failed without a fault: {report}")
    after = read_now(*roots(trial))
    untouched = folder / "untouched"
    if not untouched.exists():
        copy_tree(world, untouched)
        tidy(untouched)
    if after.flaws:
        raise RuntimeError(f"{operation.name} leaves flaws without a fault: {after.flaws}")
    tidy(trial)
    return Reference(calls, before, after, files(untouched), files(trial))


def carry_out(trial: Path, operation: Operation) -> dict[str, Any]:
    """A run of an operation."""

    async def once() -> None:
        world = World.at(trial)
        await operation.run(world)
        await world.close()

    asyncio.run(once())
    return {}


def _try(
    folder: Path, world: Path, shim: Shim, operation: Operation, reference: Reference, injection: Injection, at: int
) -> tuple[str, list[str]]:
    """Return how the operation ended, and what is wrong afterwards."""
    trial = _fresh(folder, world)
    shim.watch(trial)
    shim.arm(at, injection)
    report = in_fork(lambda: asyncio.run(_with_fault(trial, operation, shim, reference)))
    hits = shim.hits
    shim.ignore()
    if report is None:
        outcome = "killed"
        faults = [*read_now(*roots(trial)).violations(reference.before, reference.after)]
        if not injection.abandoned:
            age(trial, HOUR)
            faults += asyncio.run(repeat(trial, operation))
    else:
        faults, outcome = report["faults"], report["outcome"]
        if injection.what in _FULL and outcome.startswith("failed") and "DiskFull" not in outcome:
            faults.append(f"a full disk is called {outcome}")
    if not hits:
        faults.append("the call was never made")
    if not injection.abandoned:
        faults += read_now(*roots(trial)).differences(reference.after)
    tidy(trial)
    return outcome, [*faults, *_leftovers(files(trial), reference, injection)]


def _leftovers(left: dict[str, tuple[int, int]], reference: Reference, injection: Injection) -> Iterator[str]:
    """Return the files that stay on disk forever, compared with an operation without a fault."""
    if injection.abandoned:
        known = reference.files.keys() | reference.files_before.keys()
        needed = reference.files.keys() & reference.files_before.keys()
    else:
        known = needed = set(reference.files)
        for path in needed & left.keys():
            if left[path] != reference.files[path]:
                yield f"{path} has {left[path]} links and bytes instead of {reference.files[path]}"
    for path in left.keys() - known:
        yield f"{path} stays for ever"
    for path in needed - left.keys():
        yield f"{path} is missing"


async def _with_fault(trial: Path, operation: Operation, shim: Shim, reference: Reference) -> dict[str, Any]:
    """Run in its own process: the operation, a read while the fault lasts, and the operation again after it."""
    world = World.at(trial)
    try:
        await operation.run(world)
        outcome = "succeeded all the same"
    except (TagferryError, OSError) as error:
        outcome = f"failed with {type(error).__name__}"
    try:
        faults = [*(await read(*roots(trial))).violations(reference.before, reference.after)]
    except (TagferryError, OSError) as error:
        faults = [f"reading failed: {error!r}"]
    shim.disarm()
    age(trial, HOUR)
    if outcome.startswith("failed") or operation.leaves_rest:
        try:
            await operation.repeat(world)
        except (TagferryError, OSError) as error:
            faults.append(f"the second attempt failed: {error!r}")
    await world.close()
    return {"outcome": outcome, "faults": faults}


async def repeat(trial: Path, operation: Operation) -> list[str]:
    """Make a second attempt by another process; returns what is wrong about it."""
    world = World.at(trial)
    try:
        await operation.repeat(world)
    except (TagferryError, OSError) as error:
        return [f"the second attempt failed: {error!r}"]
    finally:
        await world.close()
    return []


def tidy(trial: Path) -> None:
    """Let two days pass, and collect garbage."""
    age(trial, 2 * DAY)

    async def collect() -> None:
        world = World.at(trial)
        # An interrupted push's file in the pool is free once its upload is deleted: the second collection deletes it.
        for store in (world.here, world.there) * 2:
            await store.garbage.collect(DAY)
        await world.close()

    asyncio.run(collect())


def _fresh(folder: Path, world: Path) -> Path:
    trial = folder / "trial"
    shutil.rmtree(trial, ignore_errors=True)
    copy_tree(world, trial)
    return trial


def in_fork(work: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
    """Run work in its own process; returns its result, or None if it was killed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            os.write(writing, json.dumps(work()).encode())
        except BaseException as error:
            os.write(writing, json.dumps({"outcome": "broke", "faults": [repr(error)]}).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return json.loads(answer) if answer else None
