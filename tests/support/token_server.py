"""A token server for docker-registry that signs its tokens (distribution, "Token Authentication Specification").

It grants exactly the requested scopes, so that a token for `pull` is refused for a push. Tests configure its other
behavior.
"""

import base64
import json
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tests.support.certificates import Authority

ISSUER, SERVICE = "tests", "registry of tests"
USERNAME, PASSWORD = "ferry", "s3cret"
LOGIN = f"Basic {base64.b64encode(f'{USERNAME}:{PASSWORD}'.encode()).decode()}"
REGISTRY_LEEWAY = 60
"""Seconds for which distribution 2.8 and later accept an expired token."""


@dataclass
class TokenServer:
    """The server and its behavior.

    Attributes:
        url: the address of the token endpoint.
        certificate: PEM file to verify its signatures.
        lifetime: seconds for which the registry accepts a token.
        stated_lifetime: the lifetime in the response; None to omit it.
        called: the name of the token in the response.
        redirects: whether it redirects to the token endpoint.
        wrong_answers: the responses to the next requests instead: a status and a body.
        granted: the scopes of all issued tokens, in order.
    """

    url: str
    certificate: Path
    lifetime: int = 300
    stated_lifetime: int | None = 300
    called: str = "token"
    redirects: bool = False
    wrong_answers: list[tuple[int, bytes]] = field(default_factory=list)
    granted: list[tuple[str, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        pem = self.certificate.read_bytes()
        key = serialization.load_pem_private_key(pem, password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self._key = key
        self._chain = x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)

    async def give(self, request: web.Request) -> web.Response:
        """Handle a token request."""
        if self.redirects and "again" not in request.query:
            raise web.HTTPTemporaryRedirect(str(request.url.update_query(again="1")))
        if self.wrong_answers:
            status, body = self.wrong_answers.pop(0)
            return web.Response(status=status, body=body)
        if request.headers.get("Authorization") != LOGIN:
            return web.json_response({"errors": [{"code": "UNAUTHORIZED"}]}, status=401)
        if request.query.get("service") != SERVICE:
            return web.json_response({"errors": [{"code": "DENIED", "message": "unknown service"}]}, status=403)
        scopes = tuple(request.query.getall("scope", []))
        self.granted.append(scopes)
        answer: dict[str, Any] = {self.called: self._sign(scopes)}
        if self.stated_lifetime is not None:
            answer["expires_in"] = self.stated_lifetime
        return web.json_response(answer)

    def _sign(self, scopes: tuple[str, ...]) -> str:
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "sub": USERNAME,
            "aud": SERVICE,
            "iat": now,
            "nbf": now - 2 * REGISTRY_LEEWAY,
            "exp": now + self.lifetime - REGISTRY_LEEWAY,
            "jti": secrets.token_hex(8),
            "access": [_access(part) for scope in scopes for part in scope.split()],
        }
        header = {"typ": "JWT", "alg": "ES256", "x5c": [base64.b64encode(self._chain).decode()]}
        signed = f"{_b64(json.dumps(header).encode())}.{_b64(json.dumps(claims).encode())}"
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_b64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


@asynccontextmanager
async def token_server(folder: Path) -> AsyncIterator[TokenServer]:
    """Run a token server on a free port of loopback; its key is in the folder."""
    application = web.Application()
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
    certificate = Authority("tokens").issue(folder / "tokens.pem", name="tokens")
    server = TokenServer(url="", certificate=certificate)
    application.router.add_get("/token", server.give)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    server.url = f"http://{host}:{port}/token"
    try:
        yield server
    finally:
        await runner.cleanup()


def _access(scope: str) -> dict[str, Any]:
    kind, _, rest = scope.partition(":")
    name, _, actions = rest.rpartition(":")
    return {"type": kind, "name": name, "actions": actions.split(",")}


def _b64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
