"""A scripted registry that stores images and controls access to them, like registries with private repositories."""

import base64
from collections.abc import Callable
from urllib.parse import parse_qs, unquote

from tagferry.names import Digest
from tagferry.oci.model import Manifest
from tests.support.images import SampleImage
from tests.support.scripted_registry import Asked, Reply, ScriptedRegistry, error, said

Grants = Callable[[str, str], str]
"""Returns the actions of a scope that are granted to a user, given the user's name and the scope."""


class TokenRegistry:
    """A registry with a token server on the same host.

    Attributes:
        manifests: by repository and reference.
        passwords: of its users; with `basic`, they are sent to the registry itself.
        challenges: whether `GET /v2/` without an authorization returns 401 instead of 200.
        hides: whether it reports what a caller may not read as missing, instead of sending a challenge.
        head_misses: whether HEAD reports every manifest as missing.
        basic: whether users authenticate with Basic instead of tokens.
        grants: what is granted of a scope.
        scopes: the scopes of all issued tokens, in order.
    """

    def __init__(self, script: ScriptedRegistry, *, hides: bool = False, challenges: bool = True) -> None:
        self.url = script.url
        self.script = script
        self.manifests: dict[tuple[str, str], Manifest] = {}
        self.blobs: dict[str, bytes] = {}
        self.passwords = {"u": "p"}
        self.challenges = challenges
        self.hides = hides
        self.head_misses = False
        self.basic = False
        self.grants: Grants = lambda user, scope: scope.rpartition(":")[2] if user else ""
        self.scopes: list[str] = []
        self.realm = f"{script.url}/token"
        self._tokens: dict[str, str] = {}
        for method in ("GET", "POST"):
            script.always(method, "/token", self._give_token)
        for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
            script.always(method, "/v2/*", self._answer)

    def hold(self, repository: str, tag: str, sample: SampleImage) -> None:
        """Store an image in a repository."""
        for manifest in sample.all_manifests:
            self.manifests[repository, manifest.digest] = manifest
        self.manifests[repository, tag] = sample.manifest
        self.blobs |= {str(digest): content for digest, content in sample.all_blobs.items()}

    def at(self, repository: str, tag: str) -> Digest | None:
        """Return what a tag points to."""
        found = self.manifests.get((repository, tag))
        return found.digest if found else None

    def _user(self, authorization: str) -> str | None:
        """Return the user of Basic credentials; an empty string if there are none, None if they are wrong."""
        if not authorization.startswith("Basic "):
            return ""
        name, _, password = base64.b64decode(authorization[6:]).decode().partition(":")
        return name if self.passwords.get(name) == password else None

    def _give_token(self, asked: Asked) -> Reply:
        user = self._user(asked.headers.get("Authorization", ""))
        if user is None:
            return error(401, "UNAUTHORIZED", "wrong password")
        scopes = parse_qs(asked.query).get("scope", [])
        self.scopes += scopes
        granted = [f"{scope.rpartition(':')[0]}:{self.grants(user, scope)}" for scope in scopes]
        token = f"t{len(self._tokens)}"
        self._tokens[token] = " ".join(granted)
        return said({"token": token, "expires_in": 300})

    def _allows(self, asked: Asked, repository: str, action: str) -> bool:
        authorization = asked.headers.get("Authorization", "")
        if self.basic:
            return bool(self._user(authorization))
        granted = self._tokens.get(authorization.removeprefix("Bearer "), "").split()
        return any(
            one.rpartition(":")[0] == f"repository:{repository}" and action in one.rpartition(":")[2].split(",")
            for one in granted
        )

    def challenge(self, scope: str = "") -> Reply:
        """Return a reply with a challenge."""
        if self.basic:
            return error(401, "UNAUTHORIZED", headers={"WWW-Authenticate": 'Basic realm="r"'})
        named = f',scope="{scope}"' if scope else ""
        header = f'Bearer realm="{self.realm}",service="s"{named}'
        return error(401, "UNAUTHORIZED", headers={"WWW-Authenticate": header})

    def _answer(self, asked: Asked) -> Reply:
        if asked.path == "/v2/":
            is_known = asked.headers.get("Authorization", "").startswith(("Bearer t", "Basic"))
            return self.challenge() if self.challenges and not is_known else Reply()
        kind, repository, reference = _parts(asked.path)
        action = "push" if asked.method in ("PUT", "POST", "DELETE") else "pull"
        if not self._allows(asked, repository, action):
            if self.hides and action == "pull":
                return error(404, "NAME_UNKNOWN")
            if asked.headers.get("Authorization", "").startswith("Basic ") and self.basic:
                return error(403, "DENIED")
            return self.challenge(f"repository:{repository}:{'pull,push' if action == 'push' else 'pull'}")
        if kind == "manifests":
            return self._manifest(asked, repository, reference)
        if kind == "tags":
            tags = [reference for name, reference in self.manifests if name == repository and ":" not in reference]
            return said({"tags": tags}) if tags else error(404, "NAME_UNKNOWN")
        return self._blob(asked, repository, reference) if kind == "blobs" else error(404, "UNSUPPORTED")

    def _manifest(self, asked: Asked, repository: str, reference: str) -> Reply:
        if asked.method == "PUT":
            manifest = Manifest.parse(asked.body, asked.headers["Content-Type"])
            self.manifests[repository, reference] = self.manifests[repository, manifest.digest] = manifest
            return Reply(status=201, headers={"Docker-Content-Digest": manifest.digest})
        found = self.manifests.get((repository, reference))
        if found is None or (asked.method == "HEAD" and self.head_misses):
            return error(404, "MANIFEST_UNKNOWN")
        return Reply(
            headers={
                "Docker-Content-Digest": found.digest,
                "Content-Type": found.media_type,
                "Content-Length": str(len(found.raw)),
            },
            body=found.raw,
        )

    def _blob(self, asked: Asked, repository: str, reference: str) -> Reply:
        if asked.method == "POST":
            return Reply(status=202, headers={"Location": f"/v2/{repository}/blobs/uploads/1"})
        if asked.method == "PUT":
            digest = unquote(parse_qs(asked.query)["digest"][0])
            self.blobs[digest] = asked.body
            return Reply(status=201)
        content = self.blobs.get(reference)
        if content is None:
            return error(404, "BLOB_UNKNOWN")
        return Reply(headers={"Content-Length": str(len(content))}, body=content)


def _parts(path: str) -> tuple[str, str, str]:
    """Return the kind of a request, its repository and its reference."""
    for kind in ("manifests", "tags", "referrers", "blobs"):
        name, found, rest = path.removeprefix("/v2/").partition(f"/{kind}/")
        if found:
            return kind, name, rest
    return "", "", ""
