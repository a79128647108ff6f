"""JSON, read strictly and written compactly, without the cost of the json package.

`import json` takes as long as starting the interpreter; its C half `_json` takes nothing.
Where `_json` is missing (another implementation of Python) the json package serves.

Stricter than RFC 8259 asks of a reader, as SECURITY.md class 17 and row L01 want: one name
once in an object, no NaN or Infinity, no lone surrogates, UTF-8 only, no byte order mark.
"""

from __future__ import annotations

import sys

from pyoci import errors, json_fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    _json: Any
else:
    try:
        import _json
    except ImportError:  # not CPython
        from pyoci import json_slow as _json

SPACE = " \t\n\r"
MAX_DIGITS = 4300  # of one integer: what int() converts in bounded time
LONGEST = 20  # digits of 2^64 - 1


class _Refused(Exception):
    """Raised inside the scanner: (what is wrong); the place is found afterwards."""


def integer(text: str | bytes) -> int:
    """int(text) of decimal digits.  The first of all int(text) takes a logarithm: 128 KiB of libm's tables.

    As a float 15 digits are exact.  Raises ValueError.
    """
    return int(float(text)) if len(text) < 16 else int(text)


def decimal(text: str) -> int | None:
    """The number that a text of a user or of a config is: ASCII digits only, and no more than 64 bits can have.

    int() takes digits of other scripts as well; it, and many a use of what it returns, raises ValueError for thousands.
    """
    return integer(text) if len(text) <= LONGEST and text.isascii() and text.isdigit() else None


class _Context:
    """What the C scanner asks of its caller: how to make each kind of value."""

    strict = True
    object_hook = None
    parse_int = staticmethod(integer)

    @staticmethod
    def object_pairs_hook(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            raise _Refused
        return result

    @staticmethod
    def parse_float(text: str) -> float:
        value = float(text)
        if value - value != 0.0:  # infinite: 1e999
            raise _Refused
        return value

    @staticmethod
    def parse_constant(name: str) -> NoReturn:
        raise _Refused


_scan = _json.make_scanner(_Context)


def loads(data: bytes, name: str = "") -> Any:
    """The value of a JSON text.

    data: the bytes, UTF-8.  name: what to call the text in an error ("" names nothing).
    Integers stay int, numbers with a point or an exponent become float.
    Raises errors.InvalidConfig, with line and column, for anything but one JSON text
    without duplicate names, NaN, Infinity, lone surrogates or too deep nesting.
    """
    text = _decode(data, name)
    start = len(text) - len(text.lstrip(SPACE))
    try:
        value, end = _scan(text, start)
        if text[end:].strip(SPACE):
            end = len(text) - len(text[end:].lstrip(SPACE))
            json_fault.fail(name, text, end, "something after the end of the value")
        if b"\\ud" in data or b"\\uD" in data:  # the only way a surrogate can get in
            _write(value, None, _json.encode_basestring).encode()
    except StopIteration as stop:
        json_fault.fail(name, text, stop.value, "a value is missing", json_fault.hint(text, stop.value))
    except SystemError:
        # The C scanner makes its errors of a class of json.decoder, and forgets to when nobody has loaded that.
        if "json.decoder" in sys.modules:
            raise
        __import__("json.decoder")
        return loads(data, name)
    except RecursionError:
        raise errors.InvalidConfig(f"{json_fault.called(name)}nested too deeply") from None
    except (_Refused, UnicodeEncodeError):
        json_fault.fail(name, text, *json_fault.find_refused(text))
    except ValueError as error:
        if not hasattr(error, "pos"):  # int() refuses more than MAX_DIGITS
            json_fault.fail(name, text, *json_fault.find_refused(text))
        message = (error.msg[:1].lower() + error.msg[1:]).removesuffix(" at")  # type: ignore[attr-defined]
        json_fault.fail(name, text, error.pos, message, json_fault.hint(text, error.pos))
    return value


def _decode(data: bytes, name: str) -> str:
    if data[:3] == b"\xef\xbb\xbf":
        raise errors.InvalidConfig(
            f"{json_fault.called(name)}starts with a byte order mark", hint="save it as UTF-8 without BOM"
        )
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        message = f"not UTF-8 at line {line} column {column}"
        raise errors.InvalidConfig(json_fault.called(name) + message) from None


# -- writing ---------------------------------------------------------------------------------


def _refuse_type(value: object) -> NoReturn:
    raise TypeError(f"{type(value).__name__} has no JSON form")


def dumps(value: Any, indent: int | None = None) -> str:
    """The JSON text of a value made of dict, list, tuple, str, int, float, bool and None.

    indent: None for one line without spaces, else the number of spaces per level.
    Names keep their order.  Where a str has bytes that were not UTF-8 (surrogateescape), or
    what a terminal takes as a command (U+009B) or hides, all is written in ASCII: the result can
    always be encoded, and shown.
    Raises TypeError for other types, ValueError for NaN, Infinity or a circular value.
    """
    text = _write(value, indent, _json.encode_basestring)
    if not text.isascii() and not text.replace("\n", "").isprintable():
        return _write(value, indent, _json.encode_basestring_ascii)
    return text


def _write(value: Any, indent: int | None, quote: Any) -> str:
    # markers, default, encoder, indent, key and item separator, sort_keys, skipkeys, allow_nan
    encode = _json.make_encoder({}, _refuse_type, quote, None, ":", ",", False, False, False)
    if indent is None:
        return "".join(encode(value, 0))
    parts: list[str] = []
    _pretty(value, "\n", " " * indent, encode, parts)
    return "".join(parts)


def _pretty(value: Any, newline: str, step: str, encode: Any, parts: list[str]) -> None:
    """Append value, indented: the C encoder only knows one line."""
    if not value or not isinstance(value, (dict, list, tuple)):
        parts += encode(value, 0)
        return
    inner = newline + step
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    separator = opening + inner
    for item in value:
        parts.append(separator)
        separator = "," + inner
        if isinstance(value, dict):
            parts += encode(item, 0)
            parts.append(": ")
            item = value[item]  # noqa: PLW2901
        _pretty(item, inner, step, encode, parts)
    parts.append(newline + closing)
