"""Token ids of a corpus kept between runs: a short cut that never says anything else."""

import pytest
from policies import model_keys

from icpo_lite.core.errors import ModelError
from icpo_lite.core.types import Message
from icpo_lite.policy.load import load_policy
from icpo_lite.rollout import kept_chat_ids as module
from icpo_lite.rollout.kept_chat_ids import kept_chat_ids


@pytest.fixture(scope="module")
def policy():
    return load_policy(model_keys("builtin:tiny", device="cpu"))


@pytest.fixture
def chats(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(module, "WORTH_KEEPING", 5)
    return [[Message("user", f"Ann has {n} apples. {'How many? ' * n}")] for n in range(9)]


class Counted:
    """A reader that counts what it encodes."""

    def __init__(self, policy, change=()):
        self.tokenizer, self.policy, self.count, self.change = policy.tokenizer, policy, 0, change

    def encode_chat(self, chat):
        self.count += 1
        return (*self.policy.encode_chat(chat), *self.change)


def files(tmp_path):
    return sorted((tmp_path / "icpo-lite" / "chat-ids").glob("*.safetensors"))


def test_a_second_run_encodes_three_prompts(policy, chats, tmp_path):
    plain = [policy.encode_chat(chat) for chat in chats]
    assert kept_chat_ids(policy, chats) == plain
    again = Counted(policy)
    assert kept_chat_ids(again, chats) == plain
    assert again.count <= 3
    assert len(files(tmp_path)) == 1


def test_few_prompts_leave_no_file(policy, chats, tmp_path):
    assert kept_chat_ids(policy, chats[:4]) == [policy.encode_chat(chat) for chat in chats[:4]]
    assert files(tmp_path) == []


def test_another_corpus_template_or_reader_is_encoded_anew(policy, chats, monkeypatch, tmp_path):
    kept_chat_ids(policy, chats)
    other = [*chats[:-1], [Message("user", "Ben has 2 figs.")]]
    assert kept_chat_ids(policy, other)[-1] == policy.encode_chat(other[-1])
    # What no key names, such as the date in a template: the three that are tried say it.
    dated = Counted(policy, change=(7,))
    assert kept_chat_ids(dated, chats) == [(*policy.encode_chat(c), 7) for c in chats]
    template = policy.tokenizer.chat_template
    monkeypatch.setattr(policy.tokenizer, "chat_template", template + " ")
    assert kept_chat_ids(policy, chats) == [policy.encode_chat(chat) for chat in chats]
    assert len(files(tmp_path)) == 3


@pytest.mark.parametrize("content", [b"", b"\x40\x00\x00\x00\x00\x00\x00\x00{half", b"\x00" * 100])
def test_a_damaged_file_is_made_again(policy, chats, tmp_path, content):
    plain = kept_chat_ids(policy, chats)
    (file,) = files(tmp_path)
    whole = file.read_bytes()
    for data in (content, whole[:-40], whole[:200]):
        file.write_bytes(data)
        assert kept_chat_ids(policy, chats) == plain
    assert file.read_bytes() == whole


def test_a_cache_that_cannot_be_written_is_none(policy, chats, tmp_path, monkeypatch):
    (tmp_path / "icpo-lite").write_text("a file where the folder should be")
    assert kept_chat_ids(policy, chats) == [policy.encode_chat(chat) for chat in chats]


def test_the_oldest_go(policy, chats, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "KEPT_FILES", 2)
    for n in range(4):
        kept_chat_ids(policy, [*chats, [Message("user", f"{n}")]])
    assert len(files(tmp_path)) == 2


def test_a_model_without_a_row_refuses_what_was_kept(policy, chats, monkeypatch):
    kept_chat_ids(policy, chats)
    monkeypatch.setattr("icpo_lite.policy.load.rows_of", lambda model: 10)
    with pytest.raises(ModelError, match="rows of its embedding"):
        kept_chat_ids(policy, chats)


def test_equal_numbers_are_one_object(policy, chats):
    big = Counted(policy, change=(1000, 1000))
    found = kept_chat_ids(big, chats)
    assert len({id(ids[-1]) for ids in found} | {id(ids[-2]) for ids in found}) == 1
