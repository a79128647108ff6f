"""pyoci.schema against pyoci.spec: two ways to say what the runtime-spec asks, one verdict."""

from __future__ import annotations

import copy
import sys
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyoci import errors, json, schema, spec
from tests.unit import test_spec

jsonschema = pytest.importorskip("jsonschema")

BASE = [spec.default(), spec.default(rootless=True)]
BASE += [json.loads(path.read_bytes()) for path in test_spec.CONFIGS[::7]]
RICH = spec.default()
for place, good in test_spec.VALID:  # the last valid value of each place, all in one config
    if good is not test_spec.ABSENT:
        RICH = test_spec.changed(RICH, place, good)
RICH["linux"]["seccomp"] = {**test_spec.NOTIFY, "listenerPath": "/x"}
BASE.append(RICH)


def accepted_by_schema(config: Any, part: str = "config") -> bool:
    return bool(schema.validator(part).is_valid(config))


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(schema.load())


def test_the_schema_has_every_enum_of_the_tables() -> None:
    """The known words of both, as text: what one has more the other lacks."""
    from pyoci import linux

    text = json.dumps(schema.load())
    for name in (*linux.RLIMITS, *linux.NAMESPACES, *linux.PROPAGATION):
        assert f'"{name}"' in text


@test_spec.needs_engines
def test_real_configs() -> None:
    for path in test_spec.CONFIGS[::5]:
        assert schema.explain(json.loads(path.read_bytes())) == [], path


@pytest.mark.parametrize(("pointer", "value"), test_spec.VALID)
def test_valid(pointer: str, value: Any) -> None:
    assert accepted_by_schema(test_spec.changed(spec.default(), pointer, value))


@pytest.mark.parametrize(("pointer", "value", "where", "words"), test_spec.INVALID)
def test_invalid(pointer: str, value: Any, where: str, words: str) -> None:
    config = test_spec.changed(spec.default(), pointer, value)
    assert not accepted_by_schema(config)
    explained = {fault.where: fault for fault in schema.explain(config)}
    assert words in explained[where or pointer].message


@pytest.mark.parametrize(("profile", "where"), test_spec.SECCOMP)
def test_invalid_seccomp(profile: Any, where: str) -> None:
    assert not accepted_by_schema(profile, "seccomp")
    assert where in [fault.where for fault in schema.explain(profile, "seccomp")]


def test_the_configs_to_mutate_are_valid() -> None:
    for config in BASE:
        assert spec.check(config) == []
        assert accepted_by_schema(config)


# -- mutations: the two must agree whatever is done to a config -------------------------------

STRINGS = st.sampled_from(
    [
        *("", "x", "/", "/x", "..", "/a/../b", "a b", "a\n", "/a\n", "a\0", "\t", "é", "\x7f", "\xa0", "\ud800"),
        *("A=b", "A\n=b", "=", "net.x", "kernel.sem", "1.0.0", "1.2.3-rc.1\n", "1.0.0-0a", "1.٣.0", "٣"),
        *("0-3", "3-1", "0-3\n", "2MB", "rw", "rr", "pid", "bind", "idmap", "write", "x" * 15, "x" * 65, "é" * 8),
        *("SCMP_ACT_NOTIFY", "SCMP_ACT_ALLOW"),
    ]
)
NUMBERS = st.sampled_from([0, 1, -1, -2, 5, 10, 511, 512, 4096, 65535, 65536, 2**31, 2**32 - 1, 2**32, 2**63, 2**64])
ODD: st.SearchStrategy[Any] = (
    STRINGS
    | NUMBERS
    | st.sampled_from([None, True, False, 0.0, 1.0, 1.5, [], {}, [{}], [None], {"": ""}, {"x.y": "z"}])
)


def places(value: Any, below: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value inside a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [below] if below else []
    for key, item in items:
        found += places(item, (*below, key))
    return found


PLACES = [places(config) for config in BASE]


@st.composite
def mutants(draw: st.DrawFn) -> Any:
    """A real config with a few values replaced, removed, renamed or doubled."""
    index = draw(st.integers(0, len(BASE) - 1))
    config = copy.deepcopy(BASE[index])
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(PLACES[index]))
        parent: Any = config
        try:
            for part in path[:-1]:
                parent = parent[part]
            mutate(draw, parent, path[-1])
        except (LookupError, TypeError, AttributeError):
            continue  # an earlier mutation took the place away
    return config


def mutate(draw: st.DrawFn, parent: Any, key: Any) -> None:
    kind = draw(st.sampled_from(["replace", "remove", "double", "rename", "nudge"]))
    old = parent[key]
    if kind == "remove":
        del parent[key]
    elif kind == "double" and isinstance(parent, list):
        parent.append(copy.deepcopy(old))
    elif kind == "rename" and isinstance(parent, dict):
        parent[draw(STRINGS)] = parent.pop(key)
    elif kind == "nudge" and type(old) is int:
        parent[key] = old + draw(st.sampled_from([-1, 1, 2**32]))
    elif kind == "nudge" and isinstance(old, str):
        parent[key] = draw(st.sampled_from([old + "\n", old + "\0", " " + old, old.upper(), old[:-1], old + "/.."]))
    else:
        parent[key] = draw(ODD)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(mutants())
def test_one_verdict(config: Any) -> None:
    faults = spec.check(config)
    assert (not faults) == accepted_by_schema(config), faults


@given(st.sampled_from(test_spec.PLACES), ODD)
@settings(max_examples=300, deadline=None)
def test_one_verdict_on_odd_values(pointer: str, value: Any) -> None:
    config = test_spec.changed(spec.default(), pointer, value)
    assert (not spec.check(config)) == accepted_by_schema(config), spec.check(config)


@given(STRINGS, st.sampled_from(["annotations", "linux/sysctl", "linux/netDevices", "linux/resources/unified"]))
@settings(deadline=None)
def test_one_verdict_on_free_names(name: str, where: str) -> None:
    value = {name: {} if where.endswith("netDevices") else "x"}
    config = test_spec.changed(spec.default(), "/" + where, value)
    assert (not spec.check(config)) == accepted_by_schema(config), spec.check(config)


@given(st.sampled_from(["config", "process", "resources", "seccomp"]), test_spec.JSON)
@settings(deadline=None)
def test_one_verdict_on_anything(part: str, value: Any) -> None:
    assert (not schema.PARTS[part](value)) == accepted_by_schema(value, part)


# -- the story -------------------------------------------------------------------------------


def test_explain_says_what_it_is_for() -> None:
    """The words of pyoci.spec, with the description of the property."""
    config = test_spec.changed(spec.default(), "/process/cwd", "tmp")
    (fault,) = schema.explain(config)
    assert (fault.where, fault.message) == ("/process/cwd", "cwd must be an absolute path, not 'tmp'")
    assert fault.hint == "write /tmp (the working directory, absolute)"


def test_explain_names_what_is_missing() -> None:
    found = {fault.where: fault.hint for fault in schema.explain({"process": {"args": ["x"]}})}
    assert found["/process/cwd"] == "the working directory, absolute"
    assert set(found) == {"/process/cwd", "/ociVersion", "/root"}


def test_explain_is_bounded() -> None:
    config = test_spec.changed(spec.default(), "/mounts", [0] * 10_000)
    assert len(schema.explain(config)) == 100


def test_without_jsonschema(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    monkeypatch.setattr(schema, "_validators", {})
    with pytest.raises(errors.Error, match="jsonschema is missing"):
        schema.explain({})
