"""One tag: its manifests, platforms, layers, attached artifacts, and where else its image is."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.responses import Response

from tagferry.comparison.locations import ImageLocations
from tagferry.inventory.images import ImageContent, describe_content
from tagferry.names import Tag
from tagferry.web.console.commands import Command
from tagferry.web.console.context import PageContext, page
from tagferry.web.console.copies import TagCopy, copies_of
from tagferry.web.console.locations import locate
from tagferry.web.console.repositories import BELOW, OpenedRepository, open_repository
from tagferry.web.console.translation import translatable

_TEXT_BYTES = 64 * 1024
"""Bytes of the largest manifest that is shown as text."""


@dataclass(frozen=True, slots=True)
class TagPage:
    """The view of a tag.

    Attributes:
        copies: its copies at the targets of its newest jobs.
        text: the manifest as indented JSON; "" if it is too large.
        is_located: whether it is asked where else the image is.
        locations: where else it is; None while the regions are being asked.
        pulling: the commands that pull the image.
    """

    at: OpenedRepository
    tag: Tag
    content: ImageContent
    copies: Sequence[TagCopy]
    text: str
    is_located: bool
    locations: ImageLocations | None
    pulling: Sequence[Command]
    commands: tuple[Command, ...]


async def show(context: PageContext) -> Response:
    """Show a tag."""
    at, tag = await open_repository(context), Tag(context.path_parameters["tag"])
    store = at.region.store
    async with context.services.repository_inventory.as_missing_tag(at.region, at.name, tag):
        manifest = await store.get_manifest(at.name, tag)
    content = await describe_content(store, at.name, manifest)
    copies = (await copies_of(context, at, {tag: manifest.digest})).by_tag.get(tag, ())
    is_located = bool(context.query("locate"))
    locations = await locate(context, manifest.digest, like=at.name) if is_located else None
    text = json.dumps(manifest.document, indent=2, ensure_ascii=False) if manifest.size <= _TEXT_BYTES else ""
    return context.render(
        "tag.html",
        TagPage(
            at=at,
            tag=tag,
            content=content,
            copies=copies,
            text=text,
            is_located=is_located,
            locations=locations,
            pulling=_pulling(at, tag, manifest.digest),
            commands=(
                Command.api("GET", at.api(context.base_url, f"/tags/{tag}")),
                Command.of("CLI", "tagferry", "locate", manifest.digest, "--repository", at.name),
            ),
        ),
    )


def _pulling(at: OpenedRepository, tag: Tag, digest: str) -> tuple[Command, ...]:
    image = f"{at.region.registry_host}/{at.name}"
    file = f"{at.repository.replace('/', '-')}.tar"
    is_plain = at.region.is_plain
    skopeo = ("--src-tls-verify=false",) if is_plain else ()
    tagferry = ("--plain-http", at.region.registry_host) if is_plain else ()
    return (
        Command.of("docker", "docker", "pull", f"{image}:{tag}"),
        Command.of(translatable("docker, exactly this image"), "docker", "pull", f"{image}@{digest}"),
        Command.of("skopeo", "skopeo", "copy", "--all", *skopeo, f"docker://{image}:{tag}", f"oci-archive:{file}"),
        Command.of("crane", "crane", "pull", *(("--insecure",) if is_plain else ()), f"{image}:{tag}", file),
        Command.of("tagferry", "tagferry", "copy", *tagferry, f"{image}:{tag}", file),
    )


routes = (page(f"{BELOW}/tags/{{tag}}", show),)
