"""Which blobs of a layout that is written to have the right content.

A size says little: a disk, or a program that was killed, leaves wrong bytes of the right size. So each blob is read
before it counts as present, once until its file changes. The stamps of files that were read are kept between runs.
"""

import hashlib
import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import CancelledError
from typing import Protocol

from tagferry.layout.files import LayoutFiles, Stamp, blob_name
from tagferry.names import Digest
from tagferry.oci.model import Descriptor

_READ_BYTES = 1024 * 1024
_SETTLED_NANOSECONDS = 2_000_000_000
"""The age from which a stamp is relied on: two changes within one tick of a file system's clock could share one."""
_KEPT = 100_000
"""The most blobs of a layout whose stamps are kept, each about 150 bytes."""


class KeptStamps(Protocol):
    """Keeps stamps between runs. It is only an optimization, so its methods do not raise OSError."""

    def load(self) -> Mapping[str, object]:
        """Return the document that was kept; an empty one if there is none."""
        ...

    def save(self, document: Mapping[str, object]) -> None:
        """Replace the document."""
        ...


class VerifiedContent:
    """The blobs of one layout that were read and found right. Its methods block, and may be called by several threads.

    Args:
        files: the layout's files.
        kept: keeps the stamps between runs; None to forget them.
    """

    def __init__(self, files: LayoutFiles, kept: KeptStamps | None = None) -> None:
        self._files = files
        self._kept = kept
        self._right: dict[str, Stamp] | None = None
        self._wrong: dict[str, Stamp] = {}
        self._is_changed = False
        self._lock = threading.Lock()
        self._reading: dict[str, threading.Lock] = {}

    def holds(self, blob: Descriptor, *, stopping: threading.Event) -> bool:
        """Return whether the layout has a blob with this size and digest; its content is read if necessary.

        Args:
            blob: the blob.
            stopping: set when the result is no longer needed, so that reading ends with CancelledError.
        """
        with self._lock:
            reading = self._reading.setdefault(blob.digest, threading.Lock())
        with reading:
            stamp = self._files.stamp(blob_name(blob.digest))
            if stamp is None or stamp.size != blob.size or self._wrong.get(blob.digest) == stamp:
                return False
            if self._known().get(blob.digest) == stamp:
                return True
            began = time.time_ns()
            if not self._is_right(blob.digest, stopping):
                self._wrong[blob.digest] = stamp
                return False
            if began - stamp.changed > _SETTLED_NANOSECONDS:
                self._note(blob.digest, stamp)
            return True

    def is_known_wrong(self, digest: Digest) -> bool:
        """Return whether `holds` has found wrong content, and the file has not changed since."""
        wrong = self._wrong.get(digest)
        return wrong is not None and self._files.stamp(blob_name(digest)) == wrong

    def written(self, digest: Digest) -> None:
        """Note a blob that was verified while it was written just now."""
        stamp = self._files.stamp(blob_name(digest))
        if stamp is not None:
            self._note(digest, stamp)

    def right(self) -> list[Digest]:
        """Return the blobs that were found right, and whose files have not changed since."""
        stamps = list(self._known().items())
        return [Digest(digest) for digest, stamp in stamps if self._files.stamp(blob_name(digest)) == stamp]

    def moved(self, right: Iterable[Digest]) -> None:
        """Note that all files may have been copied, so that they have other stamps.

        Args:
            right: what `right` returned before.
        """
        for digest in right:
            self.written(digest)

    def save(self) -> None:
        """Keep the stamps for later runs, beside those that another process has kept meanwhile."""
        if self._kept is None or not self._is_changed or self._right is None:
            return
        with self._lock:
            stamps = {**_parsed(self._kept.load()), **self._right}
            self._kept.save({digest: list(stamp) for digest, stamp in list(stamps.items())[-_KEPT:]})
            self._is_changed = False

    def _known(self) -> dict[str, Stamp]:
        if self._right is None:
            self._right = _parsed(self._kept.load()) if self._kept is not None else {}
        return self._right

    def _note(self, digest: Digest, stamp: Stamp) -> None:
        with self._lock:
            known = self._known()
            # The last ones are kept.
            known.pop(digest, None)
            known[digest] = stamp
            self._is_changed = True

    def _is_right(self, digest: Digest, stopping: threading.Event) -> bool:
        file = self._files.open(blob_name(digest))
        if file is None:
            return False
        running, position = hashlib.new(digest.algorithm), 0
        try:
            while chunk := file.read(position, _READ_BYTES):
                running.update(chunk)
                position += len(chunk)
                if stopping.is_set():
                    raise CancelledError
        finally:
            file.close()
        return running.hexdigest() == digest.encoded


def _parsed(document: Mapping[str, object]) -> dict[str, Stamp]:
    """Return the stamps of a document, of which an earlier version or another program may have written any part."""
    return {
        digest: Stamp(*numbers)
        for digest, numbers in document.items()
        if isinstance(numbers, list)
        and len(numbers) == len(Stamp._fields)
        and all(isinstance(number, int) for number in numbers)
    }
