"""The states of webhook deliveries, as the database stores them."""

from enum import StrEnum


class DeliveryStatus(StrEnum):
    """The state of a delivery."""

    WAITING = "waiting"
    SUCCESS = "success"
    FAILED = "failed"
