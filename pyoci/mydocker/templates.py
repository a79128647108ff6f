"""--format: what people and scripts write of Go's text/template: fields, range, if, with, and docker's functions."""

from __future__ import annotations

import json
import re

from pyoci.mydocker import errors, numbers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

_PARTS = re.compile(r"\{\{(- )?\s*(.*?)\s*( -)?\}\}", re.DOTALL)
_WORD = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[^\s"|]+|\|)')
_FIELD = re.compile(r"\$?\.[A-Za-z0-9_.]*|\$")
_BLOCKS = ("range", "if", "with")


def render(template: str, entry: Any) -> str:
    """The text for one thing.  Raises errors.UsageError for what is no template, or asks for what is not there."""
    text = template.replace(r"\t", "\t").replace(r"\n", "\n")
    nodes = _nodes(_tokens(text), ())[0]
    return "".join(_run(nodes, entry, entry))


def _tokens(text: str) -> Iterator[tuple[bool, str]]:
    """(whether it is an action, its text), in order."""
    last, trim = 0, False
    for found in _PARTS.finditer(text):
        before = text[last : found.start()]
        before = before.lstrip() if trim else before
        yield False, _literal(before.rstrip() if found[1] else before)
        yield True, found[2]
        last, trim = found.end(), bool(found[3])
    yield False, _literal(text[last:].lstrip() if trim else text[last:])


def _literal(text: str) -> str:
    if "{{" in text:
        raise errors.UsageError(f"template parsing error: unclosed action in {text!r}", code=1)
    return text


def _nodes(tokens: Iterator[tuple[bool, str]], ends: tuple[str, ...]) -> tuple[list[Any], str]:
    """Texts, actions and blocks up to one of the words `ends`; and which it was."""
    found: list[Any] = []
    for is_action, text in tokens:
        word = text.partition(" ")[0]
        if not is_action:
            found.append(("text", text))
        elif word in ends:
            return found, word
        elif word.partition(".")[0] in _BLOCKS:
            body, end = _nodes(tokens, ("else", "end"))
            other = _nodes(tokens, ("end",))[0] if end == "else" else []
            kind = word.partition(".")[0]
            found.append((kind, text.removeprefix(kind), body, other))
        else:
            found.append(("value", text))
    if ends:
        raise errors.UsageError("template parsing error: {{end}} is missing", code=1)
    return found, ""


def _run(nodes: list[Any], here: Any, top: Any) -> Iterator[str]:
    for kind, text, *blocks in nodes:
        if kind == "text":
            yield text
            continue
        value = _evaluate(text, here, top)
        if kind == "value":
            yield go(value)
        elif kind == "range":
            entries = [value[key] for key in sorted(value)] if isinstance(value, dict) else list(value or ())
            for entry in entries:
                yield from _run(blocks[0], entry, top)
            if not entries:
                yield from _run(blocks[1], here, top)
        else:
            yield from _run(blocks[0 if value else 1], value if kind == "with" and value else here, top)


def _evaluate(text: str, here: Any, top: Any) -> Any:
    """A pipeline: what comes before a | is the last argument of what comes after."""
    calls: list[list[str]] = [[]]
    for word in _WORD.findall(text):
        if word == "|":
            calls.append([])
        else:
            calls[-1].append(word)
    if _WORD.sub("", text).strip() or not all(calls):
        raise _unknown(text)
    value: Any = None
    for number, words in enumerate(calls):
        arguments = [_argument(word, here, top) for word in words[1:]] + ([value] if number else [])
        if words[0] in _FUNCTIONS:
            value = _call(words[0], arguments, text)
        elif arguments:
            raise _unknown(text)
        else:
            value = _argument(words[0], here, top)
    return value


def _unknown(text: str) -> errors.UsageError:
    return errors.UsageError(
        f"the template {{{{{text}}}}} is not supported",
        hint="fields, range, if, with, and the functions " + ", ".join(sorted(_FUNCTIONS)),
        code=1,
    )


def _argument(word: str, here: Any, top: Any) -> Any:
    if word.startswith('"'):
        return json.loads(word)
    number = numbers.decimal(word.removeprefix("-"))
    if number is not None:
        return -number if word[0] == "-" else number
    if not _FIELD.fullmatch(word):
        raise _unknown(word)
    value = top if word.startswith("$") else here
    for name in filter(None, word.removeprefix("$").split(".")):
        if not isinstance(value, dict) or name not in value:
            raise errors.UsageError(f"the template asks for {word}, and there is no {name}", code=1)
        value = value[name]
    return value


def _call(name: str, arguments: list[Any], text: str) -> Any:
    try:
        return _FUNCTIONS[name](*arguments)
    except (TypeError, ValueError, IndexError, AttributeError):
        raise errors.UsageError(f"the template {{{{{text}}}}}: {name} does not take that", code=1) from None


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        value = value.get(key, "") if isinstance(value, dict) else value[key]
    return value


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "json": lambda value: json.dumps(value, separators=(",", ":"), ensure_ascii=False),
    "upper": lambda text: go(text).upper(),
    "lower": lambda text: go(text).lower(),
    "title": lambda text: go(text).title(),
    "println": lambda *values: " ".join(map(go, values)) + "\n",
    "print": lambda *values: " ".join(map(go, values)),
    "len": len,
    "index": _index,
    "join": lambda values, between: between.join(map(go, values)),
    "split": lambda text, between: text.split(between),
    "truncate": lambda text, length: go(text)[:length],
    "eq": lambda one, *others: one in others,
    "ne": lambda one, other: one != other,
    "not": lambda value: not value,
    "and": lambda *values: next((value for value in values if not value), values[-1]),
    "or": lambda *values: next((value for value in values if value), values[-1]),
}


def go(value: Any) -> str:
    """A value as Go prints it."""
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{' '.join(map(go, value))}]"
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{go(value[key])}' for key in sorted(value))}]"
    return str(value)
