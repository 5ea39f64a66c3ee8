"""``throughtime completion``: what a shell needs to complete verbs, flags and their values, as a script of that shell."""

import shlex
from collections.abc import Iterator

from . import _verbs
from ._app import VERBS, Call
from ._flags import Entry, entries_of, words_of


def completion(chosen: _verbs.Completion, call: Call) -> int:
    """The verb."""
    print({"bash": _bash, "zsh": _zsh, "fish": _fish}[chosen.shell]())
    return 0


def _of_verbs() -> dict[tuple[str, ...], list[Entry]]:
    return {verb: list(entries_of(getattr(_verbs, row.flags))) for verb, row in VERBS.items()}


def _second(first: str) -> list[str]:
    """The second words of verbs of two."""
    return [verb[1] for verb in VERBS if verb[0] == first and len(verb) > 1]


def _bash() -> str:
    return f"""\
# throughtime's completion for bash: put  eval "$(throughtime completion bash)"  into ~/.bashrc
_throughtime() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} verb=${{COMP_WORDS[1]}} words=""
    [[ $verb == train ]] && verb="train ${{COMP_WORDS[2]}}"
    if [[ $COMP_CWORD == 1 ]]; then words={shlex.quote(" ".join(dict.fromkeys(verb[0] for verb in VERBS)))}
    elif [[ $COMP_CWORD == 2 && ${{COMP_WORDS[1]}} == train ]]; then words={shlex.quote(" ".join(_second("train")))}
    else
        case "$verb $before" in
{chr(10).join(_bash_values())}
        *) case "$verb" in
{chr(10).join(_bash_flags())}
            esac ;;
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _throughtime throughtime"""


def _bash_values() -> Iterator[str]:
    """After a flag with a few choices these; a positional's are not after it."""
    for verb, entries in _of_verbs().items():
        for entry in entries:
            if words_of(entry) and not entry.flag.positional:
                yield f"        {shlex.quote(' '.join((*verb, entry.name)))}) words={shlex.quote(' '.join(words_of(entry)))} ;;"


def _bash_flags() -> Iterator[str]:
    """Flags after a dash; before it, a positional's choices, or else the shell's own files."""
    for verb, entries in _of_verbs().items():
        flags = " ".join([*(entry.name for entry in entries if not entry.flag.positional), "--help", "--help-all"])
        choices = " ".join(word for entry in entries if entry.flag.positional for word in words_of(entry))
        bare = f" || words={shlex.quote(choices)}" if choices else ""
        yield f"            {shlex.quote(' '.join(verb))}) [[ $word == -* ]] && words={shlex.quote(flags)}{bare} ;;"


def _zsh() -> str:
    """Zsh reads bash's."""
    first, _, rest = _bash().partition("\n")
    begun = "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }\nautoload -Uz bashcompinit && bashcompinit"
    return f"{first.replace('bash', 'zsh')}\n{begun}\n{rest}"


def _fish() -> str:
    lines = ["# throughtime's completion for fish: throughtime completion fish > ~/.config/fish/completions/throughtime.fish"]
    for verb, entries in _of_verbs().items():
        what = shlex.quote(VERBS[verb].what)
        if len(verb) == 1:
            lines.append(f"complete -c throughtime -n __fish_use_subcommand -f -a {verb[0]} -d {what}")
        else:
            lines.append(f"complete -c throughtime -n __fish_use_subcommand -f -a {verb[0]}")
            begun = f"'__fish_seen_subcommand_from {verb[0]}; and not __fish_seen_subcommand_from {' '.join(_second(verb[0]))}'"
            lines.append(f"complete -c throughtime -n {begun} -f -a {verb[1]} -d {what}")
        lines += [_fish_flag(verb, entry) for entry in entries if words_of(entry) or not entry.flag.positional]
    return "\n".join(lines)


def _fish_flag(verb: tuple[str, ...], entry: Entry) -> str:
    line = f"complete -c throughtime -n '{'; and '.join(f'__fish_seen_subcommand_from {word}' for word in verb)}'"
    name = "" if entry.flag.positional else f" -l {entry.name.removeprefix('--')}" + ("" if entry.switch else " -r")
    choices = f" -f -a {shlex.quote(' '.join(words_of(entry)))}" if words_of(entry) else ""
    return f"{line}{name}{choices} -d {shlex.quote(entry.sentence)}"
