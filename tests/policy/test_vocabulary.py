"""Token ids that a model has no row for: refused at load or in a chat, never an IndexError."""

import json

import pytest
import torch
from model_families import END, EOS, VOCABULARY, save_family, save_tokenizer
from test_families import draw, load

from icpo_lite.core.errors import ModelError
from icpo_lite.core.types import Message
from icpo_lite.policy.load import load_tokenizer
from icpo_lite.policy.logprobs import PolicyScorer


def with_words(folder, *words, special=False, pad=None):
    """The family's folder with words added to its tokenizer, five more than the model has rows."""
    save_family(folder, "qwen2")
    tokenizer = load_tokenizer(str(folder))
    spare = VOCABULARY - len(tokenizer)
    tokenizer.add_tokens([f"filler{i}" for i in range(spare)])
    tokenizer.add_tokens(list(words), special_tokens=special)
    if pad:
        tokenizer.add_special_tokens({"pad_token": pad})
    tokenizer.save_pretrained(folder)
    return folder


def test_an_added_word_without_a_row_is_refused_at_load(tmp_path):
    with pytest.raises(ModelError, match=rf"below the {VOCABULARY} rows .* 'zebra' with id 268"):
        load(with_words(tmp_path, "zebra", "yak"))


def test_a_word_in_a_spare_row_is_fine(tmp_path):
    policy = load(with_words(tmp_path))
    assert policy.encode_chat([Message("user", "filler0")])[1] == VOCABULARY - 5


def test_a_pad_token_without_a_row_is_replaced(tmp_path):
    policy = load(with_words(tmp_path, pad="<fill>"))
    assert policy.tokenizer.pad_token_id == VOCABULARY
    assert policy.pad_id in (EOS, END)
    assert any("'<fill>' has id 268" in note for note in policy.notes)
    plain = load(save_family(tmp_path / "plain", "qwen2"))
    for one, other in zip(draw(policy)[1], draw(plain)[1], strict=True):
        for mine, theirs in zip(one, other, strict=True):
            assert mine.token_ids == theirs.token_ids
            assert torch.allclose(torch.tensor(mine.logprobs), torch.tensor(theirs.logprobs))


def test_a_special_token_beyond_is_refused_where_a_text_holds_it(tmp_path):
    """As Gemma 3's image token, which its text-only sizes have no row for."""
    policy = load(with_words(tmp_path, "<image>", special=True))
    assert policy.encode_chat([Message("user", "Hi")])
    assert max(policy.encode_chat([Message("user", "See <image>")])) < VOCABULARY  # a broken mark
    with pytest.raises(ModelError, match=r"268 rows of its embedding, found 268 in a chat"):
        policy.encode_text("See <image>")
    with pytest.raises(ModelError, match="268 rows"):
        PolicyScorer(policy).score([[Message("user", "Hi")]], [["<image>"]])


def test_a_template_that_writes_one_is_refused_at_load(tmp_path):
    folder = with_words(tmp_path, "<turn>", special=True)
    save_file = folder / "chat_template.jinja"
    template = save_file.read_text() if save_file.is_file() else None
    if template is None:
        config = json.loads((folder / "tokenizer_config.json").read_text())
        config["chat_template"] = config["chat_template"].replace("<|user|>", "<turn>")
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    else:
        save_file.write_text("<turn>" + template)
    with pytest.raises(ModelError, match="268 rows"):
        load(folder)


def test_a_tokenizer_without_a_pad_token_fills_with_an_end(tmp_path):
    save_family(tmp_path, "qwen2")
    save_tokenizer(tmp_path)
    policy = load(tmp_path)
    policy.tokenizer.pad_token = None
    assert policy.pad_id in (EOS, END)
