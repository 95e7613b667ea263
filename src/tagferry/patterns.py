"""Regular expressions from users, matched in time linear in the text.

They use RE2, which has no look-around and no back-references because no linear-time engine can support them.

The grammar: https://github.com/google/re2/wiki/Syntax
"""

from typing import Any, Self

import re2

from tagferry.errors import Invalid

_LONGEST = 256
_MEMORY_BYTES = 1 << 20
"""The memory limit of one compiled expression; RE2 refuses a repetition that expands to more."""


class Pattern(str):
    """A regular expression, 1 to 256 characters of RE2's grammar.

    Raises:
        Invalid: it is empty or too long, or RE2 cannot compile it; the rule quotes RE2's error.
    """

    __slots__ = ("_compiled",)

    _compiled: Any

    def __new__(cls, value: str, *, field: str = "pattern") -> Self:
        if not 1 <= len(value) <= _LONGEST:
            raise Invalid(field, f"must be 1 to {_LONGEST} characters long", value)
        if "\0" in value:
            # PostgreSQL cannot store it.
            raise Invalid(field, "must not contain NUL", value)
        pattern = super().__new__(cls, value)
        try:
            pattern._compiled = re2.compile(value, _options())
        except re2.error as error:
            raise Invalid(field, f"must be a regular expression of RE2's grammar ({_reason(error)})", value) from None
        except UnicodeEncodeError:
            raise Invalid(field, "must consist of Unicode characters", value) from None
        return pattern

    def matches(self, text: str) -> bool:
        """Return whether the expression matches the whole text."""
        return self._compiled.fullmatch(text) is not None

    def is_found_in(self, text: str) -> bool:
        """Return whether the expression matches some part of the text."""
        return self._compiled.search(text) is not None


def _options() -> re2.Options:
    options = re2.Options()
    options.max_mem = _MEMORY_BYTES
    options.log_errors = False
    options.never_capture = True
    return options


def _reason(error: Exception) -> str:
    reason = error.args[0]
    return reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
