"""A webhook receives a body once, or the failure is reported; redirects are not followed."""

import ssl
from pathlib import Path

import pytest

from tagferry.errors import Unavailable
from tagferry.http.webhook import WebhookClient
from tagferry.tls import ClientTls
from tests.support.certificates import loopback_certificate
from tests.support.processes import free_port
from tests.support.scripted_registry import Reply, scripted_registry
from tests.support.webhook_receiver import receiving


async def test_a_body_and_its_headers_arrive():
    async with receiving() as receiver:
        assert await WebhookClient(f"{receiver.url}?token=a%20b").post(b"{}", {"X-Event": "tag"}) == 200

        (call,) = receiver.calls
        assert (call.path, call.body, call.headers["x-event"]) == ("/hook", b"{}", "tag")
        assert call.headers["user-agent"].startswith("tagferry/")


@pytest.mark.parametrize("status", [201, 202, 204])
async def test_every_success_is_one(status: int):
    async with receiving() as receiver:
        receiver.statuses = [status]
        assert await WebhookClient(receiver.url).post(b"", {}) == status


@pytest.mark.parametrize(("status", "message"), [(404, "answered 404"), (500, "answered 500")])
async def test_an_error_is_reported_by_its_status(status: int, message: str):
    async with receiving() as receiver:
        receiver.statuses, receiver.headers = [status], [(b"retry-after", b"7")]
        with pytest.raises(Unavailable, match=message) as failure:
            await WebhookClient(receiver.url).post(b"", {})
        assert failure.value.retry_after == 7


async def test_a_redirect_is_not_followed():
    async with receiving() as receiver, receiving() as elsewhere:
        receiver.statuses, receiver.headers = [307], [(b"location", elsewhere.url.encode())]
        with pytest.raises(Unavailable, match="answered 307; redirects are not followed"):
            await WebhookClient(receiver.url).post(b"", {})
        assert elsewhere.calls == []


async def test_an_unresponsive_webhook_times_out():
    async with receiving() as receiver:
        receiver.answering.clear()
        with pytest.raises(Unavailable, match=r"did not answer within 0\.05 s"):
            await WebhookClient(receiver.url, seconds=0.05).post(b"", {})


async def test_the_error_of_an_unreachable_webhook_does_not_include_its_url():
    port = free_port()
    with pytest.raises(Unavailable) as failure:
        await WebhookClient(f"http://127.0.0.1:{port}/").post(b"", {})
    assert failure.value.message == "the webhook could not be reached"
    assert str(port) in str(failure.value.__cause__)


async def test_the_certificate_is_verified_against_the_named_authority(tmp_path: Path):
    certificate = loopback_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    async with scripted_registry(tls=context) as script:
        script.always("POST", "/hook", Reply())
        assert await WebhookClient(f"{script.url}/hook", tls=ClientTls(ca_file=certificate)).post(b"{}", {}) == 200
        with pytest.raises(Unavailable) as failure:
            await WebhookClient(f"{script.url}/hook").post(b"{}", {})
        assert "certificate" in str(failure.value.__cause__)
