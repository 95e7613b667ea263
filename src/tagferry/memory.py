"""Keep the memory of a long-running process small, and pauses for looking after it rare.

glibc gives threads arenas of their own, up to eight for each core, and keeps freed memory in them. In a server with
many threads, these arenas grow for days although the program uses no more memory.
"""

import asyncio
import ctypes
import gc
import sys

_PAUSE_SECONDS = 300.0
_MAX_ARENAS = 2
_M_ARENA_MAX = -8  # Its number in malloc.h.
_ALLOCATIONS = 10_000
"""Objects that are allocated, and not freed, until the collector looks for garbage among them; Python's default is
700."""


def limit_arenas() -> bool:
    """Let all threads allocate from two arenas; False if the C library cannot. Call it before threads start.

    Threads of Python rarely allocate at the same time, since most of them hold the interpreter's lock when they do.
    """
    if sys.platform != "linux":
        return False
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    return set_option is not None and bool(set_option(_M_ARENA_MAX, _MAX_ARENAS))


def collect_rarely() -> None:
    """Let the collector of cyclic garbage run less often.

    A full collection looks at all objects of the process and stops the event loop meanwhile: for a tenth of a second if
    10,000 repositories are remembered. By default there is one after 70,000 new objects, so that one list of all
    repositories leads to several.
    """
    gc.set_threshold(_ALLOCATIONS, *gc.get_threshold()[1:])


async def keep_returning_memory() -> None:
    """Return freed memory every five minutes, until cancelled; does nothing where the C library is not glibc."""
    while True:
        await asyncio.sleep(_PAUSE_SECONDS)
        # Takes some milliseconds, without the interpreter's lock.
        await asyncio.to_thread(return_freed_memory)


def return_freed_memory() -> bool:
    """Return freed memory now; False if the C library cannot, or if there was none to return."""
    if sys.platform != "linux":
        return False
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim is not None and bool(trim(0))
