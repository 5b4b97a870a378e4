"""SPO's segments: where a reply is cut, and what each stretch is worth, computed by hand."""

import math

import pytest

from icpo_lite.core.types import Completion, Group, Intent, Prompt, Reward, Trajectory, Turn
from icpo_lite.recipe import load_recipe
from icpo_lite.rollout.noise import SamplingOptions
from icpo_lite.training import segments as module
from icpo_lite.training.segments import Segments, cuts, masked, segment_advantages

LIKELY, UNLIKELY = math.log(0.99), math.log(0.3)


def test_cuts_stand_before_unlikely_tokens() -> None:
    row = [UNLIKELY, LIKELY, UNLIKELY, LIKELY, UNLIKELY]
    assert cuts(row, below=0.9, most=3) == [2, 4]
    assert cuts(row, below=0.9, most=1) == [4]
    assert cuts([UNLIKELY] * 8, below=0.9, most=3) == [2, 4, 6]
    assert cuts([math.nan, math.nan], below=0.9, most=3) == []


def test_segments_are_differences_of_values() -> None:
    """Start .5, .75 at token 2, reward 0 at the end of 5: .25 twice, -.75 three times."""
    assert segment_advantages(5, [2], [0.75], 0.5, 0.0) == (0.25, 0.25, -0.75, -0.75, -0.75)
    assert segment_advantages(2, [], [], 0.5, 1.0) == (0.5, 0.5)


def test_likely_tokens_have_no_share_of_a_masked_segment() -> None:
    """log .9 is not below it."""
    row = [LIKELY, UNLIKELY, math.log(0.9), UNLIKELY]
    assert masked((0.5, 0.5, 0.25, 0.25), row, 0.9) == (0.0, 0.5, 0.0, 0.25)


class FakePolicy:
    max_positions, end_ids = 20, frozenset({9})

    def decode_reply(self, ids):
        return " ".join(map(str, ids))


def test_a_step_is_sampled_on_from_its_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A group with rewards 1 and 0, one cut in its first reply. What comes of the cut: 1 and .5,
    so V = .75: tokens before it have .25, those behind it .25; the other reply -.5. On q* half."""
    prompt = Prompt("p", "p", "math", Intent.UNDERSPECIFIED, (), "1")
    replies = [
        Turn("assistant", "", (3, 4, 9), (LIKELY, UNLIKELY, LIKELY), "eos"),
        Turn("assistant", "", (5, 9), (LIKELY, LIKELY), "eos"),
    ]
    rows = tuple(
        Trajectory(prompt, (1, 2), (turn,), Reward(r))
        for turn, r in zip(replies, (1.0, 0.0), strict=True)
    )
    flat = Group(prompt, tuple(Trajectory(prompt, (1,), (replies[0],), Reward(1.0)) for _ in "ab"))
    asked = {}

    def sample(policy, prompts, *, n, options, keys_P):
        asked.update(prompts=prompts, n=n, longest=options.max_new_tokens, keys=keys_P)
        return [[Completion("", (7,) * 9, (0.0,) * 9, "length")] * n for _ in prompts]

    def judged(groups):
        asked["said"] = [t.reply.token_ids for g in groups for t in g.trajectories]
        worth = iter((1.0, 0.5))
        return [
            Group(
                g.prompt,
                tuple(
                    Trajectory(t.prompt, (), t.turns, Reward(next(worth))) for t in g.trajectories
                ),
            )
            for g in groups
        ]

    monkeypatch.setattr(module, "sample", sample)
    recipe = load_recipe("tiny", ["segments={name: spo, samples: 2}", "seed=3"])
    made = Segments.of(recipe)
    groups = [Group(prompt, rows, (1.0, -1.0)), flat]
    found, same = made.credited(groups, FakePolicy(), judged, SamplingOptions(8), 5, 0.5)
    assert asked["prompts"] == [(1, 2, 3)]
    assert asked["keys"] == [("spo", 3, 5, 0, 0, 1)]
    assert asked["said"] == [(3, *(7,) * 7)] * 2, "no longer than a reply may be"
    assert found.trajectories[0].reply.advantage == pytest.approx((0.125, 0.125, 0.125))
    assert found.trajectories[1].reply.advantage == pytest.approx((-0.25, -0.25))
    assert same is flat
    asked.clear()
    recipe = load_recipe("tiny", ["segments={name: spo, samples: 2, only_unlikely: true}"])
    found, _ = Segments.of(recipe).credited(
        groups, FakePolicy(), judged, SamplingOptions(8), 5, 0.5
    )
    assert found.trajectories[0].reply.advantage == pytest.approx((0.0, 0.125, 0.0))
    assert found.trajectories[1].reply.advantage == (0.0, 0.0)
