"""Icons, style and script of the console."""

import re

import pytest

from tagferry.sync.jobs.model import JobStatus
from tagferry.web.console import assets as module
from tagferry.web.console.assets import NotGenerated, assets
from tagferry.web.console.environment import TEMPLATES
from tagferry.web.console.states import JOB_STATES
from tagferry.web.console.translation import translations
from tests.console_messages import CONSOLE, GENERATED

ICONS = set((CONSOLE / "icons.txt").read_text("utf-8").split())


def test_every_icon_that_pages_use_is_in_the_list():
    sources = [*CONSOLE.rglob("*.html"), *(file for file in CONSOLE.rglob("*.py") if GENERATED not in file.parents)]
    used = {name for file in sources for name in re.findall(r'icon\("([^"]+)"', file.read_text("utf-8"))}
    used |= {state.icon for state in JOB_STATES.values()}

    assert used - ICONS == set(), "add them to icons.txt, and run: python hatch_build.py"


def test_the_sprite_has_every_icon_of_the_list():
    sprite = assets()["icons.svg"].content.decode()

    assert set(re.findall(r'<symbol id="([^"]+)"', sprite)) == ICONS, "run: python hatch_build.py"


def test_every_state_of_a_job_has_a_word_a_color_and_a_shape_of_its_own():
    assert JOB_STATES.keys() == set(JobStatus)
    assert len({state.word for state in JOB_STATES.values()}) == len(JOB_STATES)
    assert len({state.icon for state in JOB_STATES.values()}) == len(JOB_STATES)


def test_a_missing_generated_file_names_the_command_that_generates_it(monkeypatch: pytest.MonkeyPatch, tmp_path):
    monkeypatch.setattr(module, "GENERATED", tmp_path)
    monkeypatch.setattr("tagferry.web.console.translation.GENERATED", tmp_path)

    for load in (assets.__wrapped__, lambda: translations.__wrapped__("zh-Hans")):
        with pytest.raises(NotGenerated, match=r"python hatch_build\.py"):
            load()


def test_the_script_is_one_small_module():
    script = (CONSOLE / "static" / "console.js").read_text("utf-8")

    assert script.startswith("// @ts-check\n")
    assert script.count("\n") <= 400


def test_templates_have_no_style_and_no_script_of_their_own():
    for file in TEMPLATES.rglob("*.html"):
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]* src=)|javascript:", file.read_text("utf-8")), (
            file
        )


def test_templates_mark_nothing_as_safe():
    for file in TEMPLATES.rglob("*.html"):
        assert not re.search(r"\|\s*safe|autoescape", file.read_text("utf-8")), file
