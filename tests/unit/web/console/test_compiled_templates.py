"""Templates that the build compiles."""

from pathlib import Path

import pytest
from jinja2 import Environment, TemplateSyntaxError

from tagferry.web.console import compiled_templates
from tagferry.web.console.compiled_templates import SYNTAX, compile_templates, loader
from tagferry.web.console.environment import TEMPLATES, environment
from tagferry.web.console.translation import LANGUAGES


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    templates, generated = tmp_path / "templates", tmp_path / "generated"
    (templates / "kit").mkdir(parents=True)
    generated.mkdir()
    (templates / "page.html").write_text('{% include "kit/part.html" %}{{ text }} {{ "constant"|loud }}')
    (templates / "kit" / "part.html").write_text("{# none #}<b>part</b>\n")
    return templates, generated


def rendered(folders: tuple[Path, Path]) -> str:
    made = Environment(loader=loader(*folders), autoescape=True, **SYNTAX)
    made.filters["loud"] = str.upper
    return made.get_template("page.html").render(text="<i>")


def test_no_template_of_the_console_is_compiled_by_a_server(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Environment, "compile", lambda *_: pytest.fail("compiled; run: python hatch_build.py"))

    for language in LANGUAGES:
        made = environment.__wrapped__(language)
        for file in TEMPLATES.rglob("*.html"):
            made.get_template(file.relative_to(TEMPLATES).as_posix())


def test_a_compiled_template_renders_as_its_source_does(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch):
    from_source = rendered(folders)
    compile_templates(*folders)
    monkeypatch.setattr(Environment, "compile", lambda *_: pytest.fail("compiled"))

    assert rendered(folders) == from_source == "<b>part</b>&lt;i&gt; CONSTANT"


def test_two_environments_share_no_compiled_template():
    english, chinese = environment("en"), environment("zh-Hans")

    for name in ("layout.html", "jobs.html"):
        assert english.get_template(name).root_render_func is not chinese.get_template(name).root_render_func
        assert english.get_template(name).environment is english
        assert chinese.get_template(name).environment is chinese


@pytest.mark.parametrize("name", ["page.html", "kit/part.html"])
def test_a_template_that_changed_after_the_build_is_compiled_again(folders: tuple[Path, Path], name: str):
    compile_templates(*folders)
    (folders[0] / name).write_text("other")

    assert "other" in rendered(folders)


def test_a_new_template_is_found_after_the_build(folders: tuple[Path, Path]):
    compile_templates(*folders)
    (folders[0] / "kit" / "new.html").write_text("new")
    (folders[0] / "page.html").write_text('{% include "kit/new.html" %}')

    assert rendered(folders) == "new"


def test_another_version_of_jinja_compiles_the_templates_itself(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
):
    compile_templates(*folders)
    (compiled,) = folders[1].iterdir()
    monkeypatch.setattr(compiled_templates, "version", lambda _: "3.2.0")
    for file in compiled.iterdir():
        file.write_text("raise AssertionError")

    assert rendered(folders).startswith("<b>part</b>")


def test_the_build_replaces_what_it_compiled_before(folders: tuple[Path, Path]):
    compile_templates(*folders)
    (folders[0] / "page.html").write_text("other")
    compile_templates(*folders)

    assert len(list(folders[1].iterdir())) == 1
    assert rendered(folders) == "other"


def test_an_error_in_a_template_ends_the_build_and_leaves_nothing_to_load(folders: tuple[Path, Path]):
    (folders[0] / "page.html").write_text("{% if %}")

    with pytest.raises(TemplateSyntaxError):
        compile_templates(*folders)
    with pytest.raises(TemplateSyntaxError):
        rendered(folders)
