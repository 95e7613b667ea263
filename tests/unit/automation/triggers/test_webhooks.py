"""Which webhook a trigger calls, and what it says there."""

import hashlib
import hmac
from typing import Any

import pytest

from tagferry.automation.triggers.webhooks import Webhook, Webhooks
from tagferry.errors import Invalid
from tagferry.names import Namespace
from tests.unit.automation.hooked import spec

TEAM, RELEASE = Namespace("team"), Namespace("release")


def webhooks() -> Webhooks:
    return Webhooks(
        [
            Webhook(url="both", cluster_id="1", cluster_name="one"),
            Webhook(url="id", cluster_id="1"),
            Webhook(url="name", cluster_name="two", organizations=frozenset({"release"})),
            Webhook(url="cci", trigger_mode="cci"),
        ]
    )


@pytest.mark.parametrize(
    ("fields", "namespace", "url"),
    [
        ({"cluster_id": "1", "cluster_name": "one"}, TEAM, "both"),
        ({"cluster_id": "1", "cluster_name": "other"}, TEAM, "id"),
        ({"cluster_id": "1"}, TEAM, "id"),
        ({"cluster_id": "9", "cluster_name": "two"}, RELEASE, "name"),
        ({"cluster_id": "9", "cluster_name": "two"}, TEAM, None),
        ({"cluster_id": "9"}, RELEASE, None),
        ({"cluster_id": "", "trigger_mode": "cci"}, TEAM, "cci"),
    ],
)
def test_the_first_webhook_is_called_that_names_nothing_else(fields: dict[str, Any], namespace: Namespace, url: Any):
    found = webhooks().find(spec(**fields), namespace)
    assert (found.url if found else None) == url


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"cluster_id": "9", "cluster_name": "two"}, "cluster_id"),
        ({"cluster_id": "", "cluster_name": "two"}, "cluster_name"),
        ({"cluster_id": "", "trigger_mode": "cci"}, "trigger_mode"),
    ],
)
def test_a_trigger_that_would_call_nobody_is_refused_by_what_leads_nowhere(fields: dict[str, Any], field: str):
    known = Webhooks([Webhook(url="name", cluster_name="two", organizations=frozenset({"release"}))])
    with pytest.raises(Invalid) as refused:
        known.require(spec(**fields), TEAM)
    assert refused.value.field == field
    assert "organization team" in refused.value.rule


def test_a_body_is_signed_with_the_secret_and_nothing_shows_it():
    webhook = Webhook(url="https://hook.example/s3cret-path", secret="s3cret")
    digest = hmac.new(b"s3cret", b"{}", hashlib.sha256).hexdigest()
    assert webhook.sign(b"{}") == {"X-Tagferry-Signature-256": f"sha256={digest}"}
    assert Webhook(url="https://hook.example/").sign(b"{}") == {}
    assert webhook.host == "hook.example"
    assert "s3cret" not in repr(webhook)
