"""Rendering: a view and a template make a page, inside of the layout that all pages share."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from tagferry.accounts.model import Caller
from tagferry.names import RegionId
from tagferry.web.console.environment import environment
from tagferry.web.console.navigation import Entry, navigation, visible_to
from tagferry.web.console.paths import HOME, ROOT, own_path
from tagferry.web.console.preferences import CHOICES, Preferences
from tagferry.web.console.translation import LANGUAGES, translations

_NOTICE = "tagferry-notice"
_NOTICE_SECONDS = 60
_SEARCH = "/console/images"
_LAYOUT = "layout.html"


@dataclass(frozen=True, slots=True)
class Shell:
    """The content of the layout around every page.

    Attributes:
        caller: the user who is signed in, if one is.
        can_synchronize: whether the caller may push to any repository.
        entries: the navigation.
        path: the path of this page.
        here: the path of this page with its query, for forms that return to it.
        search: the page that searches repositories; "" if there is none.
        choices: the values of each preference, with their names.
        notice: what the previous page has done.
        request_id: the id of the request, for the log.
        paths: the paths of all pages.
    """

    region: RegionId
    caller: Caller | None
    can_synchronize: bool
    entries: tuple[Entry, ...]
    path: str
    here: str
    search: str
    preferences: Preferences
    choices: dict[str, dict[str, str]]
    notice: str
    request_id: str
    paths: Collection[str]

    def has_page(self, path: str) -> bool:
        """Return whether the console has a page with this path, for links to it."""
        return path in self.paths


class Renderer:
    """Renders the pages of a region's console.

    Args:
        region: the region.
        paths: the paths of all pages.
    """

    def __init__(self, region: RegionId, paths: Collection[str]) -> None:
        self._region = region
        self._paths = paths
        self._entries = navigation(paths)
        self._search = _SEARCH if _SEARCH in paths else ""
        for language in LANGUAGES:
            # Loaded at the start, so that the first page does not wait for it.
            environment(language).get_template(_LAYOUT)

    def page(self, request: Request, template: str, view: object, *, status: int = 200) -> HTMLResponse:
        """Return a page.

        Args:
            request: the request that it answers.
            template: the name of a template.
            view: a frozen dataclass, `view` in the template.
            status: the HTTP status.
        """
        shell = self._shell(request)
        html = environment(shell.preferences.language).get_template(template).render(view=view, shell=shell)
        response = HTMLResponse(html, status, {"Vary": "Cookie, Accept-Language"})
        if shell.notice:
            response.delete_cookie(_NOTICE, path=ROOT)
        return response

    def _shell(self, request: Request) -> Shell:
        caller: Caller | None = getattr(request.state, "caller", None)
        can_synchronize = bool(getattr(request.state, "can_synchronize", False))
        query = request.scope["query_string"].decode("latin-1")
        is_read = request.method in ("GET", "HEAD")
        here = request.scope["raw_path"].decode("latin-1") + (f"?{query}" if query else "")
        return Shell(
            region=self._region,
            caller=caller,
            can_synchronize=can_synchronize,
            entries=visible_to(caller, self._entries, can_synchronize=can_synchronize) if caller is not None else (),
            path=request.scope["path"],
            here=own_path(here) if is_read else HOME,
            search=self._search,
            preferences=Preferences.of(request),
            choices=CHOICES,
            notice=unquote(request.cookies.get(_NOTICE, ""))[:500],
            request_id=request.state.request_id,
            paths=self._paths,
        )


def redirect(request: Request, path: str, *, notice: str = "", **values: Any) -> Response:
    """Return the redirect that ends a change.

    Args:
        request: the request that was carried out.
        path: the next page.
        notice: what was done, a translatable text that the next page shows once.
        values: the values of its placeholders.
    """
    response = RedirectResponse(path, status_code=303)
    if notice:
        text = translations(Preferences.of(request).language).gettext(notice) % values
        response.set_cookie(
            _NOTICE, quote(text, safe=""), max_age=_NOTICE_SECONDS, path=ROOT, httponly=True, samesite="lax"
        )
    return response
