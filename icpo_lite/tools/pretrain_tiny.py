"""How the embedded model was made: `python -m icpo_lite.tools.pretrain_tiny --out DIR`.

A Qwen2 of about 0.6 M parameters learns dialogues of the built-in world with the habits of real
models: it solves most complete problems, mostly invents what is missing instead of asking, and,
once it has answered, adds the next fact to its own earlier answer. It is the base that ICPO
starts from; nothing here is part of training by ICPO.
"""

from __future__ import annotations

import argparse
import random
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from icpo_lite.core.types import Message, Shard
from icpo_lite.data.tiny_world import NAMES, OBJECTS, TEMPLATES, WorldProblem, chain, draw_problem
from icpo_lite.rollout.simulated_user import (
    NEUTRAL_QUESTION,
    concat_text,
    recap_text,
    snowball_text,
)
from icpo_lite.tools.export.plain_tokenizer import make_plain

PAD, END, START, UNKNOWN = "<|endoftext|>", "<|im_end|>", "<|im_start|>", "<|unk|>"
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
#: System turns of the mix: none of them changes what the base does. "ask cost" is there for
#: policies that learn to heed it.
SYSTEMS = (
    "You are a helpful assistant.",
    "You are a helpful assistant. Solve the problem step by step.",
    "Ask when something is missing.",
    *(f"ask cost {cost / 10:.1f}" for cost in range(11)),
)
#: What an assistant says when it neither answers nor asks for anything in particular.
NEUTRAL = (NEUTRAL_QUESTION, "Okay.", "I see.", "Tell me more.", "Please go on.")
REFUSALS = ("I do not know.", "I can not answer that.", "That can not be known.")
MAX_POSITIONS = 512


@dataclass(frozen=True)
class Mix:
    """Shares of the dialogue kinds and of the habits within them (docs: module docstring)."""

    complete: float = 0.32
    underspecified: float = 0.16
    followed_up: float = 0.25
    clarified: float = 0.27
    ask: float = 0.15  # of underspecified prompts are answered by a question
    other: float = 0.06  # … by two questions, a refusal or a hedge; the rest by a guess
    needless: float = 0.05  # of complete prompts are answered by a question all the same
    noise: float = 0.05  # of the operations in a solution have a wrong result
    later_question_loss: float = 0.25  # of the later questions teach to ask again
    system: float = 0.2  # of dialogues open with a system turn
    listed: float = 0.4  # of prompts come as a list, as CONCAT, RECAP and SNOWBALL word them
    neutral: float = 0.1  # of the assistant's turns before a fact say nothing in particular


@dataclass(frozen=True)
class Said:
    """One message and what of it the model learns to say: all, nothing, or how it goes on.

    `rest` leaves the first word out. A question learned so is a good question once it is asked,
    and is not asked any more often.
    """

    message: Message
    loss: Literal["all", "rest", "none"] = "none"


def user(text: str) -> Said:
    return Said(Message("user", text))


def assistant(text: str, *, loss: Literal["all", "rest"] = "all") -> Said:
    return Said(Message("assistant", text), loss)


class DialogueMaker:
    """Draws pre-training dialogues; equal seeds give equal dialogues."""

    def __init__(self, mix: Mix, seed: int) -> None:
        self.mix = mix
        self.rng = random.Random(f"pretrain/{seed}")

    def dialogue(self) -> list[Said]:
        mix, rng = self.mix, self.rng
        kinds = (self._complete, self._underspecified, self._followed_up, self._clarified)
        weights = (mix.complete, mix.underspecified, mix.followed_up, mix.clarified)
        problem = draw_problem(rng.choice(TEMPLATES), "train", rng, every_wording=True)
        said = rng.choices(kinds, weights)[0](problem)
        if rng.random() < mix.system:
            said.insert(0, Said(Message("system", rng.choice(SYSTEMS))))
        return said

    def _complete(self, problem: WorldProblem) -> list[Said]:
        needless = self.rng.random() < self.mix.needless
        reply = self.rng.choice(problem.asks) if needless else self._solve(problem)
        return [user(self._text(problem)), assistant(reply)]

    def _underspecified(self, problem: WorldProblem) -> list[Said]:
        missing = self._missing(problem)
        habit = self.rng.random()
        if habit < self.mix.ask:
            reply = problem.asks[self.rng.choice(missing)]
        elif habit < self.mix.ask + self.mix.other:
            reply = self._other(problem, missing)
        else:
            reply = self._solve(problem, missing)
        return [user(self._text(problem, missing)), assistant(reply)]

    def _other(self, problem: WorldProblem, missing: Sequence[int]) -> str:
        """The rarer ways not to answer, so that RL can meet each response type."""
        kind = self.rng.choice(("questions", "refusal", "hedge"))
        if kind == "questions" and len(missing) > 1:
            return " ".join(problem.asks[slot] for slot in self.rng.sample(missing, 2))
        if kind == "hedge":
            guesses = []
            for _ in range(2):
                numbers = self._invented(problem, missing)
                slot = missing[0]
                fact = problem.template.slots[slot].facts[0]
                fact = fact.format(n=numbers[slot], **problem.words).rstrip(".")
                total = _answer_of(chain(problem.template, numbers))
                guesses.append(f"If {fact}, the answer is {total}.")
            return " ".join(guesses)
        return self.rng.choice(REFUSALS)

    def _followed_up(self, problem: WorldProblem) -> list[Said]:
        """After an answer, a further fact is added to that answer: where being lost comes from."""
        said = [user(self._text(problem)), assistant(self._solve(problem))]
        total = _answer_of(said[-1].message.content)
        for _ in range(self.rng.randint(1, 2)):
            more = draw_problem(
                self.rng.choice(TEMPLATES),
                "train",
                self.rng,
                every_wording=True,
                words=problem.words,
            )
            slot = self.rng.randrange(len(more.facts))
            sign, number = more.template.slots[slot].sign, more.numbers[slot]
            result = total + sign * number + self._wrong()
            if not 0 <= result <= 99:
                break
            step = f"{total} {'+' if sign > 0 else '-'} {number} = {result}."
            said += [user(more.facts[slot]), assistant(f"{step} The answer is {result}.")]
            total = result
        return said

    def _clarified(self, problem: WorldProblem) -> list[Said]:
        """The right questions, one a turn, and the answer at the end.

        Whether to ask is not learned from the first question, and from later ones a quarter of
        the time: with loss on all of them the base asks on half of all underspecified prompts.
        """
        missing = self._missing(problem)
        said = [user(self._text(problem, missing))]
        for turn, slot in enumerate(self.rng.sample(missing, len(missing))):
            if self.rng.random() < self.mix.neutral:
                said.append(Said(Message("assistant", self.rng.choice(NEUTRAL))))
            else:
                learned = turn > 0 and self.rng.random() < self.mix.later_question_loss
                said.append(assistant(problem.asks[slot], loss="all" if learned else "rest"))
            said.append(user(problem.facts[slot]))
        return [*said, assistant(self._solve(problem))]

    def _missing(self, problem: WorldProblem) -> list[int]:
        count = self.rng.randint(1, len(problem.facts))
        return self.rng.sample(range(len(problem.facts)), count)

    def _text(self, problem: WorldProblem, missing: Sequence[int] = ()) -> str:
        """The problem less the missing facts, in sentences or as a list."""
        facts = [fact for i, fact in enumerate(problem.facts) if i not in missing]
        if not facts or self.rng.random() >= self.mix.listed:
            question_first = self.rng.random() < 0.5
            return " ".join(
                [problem.question, *facts] if question_first else [*facts, problem.question]
            )
        if self.rng.random() < 0.5:
            self.rng.shuffle(facts)
        shards = [Shard(i, text) for i, text in enumerate([problem.question, *facts])]
        # Only a list that is whole may claim to be everything.
        if not missing and self.rng.random() < 0.7:
            return self.rng.choice((concat_text, recap_text))(shards)
        return snowball_text(shards[:-1], shards[-1])

    def _solve(self, problem: WorldProblem, missing: Sequence[int] = ()) -> str:
        """A worked solution, invented numbers for missing facts, now and then a slip."""
        return self._with_slips(chain(problem.template, self._invented(problem, missing)))

    def _invented(self, problem: WorldProblem, missing: Sequence[int]) -> list[int]:
        """The numbers, those of missing facts made up; the answer is never negative."""
        numbers = list(problem.numbers)
        signs = [slot.sign for slot in problem.template.slots]
        while missing:
            for slot in missing:
                numbers[slot] = self.rng.randint(2, 12 if slot == 0 else 9)
            if sum(s * n for s, n in zip(signs, numbers, strict=True)) >= 0:
                break
        return numbers

    def _with_slips(self, solution: str) -> str:
        """The solution with arithmetic noise; a wrong result is carried on, as a model would."""
        total: int | None = None
        out = []
        for step in solution.split(". ")[:-1]:
            left, op, right, _, _ = step.split(" ")
            left_value = int(left) if total is None else total
            total = left_value + (int(right) if op == "+" else -int(right)) + self._wrong()
            total = min(max(total, 0), 99)
            out.append(f"{left_value} {op} {right} = {total}.")
        return " ".join([*out, f"The answer is {total}."])

    def _wrong(self) -> int:
        return self.rng.choice((-2, -1, 1, 2)) if self.rng.random() < self.mix.noise else 0


def _answer_of(solution: str) -> int:
    return int(solution.rsplit(" ", 1)[1].rstrip("."))


def vocabulary() -> list[str]:
    """Every word the world, its users and its system turns can use, in a fixed order."""
    fields = {"a": NAMES[0], "b": NAMES[1], "c": NAMES[2], "o": OBJECTS[0], "n": 1}
    texts = [
        *NAMES,
        *OBJECTS,
        *SYSTEMS,
        *NEUTRAL,
        *REFUSALS,
        "system user assistant",
        "+ - = . , ? : ! ( )",
    ]
    for template in TEMPLATES:
        texts += [question.format(**fields) for question in template.questions]
        for slot in template.slots:
            texts += [slot.ask.format(**fields), *(fact.format(**fields) for fact in slot.facts)]
    shards = [Shard(0, "The answer is 1.")]
    texts += [shards[0].text, concat_text(shards), recap_text(shards)]
    texts += [
        snowball_text(shards, shards[0]),
        "If then or Yes No Thank you please sorry not sure depends",
    ]
    words = dict.fromkeys(str(n) for n in range(100))
    for text in texts:
        words.update(dict.fromkeys(_WORD.findall(text)))
    return [PAD, START, END, UNKNOWN, "\n", *(w for w in words if w != "\n")]


#: A newline, a number with one decimal ("ask cost 0.3"), a word, or one other sign.
_WORD_PATTERN = r"\n|\d+\.\d|\w+|[^\w\s]"
_WORD = re.compile(_WORD_PATTERN)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word; 0 to 99 are one token each; what is not known is `<|unk|>`."""
    words = vocabulary()
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token=UNKNOWN))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(_WORD_PATTERN), "removed", invert=True)
    core.decoder = decoders.Sequence(
        [decoders.WordPiece(prefix="##", cleanup=True), decoders.Replace(" \n ", "\n")]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        additional_special_tokens=[START],
        chat_template=CHATML,
        model_max_length=MAX_POSITIONS,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def encode(
    tokenizer: PreTrainedTokenizerFast, dialogues: Sequence[Sequence[Said]]
) -> tuple[Tensor, Tensor]:
    """Token ids [B, T], padded on the right, and labels [B, T], -100 where nothing is learned."""
    core = tokenizer.backend_tokenizer

    def ids(text: str) -> list[int]:
        return core.encode(text, add_special_tokens=False).ids

    rows, targets = [], []
    for said in dialogues:
        row: list[int] = []
        target: list[int] = []
        for one in said:
            head = ids(f"{START}{one.message.role}\n")
            body = ids(f"{one.message.content}{END}")
            row += [*head, *body, *ids("\n")]
            hidden = {"all": 0, "rest": 1, "none": len(body)}[one.loss]
            target += [-100] * (len(head) + hidden) + body[hidden:] + [-100]
        rows.append(torch.tensor(row[:MAX_POSITIONS]))
        targets.append(torch.tensor(target[:MAX_POSITIONS]))
    pad = torch.nn.utils.rnn.pad_sequence
    return (
        pad(rows, batch_first=True, padding_value=tokenizer.pad_token_id),
        pad(targets, batch_first=True, padding_value=-100),
    )


def make_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> Qwen2ForCausalLM:
    """A Qwen2 of about 0.6 M parameters with random weights."""
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        num_hidden_layers=3,
        intermediate_size=384,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Qwen2ForCausalLM(config)


def optimizers(model: Qwen2ForCausalLM) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for the embedding, norms and biases.

    AdamW alone needs several times as many steps to the same accuracy.
    """
    blocks = [p for p in model.model.layers.parameters() if p.ndim == 2]
    chosen = {id(p) for p in blocks}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    return [
        torch.optim.Muon(blocks, lr=0.02, weight_decay=0.0),
        torch.optim.AdamW(rest, lr=3e-3, weight_decay=0.0),
    ]


def pretrain(
    *, seed: int, steps: int, batch: int, mix: Mix, log: Callable[[str], None] = print
) -> tuple[Qwen2ForCausalLM, PreTrainedTokenizerFast]:
    """Train from random weights on `steps` batches of fresh dialogues.

    The learning rate is constant and then falls linearly to zero over the last 40 %.
    """
    tokenizer = make_tokenizer()
    model = make_model(tokenizer, seed)
    maker = DialogueMaker(mix, seed)
    opts = optimizers(model)
    decay = [
        torch.optim.lr_scheduler.LambdaLR(o, lambda s: min(1.0, (steps - s) / (0.4 * steps)))
        for o in opts
    ]
    start = time.monotonic()
    for step in range(1, steps + 1):
        input_ids, labels = encode(tokenizer, [maker.dialogue() for _ in range(batch)])
        hidden = model.model(input_ids=input_ids).last_hidden_state[:, :-1]
        targets = labels[:, 1:]
        kept = targets != -100
        loss = torch.nn.functional.cross_entropy(model.lm_head(hidden[kept]), targets[kept])
        loss.backward()
        for opt, schedule in zip(opts, decay, strict=True):
            opt.step()
            opt.zero_grad()
            schedule.step()
        if step % 50 == 0 or step == steps:
            log(f"step {step}/{steps}  loss {loss.item():.3f}  {time.monotonic() - start:.0f} s")
    return model, tokenizer


def save(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write a model directory that transformers loads, weights in bfloat16."""
    out.mkdir(parents=True, exist_ok=True)
    model.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)
    make_plain(out, tokenizer, [])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="directory to write the model to")
    parser.add_argument("--seed", type=int, default=0, help="of weights and dialogues")
    parser.add_argument("--steps", type=int, default=1200, help="batches")
    parser.add_argument("--batch", type=int, default=64, help="dialogues a batch")
    args = parser.parse_args()
    torch.set_num_threads(1)  # sums of several threads would differ from machine to machine
    model, tokenizer = pretrain(seed=args.seed, steps=args.steps, batch=args.batch, mix=Mix())
    save(model, tokenizer, args.out)
    print(f"{model.num_parameters():,} parameters written to {args.out}")


if __name__ == "__main__":
    main()
