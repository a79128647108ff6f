"""The long story of what is wrong with a config, by JSON Schema.  Cold: jsonschema is loaded when asked.

schema.json beside this file is the project's own schema of the runtime-spec.  pyoci.spec decides,
and words each fault; this module adds what the property is for, and is the second opinion
that the tests hold pyoci.spec to.
"""

from __future__ import annotations

import itertools
import os

from pyoci import cold, errors, json, spec, spec_cross, spec_kinds, spec_rules, spec_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

PARTS: dict[str, Callable[[Any], list[errors.Fault]]] = {
    "config": spec.check,
    "process": spec.check_process,
    "resources": spec.check_resources,
    "seccomp": spec.check_seccomp,
}
_validators: dict[str, Any] = {}


def load() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of config.json."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "schema.json")
    with open(path, "rb") as file:
        schema: dict[str, Any] = json.loads(file.read(), "schema.json")
    return schema


def explain(value: Any, part: str = "config") -> list[errors.Fault]:
    """Every fault of a config, with what the property is for in the hint; [] when it is valid.

    part: "config", or what of it value is: "process", "resources", "seccomp".
    Raises errors.Error when the package jsonschema is missing.
    """
    known = {fault.where: fault for fault in PARTS[part](value)}
    faults: dict[str, errors.Fault] = {}
    schema = validator(part).schema
    for error in validator(part).iter_errors(value):
        where = spec.pointer(*error.absolute_path)
        if where in known or not known:
            faults.setdefault(where, _fault(where, error, known.get(where), schema))
        if len(faults) >= (len(known) or spec_rules.MAX_FAULTS):
            break
    return list({**known, **faults}.values())


def unknown(config: Any) -> list[errors.Fault]:
    """The properties that the runtime-spec does not have: ignored (row L23), and often a slip of the pen."""
    definitions = load()["$defs"]
    found = itertools.islice(_unknown(config, definitions["config"], definitions, ()), spec_rules.MAX_FAULTS)
    return sorted(found, key=lambda fault: fault.where)


def _unknown(
    value: Any, node: dict[str, Any], definitions: dict[str, Any], place: tuple[str | int, ...]
) -> Iterator[errors.Fault]:
    while "$ref" in node and "properties" not in node and "items" not in node:
        node = definitions[node["$ref"].rpartition("/")[2]]
    items, properties, others = (node.get(key) for key in ("items", "properties", "additionalProperties"))
    if isinstance(value, list) and items:
        for index, item in enumerate(value):
            if isinstance(item, (dict, list)):
                yield from _unknown(item, items, definitions, (*place, index))
    for name, item in value.items() if isinstance(value, dict) else ():
        if properties and name not in properties:
            yield errors.Fault(
                spec.pointer(*place, name), "is not known, and ignored", spec_words.mean(name, properties)
            )
            continue
        inner = properties[name] if properties else others
        if isinstance(item, (dict, list)) and isinstance(inner, dict):
            yield from _unknown(item, inner, definitions, (*place, name))


def validator(part: str = "config") -> Any:
    """The jsonschema validator of a part, with the keywords and the strict integers of schema.json."""
    if part not in _validators:
        try:
            jsonschema = cold.load("jsonschema")
        except errors.SetupError:
            raise errors.Error("the package jsonschema is missing", hint="pip install jsonschema") from None
        checker = jsonschema.Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
        keywords = {"required": _required, "x-rule": _rule, "x-maxBytes": _max_bytes}
        extend: Any = jsonschema.validators.extend
        extended = extend(jsonschema.Draft202012Validator, keywords, type_checker=checker)
        _validators[part] = extended({**load(), "$ref": f"#/$defs/{part}"})
    return _validators[part]


def _fault(where: str, error: Any, known: errors.Fault | None, schema: Any) -> errors.Fault:
    about = _about(error, schema)
    if known is None:
        subject = str(error.absolute_path[-1]) if error.absolute_path else "config.json"
        return errors.Fault(where, f"{subject}: {errors.one_line(error.message)}", about)
    hint = f"{known.hint} ({about})" if known.hint and about else known.hint or about
    return errors.Fault(where, known.message, hint)


def _about(error: Any, node: Any) -> str:
    """The description of the property an error is about: the outermost, which knows its use."""
    definitions = node["$defs"]
    about = ""
    path = list(error.absolute_schema_path)
    if error.validator == "required":
        path[-1:] = ["properties", error.relative_path[-1]]
    for index, step in enumerate(path):
        while isinstance(node, dict) and step not in node and "$ref" in node:  # references are not in the path
            node = definitions[node["$ref"].rpartition("/")[2]]
        if isinstance(node, dict) and step not in node:
            return ""
        node = node[step]
        if step == "items" or path[index - 1] == "properties":
            about = ""
        if isinstance(node, dict) and step != "properties":
            about = about or node.get("description", "")
    return about


# -- keywords --------------------------------------------------------------------------------


def _error(message: str, *parts: str | int) -> Any:
    from jsonschema import ValidationError

    return ValidationError(message, path=parts)


def _required(_validator: Any, names: list[str], instance: Any, _schema: Any) -> Iterator[Any]:
    """As the standard's, but pointing to what is missing."""
    if isinstance(instance, dict):
        for name in names:
            if name not in instance:
                yield _error("is required", name)


def _max_bytes(_validator: Any, most: int, instance: Any, _schema: Any) -> Iterator[Any]:
    if isinstance(instance, str) and len(instance.encode("utf-8", "surrogatepass")) > most:
        yield _error(f"is longer than {most} bytes")


def _rule(validator: Any, name: str, instance: Any, schema: dict[str, Any]) -> Iterator[Any]:
    """A rule of ours, asked as pyoci.spec asks it: only of a value whose parts are valid."""
    rest = {key: value for key, value in schema.items() if key != "x-rule"}
    if validator.evolve(schema=rest).is_valid(instance):
        rule = getattr(spec_cross, name, None) or getattr(spec_kinds, name)
        for parts, message, _hint in rule(instance) or ():
            yield _error(message, *parts)
