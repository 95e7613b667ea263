"""Read the configuration, or say all that is wrong with it."""

from pathlib import Path

from tagferry.app.startup.problem import StartRefused, problem_of
from tagferry.errors import Misconfigured, TagferryError
from tagferry.settings import Settings


def load_settings(config: Path) -> Settings:
    """Read the configuration file and the environment; raises StartRefused with all errors."""
    try:
        return Settings.load(config)
    except Misconfigured as error:
        raise StartRefused([problem_of("configuration", each) for each in error.errors]) from None
    except TagferryError as error:
        raise StartRefused([problem_of("configuration", error)]) from None
