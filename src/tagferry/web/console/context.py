"""The context of a request to the console, with the services that its pages use."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar
from urllib.parse import urlencode

from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tagferry.accounts.access import AccessControl
from tagferry.accounts.authenticate import Authenticator
from tagferry.accounts.organizations import Organizations
from tagferry.accounts.service import AccountService
from tagferry.accounts.tokens import Tokens
from tagferry.audit.log import AuditLog
from tagferry.automation.rules.service import RuleService
from tagferry.automation.rules.state import RuleStates
from tagferry.comparison.locations import LocationService
from tagferry.comparison.service import ComparisonService
from tagferry.eventual import EventualResults, Progress
from tagferry.health.monitor import RegionMonitor
from tagferry.inventory.members import MemberInventory
from tagferry.inventory.organizations import OrganizationInventory
from tagferry.inventory.repositories import RepositoryInventory
from tagferry.inventory.retention import RetentionInventory
from tagferry.inventory.sharing import ShareInventory
from tagferry.inventory.triggers import TriggerInventory
from tagferry.regions import Regions
from tagferry.sync.job_service import JobService
from tagferry.sync.jobs.live import LiveJobs
from tagferry.sync.service import SyncService
from tagferry.web.console import renderer
from tagferry.web.console.forms import Form, read_form
from tagferry.web.console.renderer import Renderer
from tagferry.web.context import Context
from tagferry.workers import ProcessList

Result = TypeVar("Result")

_MOMENT_SECONDS = 0.01
"""Seconds for what needs no wait, after a page has waited for something else."""


@dataclass(frozen=True, slots=True)
class ConsoleServices:
    """The services of the console, which the APIs use, too."""

    regions: Regions
    access: AccessControl
    organizations: Organizations
    organization_inventory: OrganizationInventory
    repository_inventory: RepositoryInventory
    retention_inventory: RetentionInventory
    comparison: ComparisonService
    locations: LocationService
    sync: SyncService
    jobs: JobService
    live: LiveJobs
    rules: RuleService
    rule_states: RuleStates
    triggers: TriggerInventory
    members: MemberInventory
    sharing: ShareInventory
    accounts: AccountService
    tokens: Tokens
    authenticator: Authenticator
    audit: AuditLog
    health: RegionMonitor
    processes: ProcessList
    eventual: EventualResults


@dataclass(frozen=True, slots=True)
class PageContext(Context[ConsoleServices]):
    """The context of one request to the console."""

    @property
    def path_parameters(self) -> dict[str, str]:
        """The parameters in the path of the page."""
        parameters: dict[str, str] = self.request.path_params
        return parameters

    def query(self, name: str) -> str:
        """Return a parameter of the query without surrounding white space; "" if it is missing."""
        return (self.request.query_params.get(name) or "").strip()

    def address(self, path: str, **parameters: str) -> str:
        """Return the address of a page with the parameters that are not empty."""
        query = urlencode({name: value for name, value in parameters.items() if value})
        return f"{path}?{query}" if query else path

    async def eventually(
        self, key: tuple[Hashable, ...], begin: Callable[[Progress], Coroutine[Any, Any, Result]]
    ) -> Result | Progress:
        """Return the result of work for this caller, or its progress if the page would have to wait too long.

        All calls of a page wait together for no longer than `EventualResults.patience`. The work continues: mark the
        part of the page with `data-pending`, so that it is loaded again. See `EventualResults.get`.
        """
        user, eventual, state = self.caller.user_id, self.services.eventual, self.request.state
        now = asyncio.get_running_loop().time()
        if not hasattr(state, "patient_until"):
            state.patient_until = now + eventual.patience
        seconds = max(_MOMENT_SECONDS, state.patient_until - now)
        return await eventual.get((user, *key), begin, owner=user, seconds=seconds)

    async def form(self) -> Form:
        """Return the form that was sent; raises WrongType or TooLarge."""
        return await read_form(self.request, self.settings.limits.body_bytes)

    def render(self, template: str, view: object, *, status: int = 200) -> Response:
        """Return a page: a template with a frozen dataclass as its `view`."""
        renders: Renderer = self.request.app.state.renderer
        return renders.page(self.request, template, view, status=status)

    def redirect(self, path: str, *, notice: str = "", **values: Any) -> Response:
        """Return the redirect that ends a change; the arguments are those of `renderer.redirect`."""
        return renderer.redirect(self.request, path, notice=notice, **values)


class _Id(Convertor[int]):
    """The id of a row in a path, `{job:id}`. A longer number, which no database has, is no page."""

    regex = "[1-9][0-9]{0,17}"

    def convert(self, value: str) -> int:
        return int(value)

    def to_string(self, value: int) -> str:
        return str(value)


register_url_convertor("id", _Id())

View: TypeAlias = Callable[[PageContext], Awaitable[Response]]


def page(path: str, view: View, *, methods: Sequence[str] = ("GET",)) -> Route:
    """Return the route of a page.

    Args:
        path: its path, with parameters as in `/console/jobs/{job:id}` or `/console/images/{repository:path}`.
        view: answers a request; errors of use cases that it raises become error pages.
        methods: `GET`, or `POST` for forms.
    """

    async def answer(request: Request) -> Response:
        return await view(PageContext.of(request, Response(), request.app.state.console))

    return Route(path, answer, methods=list(methods))
