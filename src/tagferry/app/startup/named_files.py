"""Files that the configuration names."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from tagferry.app.startup.problem import Problem
from tagferry.file_faults import file_fault
from tagferry.regular_file import open_regular

_LARGEST = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A file that a setting names.

    Attributes:
        owner: the region or webhook with the setting, such as `region cn-north-4`; empty for a top-level setting.
        key: the key of the setting.
    """

    owner: str
    key: str
    path: Path

    def __str__(self) -> str:
        return f'{self.owner}: {self.key} "{self.path}"' if self.owner else f'{self.key} "{self.path}"'

    def problem(self, fault: str, remedy: str = "") -> Problem:
        """Return the problem of this file; the fault ends a sentence that begins with its path."""
        return Problem(self.owner or self.key, f"{self} {fault}", remedy)

    def read(self) -> bytes | Problem:
        """Return the content, or why it cannot be read. Never blocks, as it would for a pipe."""
        try:
            with os.fdopen(open_regular(self.path, follow_links=True), "rb") as file:
                content = file.read(_LARGEST + 1)
        except FileNotFoundError as error:
            if self.path.is_symlink():
                return self.problem("is a symbolic link to a file that does not exist", "restore that file")
            return self.problem(file_fault(error), "check the path, which is relative to the configuration file")
        except PermissionError as error:
            return self.problem(file_fault(error), "let this user read the file, and enter the directories above it")
        except OSError as error:
            return self.problem(file_fault(error), "name a regular file")
        if len(content) > _LARGEST:
            return self.problem(f"is larger than {_LARGEST // 1024**2} MiB", "name another file")
        return content or self.problem("is empty", "restore the file")


def pem_kinds(content: bytes) -> list[str]:
    """Return the kinds of the blocks in a PEM file, such as `CERTIFICATE`."""
    return [kind.decode() for kind in re.findall(rb"-----BEGIN ([A-Z0-9 ]+)-----", content)]


def is_der(content: bytes) -> bool:
    """Return whether a file has the binary encoding of certificates and keys."""
    # The tag of a sequence, and a length of two bytes.
    return content[:2] in (b"\x30\x82", b"\x30\x81")
