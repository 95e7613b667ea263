"""Templates that the build compiles, because a server takes a tenth of a second to compile those of a page.

`hatch_build.py` loads this file by its path, so it imports only the standard library and Jinja.
"""

import hashlib
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import BaseLoader, Environment, FileSystemLoader, ModuleLoader
from jinja2.nodes import Filter

SYNTAX: dict[str, Any] = {
    "trim_blocks": True,
    "lstrip_blocks": True,
    "extensions": ["jinja2.ext.i18n"],
}
"""The options of an environment that decide how it compiles templates; all environments escape HTML."""
_PREFIX = "templates-"


def loader(templates: Path, generated: Path) -> BaseLoader:
    """Return the loader of a folder of templates; those that changed after the build are compiled when they are used.

    Each environment needs a loader of its own, because the compiled templates refer to their environment.

    Args:
        templates: the folder.
        generated: the folder in which the build has compiled them.
    """
    folder = _folder(templates, generated)
    return ModuleLoader(folder) if folder.is_dir() else FileSystemLoader(templates)


def compile_templates(templates: Path, generated: Path) -> None:
    """Compile a folder of templates, in place of an earlier version of them.

    Raises:
        TemplateSyntaxError: a template has an error.
    """
    for old in generated.glob(f"{_PREFIX}*"):
        shutil.rmtree(old)
    environment = Environment(loader=FileSystemLoader(templates), autoescape=True, **SYNTAX)
    for file in templates.rglob("*.html"):
        for one in environment.parse(file.read_text("utf-8")).find_all(Filter):
            environment.filters.setdefault(one.name, _only_in_servers)
    incomplete = generated / f"{_PREFIX}incomplete"
    environment.compile_templates(incomplete, zip=None, ignore_errors=False)
    incomplete.rename(_folder(templates, generated))


def _only_in_servers(*_: object) -> None:
    """Stand for a filter of the console; because of the error, Jinja does not apply it to constants while compiling."""
    raise NotImplementedError


def _folder(templates: Path, generated: Path) -> Path:
    """Return the folder for the compiled templates. Another version of Jinja may need other ones."""
    digest = hashlib.sha256(version("jinja2").encode())
    for file in sorted(templates.rglob("*.html")):
        name, content = file.relative_to(templates).as_posix().encode(), file.read_bytes()
        digest.update(b"%b\0%d\0%b" % (name, len(content), content))
    return generated / f"{_PREFIX}{digest.hexdigest()[:16]}"
