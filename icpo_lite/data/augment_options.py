"""The recipe's `augment` block: how underspecified prompts are made from problems."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from icpo_lite.core.types import CertificateLevel
from icpo_lite.recipe.sections import EndpointKeys

__all__ = ["AugmentOptions"]


class AugmentOptions(EndpointKeys):
    """The recipe's `augment` block; `endpoint` shards, and tries the pairs of `verify`."""

    method: Literal["rules", "self", "endpoint"] = Field(
        "rules",
        description="who splits problems into shards: rules (offline), self (the policy model) or "
        "endpoint (an OpenAI-compatible server)",
    )
    share: float | None = Field(
        None,
        gt=0,
        le=0.5,
        description="largest fraction of underspecified prompts among all that are written; null "
        "keeps every certified one",
    )
    accept_levels: tuple[CertificateLevel, ...] = Field(
        ("marks", "numbers", "solver", "tested"),
        min_length=1,
        description="certificates that are good enough: marks (calculator marks), numbers "
        "(equations or argument values), solver (numbers in every way of one or two operations to "
        "a bare answer), tested (verify alone), none",
    )
    max_removed: int = Field(
        2, ge=1, description="an underspecified prompt lacks one to this many facts"
    )
    removal: Literal["random", "first", "most_needed", "spread"] = Field(
        "random",
        description="which certified fact goes: random, first (in the text), most_needed (factors "
        "before terms of a sum) or spread (where rewards differed most)",
    )
    spread_from: str | None = Field(
        None, description="run directory whose completions tell the spreads for removal: spread"
    )
    reword: bool = Field(
        True,
        description="where nothing can be deleted, put 'some' or 'several' in a number's place; "
        "false keeps to deletions (at most 'some' stands before a noun that lost its number)",
    )
    mid_conversation: float = Field(
        0.0,
        ge=0,
        le=1,
        description="fraction of prompts that start after some facts were given turn by turn",
    )
    verify: int = Field(
        0,
        ge=0,
        description="samples of the policy on each q and q*; q* must stay unsolved (0: no check)",
    )
    verify_tolerance: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the samples on q* that may reach the gold answer by luck",
    )
    on_bad_row: Literal["error", "skip"] = Field(
        "error", description="what a row that cannot be read does: end the run, or be counted"
    )
    limit: int | None = Field(None, ge=1, description="read at most this many problems")
