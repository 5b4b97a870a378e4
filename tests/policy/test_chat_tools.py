"""Functions reach the model through its chat template where that takes them, else in words."""

import json

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from icpo_lite.core.types import Message
from icpo_lite.policy.chat_template import chat_text, tools_of

FUNCTION = {
    "name": "math.hypot",
    "description": "The long side.",
    "parameters": {
        "type": "dict",
        "properties": {
            "x": {"type": "float", "description": "A type of side."},
            "ways": {"type": "array", "items": {"type": "any"}},
            "type": {"type": "string"},
        },
        "required": ["x"],
    },
}
PLAIN = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
#: As Qwen 2.5 has it: the tools in the system turn.
IN_SYSTEM = (
    "{% if tools %}<|system|>{% if messages[0].role == 'system' %}{{ messages[0].content }}\n"
    "{% endif %}<tools>{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}</tools><|end|>"
    "{% elif messages[0].role == 'system' %}<|system|>{{ messages[0].content }}<|end|>{% endif %}"
    "{% for m in messages %}{% if m.role != 'system' %}<|{{ m.role }}|>{{ m.content }}<|end|>"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
#: As Mistral has it: no system turn, the tools before the last user's turn.
NO_SYSTEM = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}"
    "{% elif m.role == 'user' %}{% if loop.last and tools %}[AVAILABLE_TOOLS]{{ tools | tojson }}"
    "[/AVAILABLE_TOOLS]{% endif %}[INST]{{ m.content }}[/INST]{% else %}{{ m.content }}"
    "{% endif %}{% endfor %}"
)
#: A template that names its tools and refuses these.
REFUSES = (
    "{% if tools and tools[0].function.name != 'Zebra' %}{{ raise_exception('no') }}{% endif %}"
)
TEMPLATES = {"plain": PLAIN, "system": IN_SYSTEM, "none": NO_SYSTEM, "refuses": REFUSES + IN_SYSTEM}


def tokenizer(template):
    core = Tokenizer(models.WordLevel({"a": 0, "<unk>": 1}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=core, chat_template=template, unk_token="<unk>", eos_token="a"
    )


def rendered(template, content="Be brief."):
    opening = Message("system", content, json.dumps([FUNCTION]))
    return chat_text(tokenizer(TEMPLATES[template]), [opening, Message("user", "4 and 5?")])


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("content", ["Be brief.", ""])
def test_every_template_shows_the_functions_once(template, content):
    text = rendered(template, content)
    assert text.count("math.hypot") == 1
    assert text.count("Be brief.") == (1 if content else 0)
    assert text.count("4 and 5?") == 1


def test_a_template_with_tools_gets_json_schema_and_no_second_format():
    text = rendered("system")
    assert text.startswith("<|system|>Be brief.\n<tools>")
    (tool,) = [
        json.loads(x)
        for x in text.partition("<tools>")[2].partition("</tools>")[0].split("\n")
        if x
    ]
    assert tool == tools_of(json.dumps([FUNCTION]))[0]
    assert "Python list" not in text
    assert "[AVAILABLE_TOOLS]" in rendered("none")
    assert "[INST]Be brief.\n\n4 and 5?[/INST]" in rendered("none")


@pytest.mark.parametrize("template", ["plain", "refuses"])
def test_without_tools_the_words_say_which_functions_and_how_to_call_them(template):
    text = rendered(template)
    assert "Functions:\n[{" in text
    assert "[name(argument=value), ...]" in text


def test_bfcls_types_become_json_schemas():
    (tool,) = tools_of(json.dumps([FUNCTION]))
    parameters = tool["function"]["parameters"]
    assert parameters["type"] == "object"
    assert parameters["properties"]["x"] == {"type": "number", "description": "A type of side."}
    assert parameters["properties"]["ways"]["items"] == {"type": "string"}
    assert parameters["properties"]["type"] == {"type": "string"}
    assert tools_of(json.dumps([tool])) == [tool]
    assert tools_of("f(x): a function in words") == []
    assert tools_of("") == []


def test_a_chat_without_functions_is_as_before():
    chat = [Message("system", "Be brief."), Message("user", "Hi")]
    assert (
        chat_text(tokenizer(PLAIN), chat)
        == "<|system|>Be brief.<|end|><|user|>Hi<|end|><|assistant|>"
    )
    assert "<tools>" not in chat_text(tokenizer(IN_SYSTEM), chat)
