"""Commands that do the same as a page."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Command:
    """A command that does the same as a page, to copy.

    Attributes:
        label: what it is for, or the program, such as `CLI` or `docker`; templates translate it.
    """

    label: str
    text: str

    @classmethod
    def of(cls, label: str, *arguments: str) -> "Command":
        """Return a command with its arguments quoted for a shell."""
        return cls(label, shlex.join(arguments))

    @classmethod
    def lines(cls, label: str, *commands: Sequence[str]) -> "Command":
        """Return several commands, one a line."""
        return cls(label, "\n".join(map(shlex.join, commands)))

    @classmethod
    def api(cls, method: str, url: str, body: object = None) -> "Command":
        """Return a request to the management API as a command of curl, with a token in `$TOKEN`.

        Args:
            method: the HTTP method.
            url: the address.
            body: the document that is sent, if any.
        """
        sent = "" if method == "GET" else f" -X {method}"
        if body is not None:
            sent += f" -H 'Content-Type: application/json' -d {shlex.quote(json.dumps(body, ensure_ascii=False))}"
        return cls("API", f'curl -H "X-Auth-Token: $TOKEN"{sent} {shlex.quote(url)}')


def pushing(image: str, *, is_plain: bool = False) -> tuple[Command, ...]:
    """Return the commands that push an image under a name.

    Args:
        image: the name, `HOST/REPOSITORY:TAG`.
        is_plain: whether the registry has no TLS, so that skopeo needs an option.
    """
    without_tls = ("--dest-tls-verify=false",) if is_plain else ()
    return (
        Command("docker", f"docker tag IMAGE {shlex.quote(image)}\ndocker push {shlex.quote(image)}"),
        Command.of(
            "skopeo", "skopeo", "copy", *without_tls, "docker://docker.io/library/alpine:3", f"docker://{image}"
        ),
    )
