"""Sessions: a row of the table of tokens, and a cookie with its value.

A session authenticates pages only. The APIs and the registry refuse it, and its cookie is not read there. It ends with
sign-out, its lifetime, and everything that ends the tokens of its user: a new password, disabling, deletion.
"""

import re
from collections.abc import Iterator
from itertools import islice
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from tagferry.accounts.access import AccessControl
from tagferry.accounts.model import Token
from tagferry.accounts.tokens import Tokens
from tagferry.errors import TagferryError, Unauthenticated
from tagferry.regions import Regions
from tagferry.web import audit
from tagferry.web.bodies import check_head
from tagferry.web.console.failures import Failures
from tagferry.web.console.paths import HOME, ROOT, SIGN_IN, STATIC, own_path

_WITHOUT_SESSION = frozenset({ROOT, SIGN_IN, "/console/preferences"})
_READING = frozenset({"GET", "HEAD"})
_VALUE = re.compile(r"[A-Za-z0-9_-]{64}")
"""The form of a session's value, as `Tokens.issue_session` makes it."""
_MAX_VALUES = 16
"""Values that are looked up for one request: each costs a query, and anyone can send thousands of them."""


class SignedIn:
    """Middleware that finds the session of a request, and lets browsers without one sign in first.

    The caller is stored in `scope["state"]["caller"]`, the session in `scope["state"]["session"]`,
    and its value in `scope["state"]["session_value"]`, for answers that outlive its check.

    Whether the caller may push to any repository is stored in `scope["state"]["can_synchronize"]`, for the layout.

    Args:
        app: the application behind it.
        tokens: stores the sessions.
        access: decides what callers may do.
        regions: the configured regions.
        failures: renders errors.
    """

    def __init__(
        self, app: ASGIApp, tokens: Tokens, access: AccessControl, regions: Regions, failures: Failures
    ) -> None:
        self._app = app
        self._tokens = tokens
        self._access = access
        self._regions = regions
        self._failures = failures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            check_head(scope)
            if not scope["path"].startswith(STATIC):
                await self._find(scope)
        except TagferryError as error:
            await self._failures.page(error, scope)(scope, receive, send)
            return
        if "caller" in scope["state"] or scope["path"].startswith(STATIC) or scope["path"] in _WITHOUT_SESSION:
            await self._app(scope, receive, send)
            return
        await self._sign_in_first(Request(scope))(scope, receive, send)

    async def _find(self, scope: Scope) -> None:
        for value in islice(dict.fromkeys(_values(scope)), _MAX_VALUES):
            session = await self._tokens.session(value)
            if session is not None:
                scope["state"]["session"] = session
                scope["state"]["session_value"] = value
                scope["state"]["caller"] = session.owner
                writable = await self._access.writable(session.owner)
                scope["state"]["can_synchronize"] = session.owner.is_admin or writable.has_any(
                    [region.id for region in self._regions]
                )
                audit.bind_caller(session.owner.name)
                return

    def _sign_in_first(self, request: Request) -> Response:
        if "text/html" not in request.headers.get("accept", ""):
            # A script cannot use the page for signing in.
            return self._failures.page(Unauthenticated("the session has ended; sign in again"), request.scope)
        return RedirectResponse(f"{SIGN_IN}?next={quote(_next_page(request), safe='')}", status_code=303)


def start_session(response: Response, token: Token, scope: Scope) -> None:
    """Set the cookie of a new session."""
    is_secure = scope["scheme"] == "https"
    # No date of expiry: the browser forgets it at its end, the server after the lifetime of tokens.
    response.set_cookie(_name(scope), token.value, path="/", secure=is_secure, httponly=True, samesite="lax")


def end_session(response: Response, scope: Scope) -> None:
    """Delete the cookie of a session."""
    is_secure = scope["scheme"] == "https"
    response.delete_cookie(_name(scope), path="/", secure=is_secure, httponly=True, samesite="lax")


def _name(scope: Scope) -> str:
    """Return the cookie's name. Browsers accept `__Host-` only over https, and from this very host."""
    return "__Host-tagferry-session" if scope["scheme"] == "https" else "tagferry-session"


def _values(scope: Scope) -> Iterator[str]:
    """Yield the well-formed values of the session's cookie; an attacker on a neighboring host may have added some."""
    name = _name(scope)
    for header, value in scope["headers"]:
        if header == b"cookie":
            pairs = (pair.partition("=") for pair in value.decode("latin-1").split(";"))
            values = (content.strip() for found, _, content in pairs if found.strip() == name)
            yield from filter(_VALUE.fullmatch, values)


def _next_page(request: Request) -> str:
    """Return the page to open after signing in: this one, or for a form the console's home."""
    if request.method not in _READING:
        return HOME
    query = request.scope["query_string"].decode("latin-1")
    return own_path(request.scope["raw_path"].decode("latin-1") + (f"?{query}" if query else ""))
