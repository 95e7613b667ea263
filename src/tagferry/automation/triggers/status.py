"""The kinds and the states of webhook deliveries, as the database stores them."""

from enum import StrEnum


class DeliveryEvent(StrEnum):
    """The event that a delivery reports."""

    TAG = "tag"
    """A tag points to another digest."""
    TEST = "test"
    """A user tests the webhook; nothing has happened."""


class DeliveryStatus(StrEnum):
    """The state of a delivery."""

    WAITING = "waiting"
    SUCCESS = "success"
    FAILED = "failed"
