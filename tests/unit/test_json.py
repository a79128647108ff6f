"""pyoci.json: as strict as SECURITY.md class 17 asks, else equal to the json package."""

from __future__ import annotations

import json as stdlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pyoci import errors, json

ROOT = Path(__file__).resolve().parents[2]
UNICODE = st.characters(exclude_categories=["Cs"])
TEXT = st.text(UNICODE)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=20)


@given(VALUES, st.booleans(), st.sampled_from([None, 1, 2, "\t"]))
def test_reads_what_the_json_package_writes(value: Any, ascii_only: bool, indent: Any) -> None:
    text = stdlib.dumps(value, ensure_ascii=ascii_only, indent=indent)
    read = json.loads(text.encode())
    assert read == value
    assert stdlib.dumps(read) == stdlib.dumps(value)  # 1 is not 1.0 is not true


@given(VALUES)
def test_writes_what_the_json_package_writes(value: Any) -> None:
    """In ASCII where something in it is not to be shown on a terminal."""
    ascii = (
        not stdlib.dumps(value, ensure_ascii=False).isprintable()
        and not stdlib.dumps(value, ensure_ascii=False).isascii()
    )
    assert json.dumps(value) == stdlib.dumps(value, ensure_ascii=ascii, separators=(",", ":"))
    assert json.dumps(value, 2) == stdlib.dumps(value, ensure_ascii=ascii, indent=2)


@pytest.mark.parametrize("text", ["\x9b31m", "\u202e", "\u2028", "\udcff", "é\x85"])
def test_what_a_terminal_would_obey(text: str) -> None:
    written = json.dumps({"é": text}, 2)
    assert written.isascii()
    assert stdlib.loads(written) == {"é": text}


def accepts_by_the_book(data: bytes) -> bool:
    """Whether the json package, told to be strict, reads data."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError
        return dict(pairs)

    def finite(text: str) -> float:
        if float(text) in (float("inf"), float("-inf")):
            raise ValueError
        return float(text)

    def constant(name: str) -> None:
        raise ValueError

    try:
        value = stdlib.loads(
            data.decode(), object_pairs_hook=unique, parse_float=finite, parse_constant=constant, strict=True
        )
        stdlib.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return False
    return True


FRAGMENTS = st.sampled_from(
    [
        *('{"a":1', '"a"', ":", ",", "}", "[", "]", "{}", '"', "'", "\\", "//", " ", "\n", "\0", "\ufeff", "\x7f"),
        *("NaN", "-Infinity", "1e999", "1.0", "-", "0", "01", "true", "nul"),
        *("\\ud800", "\\udc00", '"\\ud83d\\ude00"', '"\\ud800x"'),
    ]
)


@given(st.lists(FRAGMENTS | st.text(max_size=3), max_size=12).map("".join).map(lambda s: s.encode(errors="replace")))
@example(b'{"a":1,"a":2}')
@example(b'["\\ud800"]')
@example(b'{"a" : {"b":1} , "c":[{"b":2,"b":3}]}')
@example(b'["\\"}{", {"x":1e400}]')
def test_refuses_exactly_what_a_strict_reader_refuses(data: bytes) -> None:
    try:
        json.loads(data, "config.json")
        accepted = True
    except errors.InvalidConfig as error:
        accepted = False
        assert str(error).isprintable()
        assert str(error).startswith("config.json: invalid JSON: ")
    assert accepted == accepts_by_the_book(data)


@given(st.binary(max_size=50))
def test_any_bytes_give_a_value_or_one_error(data: bytes) -> None:
    try:
        json.loads(data)
    except errors.InvalidConfig:
        pass


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"a": 1,\n "b": {"a": 2, "a" : 3}}', 'duplicate name "a" at line 2 column 16'),
        (b"[NaN]", "NaN is not a JSON number at line 1 column 2"),
        (b"[\n -Infinity]", "-Infinity is not a JSON number at line 2 column 2"),
        (b"1e999", "a number out of range at line 1 column 1"),
        (b"[" + b"1" * 5000 + b"]", "a number with too many digits at line 1 column 2"),
        (b'["\\ud800"]', "half of a surrogate pair at line 1 column 2"),
        (b'["a\xff"]', "not UTF-8 at line 1 column 4"),
        (b"\xef\xbb\xbf{}", "starts with a byte order mark"),
        (b"", "a value is missing at line 1 column 1"),
        (b"{} \n x", "something after the end of the value at line 2 column 2"),
        (b'["a\tb"]', "invalid control character at line 1 column 4"),
        (b"[" * 300_000, "nested too deeply"),
        (b'{"a":' * 300_000, "nested too deeply"),
    ],
)
def test_says_what_and_where(data: bytes, message: str) -> None:
    """L01, L24."""
    with pytest.raises(errors.InvalidConfig, match=r"^x: invalid JSON: ") as caught:
        json.loads(data, "x")
    assert caught.value.message.endswith(message)


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        (b'{"a": 1,}', "remove the comma before it"),
        (b"[1, ]", "remove the comma before it"),
        (b"{'a': 1}", "strings are written in double quotes"),
        (b"// text\n{}", "JSON has no comments"),
        (b"[True]", "write true, false, null"),
        (b"[1 2]", ""),
    ],
)
def test_hints_at_the_usual_mistakes(data: bytes, hint: str) -> None:
    with pytest.raises(errors.InvalidConfig) as caught:
        json.loads(data)
    assert caught.value.hint == hint


def test_writes_bytes_that_were_not_utf8_in_ascii() -> None:
    assert json.dumps({"p": "é\udcff"}) == '{"p":"\\u00e9\\udcff"}'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"x", object(), {1, 2}])
def test_refuses_to_write_what_json_has_not(value: object) -> None:
    for indent in (None, 2):
        with pytest.raises((TypeError, ValueError)):
            json.dumps([value], indent)


def test_is_the_same_without_the_c_half() -> None:
    """Another implementation of Python has no _json."""
    code = """
import sys
sys.modules["_json"] = None
from pyoci import errors, json
assert "json" in sys.modules
assert json.loads('{"a":[1,2.5,"é",null]}'.encode()) == {"a": [1, 2.5, "é", None]}
assert json.dumps({"a": [1, "é", {}]}, 2) == '{\\n  "a": [\\n    1,\\n    "é",\\n    {}\\n  ]\\n}'
assert json.dumps([1.5, True, "\\udcff"]) == '[1.5,true,"\\\\udcff"]'
for bad in b'{"a":1,"a":2}', b"[NaN]", b"1e999", b'["\\\\ud800"]', b"[1,]", b"[" * 300000:
    try:
        json.loads(bad)
    except errors.InvalidConfig:
        continue
    raise AssertionError(bad)
try:
    json.dumps(float("nan"))
except ValueError:
    pass
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_errors_in_an_interpreter_that_has_not_loaded_json() -> None:
    """The C scanner fails with SystemError there, and the command runs in such an interpreter."""
    code = f"""
import sys
sys.path.append({str(Path(json.__file__).parents[1])!r})
from pyoci import errors, json
assert "json.decoder" not in sys.modules
try:
    json.loads(b'{{"a": "b', "x.json")
except errors.InvalidConfig as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("x.json: invalid JSON: unterminated string")


@pytest.mark.parametrize("text", ["0", "-0", "7", "-1", "99999999999999", "-99999999999999", "999999999999999"])
def test_short_integers_are_exact(text: str) -> None:
    """They are read as floats: 15 characters and less."""
    assert json.integer(text) == json.integer(text.encode()) == int(text)
    assert type(json.loads(text.encode())) is int


@pytest.mark.parametrize("text", ["0", "7", "007", "18446744073709551615", "9" * 20])
def test_decimal(text: str) -> None:
    assert json.decimal(text) == int(text)


@pytest.mark.parametrize("text", ["", "-1", "+1", " 1", "1_0", "1.0", "\u00b2", "\u0663", "9" * 21, "9" * 5000])
def test_what_is_no_decimal(text: str) -> None:
    assert json.decimal(text) is None


def test_long_integers_are_exact() -> None:
    for number in (10**15, -(10**14), 2**53 + 1, 2**63 - 1, -(2**63), 2**64 - 1, 10**40 + 1):
        assert json.loads(str(number).encode()) == number
