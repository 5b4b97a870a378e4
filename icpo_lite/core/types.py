"""The records that travel through the program, and the letters used for sizes everywhere.

    P  prompts in a step          G  completions of one prompt (its group)
    B  = P·G rows of a batch      T  tokens of a row, prompt and completion together
    N  token rows that are kept   V  vocabulary            D  hidden size

A ragged list is named with its letters (`advantages_PG`), a tensor's shape stands beside its
name (`input_ids [B, T]`). All records are frozen: a later stage makes a new one
(`dataclasses.replace`) and never overwrites a field, so that a reward stays readable beside the
advantage made of it. `None` means "not determined yet".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, Protocol

TaskName = Literal["math", "actions", "code", "database", "open"]
JudgeName = Literal["rules", "linear", "self", "endpoint"]
CertificateLevel = Literal["marks", "numbers", "solver", "tested", "given", "none"]
StopReason = Literal["eos", "length"]
Role = Literal["system", "user", "assistant"]


class Intent(StrEnum):
    """What a prompt calls for: an answer, or a question back."""

    COMPLETE = "complete"
    UNDERSPECIFIED = "underspecified"


class ResponseType(StrEnum):
    """The seven response types of Lost in Conversation (arXiv 2505.06120), which are texts too.

    classify("How many apples does Ann buy?") == "clarification"
    """

    ANSWER_ATTEMPT = "answer_attempt"
    CLARIFICATION = "clarification"
    INTERROGATION = "interrogation"
    DISCUSSION = "discussion"
    HEDGING = "hedging"
    REFUSAL = "refusal"
    MISSING = "missing"


#: The set T of ICPO (arXiv 2601.15330, equation 4): types that the paper rewards on `q*`.
NON_ANSWERS = frozenset(
    {
        ResponseType.CLARIFICATION,
        ResponseType.INTERROGATION,
        ResponseType.DISCUSSION,
        ResponseType.HEDGING,
        ResponseType.REFUSAL,
    }
)
#: The types that put a question to the user.
QUESTIONS = frozenset({ResponseType.CLARIFICATION, ResponseType.INTERROGATION})


#: The form of a call for a chat template that has none of its own.
_HOW_TO_CALL = (
    "Call them as one Python list, [name(argument=value), ...], with named arguments and nothing "
    "else."
)


@dataclass(frozen=True, slots=True)
class Message:
    """One turn as a chat template sees it.

    functions: what the assistant may call, as JSON, on the turn that opens a chat.
    """

    role: Role
    content: str
    functions: str = ""

    @property
    def text(self) -> str:
        """The turn in words alone, for whoever takes no functions apart from them."""
        if not self.functions:
            return self.content
        told = f"Functions:\n{self.functions}\n\n{_HOW_TO_CALL}"
        return f"{self.content}\n\n{told}" if self.content else told


@dataclass(frozen=True, slots=True)
class Shard:
    """One piece of a problem: the question it asks (the intent) or one fact that it needs."""

    shard_id: int
    text: str
    is_question: bool = False


@dataclass(frozen=True, slots=True)
class Problem:
    """A verifiable problem as it came from a corpus.

    question: the complete text that a user would send.
    answer: the gold answer in the form that the task's grader takes (math: a string that holds
        the number; actions: the allowed calls; code: the tests; database: the gold query); None
        where nothing grades it (open).
    solution: a reference solution in words, empty where the corpus has none.
    shards: the question first or not, as in the text; empty until sharded.
    source: where the row came from ("file.jsonl:17"), for error messages.
    columns: what else the row held; graders and user rewards read it.
    opening: the turns before the question: a system turn, earlier questions and answers.
    prompts: the complete and insufficient prompts that the corpus itself has of it, at most one
        of each; it is judged on these where there are any.
    """

    problem_id: str
    task: TaskName
    question: str
    answer: Any
    solution: str = ""
    shards: tuple[Shard, ...] = ()
    source: str = ""
    columns: Mapping[str, Any] = field(default_factory=dict)
    opening: tuple[Message, ...] = ()
    prompts: tuple[Prompt, ...] = ()


@dataclass(frozen=True, slots=True)
class Certificate:
    """Why an underspecified prompt deserves a question.

    out_of_reach: evidence that the gold answer can no longer be derived.
    incomplete: evidence that what is left is visibly incomplete, not a smaller whole problem.
    """

    level: CertificateLevel
    out_of_reach: str = ""
    incomplete: str = ""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the policy is asked: a complete `q` or an underspecified `q*` of one problem.

    messages: the conversation so far, last turn from the user (more than one user turn where the
        prompt starts mid-conversation).
    shards: all shards of the problem. removed: those that `messages` does not hold; none where
        somebody says that something lacks (certificate `given`) and not what.
    answer: None where nothing grades it; the prompt is then judged by whether the reply asks.
    targets: other words for what lacks; a question that resembles them is targeted.
    opening: how many of the first messages came with the corpus and are no shards.
    dataset: which of a recipe's several data sets it belongs to; "" where there is one.
    ask_cost: what a question costs here, as its system turn says; None where none is named.
    """

    prompt_id: str
    problem_id: str
    task: TaskName
    intent: Intent
    messages: tuple[Message, ...]
    answer: Any
    shards: tuple[Shard, ...] = ()
    removed: tuple[Shard, ...] = ()
    certificate: Certificate = Certificate("none")
    solution: str = ""
    source: str = ""
    columns: Mapping[str, Any] = field(default_factory=dict)
    targets: tuple[str, ...] = ()
    opening: int = 0
    dataset: str = ""
    ask_cost: float | None = None

    @property
    def text(self) -> str:
        """All that the user has said, in order."""
        return "\n".join(m.content for m in self.messages if m.role == "user")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the judge says of one reply.

    correct: None unless the reply is an answer attempt that was graded.
    targeted: whether a question asks for what a removed shard held; None where that has no
        meaning (no question, or nothing was removed).
    repeats_given: whether a question asks for something that the prompt already states.
    evidence: the words or the rule that decided the type.
    """

    response_type: ResponseType
    evidence: str = ""
    extracted: str | None = None
    correct: bool | None = None
    targeted: bool | None = None
    repeats_given: bool = False


@dataclass(frozen=True, slots=True)
class Reward:
    """One reply's reward and the named parts whose sum it is."""

    total: float
    components: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a trajectory, in tokens as they were fed or sampled.

    token_ids: a user turn's ids hold the chat template's glue around it, up to and including the
        header that opens the next assistant turn; an assistant turn's ids are exactly what was
        sampled, the end-of-turn token included when it was sampled.
    logprobs: of the sampled ids under the policy that sampled them; empty for a user turn.
    advantage: what the turn's own tokens are learned with, one number or one a token; None where
        the trajectory's holds.
    told: shards that a user's turn tells, by their ids.
    gold_prob: of the gold answer just before an assistant's turn, as `training.credit` has it.
    """

    role: Role
    content: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    stop_reason: StopReason | None = None
    verdict: Verdict | None = None
    reward: Reward | None = None
    advantage: float | tuple[float, ...] | None = None
    told: tuple[int, ...] = ()
    gold_prob: float | None = None


@dataclass(frozen=True, slots=True)
class Trajectory:
    """A conversation from one prompt on; a single reply is a trajectory of one turn.

    prompt_ids followed by the `token_ids` of all turns is the sequence that is trained on;
    assistant turns alone carry loss.
    demonstration: True where the reply is the corpus's own and was not sampled; it then has no
        `logprobs`.
    """

    prompt: Prompt
    prompt_ids: tuple[int, ...]
    turns: tuple[Turn, ...] = ()
    reward: Reward | None = None
    demonstration: bool = False

    @property
    def reply(self) -> Turn:
        """The last assistant turn."""
        return next(t for t in reversed(self.turns) if t.role == "assistant")

    @property
    def replies(self) -> tuple[Turn, ...]:
        """All assistant turns."""
        return tuple(t for t in self.turns if t.role == "assistant")


@dataclass(frozen=True, slots=True)
class Group:
    """G trajectories of one prompt; advantages are normalised within it."""

    prompt: Prompt
    trajectories: tuple[Trajectory, ...]
    advantages: tuple[float, ...] | None = None

    @property
    def rewards(self) -> tuple[float, ...]:
        """Total reward of each trajectory; all must have been judged."""
        return tuple(t.reward.total for t in self.trajectories if t.reward is not None)


@dataclass(frozen=True, slots=True)
class Completion:
    """One sampled reply, before anybody has judged it."""

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    stop_reason: StopReason


class Judge(Protocol):
    """Who says what a reply is (`rewards.judge.Judge`)."""

    def judge_many(self, items: Iterable[tuple[Prompt, str, StopReason | None]]) -> list[Verdict]:
        """One verdict for each (prompt, reply, stop reason), in order."""
        ...


class Generator(Protocol):
    """A model as the data and reward rooms see it: chats in, texts out."""

    def generate(
        self,
        chats: Sequence[Sequence[Message]],
        *,
        n: int = 1,
        max_new_tokens: int = 256,
        temperature: float = 1.0,
        seed: int = 0,
    ) -> list[list[str]]:
        """n replies for each chat; equal arguments give equal texts."""
        ...


class Scorer(Protocol):
    """A model as a judge sees it: how likely is each of these continuations?"""

    def score(
        self,
        chats: Sequence[Sequence[Message]],
        continuations: Sequence[Sequence[str]],
        *,
        mean: bool = False,
    ) -> list[list[float]]:
        """Sum of token log-probs of every continuation of its chat's next assistant turn.

        mean: their mean over the continuation's tokens instead.
        """
        ...


@dataclass(frozen=True, slots=True)
class StepReport:
    """What one training step yields to whoever logs it. `metrics` uses TRL's names."""

    step: int
    metrics: Mapping[str, float]
    groups: tuple[Group, ...] = field(default=(), repr=False)


#: Rewards of one prompt's reply: (prompt, verdict, turn) -> Reward.
RewardRule = Callable[[Prompt, Verdict, Turn], Reward]


#: All rewards of a step, changed: (rewards, prompts, turns) -> rewards.
RewardChange = Callable[[Sequence[Reward], Sequence[Prompt], Sequence[Turn]], list[Reward]]


@dataclass(frozen=True, slots=True)
class TrainerState:
    """How far a run is, in TRL's names: steps made, and steps of the whole run."""

    global_step: int = 0
    max_steps: int = 0


@dataclass(frozen=True, slots=True)
class RewardContext:
    """Where a step's rewards are given. groups: the number of each reply's group; empty where each
    reply stands alone.
    """

    groups: tuple[int, ...] = ()
    state: TrainerState = TrainerState()


def in_context(change: RewardChange, context: RewardContext) -> RewardChange:
    """The change as it is in this step, where it goes by that (`rewards.reward_changes`)."""
    within = getattr(change, "within", None)
    changed: RewardChange = change if within is None else within(context)
    return changed
