"""The faults with which a registry may answer a request, each with a pattern of the reason that names it."""

import gzip
from collections.abc import Callable
from dataclasses import dataclass, replace

from tests.registries.contents import Ask
from tests.registries.server import Registry
from tests.support.scripted_registry import Reply, error

_HTML = b"<!doctype html><html><body>Welcome</body></html>"
_CONNECTION = (
    r"could not be reached|cannot be connected|cannot connect|connection|hung up|closed|broke|ended|did not answer"
)
_AWAY = r"did not answer|time|silen"
_ABSENT = r"does not exist|not exist|404|unknown|missing|lost|lacks"

Instead = Callable[[Registry, Ask], Reply]
Afterwards = Callable[[Registry, Ask, Reply], Reply | None]


def anything(ask: Ask) -> bool:
    """Every request."""
    return True


def reads(ask: Ask) -> bool:
    """GET and HEAD below a repository."""
    return ask.reads and bool(ask.kind)


def writes(ask: Ask) -> bool:
    """Requests that change something."""
    return not ask.reads and bool(ask.kind)


def contents(ask: Ask) -> bool:
    """GET of a manifest or a blob."""
    return ask.method == "GET" and ask.kind in ("manifests", "blobs")


def manifests(ask: Ask) -> bool:
    """GET of a manifest."""
    return ask.method == "GET" and ask.kind == "manifests"


def blobs(ask: Ask) -> bool:
    """GET of a blob."""
    return ask.method == "GET" and ask.kind == "blobs"


def heads(kind: str) -> Callable[[Ask], bool]:
    """HEAD of content of this kind."""
    return lambda ask: ask.method == "HEAD" and ask.kind == kind


def uploads(*methods: str) -> Callable[[Ask], bool]:
    """Requests for blob uploads."""
    return lambda ask: ask.kind == "blobs/uploads" and ask.method in methods


def mounts(ask: Ask) -> bool:
    """Requests to mount a blob."""
    return ask.method == "POST" and bool(ask.parameter("mount"))


def puts_of_manifests(ask: Ask) -> bool:
    """PUT of a manifest."""
    return ask.method == "PUT" and ask.kind == "manifests"


def of_kind(kind: str) -> Callable[[Ask], bool]:
    """Requests of this kind, such as `referrers` or `tags`."""
    return lambda ask: ask.kind == kind


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault of a request.

    Attributes:
        name: a short name.
        hits: the requests that it can affect.
        says: a pattern of the reason of a job that this fault ended.
        instead: the response in place of the registry's, which does not get the request.
        afterwards: changes the registry's response, after the request took effect.
        at: `source` or `target`, if only one of them can have it.
        everywhere: whether it affects requests for other repositories too.
        weight: how often it is chosen, compared with the others; faults that delay all requests are rare.
    """

    name: str
    hits: Callable[[Ask], bool] = anything
    says: str
    instead: Instead | None = None
    afterwards: Afterwards | None = None
    at: str = ""
    everywhere: bool = False
    weight: float = 1.0


def _answer(reply: Reply) -> Instead:
    return lambda registry, ask: reply


def _cut(registry: Registry, ask: Ask, reply: Reply) -> Reply | None:
    return replace(reply, truncate_to=len(reply.body) // 2) if reply.body and ask.method == "GET" else None


def _flipped(registry: Registry, ask: Ask, reply: Reply) -> Reply | None:
    if reply.status not in (200, 206) or not reply.body:
        return None
    return replace(reply, body=bytes([reply.body[0] ^ 1]) + reply.body[1:])


def _other_digest(registry: Registry, ask: Ask, reply: Reply) -> Reply | None:
    if reply.status != 200:
        return None
    return replace(reply, headers={**reply.headers, "Docker-Content-Digest": f"sha256:{'0' * 64}"})


def _whole(registry: Registry, ask: Ask, reply: Reply) -> Reply | None:
    if "Range" not in ask.headers:
        return None
    headers = {name: value for name, value in ask.headers.items() if name != "Range"}
    return registry.contents.answer(replace(ask, headers=headers))


def _gzipped(registry: Registry, ask: Ask, reply: Reply) -> Reply | None:
    if reply.status != 200 or not reply.body:
        return None
    body = gzip.compress(reply.body)
    return replace(
        reply, headers={**reply.headers, "Content-Encoding": "gzip", "Content-Length": str(len(body))}, body=body
    )


def _repeated_length(registry: Registry, ask: Ask, reply: Reply) -> Reply | None:
    if reply.status != 200 or not reply.body or ask.method != "GET":
        return None
    lines = [f"{name}: {value}" for name, value in reply.headers.items() if name != "Content-Length"]
    lines += [f"Content-Length: {len(reply.body)}"] * 2
    head = "\r\n".join(["HTTP/1.1 200 OK", *lines, "Connection: close", "", ""])
    return Reply(raw=head.encode() + reply.body)


def _redirected(status: int) -> Instead:
    def instead(registry: Registry, ask: Ask) -> Reply:
        query = f"{ask.query}&moved=1" if ask.query else "moved=1"
        return Reply(status=status, headers={"Location": f"{registry.url}{ask.path}?{query}"})

    return instead


def _stored_elsewhere(registry: Registry, ask: Ask) -> Reply:
    return Reply(status=307, headers={"Location": registry.stored_elsewhere(ask)})


def _expired(registry: Registry, ask: Ask) -> Reply:
    registry.tokens.expire_all()
    return registry.tokens.refusal(replace(ask, headers={})) or Reply(status=401)


def _forgotten(registry: Registry, ask: Ask) -> Reply:
    repository = registry.contents.find(ask.repository)
    if repository:
        repository.uploads.pop(ask.reference, None)
    return error(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")


def _relative(registry: Registry, ask: Ask, reply: Reply) -> Reply | None:
    location = reply.headers.get("Location", "")
    if reply.status != 202 or "/uploads/" not in location:
        return None
    return replace(reply, headers={**reply.headers, "Location": f"{location}&from=here and there"})


def _lost_blob(registry: Registry, ask: Ask, reply: Reply) -> Reply | None:
    repository = registry.contents.find(ask.repository)
    if reply.status != 201 or repository is None or not ask.parameter("digest"):
        return None
    repository.blobs.pop(ask.parameter("digest"), None)
    repository.has_lost = True
    return reply


def _no_content(registry: Registry, ask: Ask, reply: Reply) -> Reply | None:
    return Reply(status=204, headers=reply.headers) if reply.status == 201 else None


def _odd_link(registry: Registry, ask: Ask, reply: Reply) -> Reply | None:
    link = '<http://registry.internal:5000/v2/_tags?last=a>; rel="next"'
    return replace(reply, headers={**reply.headers, "Link": link}) if reply.status == 200 else None


def _no_length(registry: Registry, ask: Ask, reply: Reply) -> Reply | None:
    kept = {
        name: value for name, value in reply.headers.items() if name not in ("Content-Length", "Docker-Content-Digest")
    }
    return replace(reply, headers=kept) if reply.status == 200 else None


_SOON = {"Retry-After": "1"}
LOOP = Reply(status=307, headers={"Location": "/v2/loop/manifests/again"})
"""Redirects to the same content."""

DENIED = "404 flap of a manifest"
"""The name of the fault by which a source once denies having a manifest."""
AWAY = Fault(name="registry away", says=_CONNECTION, instead=_answer(Reply(drop=True)), everywhere=True)
"""Closes every connection, for some seconds."""

FAULTS: tuple[Fault, ...] = (
    Fault(name="reset before the request is read", says=_CONNECTION, instead=_answer(Reply(drop=True))),
    Fault(name="reset after the effect", says=_CONNECTION, hits=writes, afterwards=lambda *_: Reply(drop=True)),
    Fault(name="reset in the middle of a body", says=_CONNECTION, hits=contents, afterwards=_cut),
    Fault(
        name="reset in the middle of a head", says=_CONNECTION, instead=_answer(Reply(raw=b"HTTP/1.1 200 OK\r\nConte"))
    ),
    Fault(
        name="no HTTP at all", says=rf"{_CONNECTION}|HTTP", instead=_answer(Reply(raw=b"\x15\x03\x01\x00\x02\r\n\r\n"))
    ),
    Fault(name="no answer in time", says=_AWAY, instead=_answer(Reply(delay=3.0, drop=True))),
    Fault(
        name="no answer in time, after the effect",
        says=_AWAY,
        hits=writes,
        afterwards=lambda *_: Reply(delay=3.0, drop=True),
    ),
    Fault(name="slow answer", says=_AWAY, afterwards=lambda _, __, reply: replace(reply, delay=0.3)),
    Fault(name="slow trickle", says=_AWAY, hits=contents, afterwards=lambda _, __, reply: replace(reply, trickle=0.05)),
    Fault(
        name="429 with Retry-After",
        says="429",
        instead=_answer(error(429, "TOOMANYREQUESTS", headers=_SOON)),
        weight=0.2,
    ),
    Fault(name="429 without Retry-After", says="429", instead=_answer(error(429, "TOOMANYREQUESTS")), weight=0.1),
    Fault(name="503 with Retry-After", says="503", instead=_answer(Reply(status=503, headers=_SOON)), weight=0.2),
    Fault(name="503 without Retry-After", says="503", instead=_answer(Reply(status=503, body=b"try later"))),
    Fault(name="500 before the effect", says="500", instead=_answer(error(500, "UNKNOWN"))),
    Fault(name="500 after the effect", says="500", hits=writes, afterwards=lambda *_: error(500, "UNKNOWN")),
    Fault(name="502 before the effect", says="502", instead=_answer(Reply(status=502, body=_HTML))),
    Fault(name="504 after the effect", says="504", hits=writes, afterwards=lambda *_: Reply(status=504, body=_HTML)),
    Fault(name="wrong bytes of a blob", says="digest|bytes|hash", hits=blobs, afterwards=_flipped),
    Fault(name="wrong bytes of a manifest", says="digest|bytes|hash|JSON", hits=manifests, afterwards=_flipped),
    Fault(name="wrong digest in a header", says="digest|hash", hits=of_kind("manifests"), afterwards=_other_digest),
    Fault(
        name="HTML with 200",
        says="JSON|media type|manifest|array|answer|HTML|text/html|list|does not match|digest",
        hits=lambda ask: ask.method == "GET" and ask.kind in ("manifests", "tags", "referrers"),
        instead=_answer(Reply(headers={"Content-Type": "text/html"}, body=_HTML)),
    ),
    Fault(
        name=DENIED,
        says=_ABSENT,
        hits=manifests,
        instead=_answer(error(404, "MANIFEST_UNKNOWN")),
        at="source",
    ),
    Fault(
        name="404 flap of a blob", says=_ABSENT, hits=blobs, instead=_answer(error(404, "BLOB_UNKNOWN")), at="source"
    ),
    Fault(
        name="401 with a challenge, tokens expired", says="401|authoriz|credential", instead=_expired, everywhere=True
    ),
    Fault(
        name="401 without a challenge",
        says="401|authoriz|credential",
        hits=reads,
        instead=_answer(error(401, "UNAUTHORIZED")),
    ),
    Fault(name="403 flap", says="403|DENIED|denied|refused", hits=reads, instead=_answer(error(403, "DENIED"))),
    Fault(name="307 of a read", says="redirect|30[78]", hits=reads, instead=_redirected(307)),
    Fault(name="308 of a write", says="redirect|30[78]", hits=writes, instead=_redirected(308)),
    Fault(name="307 to storage", says="redirect|30[78]", hits=blobs, instead=_stored_elsewhere, at="source"),
    Fault(
        name="redirect to nowhere",
        says=rf"{_CONNECTION}|redirect",
        hits=reads,
        instead=_answer(Reply(status=307, headers={"Location": "http://127.0.0.1:1/v2/nowhere"})),
    ),
    Fault(name="redirect loop", says="redirect", hits=reads, instead=_answer(LOOP)),
    Fault(name="Range ignored", says="range|bytes", hits=blobs, afterwards=_whole),
    Fault(name="gzip", says="gzip|encod|digest|hash|bytes|JSON", hits=contents, afterwards=_gzipped),
    Fault(
        name="repeated Content-Length", says="Content-Length|length|HTTP", hits=contents, afterwards=_repeated_length
    ),
    Fault(name="odd Link", says="page|Link|link", hits=of_kind("tags"), afterwards=_odd_link),
    Fault(
        name="referrers 303",
        says="redirect|referrers",
        hits=of_kind("referrers"),
        instead=_answer(Reply(status=303, headers={"Location": "http://127.0.0.1:1/packages"})),
    ),
    Fault(name="referrers 403", says="403|referrers", hits=of_kind("referrers"), instead=_answer(error(403, "DENIED"))),
    Fault(
        name="referrers malformed",
        says="JSON|referrers",
        hits=of_kind("referrers"),
        instead=_answer(Reply(headers={"Content-Type": "application/json"}, body=b'{"manifests": [{"digest": 1}]}')),
    ),
    Fault(name="HEAD of manifests 405", says="405", hits=heads("manifests"), instead=_answer(Reply(status=405))),
    Fault(name="HEAD of blobs 405", says="405", hits=heads("blobs"), instead=_answer(Reply(status=405))),
    Fault(
        name="HEAD without length and digest", says="size|length|digest", hits=heads("manifests"), afterwards=_no_length
    ),
    Fault(name="mount 401", says="401|authoriz", hits=mounts, instead=_answer(error(401, "UNAUTHORIZED"))),
    Fault(name="mount 405", says="405", hits=mounts, instead=_answer(error(405, "UNSUPPORTED"))),
    Fault(name="mount 500", says="500", hits=mounts, instead=_answer(error(500, "UNKNOWN"))),
    Fault(name="upload session forgotten", says="404|upload", hits=uploads("PATCH", "PUT"), instead=_forgotten),
    Fault(name="odd Location", says="address|Location", hits=uploads("POST", "PATCH"), afterwards=_relative),
    Fault(
        name="blob accepted and lost",
        says=rf"{_ABSENT}|does not hold",
        hits=uploads("PUT"),
        afterwards=_lost_blob,
        at="target",
    ),
    Fault(name="manifest stored with 204", says="204", hits=puts_of_manifests, afterwards=_no_content),
)
