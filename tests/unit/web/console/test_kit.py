"""The macros that pages are built from, the formats of values, and the colors."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from xml.etree.ElementTree import Element

import pytest

from tagferry.copy.preflight import Verdict
from tagferry.sync.jobs.reasons import describe
from tagferry.web.console.environment import environment
from tagferry.web.console.formats import RelativeTimes, binary_size, duration, size
from tagferry.web.console.forms import Failure
from tagferry.web.console.states import JOB_REASONS, JOB_STATES
from tagferry.web.console.translation import LANGUAGES, translations
from tests.console_messages import CONSOLE
from tests.support.browser import parsed, text_of

NOW = datetime(2026, 11, 28, 19, 24, 3, tzinfo=UTC)


FIELD = (
    '{% from "kit/form.html" import failed, text_field %}'
    '{{ failed(it, ["name"]) }}{{ text_field("name", "Name", "x", it, required=true) }}'
)


def rendered(source: str, language: str = "en", **values: object) -> Element:
    return parsed(environment(language).from_string(source).render(**values))


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_every_state_of_a_job_is_shown_in_every_language(language: str):
    source = '{% from "kit/values.html" import badge %}{% for one in job_states.values() %}{{ badge(one) }}{% endfor %}'

    words = [text_of(one) for one in rendered(source, language).findall(".//span")]
    assert len(set(words)) == len(JOB_STATES)


def test_a_size_shows_megabytes_as_docker_does_with_mebibytes_and_the_exact_number():
    found = rendered('{% from "kit/values.html" import bytes %}{{ bytes(112300000) }}').find("data")

    assert found is not None
    assert (text_of(found), found.get("title")) == ("112.3 MB", "107.1 MiB · 112,300,000 B")


def test_a_time_is_relative_with_the_exact_one_as_its_title():
    source = '{% from "kit/values.html" import ago %}{{ ago(time) }}'
    found = rendered(source, time=datetime.now(UTC) - timedelta(minutes=19, seconds=5)).find("time")

    assert found is not None
    assert text_of(found) == "19 minutes ago"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", found.get("title", ""))


def test_the_failure_of_a_form_stands_at_its_field():
    page = rendered(FIELD, it=Failure(400, "must be <short>", "name"))

    field, problem = page.find(".//input"), page.find(".//p")
    assert field is not None
    assert problem is not None
    assert (field.get("aria-invalid"), field.get("aria-describedby")) == ("true", problem.get("id"))
    assert text_of(problem) == "must be <short>"
    assert page.find(".//p[@role='alert']") is None


def test_a_failure_of_no_field_stands_above_the_form():
    page = rendered(FIELD, it=Failure(409, "it exists", ""))

    assert [text_of(one) for one in page.findall(".//p")] == ["it exists"]


def test_a_confirmation_is_a_form_that_needs_no_script():
    source = (
        '{% from "kit/page.html" import confirmation %}'
        '{{ confirmation("Delete?", "All is lost", "/console/x", "Delete", "/console/", [("id", "1")]) }}'
    )
    form = rendered(source).find(".//form")

    assert form is not None
    assert (form.get("method"), form.get("action")) == ("post", "/console/x")
    assert [(one.get("name"), one.get("value")) for one in form.iter("input")] == [("id", "1")]


def test_the_rest_of_the_kit_renders():
    @dataclass(frozen=True)
    class Command:
        label: str
        text: str

    source = """
      {% from "kit/command.html" import same_by %}
      {% from "kit/form.html" import checkbox_field, select_field %}
      {% from "kit/page.html" import empty, header, message %}
      {% from "kit/table.html" import filters, paging, table, tabs %}
      {% from "kit/values.html" import at, definition, definitions, digest, name, progress %}
      {% call header("Jobs", [("/console/", "Home")], "All of them") %}<a href="/">Do</a>{% endcall %}
      {{ header("Jobs") }}{{ message("Careful", "warning") }}
      {{ empty("box", "Nothing", "Do this:", commands) }}
      {% call filters("/console/jobs") %}{{ select_field("state", "State", [("a", "A")], "a") }}{% endcall %}
      {{ tabs("State", [("?s=a", "A", true), ("?s=b", "B", false)]) }}
      {% call table("Jobs", ["Image"]) %}<tr><td>{{ name("team/app") }}</td></tr>{% endcall %}
      {{ paging("?after=1", "?") }}{{ checkbox_field("override", "Override", true, "Replaces it") }}
      {{ progress(1, 3, 5) }}{{ progress(1, 0) }}{{ digest("sha256:0123456789abcdef") }}{{ at(now) }}
      {% call definitions() %}{{ definition("A", "b") }}{% call definition("C") %}d{% endcall %}{% endcall %}
      {{ same_by(commands) }}
    """
    for language in LANGUAGES:
        page = rendered(source, language, commands=[Command("CLI", "tagferry 'x'")], now=NOW)
        assert [text_of(one) for one in page.findall(".//code")].count("tagferry 'x'") == 2


@pytest.mark.parametrize(
    ("count", "decimal", "binary"),
    [
        (0, "0 B", "0 B"),
        (999, "999 B", "999 B"),
        (1000, "1.0 kB", "1000 B"),
        (999_960, "1.0 MB", "976.5 KiB"),
        (112_300_000, "112.3 MB", "107.1 MiB"),
        (10**18, "1000.0 PB", "888.2 PiB"),
    ],
)
def test_sizes(count: int, decimal: str, binary: str):
    assert (size(count), binary_size(count)) == (decimal, binary)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (1.25, "1.2 s"), (42, "42 s"), (185, "3 min 5 s"), (7440, "2 h 4 min"), (86400, "1 d")],
)
def test_durations(seconds: float, text: str):
    assert duration(seconds) == text


@pytest.mark.parametrize(("language", "text"), [("en", "3 min 5 s"), ("zh-Hans", "3 分钟 5 秒")])
def test_durations_have_units_of_the_language_of_the_page(language: str, text: str):
    assert text_of(rendered("<p>{{ 185|duration }}</p>", language)) == text


@pytest.mark.parametrize("verdict", Verdict)
def test_the_reasons_of_jobs_are_in_the_language_of_the_page(verdict: Verdict):
    _, reason = describe(verdict)

    assert reason in JOB_REASONS
    assert text_of(rendered("<p>{{ it|reason }}</p>", "zh-Hans", it=reason)) != reason


def test_reasons_with_values_and_missing_ones_stay_as_they_are():
    for reason in ("registry eu-west-1 answered 503", ""):
        assert text_of(rendered("<p>{{ it|reason }}</p>", "zh-Hans", it=reason)) == reason


@pytest.mark.parametrize(
    ("seconds", "english", "chinese"),
    [
        (5, "just now", "刚刚"),
        (60, "1 minute ago", "1 分钟前"),
        (7300, "2 hours ago", "2 小时前"),
        (90000, "1 day ago", "1 天前"),
        (-5, "in a moment", "片刻后"),
        (-120, "in 2 minutes", "2 分钟后"),
        (-3600, "in 1 hour", "1 小时后"),
        (-200000, "in 2 days", "2 天后"),
    ],
)
def test_relative_times(seconds: float, english: str, chinese: str):
    time = NOW - timedelta(seconds=seconds)

    assert RelativeTimes(translations("en"))(time, NOW) == english
    assert RelativeTimes(translations("zh-Hans"))(time, NOW) == chinese


COLOR = re.compile(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)")
COLORS = {name: pair for name, *pair in COLOR.findall((CONSOLE / "static" / "console.css").read_text("utf-8"))}
TEXTS = [
    *((text, ground) for text in ("text", "muted", "accent") for ground in ("page", "surface", "raised", "sunken")),
    *((tone, f"{tone}-soft") for tone in ("neutral", "accent", "good", "warning", "bad")),
    ("accent-strong", "accent-soft"),
    ("on-accent", "accent"),
    ("on-accent", "accent-strong"),
    ("bad", "surface"),
]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_texts_have_the_contrast_that_wcag_aa_requires(theme: int):
    for text, ground in TEXTS:
        assert contrast(COLORS[text][theme], COLORS[ground][theme]) >= 4.5, (text, ground)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_borders_of_fields_have_the_contrast_that_wcag_aa_requires(theme: int):
    assert contrast(COLORS["field-line"][theme], COLORS["surface"][theme]) >= 3


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colors as WCAG 2.2 defines it."""
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(color: str) -> float:
    channels = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
