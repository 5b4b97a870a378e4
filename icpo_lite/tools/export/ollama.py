"""An Ollama Modelfile whose template renders a chat exactly as the model was trained to read it.

The family is found by rendering a chat with the tokenizer's own template, never by a model's name:
fine-tunes rename themselves, and a wrong template makes a good model babble.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from icpo_lite.core.errors import ModelError, UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_USER, _REPLY, _NEXT, _SYSTEM = "hunger", "apple", "thirst", "kitchen"

#: What Ollama reads as safetensors by itself, by config.json's `architectures`: earlier releases
#: make GGUF of the first, later ones run the second with MLX (its convert.go, docs/import.mdx).
_TO_GGUF = (
    *("LlamaForCausalLM", "MistralForCausalLM", "MixtralForCausalLM", "GemmaForCausalLM"),
    *("Gemma2ForCausalLM", "Gemma3ForCausalLM", "Phi3ForCausalLM", "Qwen2ForCausalLM"),
    *("CohereForCausalLM", "GptOssForCausalLM", "Olmo3ForCausalLM"),
)
_BY_MLX = ("Qwen3ForCausalLM", "Qwen3MoeForCausalLM", "Qwen3NextForCausalLM")
#: … and as adapters, in earlier releases alone.
_ADAPTERS = (
    *("LlamaForCausalLM", "MistralForCausalLM", "MixtralForCausalLM", "GemmaForCausalLM"),
    "Gemma2ForCausalLM",
)

Wrap = tuple[str, str]


@dataclass(frozen=True)
class Family:
    """How a chat looks as text: what stands before and after each turn.

    system: None where a system turn is written in front of the first user's words, and an empty
    line between them. opening: what asks for a reply, the assistant's `before` or nothing.
    """

    name: str
    system: Wrap | None
    user: Wrap
    assistant: Wrap
    opening: str

    def render(self, user: str, reply: str, following: str) -> str:
        """A chat of three turns, ready for the next reply."""
        turns = ((self.user, user), (self.assistant, reply), (self.user, following))
        return "".join(f"{a}{text}{b}" for (a, b), text in turns) + self.opening

    def go_template(self) -> str:
        """The same in Go's text/template as Ollama fills it; on one line of actions, because a
        trimmed space is a wrong prompt."""
        user = f"{self.user[0]}{{{{ .Content }}}}{self.user[1]}"
        system = ""
        if self.system:
            before, after = self.system
            system = f'{{{{ if eq .Role "system" }}}}{before}{{{{ .Content }}}}{after}{{{{ end }}}}'
        else:
            # The first user turn is the first message, or the second after a system turn.
            first = "{{ if and $.System (le $i 1) }}{{ $.System }}\n\n{{ end }}"
            user = f"{self.user[0]}{first}{{{{ .Content }}}}{self.user[1]}"
        reply = f"{self.assistant[0]}{{{{ .Content }}}}{self.assistant[1]}"
        return (
            "{{ range $i, $_ := .Messages }}"
            f"{system}"
            f'{{{{ if eq .Role "user" }}}}{user}{{{{ end }}}}'
            f'{{{{ if eq .Role "assistant" }}}}{reply}{{{{ end }}}}'
            f"{{{{ end }}}}{self.opening}"
        )


def _tagged(name: str, before: str, after: str) -> Family:
    """A family in which every role is written into the same kind of header."""

    def wrap(role: str) -> Wrap:
        return before.format(role=role), after

    return Family(name, wrap("system"), wrap("user"), wrap("assistant"), wrap("assistant")[0])


def _instructions(name: str, user: Wrap, reply: Wrap, system: Wrap | None = None) -> Family:
    return Family(name, system, user, reply, "")


#: Qwen and the built-in model write ChatML; the rest name themselves.
FAMILIES: tuple[Family, ...] = (
    _tagged("chatml", "<|im_start|>{role}\n", "<|im_end|>\n"),
    _tagged("llama3", "<|start_header_id|>{role}<|end_header_id|>\n\n", "<|eot_id|>"),
    _tagged("phi3", "<|{role}|>\n", "<|end|>\n"),
    _tagged("phi4-mini", "<|{role}|>", "<|end|>"),
    _tagged("phi4", "<|im_start|>{role}<|im_sep|>", "<|im_end|>"),
    Family(
        "gemma",
        None,
        ("<start_of_turn>user\n", "<end_of_turn>\n"),
        ("<start_of_turn>model\n", "<end_of_turn>\n"),
        "<start_of_turn>model\n",
    ),
    _instructions("mistral-v1", ("[INST] ", " [/INST]"), (" ", "</s>")),
    _instructions("mistral-v1-spaced", (" [INST] ", " [/INST]"), (" ", "</s>")),
    _instructions("mistral-v2", ("[INST] ", " [/INST]"), ("", "</s>")),
    _instructions("mistral-v3", ("[INST] ", "[/INST]"), (" ", "</s>")),
    _instructions("mistral-tekken", ("[INST]", "[/INST]"), ("", "</s>")),
    _instructions(
        "mistral-v7", ("[INST]", "[/INST]"), ("", "</s>"), ("[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]")
    ),
)


def require_import(architectures: Sequence[str], *, adapter: bool) -> str:
    """That Ollama reads safetensors of this architecture itself; returns what to know about it.

    Raises UsageError where it does not.
    """
    known = _ADAPTERS if adapter else (*_TO_GGUF, *_BY_MLX)
    found = architectures[0] if architectures else "none"
    if found not in known:
        raise UsageError(
            f"--format ollama-safetensors: expected one of {', '.join(known)}, found {found}; use "
            "--format ollama, which makes a GGUF"
        )
    if found in _BY_MLX:
        return "Ollama runs these safetensors with MLX; without that, use --format ollama"
    return (
        f"earlier releases of Ollama read these safetensors{' of an adapter' if adapter else ''}, "
        "later ones read GGUF in their place: --format ollama suits both"
    )


def detect_family(tokenizer: PreTrainedTokenizerBase) -> Family:
    """The family that this tokenizer's chat template belongs to.

    Raises ModelError when no family renders what the template renders.
    """
    rendered = _rendered(tokenizer, ("user", _USER), ("assistant", _REPLY), ("user", _NEXT))
    fitting = [f for f in FAMILIES if rendered.endswith(f.render(_USER, _REPLY, _NEXT))]
    # Equal but for the system turn, in the order of the table; most text explained comes first.
    fitting.sort(key=lambda f: len(f.render(_USER, _REPLY, _NEXT)), reverse=True)
    family = next((f for f in fitting if _system_fits(f, tokenizer)), None)
    if family is None:
        names = ", ".join(dict.fromkeys(f.name.partition("-")[0] for f in FAMILIES))
        raise ModelError(
            f"the tokenizer's chat template renders none of {names}, which an Ollama Modelfile "
            "could be written for; use --format gguf, whose file carries the template itself"
        )
    return family


def _rendered(tokenizer: PreTrainedTokenizerBase, *turns: tuple[str, str]) -> str:
    chat = [{"role": role, "content": text} for role, text in turns]
    return str(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))


def _system_fits(family: Family, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a system turn is written as the family does, or refused by the template."""
    try:
        rendered = _rendered(tokenizer, ("system", _SYSTEM), ("user", _USER))
    except Exception:  # a template's raise_exception: jinja2's error, or what it was wrapped in
        return True
    if family.system is None:
        return f"{_SYSTEM}\n\n{_USER}{family.user[1]}" in rendered
    after, before = family.system[1], family.user[0]
    return f"{_SYSTEM}{after}{before}{_USER}{family.user[1]}" in rendered


def system_turn(
    family: Family, tokenizer: PreTrainedTokenizerBase, system: str | None
) -> str | None:
    """The system turn as the template writes it: Qwen2.5 has one of its own where the chat has
    none, Llama 3.1 puts a date in front of any."""
    if family.system is None:
        return system
    turns = [("system", system)] if system else []
    rendered = _rendered(tokenizer, *turns, ("user", _USER))
    (before, after), user = family.system, f"{family.user[0]}{_USER}{family.user[1]}"
    if before not in rendered:
        return None
    return rendered.partition(before)[2].partition(f"{after}{user}")[0] or None


def modelfile(
    tokenizer: PreTrainedTokenizerBase,
    source: str,
    *,
    end_tokens: list[str],
    system: str | None,
    context: int,
    adapter: str | None = None,
) -> str:
    """The Modelfile of a model in `source`, a path relative to it or a name that Ollama knows.

    system: the system turn that the run was trained with, None for the template's own.
    context: tokens of the longest chat. adapter: the path of LoRA on top of the model. Raises
    ModelError when the system turn cannot be quoted.
    """
    family = detect_family(tokenizer)
    system = system_turn(family, tokenizer, system)
    if system and '"""' in system:
        raise ModelError(
            'system_prompt holds """, which an Ollama Modelfile cannot quote; change it and train '
            "with the change, or use --format gguf"
        )
    lines = [f"FROM {source}", *([f"ADAPTER {adapter}"] if adapter else [])]
    lines.append(f'TEMPLATE """{family.go_template()}"""')
    if system:
        lines.append(f'SYSTEM """{system}"""')
    lines += [f'PARAMETER stop "{token}"' for token in end_tokens]
    # Ollama punishes repetition by default; answers repeat the numbers of the question.
    lines += ["PARAMETER repeat_penalty 1.0", f"PARAMETER num_ctx {context}"]
    return "\n".join(lines) + "\n"
