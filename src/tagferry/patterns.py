"""Regular expressions that people write, which must not cost more than the text that they are held against.

RE2 runs them: in time linear in the text, whatever the expression, and without look-around and back-references, which
no linear engine can do. Its grammar: https://github.com/google/re2/wiki/Syntax
"""

from typing import Any, Self

import re2

from tagferry.errors import Invalid

_LONGEST = 256
_MEMORY_BYTES = 1 << 20
"""What one expression may take in all; a repetition that is spelled out to more than that is refused."""


class Pattern(str):
    """A regular expression, 1 to 256 characters of RE2's grammar.

    Raises:
        Invalid: it is empty or too long, or RE2 cannot take it; the rule says what RE2 found.
    """

    __slots__ = ("_compiled",)

    _compiled: Any

    def __new__(cls, value: str, *, field: str = "pattern") -> Self:
        if not 1 <= len(value) <= _LONGEST:
            raise Invalid(field, f"must be 1 to {_LONGEST} characters long", value)
        if "\0" in value:
            # Databases keep no such text.
            raise Invalid(field, "must not hold NUL", value)
        pattern = super().__new__(cls, value)
        try:
            pattern._compiled = re2.compile(value, _options())
        except re2.error as error:
            raise Invalid(field, f"must be a regular expression of RE2's grammar ({_reason(error)})", value) from None
        except UnicodeEncodeError:
            raise Invalid(field, "must consist of Unicode characters", value) from None
        return pattern

    def matches(self, text: str) -> bool:
        """Whether all of a text, from its first character to its last, is what the expression describes."""
        return self._compiled.fullmatch(text) is not None

    def is_found_in(self, text: str) -> bool:
        """Whether some part of a text is what the expression describes."""
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
