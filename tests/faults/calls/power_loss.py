"""The effect of a loss of power on an operation: a model of a disk that keeps only what was synced.

The shim records the calls of an operation. From them the model builds the disk as it may be found after a loss of power
at any moment, in two extremes: `strict` has each file and directory as it was last synced, as POSIX promises;
`ordered` has all names as they were last, as a journal of metadata keeps them, and the contents last synced.
"""

import asyncio
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tagferry.errors import TagferryError
from tests.faults.calls.every_call import HOUR, Findings, carry_out, in_fork, repeat
from tests.faults.calls.operations import OPERATIONS, Operation, prepare, roots
from tests.faults.calls.shim import Shim
from tests.faults.calls.snapshot import Snapshot, age, copy_tree, read_now

STRICT, ORDERED = "strict", "ordered"


@dataclass(frozen=True)
class Event:
    """A call that succeeded."""

    what: str
    path: Path
    other: Path
    at: int
    data: bytes


@dataclass
class Node:
    """A file or a directory, as it is and as it was last synced."""

    data: bytes = b""
    synced: bytes = b""
    names: dict[str, "Node"] = field(default_factory=dict)
    synced_names: dict[str, "Node"] = field(default_factory=dict)
    is_folder: bool = False


class Disk:
    """A folder with all that is in it, as far as calls change it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._top = self._load(folder, {})

    def apply(self, event: Event) -> None:
        """Apply a call."""
        node = self._find(event.path)
        match event.what:
            case "create":
                self._parent(event.path)[event.path.name] = Node()
            case "mkdir":
                self._parent(event.path)[event.path.name] = Node(is_folder=True)
            case "unlink":
                del self._parent(event.path)[event.path.name]
            case "rename":
                self._parent(event.other)[event.other.name] = self._parent(event.path).pop(event.path.name)
            case "link" if node is not None:
                self._parent(event.other)[event.other.name] = node
            case "write" if node is not None:
                before = node.data[: event.at].ljust(event.at, b"\0")
                node.data = before + event.data + node.data[event.at + len(event.data) :]
            case "truncate" if node is not None:
                node.data = node.data[: event.at].ljust(event.at, b"\0")
            case "sync" if node is not None:
                node.synced, node.synced_names = node.data, dict(node.names)

    def write(self, folder: Path, kind: str) -> None:
        """Create the folder as it is found after a loss of power."""
        self._write(self._top, folder, kind, {})

    def _write(self, node: Node, path: Path, kind: str, written: dict[int, Path]) -> None:
        if not node.is_folder:
            if (other := written.get(id(node))) is not None:
                path.hardlink_to(other)
            else:
                path.write_bytes(node.synced)
                written[id(node)] = path
            return
        path.mkdir()
        for name, below in (node.synced_names if kind == STRICT else node.names).items():
            self._write(below, path / name, kind, written)

    def _load(self, path: Path, known: dict[int, Node]) -> Node:
        number = path.stat().st_ino
        if number in known:
            return known[number]
        if path.is_dir():
            names = {name: self._load(path / name, known) for name in os.listdir(path)}  # noqa: PTH208
            return Node(names=names, synced_names=dict(names), is_folder=True)
        content = path.read_bytes()
        return known.setdefault(number, Node(content, content))

    def _find(self, path: Path) -> Node | None:
        node: Node | None = self._top
        for name in path.relative_to(self._folder).parts:
            node = node.names.get(name) if node is not None else None
        return node

    def _parent(self, path: Path) -> dict[str, Node]:
        node = self._find(path.parent)
        assert node is not None, f"not created by any call {path.parent}"
        return node.names


def lose_power(
    folder: Path,
    shim: Shim,
    operations: Iterable[Operation] = OPERATIONS,
    kinds: Iterable[str] = (STRICT, ORDERED),
    progress: Callable[[str], None] = lambda _: None,
) -> Findings:
    """Lose power after each call of each operation; this process must have been started with the shim."""
    findings = Findings(outcomes=Counter())
    shim.ignore()
    world = folder / "world"
    asyncio.run(prepare(world))
    before = read_now(*roots(world))
    age(world, HOUR)
    for operation in operations:
        trial, log = folder / "trial", folder / "log"
        shutil.rmtree(trial, ignore_errors=True)
        copy_tree(world, trial)
        shim.watch(trial, log)
        report = in_fork(lambda operation=operation, trial=trial: carry_out(trial, operation))  # type: ignore[misc]
        shim.ignore()
        if report != {}:
            raise RuntimeError(f"{operation.name} failed without a fault: {report}")
        after = read_now(*roots(trial))
        events = list(_events(log))
        findings.calls[operation.name] = len(events)
        for kind in kinds:
            faults = _replay(folder, world, trial, operation, (before, after), events, kind, findings)
            findings.faults += [f"{operation.name}, {kind}, {fault}" for fault in faults]
        progress(f"{operation.name}: {len(events)} calls, {len(findings.faults)} faults so far")
    return findings


def _replay(
    folder: Path,
    world: Path,
    trial: Path,
    operation: Operation,
    snapshots: tuple[Snapshot, Snapshot],
    events: list[Event],
    kind: str,
    findings: Findings,
) -> Iterator[str]:
    before, after = snapshots
    shutil.rmtree(trial)
    copy_tree(world, trial)
    disk, found = Disk(trial), folder / "found"
    for number, event in enumerate(events, start=1):
        disk.apply(event)
        is_last = number == len(events)
        if kind == STRICT and event.what != "sync" and not is_last:
            continue
        shutil.rmtree(found, ignore_errors=True)
        disk.write(found, kind)
        try:
            snapshot = read_now(*roots(found))
            # An operation that has ended was acknowledged.
            faults = [*(snapshot.differences(after) if is_last else snapshot.violations(before, after))]
            faults += asyncio.run(repeat(found, operation))
        except (TagferryError, OSError) as error:
            faults = [f"it cannot be read: {error!r}"]
        findings.outcomes[f"loss of power, {kind}", "read back"] += 1
        yield from (f"after call {number} ({event.what}): {fault}" for fault in faults)


def _events(log: Path) -> Iterator[Event]:
    with log.open("rb") as file:
        while head := file.readline():
            what, path, other, at, size = head.decode().rstrip("\n").split("\t")
            yield Event(what, Path(path), Path(other), int(at), file.read(int(size)))
