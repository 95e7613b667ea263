"""The contents of an in-memory registry, and the OCI distribution API over them (distribution-spec 1.1).

A registry without any vendor's behaviors: complete, strict, and with the referrers API.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from urllib.parse import parse_qs

from tagferry.errors import TagferryError
from tagferry.names import Digest
from tagferry.oci.model import OCI_INDEX, Manifest
from tests.support.scripted_registry import Asked, Reply, error, said

_PATH = re.compile(
    r"/v2/(?P<repository>.+?)/(?P<kind>manifests|blobs/uploads|blobs|tags|referrers)/(?P<reference>[^/]*)"
)
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass(frozen=True, kw_only=True)
class Ask(Asked):
    """A request to a registry.

    Attributes:
        elsewhere: whether it was sent to the registry's second host.
    """

    elsewhere: bool = False

    @property
    def repository(self) -> str:
        """The repository in the path; empty if there is none."""
        return self._part("repository")

    @property
    def kind(self) -> str:
        """`manifests`, `blobs`, `blobs/uploads`, `tags` or `referrers`; empty for every other path."""
        return self._part("kind")

    @property
    def reference(self) -> str:
        """The tag, digest or session in the path."""
        return self._part("reference")

    @property
    def reads(self) -> bool:
        """Return whether it changes nothing."""
        return self.method in ("GET", "HEAD")

    def parameter(self, name: str) -> str:
        """A parameter of the query; empty if it is missing."""
        return parse_qs(self.query).get(name, [""])[0]

    def _part(self, name: str) -> str:
        found = _PATH.fullmatch(self.path)
        return found[name] if found else ""


@dataclass
class Repository:
    """One repository: blobs, manifests and tags by name, and open upload sessions.

    Attributes:
        has_lost: whether it has lost accepted content.
    """

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, Manifest] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    uploads: dict[str, bytearray] = field(default_factory=dict)
    has_lost: bool = False

    def find(self, reference: str) -> Manifest | None:
        """The manifest of a tag or digest."""
        return self.manifests.get(self.tags.get(reference, reference))

    def missing_below(self, manifest: Manifest) -> list[str]:
        """Return the digests that a manifest refers to and the repository does not hold."""
        blobs: list[str] = [blob.digest for blob in manifest.blobs if not blob.is_external]
        children: list[str] = [child.digest for child in manifest.children]
        return [one for one in blobs if one not in self.blobs] + [
            one for one in children if one not in self.manifests and one not in self.blobs
        ]


class Contents:
    """All repositories, and the responses to requests for them.

    Attributes:
        repositories: by name.
        page_size: tags in one page, if a request asks for more or for no number.
        checks_references: whether a manifest with missing references is refused; a repository that has lost content
            always does so.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.page_size = 1000
        self.checks_references = True
        self._sessions = count(1)

    def find(self, repository: str) -> Repository | None:
        """Return a repository, which must exist."""
        return self.repositories.get(repository)

    def answer(self, ask: Ask) -> Reply:
        """Answer an authorized request."""
        if ask.path in ("/v2/", "/v2"):
            return said({})
        if ask.path == "/v2/_catalog":
            return self._page(sorted(self.repositories), "repositories", ask)
        match ask.kind:
            case "manifests":
                return self._manifests(ask)
            case "blobs":
                return self._blob(ask)
            case "blobs/uploads":
                return self._uploads(ask)
            case "tags":
                return self._tags(ask)
            case "referrers":
                return self._referrers(ask)
        return error(404, "NOT_FOUND", ask.path)

    def _manifests(self, ask: Ask) -> Reply:
        if ask.method == "PUT":
            return self._put_manifest(ask)
        repository = self.find(ask.repository)
        if repository is None:
            return error(404, "NAME_UNKNOWN", f"repository {ask.repository} not known")
        manifest = repository.find(ask.reference)
        if manifest is None:
            return error(404, "MANIFEST_UNKNOWN", f"manifest {ask.reference} unknown")
        if ask.method == "DELETE":
            return _delete_manifest(repository, ask.reference)
        headers = {
            "Content-Type": manifest.media_type,
            "Content-Length": str(len(manifest.raw)),
            "Docker-Content-Digest": manifest.digest,
            "ETag": f'"{manifest.digest}"',
        }
        if ask.headers.get("If-None-Match") == headers["ETag"]:
            return Reply(status=304, headers={"Docker-Content-Digest": manifest.digest})
        return Reply(headers=headers, body=manifest.raw)

    def _put_manifest(self, ask: Ask) -> Reply:
        repository = self.repositories.setdefault(ask.repository, Repository())
        is_digest = ":" in ask.reference
        try:
            expected = Digest(ask.reference) if is_digest else None
            manifest = Manifest.parse(ask.body, ask.headers.get("Content-Type"), digest=expected)
        except TagferryError as failure:
            return error(400, "MANIFEST_INVALID", failure.message)
        is_checked = self.checks_references or repository.has_lost
        if is_checked and (missing := repository.missing_below(manifest)):
            return error(400, "MANIFEST_BLOB_UNKNOWN", f"blob unknown to registry: {missing[0]}")
        repository.manifests[manifest.digest] = manifest
        if not is_digest:
            repository.tags[ask.reference] = manifest.digest
        headers = {
            "Location": f"/v2/{ask.repository}/manifests/{manifest.digest}",
            "Docker-Content-Digest": manifest.digest,
        }
        if manifest.subject is not None:
            headers["OCI-Subject"] = manifest.subject.digest
        return Reply(status=201, headers=headers)

    def _blob(self, ask: Ask) -> Reply:
        repository = self.find(ask.repository)
        content = repository.blobs.get(ask.reference) if repository else None
        if repository is None or content is None:
            return error(404, "BLOB_UNKNOWN", f"blob {ask.reference} unknown to {ask.repository}")
        if ask.method == "DELETE":
            del repository.blobs[ask.reference]
            return Reply(status=202)
        return blob_reply(ask, content)

    def _uploads(self, ask: Ask) -> Reply:
        if ask.method == "POST":
            return self._begin_upload(ask)
        repository = self.find(ask.repository)
        session = repository.uploads.get(ask.reference) if repository else None
        if repository is None or session is None:
            return error(404, "BLOB_UPLOAD_UNKNOWN", f"upload {ask.reference} unknown")
        if ask.parameter("at") != str(len(session)):
            return error(416, "BLOB_UPLOAD_INVALID", "this is not the newest address of the upload")
        if ask.method == "DELETE":
            del repository.uploads[ask.reference]
            return Reply(status=204)
        if ask.method == "GET":
            return Reply(status=204, headers=_upload_headers(ask, session))
        begins = ask.headers.get("Content-Range", "").partition("-")[0]
        if begins and begins != str(len(session)):
            return Reply(status=416, headers=_upload_headers(ask, session))
        session += ask.body
        if ask.method == "PATCH":
            return Reply(status=202, headers=_upload_headers(ask, session))
        del repository.uploads[ask.reference]
        return _store_blob(repository, ask, bytes(session))

    def _begin_upload(self, ask: Ask) -> Reply:
        repository = self.repositories.setdefault(ask.repository, Repository())
        mounted, origin = ask.parameter("mount"), self.find(ask.parameter("from"))
        if mounted and origin and mounted in origin.blobs:
            repository.blobs[mounted] = origin.blobs[mounted]
            return _stored(ask.repository, mounted)
        if ask.parameter("digest") and ask.body:
            return _store_blob(repository, ask, ask.body)
        name = f"session-{next(self._sessions)}"
        session = repository.uploads[name] = bytearray()
        return Reply(status=202, headers=_upload_headers(ask, session, name))

    def _tags(self, ask: Ask) -> Reply:
        repository = self.find(ask.repository)
        if repository is None:
            return error(404, "NAME_UNKNOWN", f"repository {ask.repository} not known")
        return self._page(sorted(repository.tags), "tags", ask)

    def _page(self, names: list[str], member: str, ask: Ask) -> Reply:
        asked = ask.parameter("n")
        size = min(int(asked or self.page_size), self.page_size)
        rest = [name for name in names if name > ask.parameter("last")]
        page = rest[:size]
        headers = {"Content-Type": "application/json"}
        if len(rest) > len(page):
            headers["Link"] = f'<{ask.path}?n={size}&last={page[-1]}>; rel="next"'
        return said({"name": ask.repository, member: page}, headers=headers)

    def _referrers(self, ask: Ask) -> Reply:
        repository = self.find(ask.repository)
        manifests = repository.manifests.values() if repository else ()
        listed = [
            manifest.referrer_descriptor.to_json()
            for manifest in manifests
            if manifest.subject is not None and manifest.subject.digest == ask.reference
        ]
        document: dict[str, Any] = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}
        return said(document, headers={"Content-Type": OCI_INDEX})


def blob_reply(ask: Ask, content: bytes) -> Reply:
    """Return a blob, or the requested range of it."""
    headers = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes"}
    found = _RANGE.fullmatch(ask.headers.get("Range", ""))
    if found is None:
        return Reply(headers={**headers, "Content-Length": str(len(content))}, body=content)
    first, last = int(found[1]), min(int(found[2] or len(content) - 1), len(content) - 1)
    if first > last:
        return Reply(status=416, headers={"Content-Range": f"bytes */{len(content)}"})
    part = content[first : last + 1]
    span = f"bytes {first}-{last}/{len(content)}"
    return Reply(status=206, headers={**headers, "Content-Range": span, "Content-Length": str(len(part))}, body=part)


def _delete_manifest(repository: Repository, reference: str) -> Reply:
    if reference in repository.tags:
        del repository.tags[reference]
    else:
        del repository.manifests[reference]
        repository.tags = {tag: digest for tag, digest in repository.tags.items() if digest != reference}
    return Reply(status=202)


def _store_blob(repository: Repository, ask: Ask, content: bytes) -> Reply:
    claimed = Digest(ask.parameter("digest"))
    if Digest.of(content, claimed.algorithm) != claimed:
        return error(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
    repository.blobs[claimed] = content
    return _stored(ask.repository, claimed)


def _stored(repository: str, digest: str) -> Reply:
    headers = {"Location": f"/v2/{repository}/blobs/{digest}", "Docker-Content-Digest": digest}
    return Reply(status=201, headers=headers)


def _upload_headers(ask: Ask, session: bytearray, name: str = "") -> Mapping[str, str]:
    location = f"/v2/{ask.repository}/blobs/uploads/{name or ask.reference}?at={len(session)}"
    return {"Location": location, "Range": f"0-{max(len(session) - 1, 0)}", "Docker-Upload-UUID": name or ask.reference}
