"""Behaviors that several vendors share; each vendor describes the effect and names the source."""

import re
from collections.abc import Mapping

from tests.registries.contents import Ask
from tests.registries.server import Behavior, Registry
from tests.support.scripted_registry import Reply, error, said

_DIGEST_TAG = re.compile(r"sha256-[0-9a-f]{64}")


def blobs_elsewhere(*, name: str = "blobs elsewhere", effect: str, source: str) -> Behavior:
    """Blobs are read at signed URLs of a storage host, which refuses HEAD and any Authorization."""

    def instead(registry: Registry, ask: Ask) -> Reply | None:
        if ask.elsewhere and ask.path.startswith("/storage/") and ask.method == "HEAD":
            return Reply(status=403)
        repository = registry.contents.find(ask.repository)
        if ask.method != "GET" or ask.kind != "blobs" or not repository or ask.reference not in repository.blobs:
            return None
        return Reply(status=307, headers={"Location": registry.stored_elsewhere(ask), "Content-Length": "0"})

    return Behavior(name=name, effect=effect, source=source, instead=instead)


def no_referrers(
    status: int,
    *,
    name: str = "no referrers API",
    effect: str,
    source: str,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
) -> tuple[Behavior, Behavior]:
    """The referrers API gives this response, and a manifest with a subject is stored without `OCI-Subject`."""

    def instead(registry: Registry, ask: Ask) -> Reply | None:
        return Reply(status=status, headers=headers or {}, body=body) if ask.kind == "referrers" else None

    return Behavior(name=name, effect=effect, source=source, instead=instead), subjects_not_noted(source=source)


def subjects_not_noted(*, source: str) -> Behavior:
    """A manifest with a subject is stored without `OCI-Subject`."""

    def afterwards(registry: Registry, ask: Ask, reply: Reply) -> Reply | None:
        if "OCI-Subject" not in reply.headers:
            return None
        kept = {name: value for name, value in reply.headers.items() if name != "OCI-Subject"}
        return Reply(status=reply.status, headers=kept, body=reply.body)

    effect = "A manifest with a `subject` is stored without the answer `OCI-Subject`."
    return Behavior(name="subjects not noted", effect=effect, source=source, afterwards=afterwards)


def repository_must_exist(status: int, code: str, message: str, *, effect: str, source: str) -> Behavior:
    """A push to a repository that was not created is refused."""

    def instead(registry: Registry, ask: Ask) -> Reply | None:
        if ask.reads or not ask.repository or registry.contents.find(ask.repository):
            return None
        return error(status, code, message.format(repository=ask.repository))

    name = "repositories are created first"
    return Behavior(name=name, effect=effect, source=source, instead=instead, refuses=True)


def immutable_tags(status: int, code: str, message: str, *, effect: str, source: str) -> Behavior:
    """An existing tag is not written again, not even with the same manifest."""

    def instead(registry: Registry, ask: Ask) -> Reply | None:
        repository = registry.contents.find(ask.repository)
        if ask.method != "PUT" or ask.kind != "manifests" or not repository or ask.reference not in repository.tags:
            return None
        return error(status, code, message.format(repository=ask.repository, tag=ask.reference))

    return Behavior(name="immutable tags", effect=effect, source=source, instead=instead, refuses=True)


def no_parts(status: int, code: str, message: str, *, limit: int = 0, name: str, effect: str, source: str) -> Behavior:
    """A part of an upload, which is a PATCH with `Content-Range`, is refused if it is larger than the limit."""

    def instead(registry: Registry, ask: Ask) -> Reply | None:
        is_part = ask.method == "PATCH" and "Content-Range" in ask.headers
        return error(status, code, message) if is_part and len(ask.body) > limit else None

    avoided = "a blob is sent in one request"
    return Behavior(name=name, effect=effect, source=source, instead=instead, avoided=avoided)


def opaque_pages(size: int, parameter: str, *, effect: str, source: str) -> Behavior:
    """Lists of tags have pages of this size, and an absolute `Link` names the next page by an opaque value."""

    def instead(registry: Registry, ask: Ask) -> Reply | None:
        repository = registry.contents.find(ask.repository)
        if ask.kind != "tags" or repository is None:
            return None
        names = sorted(repository.tags)
        opaque = ask.parameter(parameter)
        start = int(opaque.removeprefix("gAAAAAB").rstrip("=") or 0)
        page = names[start : start + size]
        headers = {"Content-Type": "application/json"}
        if start + size < len(names):
            following = f"{registry.url}{ask.path}?{parameter}=gAAAAAB{start + size}%3D%3D&n={size}"
            headers["Link"] = f'<{following}>; rel="next"'
        return said({"name": ask.repository, "tags": page}, headers=headers)

    return Behavior(name="opaque pages of tags", effect=effect, source=source, instead=instead)


def is_digest_tag(reference: str) -> bool:
    """Return whether a tag is made from a digest alone, as in the referrers tag schema."""
    return _DIGEST_TAG.fullmatch(reference) is not None
