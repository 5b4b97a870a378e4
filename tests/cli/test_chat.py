"""Chat: replies that are shown as they come, the adapter off, Ctrl-C, piped lines."""

import subprocess
import sys

import pytest
import torch
from click.testing import CliRunner
from policies import model_keys

from icpo_lite.cli.chat import chat
from icpo_lite.core.types import Message
from icpo_lite.policy.load import load_policy
from icpo_lite.rollout import streaming
from icpo_lite.rollout.sampler import SamplingOptions, sample
from icpo_lite.rollout.streaming import stream_reply

ASK = [Message("user", "How many apples does Ann have after shopping?")]
KEY = ("chat", 0, 1)


@pytest.fixture(scope="module")
def policy():
    made = load_policy(model_keys("builtin:tiny", device="cpu", lora_r=4))
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in made.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.5)
    return made


def reply(policy, temperature=0.0, key=KEY, show=lambda piece: None, length=24):
    return stream_reply(policy, ASK, SamplingOptions(length, temperature), key, show)


def test_pieces_come_one_by_one_and_make_up_the_reply(policy):
    pieces = []
    with policy.adapter_off():
        said = reply(policy, show=pieces.append)
    assert len(pieces) > 3, "it was not shown as it came"
    assert "".join(pieces).strip() == said
    assert "<|im_end|>" not in said


def test_greedy_reply_is_that_of_our_own_sampling_with_the_adapter_on_and_off(policy):
    prompt = [policy.encode_chat(ASK)]

    def sampled():
        options = SamplingOptions(24, 0.0)
        return sample(policy, prompt, n=1, options=options, keys_P=[KEY])[0][0].text

    on, expected_on = reply(policy), sampled()
    with policy.adapter_off():
        off, expected_off = reply(policy), sampled()
    assert (on, off) == (expected_on, expected_off)
    assert on != off, "the adapter changes nothing, so nothing is shown"


def test_equal_keys_give_equal_replies(policy):
    with policy.adapter_off():
        first = [reply(policy, 1.5, ("chat", seed, 1)) for seed in range(4)]
        again = [reply(policy, 1.5, ("chat", seed, 1)) for seed in range(4)]
    assert first == again
    assert len(set(first)) > 1


def test_what_a_models_files_say_of_sampling_changes_nothing(policy, monkeypatch):
    """Qwen2.5's generation_config.json has a repetition penalty, top-k and top-p of its own."""
    with policy.adapter_off():
        expected = [reply(policy, 1.0, ("chat", seed, 1)) for seed in range(3)]
        own = policy.causal_lm.generation_config
        for name, value in (("repetition_penalty", 9.0), ("top_k", 1), ("temperature", 9.0)):
            monkeypatch.setattr(own, name, value)
        assert [reply(policy, 1.0, ("chat", seed, 1)) for seed in range(3)] == expected


def test_ctrl_c_ends_the_reply_and_keeps_what_was_said(policy):
    pieces = []

    def interrupt(piece):
        pieces.append(piece)
        if len(pieces) == 2:
            raise KeyboardInterrupt

    with policy.adapter_off():
        said = reply(policy, show=interrupt)
        whole = reply(policy)
    assert said
    assert whole.startswith(said)
    assert len(said) < len(whole)


def test_chat_goes_on_after_ctrl_c_with_what_was_said(monkeypatch):
    """The first reply is interrupted; the second one reads it as the assistant's turn."""
    chats, shown = [], []
    before = streaming.stream_reply

    def recorded(policy, messages, options, key, show):
        chats.append([(m.role, m.content) for m in messages])

        def interrupt(piece):
            show(piece)
            shown.append(piece)
            if len(shown) == 1:
                raise KeyboardInterrupt

        return before(policy, messages, options, key, interrupt)

    monkeypatch.setattr(streaming, "stream_reply", recorded)
    typed = "How many apples does Ann have?\nAnn has 3 apples.\n/reset\n4.\n/exit\n"
    arguments = ["builtin:tiny", "--device", "cpu", "--max-new-tokens", "16", "--system", "Brief."]
    result = CliRunner().invoke(chat, arguments, input=typed, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    first, second, third = chats
    assert [role for role, _ in second] == ["system", "user", "assistant", "user"]
    assert [*first, second[2]] == second[:3]
    assert second[2][1]
    assert third == [("system", "Brief."), ("user", "4.")]
    # The lines that were piped in stand in the output beside the replies.
    assert "you> Ann has 3 apples.\n" in result.output


def test_bytes_that_are_no_text_end_no_chat():
    arguments = ["builtin:tiny", "--device", "cpu", "--max-new-tokens", "2"]
    result = CliRunner().invoke(chat, arguments, input=b"hi \xff\xfe \xed\xa0\x80?\nbye\n")
    assert result.exit_code == 0, result.exception
    assert "hi" in result.output
    assert "you> bye" in result.output


def test_piped_into_the_program():
    """No terminal on either side: a prompt, a reply, the end of the input, exit code 0."""
    command = [sys.executable, "-m", "icpo_lite", "chat", "builtin:tiny", "--device", "cpu"]
    done = subprocess.run(
        [*command, "--max-new-tokens", "16", "--temperature", "0"],
        input="Ann has 3 apples. Ben has 4 apples. How many apples do Ann and Ben have together?\n",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "The answer is 7." in done.stdout
    assert "Traceback" not in done.stderr
