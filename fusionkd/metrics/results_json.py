"""A results file read sample by sample, so that a large one never lies in memory as a whole."""

import gc
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

CHUNK = 2**22
"""Characters read at a time: more than the boxes of a sample take."""

_DECODER = json.JSONDecoder()
_WHITESPACE = " \t\n\r"
_LONGEST_WORD = 32  # of JSON, that the end of a chunk may cut: a number of 17 digits with sign and exponent, -Infinity


def read_results(path: Path, take: Callable[[str, Any], None]) -> Any:
    """The top level of a JSON file, of whose ``results`` each member is handed on instead of kept.

    Args:
        path: The file.
        take: Called with each key and value of the object ``results``, in the file's order.

    Returns:
        The other members; ``results`` is None where it is an object, else its value. Of a file that holds no object,
        what it holds.

    Raises:
        ValueError: If the text isn't JSON; it says where.
        OSError: If the file can't be read.
    """
    collecting = gc.isenabled()
    gc.disable()  # thousands of new dictionaries set the garbage collector off again and again, in vain
    try:
        with open(path, encoding="utf-8") as stream:
            return _top_level(_Window(stream), take)
    finally:
        if collecting:
            gc.enable()


def _top_level(text: "_Window", take: Callable[[str, Any], None]) -> Any:
    if text.next() != "{":
        return text.last_value()
    content: dict[str, Any] = {}

    def keep(key: str) -> None:
        if key == "results" and text.next() == "{":
            content[key] = None
            text.members(lambda token: take(token, text.value()))
        else:
            content[key] = text.value()

    text.members(keep)
    text.end()
    return content


class _Window:
    """The part of a text that is being read.

    Args:
        stream: The text.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._text = ""
        self._at = 0
        self._before = 0
        self._ended = False

    def next(self) -> str:
        """The next character that is no whitespace, which is not consumed; "" at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _WHITESPACE:
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def members(self, keep: Callable[[str], None]) -> None:
        """Reads an object; ``keep`` is told each key and reads its value."""
        self._expect("{")
        if self.next() == "}":
            self._at += 1
            return
        while True:
            if self.next() != '"':
                raise self._error("a key in quotes")
            key = self.value()
            self._expect(":")
            keep(key)
            if self.next() == "}":
                self._at += 1
                return
            self._expect(",")

    def value(self) -> Any:
        """The next value."""
        self.next()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                cut_off = error.pos > len(self._text) - _LONGEST_WORD or error.msg.startswith("Unterminated string")
                if cut_off and self._more():
                    continue
                raise ValueError(f"{error.msg} at character {self._before + error.pos}") from None
            # A number near the end of what was read may go on: "1." was read as 1.
            if end > len(self._text) - _LONGEST_WORD and self._more():
                continue
            self._at = end
            return value

    def last_value(self) -> Any:
        """The next value, after which nothing may come."""
        value = self.value()
        self.end()
        return value

    def end(self) -> None:
        """Refuses text after the end."""
        if self.next():
            raise self._error("nothing more")

    def _expect(self, character: str) -> None:
        if self.next() != character:
            raise self._error(repr(character))
        self._at += 1

    def _more(self) -> bool:
        """Reads on, at least doubling what isn't consumed, so that a long value is decoded few times."""
        if self._ended:
            return False
        rest = self._text[self._at :]
        new = self._stream.read(max(CHUNK, len(rest)))
        if not new:
            self._ended = True
            return False
        self._before += self._at
        self._text, self._at = rest + new, 0
        return True

    def _error(self, expected: str) -> ValueError:
        return ValueError(f"Expecting {expected} at character {self._before + self._at}")
