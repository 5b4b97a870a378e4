"""The cures that `reproduce` compares: what is trained for each, or how the base is served.

A new one is one entry in `ARMS`. A recipe that is shipped for it is taken where there is one:
`maigo` of `tiny` is `tiny-maigo`; else the recipe itself with the arm's keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from icpo_lite.core.errors import UsageError
from icpo_lite.recipe import shipped_recipes
from icpo_lite.recipe.messages import nearest

#: Of the published figures: the model that they are of.
PUBLISHED_OF = "Qwen2.5-7B-Instruct"
#: Demonstrations are single replies, which no conversation is.
_CONVERSATIONS = ("rollout=conversation", "augment.mid_conversation=0.0", "demonstrations=none")


@dataclass(frozen=True)
class Arm:
    """One cure.

    keys: of the recipe; None where nothing is trained and the base is judged with `served`, the
    options of `eval`. like: a shipped recipe's ending, in place of `keys`; `more` is added to
    either. threshold: whether the base asks above a threshold that is chosen on other problems.
    published: SHARDED of Qwen2.5-7B-Instruct, as its paper tells it.
    """

    title: str
    keys: tuple[str, ...] | None
    served: tuple[str, ...] = ()
    like: str = ""
    more: tuple[str, ...] = ()
    threshold: bool = False
    published: str = ""

    @property
    def trains(self) -> bool:
        return self.keys is not None


#: One optimizer step a batch taught the tiny model nothing; a quarter of whole prompts holds FULL.
_MAIGO = (
    *_CONVERSATIONS,
    "share_underspecified=0.75",
    "num_mini_batches=4",
    "reward=none",
    "distill=maigo",
)

ARMS: Mapping[str, Arm] = {
    "base": Arm("base", None, published="35.4 (ICPO), 52.8 (MAIGO), 59.8 (RLAAR)"),
    "threshold": Arm("base, asks above a threshold", None, threshold=True),
    "cleaned": Arm("base, history cleaned", None, ("--serve-as", "cleaned")),
    "recap": Arm("base, the user's turns restated", None, ("--serve-as", "recap")),
    "snowball": Arm("base, each turn after all earlier", None, ("--serve-as", "snowball")),
    "mediator": Arm("base, a mediator rewrites", None, ("--serve-as", "mediator")),
    "rlvr": Arm("RLVR", ("share_underspecified=0.0", "reward=accuracy"), published="47.2 (ICPO)"),
    "icpo-paper": Arm("ICPO (paper)", ("reward=paper",), published="55.4 (ICPO)"),
    "icpo": Arm("ICPO", ()),
    "rlaar": Arm(
        "RLAAR",
        (
            *_CONVERSATIONS,
            "share_underspecified=0.5",
            "conversation_reward=rlaar",
            "truncated_share=0.2",
            "shard_curriculum={name: rlaar, first: 2, reach: 0.8, steps: 5}",
        ),
        like="rlaar",
        published="79.2 (RLAAR)",
    ),
    "maigo": Arm("MAIGO", _MAIGO, like="maigo", published="66.1 (MAIGO)"),
    "fic": Arm(
        "FiC", _MAIGO, like="maigo", more=("distill=fic",), published="92 % of FULL or more (FiC)"
    ),
    "icpo-maigo": Arm(
        "ICPO + MAIGO",
        (*_CONVERSATIONS, "distill=maigo"),
        like="icpo-maigo",
    ),
}
#: What `--arms all` stands for, and what is compared where nobody says.
ALL = tuple(name for name in ARMS if name not in ("recap", "snowball", "mediator"))
USUAL = ("base", "rlvr", "icpo")


def named_arms(text: str) -> tuple[str, ...]:
    """The arms of a list by comma, in the table's order. Raises UsageError for one that is none."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    wanted = {name for part in parts for name in (ALL if part == "all" else (part,))}
    for name in sorted(wanted):
        if name not in ARMS:
            known = [*ARMS, "all"]
            raise UsageError(
                f"--arms: expected some of {', '.join(known)}, found {name!r}{nearest(name, known)}"
            )
    if not any(ARMS[name].trains for name in wanted):
        raise UsageError(
            "--arms: expected one that is trained, such as icpo: its sampled tokens are the budget "
            f"of all, and its recipe says how the base is judged; found {text!r}"
        )
    return tuple(name for name in ARMS if name in wanted)


@dataclass(frozen=True)
class Trained:
    """What `train` is given for an arm: a recipe and overrides."""

    recipe: str
    overrides: tuple[str, ...] = field(default=())


def trained_as(recipe: str, arm: Arm) -> Trained:
    """The recipe of an arm: one that is there for it, else the given one with the arm's keys."""
    file = Path(recipe)
    if arm.like:
        beside = file.with_name(f"{file.stem}-{arm.like}.yaml")
        if file.suffix and beside.is_file():
            return Trained(str(beside), arm.more)
        if not file.is_file() and f"{recipe}-{arm.like}" in shipped_recipes():
            return Trained(f"{recipe}-{arm.like}", arm.more)
    return Trained(recipe, (*(arm.keys or ()), *arm.more))
