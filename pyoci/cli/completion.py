"""pyoci completion: the completion of the command line for bash, zsh and fish, from the tables that parse it."""

from __future__ import annotations

from pyoci import cli, errors
from pyoci.cli import options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pyoci.cli.options import Option

ARGS = ("bash|zsh|fish",)
OPTIONS = ()
HELP = """\
bash: eval "$(pyoci completion bash)"; zsh: put it into a file _pyoci on $fpath; fish: pyoci completion
fish >~/.config/fish/completions/pyoci.fish.  `make install` puts all three where the shells look.
"""
FILES = ("FILE", "DIR", "PATH")  # what the value of an option is called when it is a path
SIGNALS = "HUP INT QUIT KILL USR1 USR2 TERM CONT STOP WINCH"


def run(given: options.Parsed, opts: options.Parsed) -> int:
    """Print the script."""
    make = {"bash": bash, "zsh": zsh, "fish": fish}.get(opts.args[0])
    if make is None:
        raise errors.UsageError(f'no completion for "{opts.args[0]}"', hint="bash, zsh or fish")
    cli.write(make())
    return 0


def tables() -> Iterator[tuple[str, Sequence[str], Sequence[Option]]]:
    """(verb, its arguments, its options) of all verbs."""
    for verb in cli.VERBS:
        module = cli.load(verb)
        yield verb, module.ARGS, (*module.OPTIONS, options.HELP)


def spellings(option: Option) -> list[str]:
    """--name, and -n if it has a short one."""
    return [f"--{option.name}", *([f"-{option.short}"] if option.short else [])]


def argument_words(verb: str, name: str) -> str:
    """The words that an argument can be, "" when they are not known, "<ids>" for those of containers."""
    name = name.strip("[].")
    if name == "CONTAINER-ID":
        return "<ids>"
    if name == "SIGNAL":
        return SIGNALS
    if name == "VERB":
        return " ".join(cli.VERBS)
    return name.replace("|", " ") if "|" in name else ""


# -- bash -------------------------------------------------------------------------------------

_BASH = """\
# bash completion of pyoci, written by `pyoci completion bash`
_pyoci() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} verb= root= words= i=1 n=0
    COMPREPLY=()
    while [ "$i" -lt "$COMP_CWORD" ]; do
        case $verb:${{COMP_WORDS[i]}} in
{values}
            *:-*) ;;
            :*) verb=${{COMP_WORDS[i]}} ;;
            *) n=$((n + 1)) ;;
        esac
        i=$((i + 1))
    done
    case $verb:$prev in
{choices}
    esac
    case $cur in
        -*)
            case $verb in
{flags}
            esac ;;
        *)
            case $verb:$n in
{arguments}
                *) COMPREPLY=($(compgen -f -- "$cur")); return ;;
            esac ;;
    esac
    [ "$words" != "<ids>" ] || words=$(pyoci ${{root:+--root "$root"}} list --quiet 2>/dev/null)
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
}}
complete -o filenames -F _pyoci pyoci
"""


def bash() -> str:
    """The script for bash."""
    values, choices, flags, arguments = [], [], [], []
    every = [("", (), (*options.GLOBAL, options.HELP)), *tables()]
    for verb, args, table in every:
        with_value = [f"{verb}:{name}" for option in table if option.value for name in spellings(option)]
        if with_value:
            root = " root=${COMP_WORDS[i]}" if not verb else ""
            skip = "i=$((i + 1));" + (f" case ${{COMP_WORDS[i-1]}} in --root){root} ;; esac ;;" if root else " :;;")
            values.append(f"            {'|'.join(with_value)}) {skip}")
        for option in table:
            names = "|".join([f"{verb}:{name}" for name in spellings(option)])
            if option.choices:
                words = " ".join(option.choices)
                choices.append(f'        {names}) COMPREPLY=($(compgen -W "{words}" -- "$cur")); return ;;')
            elif option.value:
                kind = "-d" if option.value == "DIR" else "-f"
                choices.append(f'        {names}) COMPREPLY=($(compgen {kind} -- "$cur")); return ;;')
        shown = " ".join([name for option in table for name in spellings(option)])
        flags.append(f'                {verb or chr(39) * 2}) words="{shown}" ;;')
        for index, name in enumerate(args if verb else ("VERB",)):
            words = argument_words(verb, name)
            place = "*" if name.endswith("...]") else index
            if words:
                arguments.append(f'                {verb}:{place}) words="{words}" ;;')
    parts = {"values": values, "choices": choices, "flags": flags, "arguments": arguments}
    return _BASH.format(**{name: "\n".join(lines) for name, lines in parts.items()})


# -- zsh --------------------------------------------------------------------------------------

_ZSH = """\
#compdef pyoci
# zsh completion of pyoci, written by `pyoci completion zsh`
_pyoci_ids() {{
    local -a ids
    ids=(${{(f)"$(pyoci ${{opt_args[--root]:+--root=$opt_args[--root]}} list --quiet 2>/dev/null)"}})
    _describe container ids
}}
_pyoci() {{
    local curcontext=$curcontext state line
    typeset -A opt_args
    local -a verbs
    verbs=(
{verbs}
    )
    _arguments -C -S {options} \\
        '1:verb:->verb' '*::argument:->arguments'
    case $state in
        verb) _describe verb verbs ;;
        arguments)
            case $words[1] in
{cases}
            esac ;;
    esac
}}
if [ "$funcstack[1]" = _pyoci ]; then _pyoci "$@"; else compdef _pyoci pyoci; fi
"""


def zsh() -> str:
    """The script for zsh."""
    verbs = [f"        {_quote(f'{verb}:{help}')}" for verb, help in cli.VERBS.items()]
    cases = []
    for verb, args, table in tables():
        words = [*map(_zsh_option, table), *[_zsh_argument(verb, name, i) for i, name in enumerate(args, 1)]]
        cases.append(f"                {verb}) _arguments {' '.join([word for word in words if word])} ;;")
    given = " ".join(map(_zsh_option, (*options.GLOBAL, options.HELP)))
    return _ZSH.format(verbs="\n".join(verbs), options=given, cases="\n".join(cases))


def _quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _zsh_text(text: str) -> str:
    return text.replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]").replace(":", "\\:")


def _zsh_option(option: Option) -> str:
    value = ""
    if option.choices:
        value = f":{option.value}:({' '.join(option.choices)})"
    elif option.value:
        action = "_files -/" if option.value == "DIR" else "_files" if option.value in FILES else ""
        value = f":{_zsh_text(option.value)}:{action}"
    star = "*" if option.many else ""
    end = "=" if option.value else ""
    about = f"[{_zsh_text(option.help)}]{value}"
    short = [_quote(f"{star}-{option.short}{about}")] if option.short else []
    return " ".join([_quote(f"{star}--{option.name}{end}{about}"), *short])


def _zsh_argument(verb: str, name: str, index: int) -> str:
    if name == "...":
        return "'*::command:_normal'" if verb == "exec" else ""
    words = argument_words(verb, name)
    action = "_pyoci_ids" if words == "<ids>" else f"({words})" if words else "_files"
    place = "*" if name.endswith("...]") else str(index)
    optional = ":" if name.startswith("[") and place != "*" else ""
    return _quote(f"{place}:{optional}{_zsh_text(name.strip('[].').lower())}:{action}")


# -- fish -------------------------------------------------------------------------------------


def fish() -> str:
    """The script for fish."""
    lines = ["# fish completion of pyoci, written by `pyoci completion fish`"]
    lines += [
        f"complete -c pyoci -n __fish_use_subcommand -f -a {verb} -d {_fish(help)}" for verb, help in cli.VERBS.items()
    ]
    lines += [_fish_option("__fish_use_subcommand", option) for option in (*options.GLOBAL, options.HELP)]
    for verb, args, table in tables():
        condition = _fish(f"__fish_seen_subcommand_from {verb}")
        lines += [_fish_option(condition, option) for option in table]
        for name in args[:1]:
            words = argument_words(verb, name)
            words = "(pyoci list --quiet 2>/dev/null)" if words == "<ids>" else words
            if words:
                lines.append(f"complete -c pyoci -n {condition} -f -a {_fish(words)}")
    return "\n".join(lines) + "\n"


def _fish(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _fish_option(condition: str, option: Option) -> str:
    short = f" -s {option.short}" if option.short else ""
    value = ""
    if option.choices:
        value = f" -x -a {_fish(' '.join(option.choices))}"
    elif option.value:
        value = " -r" if option.value in FILES else " -x"
    return f"complete -c pyoci -n {condition} -l {option.name}{short}{value} -d {_fish(option.help)}"
