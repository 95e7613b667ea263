"""Each operation of a registry, with a fault at its first call that changes the disk, at its second one, and so on.

Every trial has a copy of the same small world and a forked process of its own. Afterwards the world is read back by
another process: what was acknowledged is there, nothing wrong is served, the same operation then succeeds, and once a
day has passed and garbage was collected, the disk holds what it holds after an operation without a fault.
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
"""What the tests do."""
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
    """What came of all trials.

    Attributes:
        calls: how many calls each operation makes.
        outcomes: how the operations ended, by fault.
        faults: what must not be.
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
    """An operation without a fault: how many calls it makes, and what there is afterwards."""

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
    tell: Callable[[str], None] = lambda _: None,
) -> Findings:
    """Try each operation with each fault at each of its calls; this process must have been started with the shim.

    Args:
        folder: for the world and its copies.
        shim: that this process was started with.
        injections: the faults.
        operations: the operations.
        most: about how many calls of an operation are tried, evenly chosen, where it makes more; None means all.
        tell: says how far it is.
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
        tell(f"{operation.name}: {reference.calls} calls, {len(findings.faults)} faults so far")
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
    """An operation from its beginning to its end."""

    async def once() -> None:
        world = World.at(trial)
        await operation.run(world)
        await world.close()

    asyncio.run(once())
    return {}


def _try(
    folder: Path, world: Path, shim: Shim, operation: Operation, reference: Reference, injection: Injection, at: int
) -> tuple[str, list[str]]:
    """How the operation ended, and what is wrong afterwards."""
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
    """What is on the disk for ever, compared with an operation without a fault."""
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
    """In a process of its own: the operation, reading while the fault lasts, and the operation once more after it."""
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
    """A second attempt by another process; gives what is wrong about it."""
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
        # What an interrupted push has linked into the pool is free once its upload is gone, so it goes with the second.
        for store in (world.here, world.there) * 2:
            await store.collect_garbage(DAY)
        await world.close()

    asyncio.run(collect())


def _fresh(folder: Path, world: Path) -> Path:
    trial = folder / "trial"
    shutil.rmtree(trial, ignore_errors=True)
    copy_tree(world, trial)
    return trial


def in_fork(work: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
    """Run work in a process of its own; returns what it returns, or None where it was killed."""
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
