"""Generate the tables of `docs/limits.md` from the code: `python -m tests.bounds_page`."""

import ast
from pathlib import Path

import tagferry.bounds
import tagferry.settings.limits
from tagferry.settings import LimitSettings

PAGE = Path(__file__).parents[1] / "docs" / "limits.md"
_MARK = "<!-- {part}: made by python -m tests.bounds_page -->\n"
_END = "<!-- end -->\n"


def written(page: str) -> str:
    """Return the page with its tables up to date."""
    for part, table in (("bounds", _bounds()), ("settings", _settings())):
        mark = _MARK.format(part=part)
        before, found, rest = page.partition(mark)
        assert found, f"docs/limits.md has no line {mark!r}"
        after = rest.partition(_END)[2]
        page = f"{before}{mark}{table}{_END}{after}"
    return page


def _bounds() -> str:
    source = Path(tagferry.bounds.__file__).read_text("utf-8")
    values = vars(tagferry.bounds)
    documented = _documented(ast.parse(source).body)
    return "| bound | value | what it limits |\n|---|---|---|\n" + "".join(
        f"| `{name}` | {_readable(name, values[name])} | {text} |\n" for name, text in documented
    )


def _settings() -> str:
    source = Path(tagferry.settings.limits.__file__).read_text("utf-8")
    body = next(
        node.body
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef) and node.name == LimitSettings.__name__
    )
    fields = LimitSettings.model_fields
    return "| setting | default | what it limits |\n|---|---|---|\n" + "".join(
        f"| `{name}` | {_readable(name, fields[name].default)} | {text} |\n" for name, text in _documented(body)
    )


def _documented(body: list[ast.stmt]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for index, node in enumerate(body):
        target: ast.expr | None = node.target if isinstance(node, ast.AnnAssign) else None
        if isinstance(node, ast.Assign):
            target = node.targets[0]
        if not isinstance(target, ast.Name) or target.id.startswith(("_", "model_")):
            continue
        after = body[index + 1] if index + 1 < len(body) else None
        text = ast.literal_eval(after.value) if isinstance(after, ast.Expr) else ""
        assert text, f"{target.id} has no docstring"
        assert target.id not in dict(found), f"{target.id} is defined twice"
        found.append((target.id, " ".join(text.split())))
    return found


def _readable(name: str, value: object) -> str:
    if name.upper().endswith("BYTES") and isinstance(value, int):
        for unit, symbol in ((1 << 50, "PiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
            if value >= unit and value % unit == 0:
                return f"{value // unit} {symbol}"
    if value is None:
        return "none"
    if isinstance(value, str):
        return f'`"{value}"`'
    return f"{value:,g}" if isinstance(value, float) else f"{value:,}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text("utf-8")), "utf-8")
