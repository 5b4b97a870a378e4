"""Chat templates: their options, the day they write, thoughts they open, words that they lose."""

import datetime as clock
import re

import pytest
import torch
from model_families import CHATML, save_family, save_tokenizer
from policies import model_keys
from test_run import quiet, recipe
from transformers import PreTrainedTokenizerFast

from icpo_lite.core import thoughts
from icpo_lite.core.errors import ModelError, RecipeError, UsageError
from icpo_lite.core.types import Message
from icpo_lite.policy import template_options
from icpo_lite.policy.load import load_policy, load_tokenizer
from icpo_lite.policy.logprobs import PolicyScorer
from icpo_lite.policy.template_options import save_as_trained
from icpo_lite.recipe import load_recipe
from icpo_lite.rollout.noise import SamplingOptions, completion
from icpo_lite.rollout.streaming import stream_reply
from icpo_lite.runs import train as run_module
from icpo_lite.runs.comparison_runs import arguments

#: As Qwen3's: thoughts are opened and closed at once where they are not wanted.
THINKS = CHATML + (
    "{% if add_generation_prompt %}{% if enable_thinking is defined and enable_thinking is false %}"
    "{{ '<think>\n\n</think>\n\n' }}{% else %}{{ '<think>\n' }}{% endif %}{% endif %}"
)
DATED = "{{ 'Today is ' + strftime_now('%d %b %Y') + '.\n' }}" + CHATML
#: As Llama 3's: an option, else the clock.
DATE_STRING = (
    "{% if date_string is not defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    "{{ date_string }}\n" + CHATML
)
#: Content as a list of parts: a text's characters have no 'text'.
PARTS = CHATML.replace(
    "+ m['content'] +",
    "}}{% for part in m['content'] %}{{ part['text'] }}{% endfor %}{{ '' +",
)
HEADLESS = CHATML.partition("{% if add_generation_prompt")[0]
#: As Mistral's: what an assistant says follows the user's turn at once.
NO_HEADER = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST]' + m['content'] + '[/INST]' }}"
    "{% else %}{{ m['content'] + '<end>' }}{% endif %}{% endfor %}"
)
LAST_ONLY = "{{ '<|user|>' + messages[-1]['content'] + '<end><|assistant|>' }}"
HI = [{"role": "user", "content": "Hi"}]


def rendered(folder, template, turns=HI, **options):
    save_tokenizer(folder, template)
    tokenizer = load_tokenizer(str(folder), **options)
    return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)


@pytest.mark.parametrize("template", [DATED, PARTS, CHATML])
def test_a_batch_reads_as_its_chats_do(template, tmp_path):
    """As another trainer asks for it: several chats at once, `chat_template=None` written out."""
    save_tokenizer(tmp_path, template)
    tokenizer = load_tokenizer(str(tmp_path), chat_template_date="2024-02-03")
    chats = [HI, [*HI, {"role": "assistant", "content": "Ho"}, {"role": "user", "content": "?"}]]
    how = {"tokenize": False, "add_generation_prompt": True}
    batch = tokenizer.apply_chat_template(conversation=chats, chat_template=None, **how)
    assert batch == [tokenizer.apply_chat_template(chat, **how) for chat in chats]
    assert all("Hi" in text for text in batch)
    assert ("03 Feb 2024" in batch[0]) == (template == DATED)


def test_options_of_a_recipe_reach_the_template(tmp_path):
    assert rendered(tmp_path, THINKS).endswith("<|assistant|><think>\n")
    off = rendered(tmp_path, THINKS, chat_template_kwargs={"enable_thinking": False})
    assert off.endswith("<|assistant|><think>\n\n</think>\n\n")


def test_an_option_that_the_template_does_not_read_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"reads \(enable_thinking\), found 'enable_thinkin'"):
        rendered(tmp_path, THINKS, chat_template_kwargs={"enable_thinkin": False})


@pytest.mark.parametrize("name", ["messages", "tokenize", "add_generation_prompt"])
def test_what_the_run_sets_is_no_option(name):
    with pytest.raises(RecipeError, match=f"{name} is set by the run itself"):
        load_recipe("tiny", [f"chat_template_kwargs.{name}=true"])


def test_a_day_that_does_not_exist_is_refused():
    for day in ("2026-02-30", "yesterday"):
        with pytest.raises(RecipeError, match="chat_template_date"):
            load_recipe("tiny", [f"chat_template_date='{day}'"])


@pytest.mark.parametrize("template", [DATED, DATE_STRING], ids=["clock", "option"])
def test_the_clock_stands_still(template, tmp_path, monkeypatch):
    text = rendered(tmp_path, template, chat_template_date="2025-03-09")
    assert "09 Mar 2025" in text
    tokenizer = load_tokenizer(str(tmp_path))
    today = tokenizer.apply_chat_template(HI, tokenize=False)

    class Tomorrow(clock.datetime):
        @classmethod
        def now(cls, tz=None):
            return super().now(tz) + clock.timedelta(days=1)

    monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", Tomorrow, raising=False)
    assert tokenizer.apply_chat_template(HI, tokenize=False) == today


def test_a_clock_that_cannot_be_stopped_is_refused(tmp_path):
    with pytest.raises(ModelError, match="another call of strftime_now"):
        rendered(tmp_path, "{% set f = '%Y' %}{{ strftime_now(f) }}" + CHATML)


def test_a_named_date_beats_the_clock(tmp_path):
    text = rendered(tmp_path, DATE_STRING, chat_template_kwargs={"date_string": "May Day"})
    assert text.startswith("May Day\n")


def test_words_go_as_parts_where_a_template_wants_parts(tmp_path):
    chat = [*HI, {"role": "assistant", "content": "Yes?"}, {"role": "user", "content": "Bye"}]
    assert rendered(tmp_path, PARTS, chat) == rendered(tmp_path, CHATML, chat)


def test_a_system_turn_goes_as_parts_too(tmp_path):
    save_family(tmp_path, "qwen2")
    chat = [Message("system", "Be brief."), Message("user", "Hi")]
    texts = []
    for template in (PARTS, CHATML):
        save_tokenizer(tmp_path, template)
        policy = load_policy(model_keys(str(tmp_path), load_in_4bit=False, device="cpu"))
        texts.append(policy.encode_chat(chat))
    assert texts[0] == texts[1]


def test_a_template_that_loses_words_is_refused(tmp_path):
    with pytest.raises(ModelError, match="loses some"):
        rendered(tmp_path, LAST_ONLY)


def test_a_template_without_the_assistants_header_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"open the assistant's turn with '<\|assistant\|>'"):
        rendered(tmp_path, HEADLESS)


def test_a_template_that_has_no_header_at_all_is_fine(tmp_path):
    assert rendered(tmp_path, NO_HEADER) == "[INST]Hi[/INST]"


@pytest.mark.parametrize("template", [CHATML, THINKS, DATED, PARTS, NO_HEADER])
def test_what_is_rendered_does_not_change_what_is_saved(template, tmp_path):
    rendered(tmp_path, template, chat_template_date="2025-03-09")
    load_tokenizer(str(tmp_path)).save_pretrained(tmp_path / "again")
    assert load_tokenizer(str(tmp_path / "again")).chat_template == template


# ------------------------------------------------------------------------------------- thoughts


@pytest.fixture(scope="module")
def thinking(tmp_path_factory):
    folder = save_family(tmp_path_factory.mktemp("thinking"), "qwen2")
    save_tokenizer(folder, THINKS)
    keys = {"load_in_4bit": False, "device": "cpu"}
    off = {"chat_template_kwargs": {"enable_thinking": False}}
    return [load_policy(model_keys(str(folder), **keys, **more)) for more in ({}, off)]


def test_thoughts_that_the_prompt_opens_are_read_as_thoughts(thinking):
    on, off = thinking
    assert on.opens_thinking
    assert not off.opens_thinking
    assert any("opens <think>" in note for note in on.notes)
    said = "3 or 4?</think>It is 7."
    ids = on.encode_text(said)
    reply = completion(on, ids, [0.0] * len(ids))
    assert reply.token_ids == ids
    assert thoughts.said(reply.text).strip() == "It is 7."
    unfinished = on.encode_text("Is it 3 or 4?")
    assert thoughts.said(completion(on, unfinished, [0.0] * len(unfinished)).text).strip() == ""
    assert completion(off, ids, [0.0] * len(ids)).text == said


def test_a_shown_reply_begins_with_its_thoughts_too(thinking):
    options, chat = SamplingOptions(6), [Message("user", "Hi")]
    said = [stream_reply(p, chat, options, ("a",), lambda piece: None) for p in thinking]
    assert said[0].startswith("<think>\n")
    assert not said[1].startswith("<think>")


def test_what_is_scored_are_answers_and_not_thoughts(thinking):
    """Without thoughts the template closes them; with them the scorer does."""
    on, off = thinking
    chats = [[Message("user", "How many?")]]
    texts = [["Two.", "How many figs?"]]
    scores = [PolicyScorer(p).score(chats, texts)[0] for p in (on, off)]
    assert torch.allclose(*map(torch.tensor, scores), atol=1e-4)


# ------------------------------------------------------------------------------------------ runs


def test_a_run_keeps_the_day_on_which_it_began(tmp_path, monkeypatch):
    """A resume on another day trains on the prompts that it began with."""

    class Day(clock.date):
        today_is = clock.date(2026, 1, 31)

        @classmethod
        def today(cls):
            return cls.today_is

    monkeypatch.setattr(run_module, "date", Day)
    run = tmp_path / "run"
    run_module.train(recipe(run, "max_steps=1"), quiet(tmp_path))
    assert load_recipe(run / "recipe.yaml").chat_template_date == "2026-01-31"
    Day.today_is = clock.date(2026, 2, 1)
    seen = []
    plain = template_options.pin_template
    monkeypatch.setattr(
        "icpo_lite.policy.load.pin_template", lambda *a: seen.append(a[2]) or plain(*a)
    )
    run_module.train(recipe(run, "max_steps=2"), quiet(tmp_path), extend=True)
    assert load_recipe(run / "recipe.yaml").chat_template_date == "2026-01-31"
    assert set(seen) == {"2026-01-31"}


def test_a_compared_run_gets_the_day_as_an_argument(tmp_path):
    chosen = recipe(tmp_path).model_copy(update={"chat_template_date": "2026-01-31"})
    given = arguments(chosen)
    assert any(re.search("chat_template_date=.*2026-01-31", each) for each in given)
    assert load_recipe(given[0], given[1:]).chat_template_date == "2026-01-31"


@pytest.mark.parametrize("wish", [{"enable_thinking": False}, {"enable_thinking": True}, {}])
def test_whoever_gets_the_tokenizer_gets_the_prompts_of_training(wish, tmp_path):
    """Of an export, in plain transformers; who wants something else still says so."""
    save_tokenizer(tmp_path / "base", THINKS)
    trained = load_tokenizer(str(tmp_path / "base"), chat_template_kwargs=wish)
    own = trained.chat_template
    save_as_trained(trained, wish, tmp_path / "out")
    assert trained.chat_template == own
    plain = PreTrainedTokenizerFast.from_pretrained(tmp_path / "out")
    chat = [{"role": "user", "content": "Hi"}]
    how = {"tokenize": False, "add_generation_prompt": True}
    told = trained.apply_chat_template(chat, **how)
    assert plain.apply_chat_template(chat, **how) == told
    for other in (True, False):
        theirs = plain.apply_chat_template(chat, enable_thinking=other, **how)
        assert theirs == trained.apply_chat_template(chat, enable_thinking=other, **how)
