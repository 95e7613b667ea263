"""Authentication for token requests: with one method, or with a token and one other method."""

from tagferry.accounts.model import Caller
from tagferry.errors import Invalid, MissingField, Unauthenticated
from tagferry.web.authentication import client_address
from tagferry.web.iam.context import IamContext
from tagferry.web.iam.model import Strict
from tagferry.web.items import Items
from tagferry.web.text import Text

_PASSWORD, _KEY, _TOKEN = "password", "hw_ak_sk", "token"
_POSSIBLE = ({_PASSWORD}, {_KEY}, {_TOKEN}, {_PASSWORD, _TOKEN}, {_KEY, _TOKEN})
_MOST_SHOWN = 10


class NameOrId(Strict):
    """A domain or a project, by name or id. An empty value counts as missing."""

    name: Text | None = None
    id: Text | None = None


class PasswordUser(Strict):
    """A user, by `name` or `id`, and its password."""

    name: Text | None = None
    id: Text | None = None
    password: Text
    domain: NameOrId | None = None


class PasswordMethod(Strict):
    """The password method's data."""

    user: PasswordUser


class Access(Strict):
    """An access key's id."""

    key: Text


class Secret(Strict):
    """An access key's secret."""

    key: Text


class KeyMethod(Strict):
    """The access key method's data."""

    access: Access
    secret: Secret


class TokenMethod(Strict):
    """The token method's data; `id` is the token."""

    id: Text


class Identity(Strict):
    """The authentication methods and their data."""

    methods: Items[str]
    password: PasswordMethod | None = None
    hw_ak_sk: KeyMethod | None = None
    token: TokenMethod | None = None


async def identify(identity: Identity, context: IamContext) -> tuple[tuple[str, ...], Caller]:
    """Authenticate the caller of a token request. Return the methods used and the caller.

    Raises:
        Invalid: the methods cannot be combined, or the data of one is missing.
        Unauthenticated: a method fails, or the methods identify different users.
        LoginThrottled: as `Authenticator.by_password` raises it.
    """
    methods = set(identity.methods)
    if methods not in _POSSIBLE:
        rule = 'must be ["password"], ["token"], ["hw_ak_sk"], or "token" with one of the others'
        raise Invalid("auth.identity.methods", rule, identity.methods[:_MOST_SHOWN])
    callers = []
    if _TOKEN in methods:
        callers.append(await _by_token(identity.token, context))
    if _PASSWORD in methods:
        callers.append(await _by_password(identity.password, context))
    if _KEY in methods:
        callers.append(await _by_key(identity.hw_ak_sk, context))
    caller = callers[0]
    if any((other, other.credential.access_key) != (caller, caller.credential.access_key) for other in callers):
        raise Unauthenticated(
            "the token must be of the same user and issued for the same credentials as the other method; "
            "use only one method"
        )
    return tuple(sorted(methods)), caller


def is_domain(wanted: NameOrId, caller: Caller) -> bool:
    """Return whether all given fields match the caller's domain."""
    return wanted.name in (None, "", caller.domain_name) and wanted.id in (None, "", caller.domain_id)


async def _by_token(method: TokenMethod | None, context: IamContext) -> Caller:
    if method is None:
        raise MissingField("auth.identity.token")
    found = await context.services.tokens.find(method.id)
    if found is None:
        raise Unauthenticated("the token is unknown, expired or revoked, or its user or access key is disabled")
    return found.owner


async def _by_password(method: PasswordMethod | None, context: IamContext) -> Caller:
    if method is None:
        raise MissingField("auth.identity.password")
    user, authenticator = method.user, context.services.authenticator
    address = client_address(context.request.scope)
    if user.id:
        caller = await authenticator.by_user_id(user.id, user.password, address=address)
    elif user.name:
        caller = await authenticator.by_password(user.name, user.password, address=address)
    else:
        raise MissingField("auth.identity.password.user.name")
    if user.name not in (None, "", caller.name) or (user.domain is not None and not is_domain(user.domain, caller)):
        raise Unauthenticated("the user name, the domain or the password is wrong")
    return caller


async def _by_key(method: KeyMethod | None, context: IamContext) -> Caller:
    if method is None:
        raise MissingField("auth.identity.hw_ak_sk")
    address = client_address(context.request.scope)
    return await context.services.authenticator.by_secret_key(method.access.key, method.secret.key, address=address)
