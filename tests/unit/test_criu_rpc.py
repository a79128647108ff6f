"""The messages of criu's RPC against the ones that come with criu, where it is installed."""

from __future__ import annotations

import json
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyoci import errors
from pyoci.plan import criu_rpc

# What criu's own definitions say: each field's name, number, and kind, message by message.
ORACLE = """
import json, sys
from pycriu import rpc_pb2
def shape(message):
    return {f.name: [f.number, shape(f.message_type) if f.message_type else kind(f)] for f in message.fields}
def kind(field):
    return "text" if field.type == field.TYPE_STRING else "int"
enums = {v.name: v.number for e in rpc_pb2.DESCRIPTOR.enum_types_by_name.values() for v in e.values}
print(json.dumps([shape(rpc_pb2.criu_req.DESCRIPTOR), shape(rpc_pb2.criu_resp.DESCRIPTOR), enums]))
"""


def known(message: criu_rpc.Message, shape: dict[str, list[object]]) -> None:
    for name, (number, kind) in message.fields.items():
        assert shape[name][0] == number, name
        if isinstance(kind, criu_rpc.Message):
            inner = shape[name][1]
            assert isinstance(inner, dict)
            known(kind, inner)
        else:
            assert shape[name][1] == kind, name


def test_the_numbers_are_those_of_criu() -> None:
    done = subprocess.run(["/usr/bin/python3", "-I", "-c", ORACLE], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("Debian's criu, which brings its definitions, is not installed")
    request, response, enums = json.loads(done.stdout)
    known(criu_rpc.REQUEST, request)
    known(criu_rpc.RESPONSE, response)
    for name in ("DUMP", "RESTORE", "PRE_DUMP", "NOTIFY"):
        assert getattr(criu_rpc, name) == enums[name]
    assert {name.upper(): number for name, number in criu_rpc.CGROUP_MODES.items()}.items() <= enums.items()


def test_bytes() -> None:
    """The example of the encoding document: field 1 is 150; and a text, a message in a message, a list."""
    assert criu_rpc.encode(criu_rpc.REQUEST, {"type": 150}) == b"\x08\x96\x01"
    options = {"log_file": "testing", "external": ["a", "b"], "inherit_fd": [{"key": "k", "fd": 3}], "shell_job": True}
    wanted = b"\x52\x07testing" + b"\xaa\x02\x01a" + b"\xaa\x02\x01b" + b"\xda\x01\x05\x0a\x01k\x10\x03" + b"\x38\x01"
    assert criu_rpc.encode(criu_rpc.OPTIONS, options) == wanted


@given(st.integers(0, 2**64 - 1), st.booleans(), st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_there_and_back(number: int, success: bool, text: str) -> None:
    values = {"type": number, "success": int(success), "notify": {"script": text, "pid": number}, "cr_errmsg": text}
    assert criu_rpc.decode(criu_rpc.RESPONSE, criu_rpc.encode(criu_rpc.RESPONSE, values)) == values


def test_what_is_not_known_is_left_out() -> None:
    unknown = b"\xf8\x07\x05" + b"\xfa\x07\x02xy" + b"\xf9\x07" + bytes(8) + b"\xfd\x07" + bytes(4)
    assert criu_rpc.decode(criu_rpc.RESPONSE, unknown + b"\x08\x02") == {"type": 2}


@given(st.binary(max_size=40))
def test_anything_is_read_or_refused(data: bytes) -> None:
    try:
        assert isinstance(criu_rpc.decode(criu_rpc.RESPONSE, data), dict)
    except errors.SetupError as error:
        assert "cannot be read" in str(error)
