"""`tagferry reload`: have the running processes apply their configurations again."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from tagferry.app import open_accounts
from tagferry.cli.accounts import has_database
from tagferry.cli.event_loop import run
from tagferry.cli.lines import write_json
from tagferry.cli.options import DEFAULT_CONFIG, ConfigFile, out
from tagferry.errors import Expired, Unavailable
from tagferry.reload_requests import ReloadAnswer, ReloadRequests
from tagferry.settings import Settings

app = typer.Typer(add_completion=False)

_POLL_SECONDS = 0.2
_KILLED = "has ended without stopping properly"


@app.command()
def reload(
    config: ConfigFile = DEFAULT_CONFIG,
    seconds: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="The time to wait for the answers.")] = 30.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answers as JSON.")] = False,
) -> None:
    """Have all processes of the database read and apply their configurations, and show what each answers.

    A process applies all changes or none. Exits with code 1 if one refused. Each process reads its own file, on its own
    machine. A process that was killed is named, and not waited for.
    """
    answers = run(_reload(Settings.load(config), seconds))
    if as_json:
        write_json([asdict(answer) for answer in answers])
    else:
        for answer in answers:
            out.print(f"{answer.process}  {_text(answer)}", soft_wrap=True, markup=False)
    if any(answer.error is not None for answer in answers):
        raise typer.Exit(1)
    if silent := [answer.process for answer in answers if not (answer.has_answered or answer.has_ended)]:
        raise Expired(
            f"{', '.join(silent)} did not answer within {seconds:g} s; see the log of the process, or restart it"
        )


async def _reload(settings: Settings, seconds: float) -> Sequence[ReloadAnswer]:
    """Make a request, and return the answers that arrive in time; raises Unavailable if no process runs."""
    if not has_database(settings):
        raise _idle()
    async with open_accounts(settings) as accounts:
        requests = ReloadRequests(accounts.database, accounts.bus)
        request, until = await requests.add(), time.monotonic() + seconds
        while True:
            answers = await requests.answers(request)
            if all(answer.has_ended for answer in answers):
                raise _idle([answer.process for answer in answers])
            if all(answer.has_answered or answer.has_ended for answer in answers) or time.monotonic() >= until:
                return answers
            await asyncio.sleep(_POLL_SECONDS)


def _idle(ended: Sequence[str] = ()) -> Unavailable:
    rest = "no tagferry process uses this database; start one with: tagferry serve"
    return Unavailable(f"{', '.join(ended)} {_KILLED}, and {rest}" if ended else rest)


def _text(answer: ReloadAnswer) -> str:
    if answer.has_ended:
        return f"{_KILLED}; start it again"
    if not answer.has_answered:
        return "no answer"
    if answer.error is not None:
        return f"refused, nothing has changed: {answer.error}"
    return f"applied: {', '.join(answer.changed)}" if answer.changed else "nothing to change"
