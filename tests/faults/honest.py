"""Users who push, move, delete, pull and synchronize, and remember what the server has acknowledged.

Each has its own organization, so that it knows the expected content. An operation that was running when the server
stopped is in doubt: it may have happened or not, but nothing else may have, and the next read settles it.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

from tagferry.names import Digest
from tests.faults.caller import Answer, Caller, Lost
from tests.faults.installation import NORTH, SOUTH, Installation
from tests.support.images import SampleImage, artifact, image, index

_BUSY = (429, 503)
_TAGS = 6
_KEPT_SYNCS = 12
_KIB = 1024
_LOOKS = 20

Place = tuple[str, str, str]
"""A region, a repository and a tag."""


@dataclass
class Figures:
    """The operations and observations of users.

    Attributes:
        done: operations that were acknowledged, by kind.
        in_doubt: operations during which the server stopped.
        looks: tags that were read back; blobs: blobs that were read back and hashed.
        busy: responses 429 and 503.
        faults: violations.
    """

    done: Counter[str] = field(default_factory=Counter)
    in_doubt: int = 0
    looks: int = 0
    blobs: int = 0
    busy: int = 0
    faults: list[str] = field(default_factory=list)


class Busy(Exception):
    """The server is overloaded."""


class User:
    """A user, with one operation after the other.

    Args:
        name: of the user, of the login and of the organization.
        figures: where to count; may be shared.
    """

    def __init__(self, name: str, installation: Installation, seed: str, figures: Figures) -> None:
        self.name = name
        self.figures = figures
        self._rng = random.Random(f"{seed} {name}")
        self._callers = {region: Caller(url, installation.logins[name]) for region, url in installation.urls.items()}
        self._tags: dict[Place, set[str | None]] = {}
        self._samples: dict[str, SampleImage] = {}
        self._synced: list[tuple[str, str, int]] = []
        self._open_jobs: dict[int, Place] = {}
        self._fresh: set[Place] = set()
        self._layers: list[bytes] = []
        self._number = 0

    def close(self) -> None:
        """Close the connections."""
        for caller in self._callers.values():
            caller.close()

    def act(self) -> None:
        """Run one random operation; raises Lost."""
        what = self._rng.choices(
            (self.push, self.move, self.delete, self.sign, self.synchronize, self.pull),
            (30, 15, 10, 8, 20, 17),
        )[0]
        try:
            what()
        except Lost:
            self.figures.in_doubt += 1
            raise
        except Busy:
            self.figures.busy += 1
        else:
            self.figures.done[what.__name__] += 1

    def push(self) -> None:
        """Push an image or an index, by any of the ways to send a blob."""
        self._push(self._repository(), f"t{self._rng.randrange(_TAGS)}", self._sample())

    def move(self) -> None:
        """Point a tag to another image of its repository."""
        standing = self._settled(NORTH)
        if not standing:
            return
        (_, repository, _), digest = self._rng.choice(standing)
        self._put_manifest(repository, f"t{self._rng.randrange(_TAGS)}", self._samples[digest])

    def delete(self) -> None:
        """Delete a tag, or a manifest with all of its tags."""
        standing = self._settled(NORTH)
        if not standing:
            return
        (_, repository, tag), digest = self._rng.choice(standing)
        whole = self._rng.random() < 0.3
        gone = [
            place
            for place, allowed in self._tags.items()
            if place[:2] == (NORTH, repository) and (digest in allowed if whole else place[2] == tag)
        ]
        self._remove(NORTH, repository, digest if whole else tag, gone)

    def sign(self) -> None:
        """Push an artifact that refers to an image."""
        standing = self._settled(NORTH)
        if not standing:
            return
        (_, repository, _), digest = self._rng.choice(standing)
        signature = artifact(subject=self._samples[digest].manifest, payload=self._rng.randbytes(100))
        for blob, content in signature.all_blobs.items():
            self._push_blob(repository, blob, content)
        self._put_manifest(repository, f"s{self._rng.randrange(2)}", signature)

    def synchronize(self) -> None:
        """Push an image under its own tag, and synchronize it to the south."""
        self._retire()
        self._number += 1
        repository, tag = f"{self.name}/synced", f"n{self._number}"
        sample = self._sample()
        self._push(repository, tag, sample)
        body = {"imageTag": [tag], "remoteNamespace": self.name, "remoteRegionId": SOUTH}
        headers = {"Prefer": "respond-async"} if self._rng.random() < 0.7 else {}
        there = (SOUTH, repository, tag)
        self._tags[there] = {None, sample.digest}
        self._fresh.add(there)
        answer = self._callers[NORTH].management(
            "POST", f"/v2/manage/namespaces/{self.name}/repos/synced/sync_images", body, **headers
        )
        self._expect(answer, {200, 202}, f"sync of {repository}:{tag}")
        if answer.status == 202:
            for job in answer.document["jobs"]:
                self._open_jobs[job["id"]] = there
        elif answer.document == []:
            self._tags[there] = {sample.digest}
        else:
            self._fault(f"the sync of {repository}:{tag} failed: {answer.document}")

    def pull(self) -> None:
        """Read a tag with everything below it."""
        standing = self._settled(NORTH) + self._settled(SOUTH)
        if standing:
            place, _ = self._rng.choice(standing)
            self.look(place)

    def look(self, place: Place) -> None:
        """Read a tag; its digest must be allowed, and is the only one allowed from now on."""
        region, repository, tag = place
        answer = self._callers[region].registry("GET", f"/v2/{repository}/manifests/{tag}")
        self._expect(answer, {200, 404}, f"GET of {repository}:{tag}")
        found = answer.digest if answer.status == 200 else None
        self.figures.looks += 1
        allowed = self._tags.get(place, {None})
        if found not in allowed:
            self._fault(f"{region} {repository}:{tag} is {found}, not one of {allowed}")
        # A sync that is in doubt may have been accepted, and then ends later.
        self._tags[place] = {found} if found is not None or region == NORTH else allowed
        if found in self._samples:
            self._read_below(region, repository, self._samples[found])

    def look_at_fresh(self) -> None:
        """Read back what changed since the last time; raises Lost."""
        for place in list(self._fresh):
            self._look_for_sure(place)
            self._fresh.discard(place)

    def look_at_all(self) -> None:
        """Read everything back; raises Lost."""
        for place in list(self._tags):
            self._look_for_sure(place)
        needed = {digest for allowed in self._tags.values() for digest in allowed}
        self._samples = {digest: sample for digest, sample in self._samples.items() if digest in needed}

    def _look_for_sure(self, place: Place) -> None:
        for attempt in range(_LOOKS):
            try:
                return self.look(place)
            except Busy:
                time.sleep(0.1 * attempt)
        self._fault(f"{':'.join(place)} could not be read {_LOOKS} times")
        return None

    def finish_jobs(self, wait: Callable[[], bool]) -> None:
        """Check the ends of accepted syncs while `wait` allows; all must succeed."""
        while self._open_jobs:
            for job_id, place in list(self._open_jobs.items()):
                status, reason = self._job(job_id)
                if status in ("waiting", "running"):
                    continue
                del self._open_jobs[job_id]
                if status != "success":
                    self._fault(f"job {job_id} for {':'.join(place)} ended as {status}: {reason}")
                else:
                    self._tags[place] = self._tags[place] - {None}
                    self._fresh.add(place)
            if not self._open_jobs or not wait():
                break

    @property
    def open_jobs(self) -> int:
        """Accepted syncs that have not been seen to end."""
        return len(self._open_jobs)

    def _job(self, job_id: int) -> tuple[str, str]:
        path = f"/v2/manage/namespaces/{self.name}/repos/synced/sync_job?filter=jobs%3A%3A{job_id}"
        answer = self._callers[NORTH].management("GET", path)
        if answer.status in _BUSY:
            return "waiting", ""
        self._expect(answer, {200}, f"job {job_id}")
        if not answer.document:
            self._fault(f"job {job_id} was accepted, and is not recorded")
            return "lost", ""
        (job,) = answer.document
        return job["status"], job.get("reason") or ""

    def _retire(self) -> None:
        """Delete the oldest synchronized image in both regions, so that the content does not grow forever."""
        done = [place for place in self._tags if place[0] == SOUTH and place not in self._open_jobs.values()]
        if len(done) < _KEPT_SYNCS:
            return
        _, repository, tag = done[0]
        for region in (NORTH, SOUTH):
            place = (region, repository, tag)
            self.look(place)
            found = self._tags[place] - {None}
            if len(self._tags[place]) == 1 and (digest := next(iter(found), None)):
                self._remove(region, repository, digest, [place])
            del self._tags[place]
            self._fresh.discard(place)

    def _remove(self, region: str, repository: str, reference: str, gone: list[Place]) -> None:
        for place in gone:
            self._tags[place] = {*self._tags[place], None}
            self._fresh.add(place)
        answer = self._callers[region].registry("DELETE", f"/v2/{repository}/manifests/{quote(reference)}")
        self._expect(answer, {202, 404}, f"DELETE of {repository} {reference}")
        if answer.status == 404:
            self._fault(f"{region} {repository} {reference} was there, and is not found to be deleted")
        for place in gone:
            self._tags[place] = {None}

    def _push(self, repository: str, tag: str, sample: SampleImage) -> None:
        for digest, content in sample.all_blobs.items():
            self._push_blob(repository, digest, content)
        for child in sample.all_manifests[:-1]:
            self._put(repository, child.digest, child.raw, child.media_type)
        self._put_manifest(repository, tag, sample)

    def _put_manifest(self, repository: str, tag: str, sample: SampleImage) -> None:
        place = (NORTH, repository, tag)
        self._samples[sample.digest] = sample
        self._tags[place] = self._tags.get(place, {None}) | {sample.digest}
        self._fresh.add(place)
        self._put(repository, tag, sample.manifest.raw, sample.manifest.media_type)
        self._tags[place] = {sample.digest}

    def _put(self, repository: str, reference: str, raw: bytes, media_type: str) -> None:
        answer = self._callers[NORTH].registry(
            "PUT", f"/v2/{repository}/manifests/{quote(reference)}", raw, Content_Type=media_type
        )
        self._expect(answer, {201}, f"PUT of {repository}:{reference}")

    def _push_blob(self, repository: str, digest: Digest, content: bytes) -> None:
        caller, path = self._callers[NORTH], f"/v2/{repository}/blobs/uploads/"
        way = self._rng.choice(("mount", "put", "patch", "look"))
        if way == "look" and caller.registry("HEAD", f"/v2/{repository}/blobs/{digest}").status == 200:
            return
        if way == "mount":
            path += f"?mount={quote(digest)}&from={quote(self._repository())}"
        answer = caller.registry("POST", path, b"")
        self._expect(answer, {201, 202}, f"POST of an upload to {repository}")
        if answer.status == 201:
            return
        location = _path(answer.headers["Location"])
        rest = content
        if way == "patch" and len(content) > 1:
            half = len(content) // 2
            answer = caller.registry("PATCH", location, content[:half], Content_Type="application/octet-stream")
            self._expect(answer, {202}, f"PATCH to {repository}")
            location, rest = _path(answer.headers["Location"]), content[half:]
        joint = "&" if "?" in location else "?"
        answer = caller.registry(
            "PUT", f"{location}{joint}digest={quote(digest)}", rest, Content_Type="application/octet-stream"
        )
        self._expect(answer, {201}, f"PUT of a blob to {repository}")

    def _read_below(self, region: str, repository: str, sample: SampleImage) -> None:
        for child in sample.all_manifests[:-1]:
            answer = self._callers[region].registry("GET", f"/v2/{repository}/manifests/{child.digest}")
            self._compare(region, repository, child.digest, answer)
        for digest in sample.all_blobs:
            self.figures.blobs += 1
            answer = self._callers[region].registry("GET", f"/v2/{repository}/blobs/{digest}")
            self._compare(region, repository, digest, answer)

    def _compare(self, region: str, repository: str, digest: str, answer: Answer) -> None:
        if answer.status in _BUSY:
            raise Busy
        if answer.status != 200:
            self._fault(f"{region} {repository}@{digest} was answered {answer.status}: {answer.body[:200]!r}")
        elif answer.digest != digest:
            self._fault(f"{region} {repository}@{digest} was served as {answer.digest}")

    def _expect(self, answer: Answer, statuses: set[int], what: str) -> None:
        if answer.status in statuses:
            return
        if answer.status in _BUSY:
            raise Busy
        self._fault(f"{what} was answered {answer.status}: {answer.body[:300]!r}")
        raise Busy

    def _fault(self, sentence: str) -> None:
        self.figures.faults.append(f"{self.name}: {sentence}")

    def _settled(self, region: str) -> list[tuple[Place, str]]:
        """Tags that are known to exist, with their digests."""
        return [
            (place, digest)
            for place, allowed in self._tags.items()
            if place[0] == region and len(allowed) == 1 and not place[1].endswith("/synced")
            for digest in allowed
            if digest is not None and digest in self._samples
        ]

    def _repository(self) -> str:
        return f"{self.name}/{self._rng.choice(('app', 'web'))}"

    def _sample(self) -> SampleImage:
        seed = str(self._rng.random())
        if self._rng.random() < 0.15:
            return index(
                *(image(*self._some_layers(), seed=seed, platform=("linux", cpu)) for cpu in ("amd64", "arm64"))
            )
        return image(*self._some_layers(), seed=seed)

    def _some_layers(self) -> Iterator[bytes]:
        for _ in range(self._rng.randint(1, 3)):
            if self._layers and self._rng.random() < 0.4:
                yield self._rng.choice(self._layers[-20:])
                continue
            size = 700 * _KIB if self._rng.random() < 0.04 else self._rng.randint(1, 40 * _KIB)
            fresh = self._rng.randbytes(size)
            self._layers = [*self._layers[-40:], fresh]
            yield fresh


def _path(location: str) -> str:
    parts = urlsplit(location)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path
