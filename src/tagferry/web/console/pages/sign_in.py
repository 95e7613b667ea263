"""Sign in and sign out."""

from dataclasses import dataclass

from starlette.responses import Response

from tagferry.errors import LoginThrottled, Unauthenticated
from tagferry.web import audit
from tagferry.web.authentication import client_address
from tagferry.web.console.context import PageContext, page
from tagferry.web.console.failures import slow_down
from tagferry.web.console.forms import Failure
from tagferry.web.console.paths import SIGN_IN, own_path
from tagferry.web.console.session import end_session, start_session
from tagferry.web.console.translation import translatable

_WRONG = translatable("the user name or the password is wrong")


@dataclass(frozen=True, slots=True)
class SignInPage:
    """The view of the page for signing in.

    Attributes:
        next: the page that follows.
        name: the name that was entered.
        failure: why it was refused.
    """

    next: str
    name: str = ""
    failure: Failure | None = None


async def show(context: PageContext) -> Response:
    """Show the form for signing in."""
    target = own_path(context.query("next"))
    if context.optional_caller is not None:
        return context.redirect(target)
    return context.render("sign_in.html", SignInPage(target))


async def sign_in(context: PageContext) -> Response:
    """Sign in. Every sign-in starts a new session, so that an attacker cannot plant a known one."""
    form = await context.form()
    services, request = context.services, context.request
    target, name = own_path(form.text("next")), form.text("name")
    try:
        address = client_address(request.scope)
        caller = await services.authenticator.by_password(name, form.raw("password"), address=address)
        token = await services.tokens.issue_session(caller)
    except (Unauthenticated, LoginThrottled) as error:
        failure = Failure.of(error)
        refusal = context.render("sign_in.html", SignInPage(target, name, failure), status=failure.status)
        slow_down(error, refusal, request.scope)
        return refusal
    audit.bind_caller(caller.name)
    if (former := getattr(request.state, "session", None)) is not None:
        await services.tokens.revoke(former)
    response = context.redirect(target)
    start_session(response, token, request.scope)
    return response


async def sign_out(context: PageContext) -> Response:
    """End the session."""
    await context.services.tokens.revoke(context.request.state.session)
    response = context.redirect(SIGN_IN, notice=translatable("You have signed out."))
    end_session(response, context.request.scope)
    return response


routes = (
    page(SIGN_IN, show),
    page(SIGN_IN, sign_in, methods=("POST",)),
    page("/console/sign-out", sign_out, methods=("POST",)),
)
