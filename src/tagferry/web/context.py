"""The context of a request: its region, the services of its API, its caller and its id."""

from dataclasses import dataclass
from typing import Generic, Self, TypeVar

from fastapi import Request, Response

from tagferry.accounts.model import Caller
from tagferry.regions import Region
from tagferry.registry.api.asgi import origin
from tagferry.settings import Settings
from tagferry.web.server.admission import AdmittedRequest

Services = TypeVar("Services")


@dataclass(frozen=True, slots=True)
class Context(Generic[Services]):
    """The context of one request.

    Attributes:
        region: the region whose address received the request.
        settings: the configuration of this process.
        services: the services that the request's API uses.
        response: headers that are added to the response.
    """

    region: Region
    settings: Settings
    services: Services
    request: Request
    response: Response

    @classmethod
    def of(cls, request: Request, response: Response, services: Services) -> Self:
        """Return the context of a request to the application of a region."""
        state = request.app.state
        return cls(region=state.region, settings=state.settings, services=services, request=request, response=response)

    @property
    def caller(self) -> Caller:
        """The authenticated caller."""
        caller: Caller = self.request.state.caller
        return caller

    @property
    def optional_caller(self) -> Caller | None:
        """The authenticated caller, or None for a request without credentials to a route that needs none."""
        caller: Caller | None = getattr(self.request.state, "caller", None)
        return caller

    @property
    def base_url(self) -> str:
        """The URL of this region for clients, without a trailing slash.

        It is the region's `public_url`, else the request's host, else the listen address.
        """
        settings = self.settings.regions[self.region.id]
        asked = origin(self.request.scope.get("scheme", "http"), self.request.headers.get("host", ""))
        return settings.public_url or asked or settings.listening_url

    @property
    def waiting(self) -> AdmittedRequest:
        """A context manager for waits, during which this request does not count as in progress."""
        admitted: AdmittedRequest = self.request.state.admitted
        return admitted

    @property
    def request_id(self) -> str:
        """The request's id."""
        request_id: str = self.request.state.request_id
        return request_id
