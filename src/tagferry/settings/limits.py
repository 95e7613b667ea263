"""The section `[limits]`."""

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from tagferry.settings.section import Section


class LimitSettings(Section):
    """Limits of the server."""

    body_bytes: PositiveInt = 1024 * 1024
    """Bytes of the body of a request to the management API."""
    unknown_fields: Literal["warn", "refuse", "ignore"] = "warn"
    """Fields in the JSON body of a request that its operation does not have. `warn`: ignore them, and name them in the
    response header `X-Tagferry-Ignored-Fields` and in the log. `refuse`: answer 400. `ignore`: ignore them silently."""
    token_lifetime_hours: float = Field(24.0, gt=0)
    """Lifetime of an IAM token."""
    login_secret_lifetime_hours: float = Field(6.0, gt=0, le=24)
    """Default lifetime of a login secret."""
    registry_token_lifetime_minutes: float = Field(30.0, ge=1, le=60)
    """Lifetime of an embedded registry's token. Clients renew it automatically."""
    lockout_failure_attempts: PositiveInt = 5
    """Failed authentications from one address after which a user name or access key is locked for
    `lockout_duration_seconds`."""
    lockout_duration_seconds: float = Field(300.0, ge=0)
    """Duration of such a lock, from the last failure."""
    connections: PositiveInt = 4096
    """Connections to all listeners of a process. A low limit of file descriptors reduces it."""
    connections_per_address: PositiveInt = 1024
    """Connections from one address, or one IPv6 /64 network; at most half of `connections`."""
    concurrent_requests: PositiveInt = 128
    """Requests in progress in one process. Requests that wait for their client, a synchronization or a remote registry
    do not count."""
    header_timeout_seconds: PositiveFloat = 30.0
    """Time for each of a TLS handshake, the start of the first request, and a request's head."""
    stall_timeout_seconds: PositiveFloat = 60.0
    """Time after which a client that sends a body or reads a response more slowly than `TRANSFER_RATE` is
    disconnected."""
    keep_alive_timeout_seconds: PositiveFloat = 75.0
    """Time for which a connection may wait for its next request."""
    disk_reserve_bytes: NonNegativeInt | None = None
    """Bytes of an embedded registry's disk that pushes and synchronizations leave free, for the database, logs and
    deletions. By default 5 % of the disk, at most 1 GiB."""
    scrub_interval_days: float = Field(30.0, ge=0)
    """Days in which all content of an embedded registry is read and verified once; 0 disables this."""
    response_timeout_seconds: PositiveFloat = 30.0
    """Time for which a request to the management API waits for registries, such as for a list of a remote region. Then
    it gets 504; a change continues. `sync_images` waits for as long as its caller requests."""
