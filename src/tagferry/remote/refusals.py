"""The kinds of manifests that a registry refuses, so that gigabytes are not sent to it in vain.

A refusal of one manifest may concern that manifest alone. It applies to a media type only if the status says so (415),
and to an artifact class once two different manifests of the class were refused and none was ever accepted. It is only a
hint: after ten minutes the next manifest is sent anyway, and an accepted manifest ends the refusal in every process
that shares the store.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

from tagferry.names import Digest
from tagferry.oci.model import Manifest
from tagferry.remote.capabilities import Capabilities, LearnedCapabilities

REFUSED_FOR = timedelta(minutes=10)
"""Age of a refusal after which a manifest of the kind is sent again."""
_MAX_CLASSES = 64
"""Maximum number of recorded classes per registry; beyond it no refusal is learned, since the accepted classes are
incomplete."""
_MAX_CLASS_CHARACTERS = 300


class Refusals:
    """The kinds of manifests that one registry has accepted and refused."""

    def __init__(self, learned: LearnedCapabilities) -> None:
        self._learned = learned
        self._first_refusals: dict[str, Digest] = {}

    async def covers(self, manifest: Manifest) -> bool:
        """Return whether not to send a manifest for now, because the registry refused others of its kind."""
        if not self._is_refused(manifest, (await self._learned.known()).refused_classes):
            return False
        # The registry may have accepted one from another process.
        return self._is_refused(manifest, (await self._reconciled()).refused_classes)

    async def note_accepted(self, manifest: Manifest) -> None:
        """Record an accepted manifest, which ends the refusal of its class and of its media type."""
        known, kind = await self._learned.known(), manifest.artifact_class
        is_new = (
            kind not in known.accepted_classes
            and len(known.accepted_classes) < _MAX_CLASSES
            and len(kind) <= _MAX_CLASS_CHARACTERS
        )
        if not is_new and not {kind, manifest.media_type} & known.refused_classes.keys():
            return
        known = await self._reconciled()
        accepted = known.accepted_classes | {kind} if is_new else known.accepted_classes
        refused = _without(known.refused_classes, {kind, manifest.media_type})
        await self._learned.learn(accepted_classes=accepted, refused_classes=refused)

    async def note_refused(self, manifest: Manifest, status: int) -> None:
        """Record that the registry refused a manifest because of its kind, with this status."""
        known, kind = await self._reconciled(), manifest.artifact_class
        if (
            not known.accepted_classes
            or len(known.accepted_classes) >= _MAX_CLASSES
            or len(kind) > _MAX_CLASS_CHARACTERS
        ):
            # A registry that has accepted nothing may be read-only or unusable.
            return
        accepted_types = {_media_type(accepted) for accepted in known.accepted_classes}
        if status == 415 and manifest.media_type not in accepted_types:
            refused = manifest.media_type
        elif kind not in known.accepted_classes and (kind in known.refused_classes or self._is_second(manifest)):
            refused = kind
        else:
            return
        await self._learned.learn(refused_classes={**known.refused_classes, refused: self._learned.now().isoformat()})

    def _is_second(self, manifest: Manifest) -> bool:
        if len(self._first_refusals) >= _MAX_CLASSES:
            self._first_refusals.clear()
        return self._first_refusals.setdefault(manifest.artifact_class, manifest.digest) != manifest.digest

    def _is_refused(self, manifest: Manifest, refused: Mapping[str, str]) -> bool:
        now = self._learned.now()
        kinds = (manifest.artifact_class, manifest.media_type)
        return any(kind in refused and now - _time(refused[kind]) < REFUSED_FOR for kind in kinds)

    async def _reconciled(self) -> Capabilities:
        """Merge the refusals that other processes have learned; a class that was accepted once is no longer refused."""
        known, stored = await self._learned.known(), await self._learned.stored()
        accepted = known.accepted_classes | stored.accepted_classes
        refused = _without(
            {**known.refused_classes, **stored.refused_classes}, {*accepted, *(_media_type(kind) for kind in accepted)}
        )
        await self._learned.learn(accepted_classes=accepted, refused_classes=refused)
        return await self._learned.known()


def _without(refused: Mapping[str, str], kinds: set[str]) -> dict[str, str]:
    return {kind: at for kind, at in refused.items() if kind not in kinds}


def _media_type(kind: str) -> str:
    return kind.partition(" ")[0]


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
