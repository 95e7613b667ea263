"""The base class of all sections."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator


def expand_home(value: Any) -> Any:
    """Expand `~` in a path; return other values unchanged."""
    if not isinstance(value, Path):
        return value
    try:
        return value.expanduser()
    except RuntimeError:
        raise ValueError("must not begin with the home directory of an unknown user; write the path in full") from None


def check_authorities(ca_file: Path | None, *, only: bool) -> None:
    """Raise ValueError if only the authorities of a file are to be trusted and there is no file."""
    if only and ca_file is None:
        raise ValueError("requires ca_file if ca_only is true")


class Section(BaseModel):
    """A section of the configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    _expand_paths = field_validator("*")(expand_home)
