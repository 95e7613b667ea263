"""The configured webhooks: which triggers call them, and what they receive."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """A webhook, called by the triggers that match all of its conditions.

    Attributes:
        url: the URL to call.
        secret: the key that signs the requests; unsigned if empty.
        tls: the certificates to trust.
        proxy: the proxy; see `Endpoint`.
        seconds: the timeout of a request.
        attempts: maximum number of attempts of a delivery.
        trigger_mode: `cce` or `cci`.
        cluster_id: the cluster's id; None for any.
        cluster_name: the cluster's name; None for any.
        organizations: those whose triggers may call it; empty for all.
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
        """The host, for logs: the rest of the URL may contain a secret."""
        return urlsplit(self.url).netloc

    def serves(self, spec: TriggerSpec, namespace: Namespace) -> bool:
        """Return whether a trigger of an organization calls this webhook."""
        return (
            self.trigger_mode == spec.trigger_mode
            and self.cluster_id in (None, spec.cluster_id)
            and self.cluster_name in (None, spec.cluster_name)
            and (not self.organizations or namespace in self.organizations)
        )

    def sign(self, body: bytes) -> dict[str, str]:
        """Return the headers that sign a body."""
        if self.secret is None:
            return {}
        return {SIGNATURE_HEADER: f"sha256={hmac.new(self.secret.encode(), body, hashlib.sha256).hexdigest()}"}


class Webhooks:
    """The configured webhooks; a trigger calls the first one that matches it."""

    def __init__(self, webhooks: Iterable[Webhook]) -> None:
        self._webhooks = tuple(webhooks)

    def replace(self, webhooks: Iterable[Webhook]) -> None:
        """Replace all webhooks at once; calls in progress end with the former ones."""
        self._webhooks = tuple(webhooks)

    def __bool__(self) -> bool:
        return bool(self._webhooks)

    def __contains__(self, webhook: Webhook) -> bool:
        return webhook in self._webhooks

    def find(self, spec: TriggerSpec, namespace: Namespace) -> Webhook | None:
        """Return the webhook that a trigger of an organization calls, if one is configured."""
        return next((webhook for webhook in self._webhooks if webhook.serves(spec, namespace)), None)

    def require(self, spec: TriggerSpec, namespace: Namespace) -> None:
        """Raise Invalid, naming the field at fault, if no webhook is configured for a trigger of an organization."""
        if self.find(spec, namespace) is not None:
            return
        where = f"the server's configuration for the organization {namespace}"
        if spec.trigger_mode == "cci":
            raise Invalid("trigger_mode", f"cci needs a webhook in {where}, which has none", spec.trigger_mode)
        field = "cluster_id" if spec.cluster_id else "cluster_name"
        raise Invalid(field, f"must be a cluster of a webhook in {where}", getattr(spec, field))


def webhook_body(due: DueDelivery, registry_host: str) -> bytes:
    """Return the JSON body of a delivery, the same bytes in every attempt.

    Args:
        due: the delivery and its trigger.
        registry_host: the registry host in the full names of the repository's images.
    """
    source, delivery, spec = due.trigger.source, due.delivery, due.trigger.spec
    document = {
        "id": delivery.event_id,
        "event": delivery.event,
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
