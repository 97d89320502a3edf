"""A key or password that does not print itself."""

from __future__ import annotations


class Secret:
    """Holds a secret text; `reveal` is the only way to it, so a log line cannot leak it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text; call it only where it is sent."""
        return self._text

    def __repr__(self) -> str:
        return "Secret('**********')"

    __str__ = __repr__

    def __reduce__(self) -> str:
        """Refuse to be pickled, which would write the text."""
        raise TypeError("a Secret is not written anywhere")
