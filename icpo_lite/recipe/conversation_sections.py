"""The section of a recipe that says how whole conversations are sampled and paid."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from icpo_lite.recipe.section import Section, named_schedule, refuse, require_own_function


def _conversation_block(value: Any) -> Any:
    """`terminal` is short for `{name: terminal}`; options without a name are those of `intent`."""
    if isinstance(value, str):
        return {"name": value}
    return {"name": "intent", **value} if isinstance(value, dict) else value


class ConversationKeys(Section):
    """Training in the conversation itself."""

    rollout: Literal["single_turn", "conversation"] = Field(
        "single_turn",
        description="single_turn: one reply a prompt; conversation: the policy talks with the "
        "simulated user, who tells what the prompt lacks, one fact a turn",
    )
    max_assistant_turns: int = Field(
        8, ge=1, description="rollout: conversation: replies of one conversation at most"
    )
    simulated_user: str = Field(
        "deterministic",
        description="rollout: conversation: who the user is: deterministic (the fact that was "
        "asked for, word for word), self (the base model), endpoint (the server under endpoint), "
        "or a function of your own, my_users.py:talk",
    )
    conversation_reward: Annotated[dict[str, Any], BeforeValidator(_conversation_block)] = Field(
        {"name": "intent"},
        description="rollout: conversation: intent (each reply's own reward, and the right answer "
        "at the end), terminal, after_asking, pir, askbench, ternary or rlaar; or a block {name: "
        "intent, terminal: 1.0, question_cost: 0.1}",
    )
    branching: Annotated[dict[str, Any], BeforeValidator(named_schedule)] = Field(
        {"name": "none"},
        description="rollout: conversation: none (each starts at the prompt), or {name: arpo, "
        "weight: 0.2, threshold: 0.5, from_start: 0.5}, a second way on after user's turns that "
        "made the policy less sure",
    )
    truncated_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="rollout: conversation: share of underspecified prompts whose user keeps at "
        "least one fact back to the end, so that no answer is the right end (RLAAR's pressure to "
        "abstain: 0.1 to 0.2 was best, 0.5 destroyed solving)",
    )
    shard_curriculum: Annotated[dict[str, Any], BeforeValidator(named_schedule)] = Field(
        {"name": "none"},
        description="rollout: conversation: into how many pieces an instruction comes: none (one "
        "fact a turn from the start), or {name: rlaar, first: 2, reach: 0.8, steps: 5}, one piece "
        "more whenever the reward of underspecified prompts is back at 0.8 of the start's",
    )
    credit: Literal["trajectory", "gtpo", "mapo", "igpo", "r2g", "em", "equalized"] = Field(
        "trajectory",
        description="rollout: conversation: what each turn's tokens are learned with: trajectory "
        "(the whole conversation's advantage), gtpo (discounted returns), mapo (half of them, half "
        "the turn's own reward), igpo (what the turn did for the gold answer's probability), r2g, "
        "em or equalized (UserRL)",
    )
    credit_gamma: float = Field(
        0.9, gt=0, le=1, description="credit: gtpo and mapo: discount of a turn's later rewards"
    )
    credit_score: Literal["mean", "sum", "r2g"] | None = Field(
        None,
        description="credit: equalized, em and r2g: a conversation's score from its turns' rewards "
        "(UserRL): mean, sum, or r2g (discounted by 0.8 a turn, the paper's best with equalized); "
        "null is r2g with r2g, else mean",
    )

    @model_validator(mode="after")
    def _score_is_read(self) -> Self:
        if self.credit_score is not None and self.credit not in ("equalized", "em", "r2g"):
            refuse(
                "credit_score",
                f"it is of credit: equalized, em or r2g, found credit: {self.credit}; leave it out",
            )
        return self

    @model_validator(mode="after")
    def _user_is_known(self) -> Self:
        kinds = ("deterministic", "self", "endpoint")
        if self.simulated_user not in kinds:
            require_own_function("simulated_user", self.simulated_user, kinds)
        return self
