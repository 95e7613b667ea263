"""Generate the tables of `docs/metrics.md` from the code: `python -m tests.metrics_page`."""

import re
from pathlib import Path

import tagferry.metrics
from tagferry.metrics.instruments import Counter, Gauge, Histogram, Label

PAGE = Path(__file__).parents[1] / "docs" / "metrics.md"
_MARK = "<!-- metrics: made by python -m tests.metrics_page -->\n"
_END = "<!-- end -->\n"
_HEAD = "| metric | type | labels | what it is | exported by |\n|---|---|---|---|---|\n"


def written(page: str) -> str:
    """Return the page with its tables up to date."""
    before, found, rest = page.partition(_MARK)
    assert found, f"docs/metrics.md has no line {_MARK!r}"
    after = rest.partition(_END)[2]
    tables = "\n".join(f"### {title}\n\n{_HEAD}{''.join(map(_row, metrics))}" for title, metrics in _sections().items())
    return f"{before}{_MARK}\n{tables}\n{_END}{after}"


def _sections() -> dict[str, list[Counter | Gauge | Histogram]]:
    """Return the metrics by the comments above them."""
    sections: dict[str, list[Counter | Gauge | Histogram]] = {}
    title = ""
    for line in Path(tagferry.metrics.__file__).read_text("utf-8").splitlines():
        if heading := re.fullmatch(r"# (.+)", line):
            title = heading[1]
        elif name := re.match(r"([A-Z_]+) = (?:Counter|Gauge|Histogram)\(", line):
            sections.setdefault(title, []).append(getattr(tagferry.metrics, name[1]))
    assert {id(one) for metrics in sections.values() for one in metrics} == set(map(id, tagferry.metrics.METRICS))
    return sections


def _row(metric: Counter | Gauge | Histogram) -> str:
    kind = type(metric).__name__.lower()
    name = f"{metric.name}_total" if isinstance(metric, Counter) else metric.name
    text = metric.text
    if isinstance(metric, Histogram):
        text += f" Upper bounds: {', '.join(f'{bound:g}' for bound in metric.bounds)}."
    labels = "<br>".join(map(_label, metric.label_set))
    return f"| `{name}` | {kind} | {labels} | {text} | {metric.scope.value} |\n"


def _label(label: Label) -> str:
    values = ", ".join(f"`{value}`" for value in label.values)
    return f"**{label.name}**: {'; '.join(filter(None, (values, label.text)))}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text("utf-8")), "utf-8")
