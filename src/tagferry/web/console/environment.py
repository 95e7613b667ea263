"""The environment of the templates, one for each language."""

from functools import cache, partial
from gettext import NullTranslations
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, StrictUndefined

from tagferry.web.console import compiled_templates, formats
from tagferry.web.console.assets import GENERATED, assets
from tagferry.web.console.paths import STATIC, organization_path, repository_path, tag_path
from tagferry.web.console.states import (
    DELIVERY_STATES,
    DISABLED,
    ENABLED,
    HEALTH_STATES,
    JOB_STATES,
    PAUSED,
    PROCESS_STATES,
    RULE_STATES,
    TAG_STATES,
    UNKNOWN,
)
from tagferry.web.console.translation import translations

TEMPLATES = Path(__file__).parent / "templates"


@cache
def environment(language: str) -> Environment:
    """Return the environment for a language; raises NotGenerated."""
    made = Environment(
        loader=compiled_templates.loader(TEMPLATES, GENERATED),
        autoescape=True,
        undefined=StrictUndefined,
        auto_reload=False,
        **compiled_templates.SYNTAX,
    )
    texts = translations(language)
    # The old style, in which results are escaped: messages of errors, which quote input, are translated, too.
    made.install_gettext_translations(texts, newstyle=False)  # type: ignore[attr-defined]
    made.filters.update(
        size=formats.size,
        binary_size=formats.binary_size,
        duration=partial(formats.duration, gettext=texts.gettext),
        exact=formats.exact,
        machine_time=formats.machine_time,
        reason=partial(_reason, texts),
        relative=formats.RelativeTimes(texts),
        segment=_segment,
    )
    made.globals.update(
        asset=asset_address,
        job_states=JOB_STATES,
        process_states=PROCESS_STATES,
        delivery_states=DELIVERY_STATES,
        health_states=HEALTH_STATES,
        paused=PAUSED,
        unknown=UNKNOWN,
        switch_states={True: ENABLED, False: DISABLED},
        tag_states=TAG_STATES,
        rule_states=RULE_STATES,
        organization_path=organization_path,
        repository_path=repository_path,
        tag_path=tag_path,
    )
    return made


def asset_address(name: str) -> str:
    """Return the address of a static file."""
    return f"{STATIC}{assets()[name].served_name}"


def _reason(texts: NullTranslations, text: str) -> str:
    """Return a reason in the language of the page if it is one of `states.JOB_REASONS`, else as it is."""
    return texts.gettext(text) if text else ""


def _segment(text: object) -> str:
    """Return a text percent-encoded for a path; slashes stay, for names of repositories."""
    return quote(str(text), safe="/")
