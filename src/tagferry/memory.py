"""Return freed memory to the system.

glibc keeps memory that was freed in the arenas of the threads that used it. In a server with many threads, these
arenas grow for days although the program uses no more memory.
"""

import asyncio
import ctypes
import sys

_PAUSE_SECONDS = 300.0


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
