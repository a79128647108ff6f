"""GVariant text, the notation of org.systemd.property.* annotations, as values for D-Bus.  Pure.

"true"  "uint64 5"  "'text'"  "['a', 'b']"  "@as []"  "('a', 1)"  "<1>"  "{'a': <1>}"  "b'bytes'"
Without a type word or an annotation an integer is an int32 and a number with a point a double.
Source: the GVariant text format of GLib's manual; maybe types are left out, D-Bus has none.
"""

from __future__ import annotations

import re
import sys

from pyoci import errors

WORDS = {
    "boolean": "b",
    "byte": "y",
    "int16": "n",
    "uint16": "q",
    "int32": "i",
    "uint32": "u",
    "handle": "h",
    "int64": "x",
    "uint64": "t",
    "double": "d",
    "string": "s",
    "objectpath": "o",
    "signature": "g",
}
RANGES = {
    "y": (0, 2**8 - 1),
    "n": (-(2**15), 2**15 - 1),
    "q": (0, 2**16 - 1),
    "i": (-(2**31), 2**31 - 1),
    "u": (0, 2**32 - 1),
    "h": (0, 2**31 - 1),
    "x": (-(2**63), 2**63 - 1),
    "t": (0, 2**64 - 1),
}
BASIC = frozenset("bynqiuhxtdsog")
DEEPEST = 32  # D-Bus allows as many arrays and structures in each other
ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_TOKEN = re.compile(
    r"""\s*(?: (?P<string>b?(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"))
             | (?P<number>[-+]?(?:0[xX][0-9a-fA-F]+|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?))
             | (?P<type>@[a-z(){}]+)
             | (?P<word>[a-z][a-z0-9]*)
             | (?P<sign>[][(){}<>,:]) )""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", re.DOTALL)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Value = tuple[str, Any]  # D-Bus signature, and what jeepney takes for it


def parse(text: str) -> Value:
    """The signature and the value.  Raises ValueError with what is wrong."""
    reader = _Reader(_tokens(text))
    value = reader.value("", 0)
    if reader.peek()[0] != "end":
        raise ValueError(f"unexpected {reader.peek()[1]!r} after the value")
    return value


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens, at = [], 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if not match:
            raise ValueError(f"unexpected {text[at:].strip()[:10]!r}")
        kind = match.lastgroup or ""
        tokens.append((kind, match[kind]))
        at = match.end()
    return [*tokens, ("end", "the end")]


class _Reader:
    """The tokens, read from left to right; wanted is the signature that a value must have, "" for any."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self.tokens = tokens
        self.at = 0

    def peek(self) -> tuple[str, str]:
        return self.tokens[self.at]

    def next(self) -> tuple[str, str]:
        token = self.tokens[self.at]
        if token[0] != "end":
            self.at += 1
        return token

    def expect(self, sign: str) -> None:
        _, text = self.next()
        if text != sign:
            raise ValueError(f"{sign!r} expected, found {text!r}")

    def value(self, wanted: str, depth: int) -> Value:
        if depth > DEEPEST:
            raise ValueError("nested too deeply")
        kind, text = self.next()
        if kind == "type":
            return self._typed(text[1:], wanted, depth)
        if kind == "word" and text in WORDS:
            return self._typed(WORDS[text], wanted, depth)
        if kind == "word" and text in ("true", "false"):
            return _as("b", wanted), text == "true"
        if kind == "number":
            return _number(text, wanted)
        if kind == "string":
            return _string(text, wanted)
        container = {"[": self._array, "(": self._tuple, "{": self._dict, "<": self._variant}.get(text)
        if kind != "sign" or not container:
            raise ValueError(f"a value expected, found {text!r}")
        return container(wanted, depth + 1)

    def _typed(self, signature: str, wanted: str, depth: int) -> Value:
        if split(signature)[1:]:
            raise ValueError(f"{signature!r} is not one type")
        return self.value(_as(signature, wanted), depth)

    def _array(self, wanted: str, depth: int) -> Value:
        if wanted and wanted[0] != "a":
            raise ValueError(f"an array where type {wanted} is wanted")
        element, items = wanted[1:], []
        while self.peek()[1] != "]":
            element, item = self.value(element, depth)
            items.append(item)
            if self.peek()[1] != "]":
                self.expect(",")
        self.expect("]")
        if not element:
            raise ValueError("an empty array needs its type: @as []")
        return f"a{element}", bytes(items) if element == "y" else items

    def _tuple(self, wanted: str, depth: int) -> Value:
        if wanted and wanted[0] != "(":
            raise ValueError(f"a tuple where type {wanted} is wanted")
        parts = split(wanted[1:-1])
        items: list[Value] = []
        while self.peek()[1] != ")":
            if wanted and len(items) == len(parts):
                raise ValueError(f"more values than type {wanted} has")
            items.append(self.value(parts[len(items)] if wanted else "", depth))
            if self.peek()[1] != ")":
                self.expect(",")
        self.expect(")")
        if not items or (wanted and len(items) != len(parts)):
            raise ValueError("fewer values than the tuple has types" if items else "D-Bus has no empty tuple")
        return f"({''.join(signature for signature, _ in items)})", tuple(value for _, value in items)

    def _dict(self, wanted: str, depth: int) -> Value:
        if wanted and wanted[:2] != "a{":
            raise ValueError(f"a dictionary where type {wanted} is wanted")
        key, value = split(wanted[2:-1]) if wanted else ("", "")
        items = {}
        while self.peek()[1] != "}":
            key, name = self.value(key, depth)
            if key not in BASIC:
                raise ValueError(f"a key of type {key}: D-Bus takes numbers and strings")
            self.expect(":")
            value, items[name] = self.value(value, depth)
            if self.peek()[1] != "}":
                self.expect(",")
        self.expect("}")
        if not items and not wanted:
            raise ValueError("an empty dictionary needs its type: @a{sv} {}")
        return f"a{{{key}{value}}}", items

    def _variant(self, wanted: str, depth: int) -> Value:
        inner = self.value("", depth)
        self.expect(">")
        return _as("v", wanted), inner


def split(signature: str) -> list[str]:
    """A signature as its complete types.  Raises ValueError."""
    parts, rest = [], signature
    while rest:
        length = _length(rest, 0)
        parts.append(rest[:length])
        rest = rest[length:]
    return parts


def _length(signature: str, depth: int) -> int:
    first = signature[:1]
    if depth > DEEPEST or not first:
        raise ValueError("an incomplete type")
    if first == "a":
        return 1 + _length(signature[1:], depth + 1)
    if first in "({":
        end, count = 1, 0
        while signature[end : end + 1] != {"(": ")", "{": "}"}[first]:
            end += _length(signature[end:], depth + 1)
            count += 1
        if count == 0 or (first == "{" and count != 2):
            raise ValueError(f"{signature[: end + 1]!r} is no type")
        return end + 1
    if first not in BASIC and first != "v":
        raise ValueError(f"{first!r} is no type of D-Bus")
    return 1


def _as(signature: str, wanted: str) -> str:
    if wanted and wanted != signature:
        raise ValueError(f"a value of type {signature} where type {wanted} is wanted")
    return signature


def _number(text: str, wanted: str) -> Value:
    if len(text) > errors.MAX_VALUE:  # longer than any of these types holds; int() and float() raise what they like
        raise ValueError(f"{errors.value(text)} is no number")
    hexadecimal = "x" in text.lower()
    real = not hexadecimal and any(sign in text for sign in ".eE")
    signature = wanted or ("d" if real else "i")
    if signature == "d":
        return "d", float(int(text, 16) if hexadecimal else text)
    if signature not in RANGES or real:
        raise ValueError(f"{text} where type {signature} is wanted")
    digits = text.lstrip("+-")
    octal = not hexadecimal and len(digits) > 1 and digits[0] == "0" and set(digits) <= set("01234567")
    number = int(text, 16 if hexadecimal else 8 if octal else 10)
    low, high = RANGES[signature]
    if not low <= number <= high:
        raise ValueError(f"{text} does not fit into type {signature}")
    return signature, number


def _string(text: str, wanted: str) -> Value:
    plain = _ESCAPE.sub(_unescape, text.lstrip("b")[1:-1])
    data = plain.encode("utf-8")  # UnicodeEncodeError, for half a surrogate, is a ValueError
    if b"\0" in data:
        raise ValueError("a string with a NUL")
    if text[0] == "b":
        return _as("ay", wanted), data + b"\0"
    if (wanted or "s") not in "sog":
        raise ValueError(f"a string where type {wanted} is wanted")
    return wanted or "s", plain


def _unescape(match: re.Match[str]) -> str:
    code: str = match[1]
    if code[0] in "uU" and len(code) > 1:
        number = int(code[1:], 16)
        if number > sys.maxunicode:
            raise ValueError(f"\\{code} is no character")
        return chr(number)
    return ESCAPES.get(code, code)
