"""The context of a request to IAM, with the services that its operations use."""

from dataclasses import dataclass
from typing import Annotated, TypeAlias

from fastapi import Depends, Request, Response

from tagferry.accounts.authenticate import Authenticator
from tagferry.accounts.keys import AccessKeys
from tagferry.accounts.service import AccountService
from tagferry.accounts.temporary import TemporaryCredentials
from tagferry.accounts.tokens import Tokens
from tagferry.accounts.users import Users
from tagferry.regions import Regions
from tagferry.web.context import Context


@dataclass(frozen=True, slots=True)
class IamServices:
    """The services of IAM."""

    regions: Regions
    accounts: AccountService
    users: Users
    keys: AccessKeys
    tokens: Tokens
    temporary: TemporaryCredentials
    authenticator: Authenticator


IamContext: TypeAlias = Context[IamServices]


# A coroutine, because FastAPI runs other dependencies in a thread, which takes longer.
async def _context(request: Request, response: Response) -> IamContext:
    return Context.of(request, response, request.app.state.iam)


RequestContext = Annotated[IamContext, Depends(_context)]
"""The type of a route's parameter for its context."""
