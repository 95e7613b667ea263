"""The shim that counts the calls by which a process changes files, and makes one of them fail or kill the process."""

import ctypes
import errno
import mmap
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_SOURCE = Path(__file__).with_name("shim.c")
_PATH_BYTES = 4096
_VARIABLE = "FAULT_CONTROL"
KILL = "KILL"


class NoCompiler(Exception):
    """No C compiler to build the shim was found."""


class _Block(ctypes.Structure):
    """`struct control` of shim.c."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("count", "hits", "at", "error", "sticky", "torn", "ahead")),
        *((name, ctypes.c_char * _PATH_BYTES) for name in ("folder", "log", "struck")),
    )


@dataclass(frozen=True)
class Injection:
    """The fault at one call.

    Attributes:
        what: `KILL`, or the name of an error number.
        torn: whether a write has stored half of its bytes by then.
        sticky: whether all later calls fail too, as on a disk that stays full.
        abandoned: whether no second attempt is made.
    """

    what: str
    torn: bool = False
    sticky: bool = False
    abandoned: bool = False

    def __str__(self) -> str:
        words = ["half a write," * self.torn, self.what, "from then on" * self.sticky, "and given up" * self.abandoned]
        return " ".join(filter(None, words))

    @property
    def error(self) -> int:
        return 0 if self.what == KILL else int(getattr(errno, self.what))


class Shim:
    """The built shim and the control block of the processes that it is loaded into.

    Args:
        folder: for the library and the control block; it must exist and must not be the watched one.
    """

    def __init__(self, folder: Path) -> None:
        self._library = build(folder)
        self._path = folder / "control"
        self._path.write_bytes(bytes(ctypes.sizeof(_Block)))
        self._attach()

    @classmethod
    def inherited(cls) -> "Shim":
        """Return the control block of this process, which was started with `environment`."""
        shim = cls.__new__(cls)
        shim._path = Path(os.environ[_VARIABLE])
        shim._attach()
        return shim

    def _attach(self) -> None:
        with self._path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 0)
        self._block = _Block.from_buffer(self._memory)

    def environment(self) -> Mapping[str, str]:
        """The environment with which a process is watched."""
        return {"LD_PRELOAD": str(self._library), _VARIABLE: str(self._path)}

    @property
    def count(self) -> int:
        """Calls since `watch`."""
        return int(self._block.count)

    @property
    def hits(self) -> int:
        """Calls that failed since `watch`; a kill counts as one."""
        return int(self._block.hits)

    @property
    def struck(self) -> tuple[str, str]:
        """The kind and the path of the last call that failed."""
        what, _, path = os.fsdecode(self._block.struck).partition("\t")
        return what, path

    @property
    def folder(self) -> Path:
        """The watched folder."""
        return Path(os.fsdecode(self._block.folder))

    def watch(self, folder: Path, log: Path | None = None) -> None:
        """Count the calls below a folder from 0; with a log, record them there."""
        self.disarm()
        if log is not None:
            log.write_bytes(b"")
        self._block.log = os.fsencode(log) if log is not None else b""
        self._block.count = self._block.hits = 0
        self._block.folder = os.fsencode(folder.resolve())

    def arm(self, at: int, injection: Injection) -> None:
        """Make the call with this number, counted from `watch`, fail."""
        self._block.error, self._block.sticky, self._block.torn = injection.error, injection.sticky, injection.torn
        self._block.at = at

    def disarm(self) -> None:
        """Let all calls succeed."""
        self._block.at = 0

    def put_clock_ahead(self, seconds: int) -> None:
        """Shift the time of day; 0 restores it."""
        self._block.ahead = seconds

    def ignore(self) -> None:
        """Stop watching, and restore the time."""
        self.disarm()
        self._block.ahead = 0
        self._block.folder = b""


def build(folder: Path) -> Path:
    """Compile the shim into a folder; raises NoCompiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise NoCompiler("a C compiler (the packages gcc and libc6-dev) builds the shim of tests/faults/calls")
    library = folder / "shim.so"
    command = [compiler, "-O2", "-Wall", "-shared", "-fPIC", "-o", str(library), str(_SOURCE), "-ldl", "-lpthread"]
    subprocess.run(command, check=True)
    return library
