"""Lists of copies, for `tagferry copy --from FILE`: lines, or the YAML of regsync or `skopeo sync`."""

from tagferry.direct.references import parse_image
from tagferry.direct.tasks import CopyList, CopyTask
from tagferry.errors import Invalid

_YAML_SUFFIXES = (".yml", ".yaml")


def parse_list(text: str, *, name: str, target: str | None) -> CopyList:
    """Parse a list.

    Args:
        text: its content.
        name: its file name, which shows whether it is YAML; or what it is called in errors.
        target: the registry and prefix below which the repositories of skopeo's YAML are copied.

    Raises:
        Invalid: it has an error, or a key that tagferry does not support; names the line or the key. Or it is empty.
    """
    if name.lower().endswith(_YAML_SUFFIXES):
        from tagferry.direct.yaml_lists import parse_yaml

        found = parse_yaml(text, name=name, target=target)
    else:
        found = _parse_lines(text, name=name, target=target)
    if not found.tasks:
        raise Invalid(name, "must name at least one image to copy")
    return found


def _parse_lines(text: str, *, name: str, target: str | None) -> CopyList:
    if target is not None:
        raise Invalid("TARGET", f"must be omitted, because the lines of {name} name their targets", target)
    tasks = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split() if line.lstrip().startswith("#") else line.split(" #")[0].split()
        if not words:
            continue
        if len(words) != 2:
            raise Invalid(f"{name}, line {number},", "must be SOURCE TARGET", line)
        source, goal = (parse_image(word, field=f"{name}, line {number}:") for word in words)
        tasks.append(CopyTask(source, goal))
    return CopyList(tuple(tasks))
