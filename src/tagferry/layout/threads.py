"""Access to the files of a layout in threads."""

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from tagferry.errors import Misused, Refused, StorageUnavailable

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


class LayoutThreads:
    """Runs work on the files of a layout.

    Args:
        name: the layout's name in messages.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    async def run(
        self, work: Callable[_Parameters, _Result], *args: _Parameters.args, **kwargs: _Parameters.kwargs
    ) -> _Result:
        """Run work on files in a thread; if the caller is cancelled, wait for its end, so that files can be closed.

        Raises:
            Refused: the file must not be accessed.
            Misused: the archive is a directory.
            StorageUnavailable: the disk failed or is full.
        """
        running = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait([running])
            raise
        except PermissionError as error:
            raise Refused(f"cannot access {self._name}: {error.filename}: {error.strerror}") from error
        except IsADirectoryError as error:
            raise Misused(self._name, "must be a file; for a layout in a directory, write oci:DIRECTORY") from error
        except OSError as error:
            # The name may also be the number of an open file.
            file = f"{error.filename}: " if isinstance(error.filename, str) else ""
            raise StorageUnavailable(f"cannot access {self._name}: {file}{error.strerror or error}") from error
