"""Regular expressions that people give for tags, matched in a time that nobody can make long.

Python's own engine tries one way after the other, so that a short expression can keep it busy for ages. The one that
pydantic brings along never goes back in the text: its time is bounded by the text's length times the expression's size.
"""

import re

from pydantic_core import SchemaError, SchemaValidator, ValidationError, core_schema

from tagferry.errors import Invalid

_LONGEST = 256
_LARGEST = 1000
_REPEATED = re.compile(r"(.?)\{(\d*)(?:,(\d*))?\}")


class TagPattern:
    """A regular expression, which matches a tag if it is found anywhere in it.

    Args:
        pattern: in RE2's syntax, about: without references back and without looking around.
        field: what to call it when it is refused.

    Raises:
        Invalid: it is no such expression, or too large.
    """

    def __init__(self, pattern: str, *, field: str = "pattern") -> None:
        # Other characters are in no tag. Spaces may have no meaning, and would hide from us what is repeated.
        if not re.fullmatch(rf"[!-~]{{1,{_LONGEST}}}", pattern):
            raise Invalid(field, f"must be 1 to {_LONGEST} printable ASCII characters without spaces", pattern)
        if _size(pattern) > _LARGEST:
            raise Invalid(field, f"must not repeat parts into more than {_LARGEST} characters", pattern)
        try:
            self._validator = SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))
        except SchemaError as error:
            reason = str(error).splitlines()[-1].strip().removeprefix("error: ").removeprefix("SchemaError: ")
            raise Invalid(field, f"must be a regular expression of RE2's kind ({reason})", pattern) from None

    def matches(self, tag: str) -> bool:
        """Whether it is found in the tag."""
        try:
            self._validator.validate_python(tag)
        except ValidationError:
            return False
        return True


def _size(pattern: str) -> int:
    """How long an expression is at most once its counted repetitions are written out.

    What repeats more than one character is taken to repeat everything.
    """
    length, times = len(pattern), 1
    for repeated in _REPEATED.finditer(pattern):
        count = max(int(number) for number in (repeated[2] or "0", repeated[3] or "0", "1"))
        if repeated[1] in {"", ")", "}", "*", "+", "?"}:
            times *= count
        else:
            length += count
    return length * times
