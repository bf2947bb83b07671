"""Shell completion for bash and zsh, derived from the command's options and THE TABLE."""

from __future__ import annotations

from collections.abc import Sequence

from gkore.conf.directives import ROWS
from gkore.errors import UsageError

BASH = """\
# bash completion for gkore: eval "$(gkore completion bash)"
_gkore() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}}
    case $before in
        --help) COMPREPLY=($(compgen -W "{directives}" -- "$word")); return;;
        --style) COMPREPLY=($(compgen -W "conf app package" -- "$word")); return;;
        completion) COMPREPLY=($(compgen -W "bash zsh" -- "$word")); return;;
        man) COMPREPLY=($(compgen -W "gkore kore.conf" -- "$word")); return;;
    esac
    case $word in
        -*) COMPREPLY=($(compgen -W "{options}" -- "$word"));;
        *) COMPREPLY=($(compgen -f -- "$word"))
           [ "$COMP_CWORD" -eq 1 ] && COMPREPLY+=($(compgen -W "{commands}" -- "$word"));;
    esac
}}
complete -o filenames -F _gkore gkore
"""
ZSH = """\
# zsh completion for gkore: eval "$(gkore completion zsh)"
_gkore() {{
    case $words[CURRENT-1] in
        --help) compadd -- {directives}; return;;
        --style) compadd -- conf app package; return;;
        completion) compadd -- bash zsh; return;;
        man) compadd -- gkore kore.conf; return;;
    esac
    if [[ $PREFIX == -* ]]; then
        compadd -- {options}
    else
        (( CURRENT == 2 )) && compadd -- {commands}
        _files
    fi
}}
compdef _gkore gkore
"""


def completion(shell: str, options: Sequence[str], commands: Sequence[str]) -> str:
    """The script for ``shell``. UsageError for one that isn't known."""
    scripts = {"bash": BASH, "zsh": ZSH}
    if shell not in scripts:
        raise UsageError(f"completion: {' or '.join(scripts)}, please: gkore completion bash")
    return scripts[shell].format(
        directives=" ".join(sorted(ROWS)), options=" ".join(sorted(options)), commands=" ".join(commands)
    )
