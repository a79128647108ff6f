"""--format: what docker's users write, and one error for what is none."""

from __future__ import annotations

from typing import Any

import pytest

from pyoci.mydocker import errors, templates

ENTRY: dict[str, Any] = {
    "Name": "/box",
    "Running": True,
    "Nothing": None,
    "Args": ["a", "b"],
    "Empty": [],
    "Labels": {"com.x/y": "z"},
    "Net": {"one": {"IP": "10.0.0.2"}, "two": {"IP": "10.1.0.2"}},
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("plain", "plain"),
        ("{{.Name}}\\t{{ .Running }}", "/box\ttrue"),
        ("{{.Nothing}} {{.Args}} {{.Labels}}", "<nil> [a b] map[com.x/y:z]"),
        ("{{json .Args}}|{{.Args | json}}", '["a","b"]|["a","b"]'),
        ("{{range .Net}}{{.IP}} {{end}}", "10.0.0.2 10.1.0.2 "),
        ("{{range .Net}}{{.IP}}{{$.Name}};{{end}}", "10.0.0.2/box;10.1.0.2/box;"),
        ("{{range.Net}}x{{end}}", "xx"),
        ("{{range .Empty}}x{{else}}none{{end}}", "none"),
        ("{{if .Running}}up{{else}}down{{end}}{{if .Nothing}}x{{end}}", "up"),
        ("{{with .Net.one}}{{.IP}}{{end}}", "10.0.0.2"),
        ('{{index .Labels "com.x/y"}}{{index .Labels "no"}}{{index .Args 1}}', "zb"),
        ('{{join .Args ", "}} {{upper .Name}} {{len .Args}}', "a, b /BOX 2"),
        ('{{if eq .Name "/box"}}yes{{end}}{{truncate .Name 3}}', "yes/bo"),
        ("a {{- .Name -}} b", "a/boxb"),
    ],
)
def test_rendered(template: str, text: str) -> None:
    assert templates.render(template, ENTRY) == text


@pytest.mark.parametrize(
    "template",
    ["{{.Nope}}", "{{.Name", "{{range .Net}}x", "{{nope .Name}}", "{{index .Args 9}}", "{{len}}", "{{}}", "{{.A .B}}",
     "{{.Name.Deep}}", "{{(.Name)}}", "{{end}}", '{{join .Args}}', "{{.Name |}}", "{{define x}}"],
)  # fmt: skip
def test_refused(template: str) -> None:
    with pytest.raises(errors.UsageError):
        templates.render(template, ENTRY)
