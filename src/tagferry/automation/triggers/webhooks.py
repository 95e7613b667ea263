"""Where triggers call, which only the configuration says, and what they say there."""

import hashlib
import hmac
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC
from urllib.parse import urlsplit

from tagferry.automation.triggers.deliveries import DueDelivery
from tagferry.automation.triggers.store import TriggerSpec
from tagferry.errors import Invalid
from tagferry.names import Namespace
from tagferry.tls import ClientTls

SIGNATURE_HEADER = "X-Tagferry-Signature-256"
EVENT_HEADER = "X-Tagferry-Event"
EVENT = "tag"


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """What is called by the triggers that meet all that it names.

    Attributes:
        url: where it is.
        secret: what its calls are signed with; without one they are not.
        tls: whom to trust.
        proxy: what it is called through; see `Endpoint`.
        seconds: how long a call may take.
        attempts: how often a call is made at most before it is given up.
        trigger_mode: `cce` or `cci`.
        cluster_id: the cluster's id; None for any.
        cluster_name: the cluster's name; None for any.
        organizations: those whose triggers may call it; none means all.
    """

    url: str = field(repr=False)
    secret: str | None = field(default=None, repr=False)
    tls: ClientTls = field(default_factory=ClientTls)
    proxy: str | None = field(default=None, repr=False)
    seconds: float = 10.0
    attempts: int = 30
    trigger_mode: str = "cce"
    cluster_id: str | None = None
    cluster_name: str | None = None
    organizations: frozenset[str] = frozenset()

    @property
    def host(self) -> str:
        """Where it is as far as a log may know it: the rest of the URL may be as good as a secret."""
        return urlsplit(self.url).netloc

    def serves(self, spec: TriggerSpec, namespace: Namespace) -> bool:
        """Whether a trigger of an organization calls it."""
        return (
            self.trigger_mode == spec.trigger_mode
            and self.cluster_id in (None, spec.cluster_id)
            and self.cluster_name in (None, spec.cluster_name)
            and (not self.organizations or namespace in self.organizations)
        )

    def sign(self, body: bytes) -> dict[str, str]:
        """The headers that prove where a body comes from."""
        if self.secret is None:
            return {}
        return {SIGNATURE_HEADER: f"sha256={hmac.new(self.secret.encode(), body, hashlib.sha256).hexdigest()}"}


class Webhooks:
    """The webhooks of the configuration; of several that serve a trigger the first one is called."""

    def __init__(self, webhooks: Iterable[Webhook]) -> None:
        self._webhooks = tuple(webhooks)

    def __bool__(self) -> bool:
        return bool(self._webhooks)

    def find(self, spec: TriggerSpec, namespace: Namespace) -> Webhook | None:
        """What a trigger of an organization calls; None where the configuration has nothing for it."""
        return next((webhook for webhook in self._webhooks if webhook.serves(spec, namespace)), None)

    def require(self, spec: TriggerSpec, namespace: Namespace) -> None:
        """Raise Invalid where a trigger of an organization would have nothing to call; it names what leads nowhere."""
        if self.find(spec, namespace) is not None:
            return
        where = f"the server's configuration for the organization {namespace}"
        if spec.trigger_mode == "cci":
            raise Invalid("trigger_mode", f"cci needs a webhook in {where}, which has none", spec.trigger_mode)
        field = "cluster_id" if spec.cluster_id else "cluster_name"
        raise Invalid(field, f"must be a cluster of a webhook in {where}", getattr(spec, field))


def webhook_body(due: DueDelivery, registry_host: str) -> bytes:
    """What is said, as JSON: the same bytes at every attempt.

    Args:
        due: what there is to say.
        registry_host: what stands before the repository in its images' full names.
    """
    source, delivery, spec = due.trigger.source, due.delivery, due.trigger.spec
    document = {
        "id": delivery.event_id,
        "event": EVENT,
        "time": delivery.occurred_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "region": source.region,
        "namespace": source.namespace,
        "repository": source.repository,
        "tag": delivery.tag,
        "digest": delivery.digest,
        "image": f"{registry_host}/{source.name}:{delivery.tag}",
        "pushedBy": delivery.pushed_by,
        "trigger": {**asdict(spec), "creator_name": due.trigger.creator_name},
    }
    return json.dumps(document, ensure_ascii=False).encode()
