"""What pyoci.json uses where CPython's `_json` is missing: the same four names, from the json package."""

from __future__ import annotations

import json.encoder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

encode_basestring = json.encoder.py_encode_basestring
encode_basestring_ascii = json.encoder.py_encode_basestring_ascii


def make_scanner(context: Any) -> Any:
    """As `_json.make_scanner`: a function (text, index) -> (value, end)."""
    decoder = json.JSONDecoder(
        object_pairs_hook=context.object_pairs_hook,
        parse_float=context.parse_float,
        parse_constant=context.parse_constant,
    )
    return decoder.scan_once  # type: ignore[attr-defined]


def make_encoder(markers: Any, default: Any, quote: Any, *options: Any) -> Any:
    """As `_json.make_encoder`: a function (value, level) -> strings."""
    indent, key_separator, item_separator, sort_keys, skipkeys, _allow_nan = options
    return json.encoder._make_iterencode(  # type: ignore[attr-defined]
        markers, default, quote, indent, _float, key_separator, item_separator, sort_keys, skipkeys, True
    )


def _float(value: float) -> str:
    if value - value != 0.0:
        raise ValueError("Out of range float values are not JSON compliant")
    return float.__repr__(value)
