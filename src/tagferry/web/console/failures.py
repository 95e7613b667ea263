"""Errors as pages: what happened, and the next step."""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from math import ceil

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from tagferry.errors import (
    Conflict,
    Denied,
    Invalid,
    LoginThrottled,
    NotFound,
    TagferryError,
    Throttled,
    Unavailable,
)
from tagferry.registry.api.asgi import mark_as_shed
from tagferry.web.console.renderer import Renderer
from tagferry.web.console.translation import translatable
from tagferry.web.errors import INTERNAL_MESSAGE, code_of

_TITLES: Mapping[int, str] = {
    400: translatable("The request is invalid"),
    401: translatable("Sign in first"),
    403: translatable("You may not do this"),
    404: translatable("Not found"),
    405: translatable("This page cannot do this"),
    409: translatable("This is in conflict with what exists"),
    413: translatable("The request is too large"),
    429: translatable("Too many attempts"),
    500: translatable("Something failed"),
    503: translatable("The server is busy"),
    504: translatable("A registry did not answer in time"),
}
_STEPS: tuple[tuple[type[TagferryError], str], ...] = (
    (Denied, translatable("Ask an administrator, or a manager of the organization, for the permission.")),
    (NotFound, translatable("Check the address, or find the repository by the search above.")),
    (Invalid, translatable("Go back, correct the value, and try again.")),
    (Conflict, translatable("Reload the page to see what has changed.")),
    (Throttled, translatable("Wait a moment, and try again.")),
    (Unavailable, translatable("Try again later. An administrator finds the cause in the server's log.")),
)
_OTHERWISE = translatable("An administrator finds the cause in the server's log, by the request's id.")


@dataclass(frozen=True, slots=True)
class FailurePage:
    """The view of an error page.

    Attributes:
        title: the kind of the failure.
        message: what happened, one sentence.
        step: what to do next.
    """

    status: int
    title: str
    message: str
    step: str


class Failures:
    """Renders errors as pages.

    Args:
        renderer: renders pages.
    """

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer

    def page(self, error: TagferryError, scope: Scope) -> Response:
        """Return the page for an error of a use case."""
        step = next((step for kind, step in _STEPS if isinstance(error, kind)), _OTHERWISE)
        response = self.of_status(code_of(error).status, error.message, scope, step=step)
        slow_down(error, response, scope)
        return response

    def unexpected(self, scope: Scope) -> Response:
        """Return the page for an error of the program."""
        return self.of_status(500, INTERNAL_MESSAGE, scope, step=_OTHERWISE)

    def of_status(self, status: int, message: str, scope: Scope, *, step: str) -> Response:
        """Return the page for an HTTP status."""
        title = _TITLES.get(status) or _TITLES.get(status // 100 * 100) or HTTPStatus(status).phrase
        view = FailurePage(status, title, message, step)
        return self._renderer.page(Request(scope), "failure.html", view, status=status)


def slow_down(error: TagferryError, response: Response, scope: Scope) -> None:
    """Tell the client when to try again, and slow it down after too many logins, as the APIs do.

    Args:
        error: why the request was refused.
        response: the page that says so.
        scope: the request's ASGI scope.
    """
    if isinstance(error, LoginThrottled):
        mark_as_shed(scope)
    retry_after = getattr(error, "retry_after", None)
    if retry_after is not None:
        response.headers["Retry-After"] = str(ceil(retry_after))
