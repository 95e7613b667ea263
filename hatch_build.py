"""Generate the files of the console that are not in git: its icons, translations and compiled templates.

The build runs this for wheels and for editable installs; in a checkout, `python hatch_build.py` runs it alone. Icons
come from the package `lucide`, translations are compiled by Babel: servers need neither of the two. Templates are
compiled by Jinja, which servers do again if theirs has another version.
"""

import runpy
import zipfile
from importlib.resources import files
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_CONSOLE = Path("src/tagferry/web/console")
_SVG = "http://www.w3.org/2000/svg"


class ConsoleBuildHook(BuildHookInterface[Any]):
    """Hatch's build hook."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Generate the files before a wheel is built; a source distribution has their sources."""
        if self.target_name == "wheel":
            generate(Path(self.root))


def generate(root: Path) -> None:
    """Generate the sprite of all icons, the compiled translations and the compiled templates in a checkout."""
    console = root / _CONSOLE
    generated = console / "generated"
    generated.mkdir(exist_ok=True)
    names = (console / "icons.txt").read_text("utf-8").split()
    (generated / "icons.svg").write_bytes(_sprite(names))
    for source in console.glob("locale/*.po"):
        with source.open("rb") as po, (generated / f"{source.stem}.mo").open("wb") as mo:
            write_mo(mo, read_po(po, locale=source.stem))
    # Not imported, because the package's own requirements need not be installed.
    compiled_templates = runpy.run_path(str(console / "compiled_templates.py"))
    compiled_templates["compile_templates"](console / "templates", generated)


def _sprite(names: list[str]) -> bytes:
    """Return one SVG with a symbol for each icon."""
    Xml.register_namespace("", _SVG)
    sprite = Xml.Element(f"{{{_SVG}}}svg")
    with files("lucide").joinpath("lucide.zip").open("rb") as opened, zipfile.ZipFile(opened) as icons:
        for name in names:
            icon = Xml.fromstring(icons.read(f"{name}.svg"))  # noqa: S314 (a locked package)
            symbol = Xml.SubElement(sprite, f"{{{_SVG}}}symbol", {"id": name, "viewBox": icon.attrib["viewBox"]})
            symbol.extend(icon)
    for element in sprite.iter():
        element.text = element.tail = None
    return Xml.tostring(sprite)


if __name__ == "__main__":
    generate(Path(__file__).parent)
