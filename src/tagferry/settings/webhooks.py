"""The sections `[[webhooks]]`."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from tagferry.settings import rules
from tagferry.settings.section import Section, check_authorities


class WebhookSettings(Section):
    """A webhook for triggers that match all of its conditions. Only the configuration can define its URL."""

    url: Annotated[str, AfterValidator(rules.webhook_url)]
    """The URL to call. Redirects are not followed."""
    secret: SecretStr | None = Field(None, min_length=16)
    """The secret that signs the calls."""
    ca_file: Path | None = None
    """PEM file with certificate authorities to trust in addition to the system's."""
    ca_only: bool = False
    """Trust only the certificate authorities in `ca_file`."""
    proxy: Annotated[str, AfterValidator(rules.proxy)] | None = Field(None, repr=False)
    """The URL of the proxy for the calls, or `none`. By default, the environment variables apply."""
    timeout_seconds: float = Field(10.0, gt=0, le=300)
    """Timeout of a call."""
    max_attempts: int = Field(30, ge=1, le=100)
    """Maximum number of attempts of a call. The pauses between them grow from one second to ten minutes."""
    trigger_mode: Literal["cce", "cci"] = "cce"
    """Condition: the trigger's mode. Triggers with the mode `cci` have no cluster."""
    cluster_id: str | None = Field(None, min_length=1)
    """Condition: the id of the trigger's cluster."""
    cluster_name: str | None = Field(None, min_length=1)
    """Condition: the name of the trigger's cluster."""
    organizations: tuple[Annotated[str, AfterValidator(rules.organization)], ...] = ()
    """Condition: the organizations whose triggers may call the webhook; empty means all."""

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        check_authorities(self.ca_file, only=self.ca_only)
        named = self.cluster_id is not None or self.cluster_name is not None
        if self.trigger_mode == "cce" and not named:
            raise ValueError("requires cluster_id or cluster_name")
        if self.trigger_mode == "cci" and named:
            raise ValueError("must not have a cluster if trigger_mode is cci; remove cluster_id and cluster_name")
        return self
