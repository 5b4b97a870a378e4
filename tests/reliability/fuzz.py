"""Mutated recipes and corpora through `check` and `augment`: an exit code and one line, always.

    python tests/reliability/fuzz.py --count 10000 --replies 2000

Each case must end with exit code 0, 1 or 2 and, unless 0, with exactly one error line; with no
traceback; and without writing outside the output directory (an audit hook sees every attempt).
Half of the cases are bytes changed at random, half are made by hypothesis. Cases that fail are
printed with what repeats them. The replies of a chat server are `fuzz_endpoint.py`'s matter.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: No network, and no bytecode or thread pool beside what is tried.
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"}
SECONDS = 60
WRITES = {
    *("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.symlink", "os.link"),
    *("os.chmod", "shutil.rmtree", "shutil.move"),
}
RECIPE = """\
model_name_or_path: builtin:tiny
dataset_name: {corpus}
task: math
load_in_4bit: true
lora_r: 8
lora_target_modules: all-linear
share_underspecified: 0.3
augment:
  max_removed: 2
  mid_conversation: 0.3
reward: {{name: guarded, targeted: 1.0}}
judge: rules
columns: {{question: question}}
prompts_per_step: 4
num_generations: 4
max_prompt_length: 256
max_completion_length: 48
epsilon: 0.2
epsilon_high: 0.28
learning_rate: 2.0e-3
warmup_steps: 0.05
max_steps: 3
evaluation:
  settings: [full, sharded]
  problems: 4
output_dir: out/run
"""
QUESTION = (
    "Ann buys 4 boxes of pens at $3 each. Every box holds 12 pens. She gives 7 pens to a friend. "
    "How many pens does Ann have left?"
)
SOLUTION = "She buys 4*12=<<4*12=48>>48 pens.\nShe keeps 48-7=<<48-7=41>>41 pens.\n#### 41"
CODE = {"text": "Add two numbers.", "test_list": ["assert add(1, 2) == 3"], "code": "add = sum"}
CALLS = {
    "question": "Book a table for 4 at 7 pm.",
    "function": [{"name": "book"}],
    "possible_answer": [{"book": {"people": [4], "hour": [19]}}],
}


@dataclass
class Outcome:
    """What became of all cases; `broken` holds one line for each rule that was broken."""

    codes: Counter[int] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)


class Watch:
    """Everything that is written outside `allowed`, by an audit hook, which cannot be undone."""

    def __init__(self) -> None:
        self.allowed: Path | None = None
        self.outside: list[str] = []
        sys.addaudithook(self._seen)

    def _seen(self, event: str, args: tuple[Any, ...]) -> None:
        if self.allowed is None:
            return
        if event == "open":
            path, _, flags = args
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if not writes or isinstance(path, int) or path is None:
                return
            paths = [path]
        elif event in WRITES:
            paths = [a for a in args[:2] if isinstance(a, str | bytes | os.PathLike)]
        else:
            return
        for path in paths:
            place = os.path.realpath(os.fsdecode(path))
            if not place.startswith((str(self.allowed), "/dev/")):
                self.outside.append(f"{event} {place}")


@contextlib.contextmanager
def cheap_binding() -> Iterator[None]:
    """The built-in world with few problems, and the model loaded once: both are slow, not tried."""
    from functools import lru_cache

    from icpo_lite.data import from_recipe
    from icpo_lite.policy import load

    kept = from_recipe.WORLD_PROBLEMS, load.load_policy
    from_recipe.WORLD_PROBLEMS = 8
    load.load_policy = lru_cache(maxsize=2)(kept[1])  # type: ignore[assignment]
    try:
        yield
    finally:
        from_recipe.WORLD_PROBLEMS, load.load_policy = kept


class Slow(Exception):
    pass


def in_process(arguments: Sequence[str]) -> tuple[int, str]:
    """(exit code, standard error) of one command line; a traceback becomes code −1."""
    from icpo_lite import cli

    def stop(*_: object) -> None:
        raise Slow(f"took more than {SECONDS} s")

    out, err = io.StringIO(), io.StringIO()
    signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            return cli.run(list(arguments)), err.getvalue()
    except BaseException:
        return -1, err.getvalue() + traceback.format_exc(limit=-8)
    finally:
        signal.alarm(0)


def as_subprocess(arguments: Sequence[str]) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "icpo_lite", *arguments],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=10 * SECONDS,
    )
    return done.returncode, done.stderr


def problems_of(code: int, errors: str) -> list[str]:
    """Which rules an exit code and standard error break."""
    lines = [line for line in errors.splitlines() if line.startswith("Error:")]
    found = []
    if code not in (0, 1, 2):
        found.append(f"exit code {code}: {errors.strip()[-1500:]}")
    elif "Traceback" in errors:
        found.append(f"a traceback: {errors.strip()[-1500:]}")
    elif len(lines) != (code != 0):
        found.append(f"exit code {code} with {len(lines)} error lines: {errors.strip()[-300:]}")
    return found


# ----------------------------------------------------------------------------------------- mutation


def corpus_seeds() -> dict[str, bytes]:
    """A small whole file of every format that is read."""
    import pyarrow
    import pyarrow.parquet

    from icpo_lite.core.types import Intent, Message, Prompt
    from icpo_lite.data.prompt_file import to_row
    from icpo_lite.data.tiny_world import world_problems

    rows = [{"id": f"row-{i}", "question": QUESTION, "answer": SOLUTION} for i in range(3)]
    table = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), table)
    world = next(iter(world_problems("train", 1, seed=0)))
    prompt = Prompt(
        prompt_id="a/complete",
        problem_id="a",
        task="math",
        intent=Intent.COMPLETE,
        messages=(Message("user", world.question),),
        answer=world.answer,
        shards=world.shards,
    )

    def lines(items: Sequence[Any]) -> bytes:
        return "".join(json.dumps(item) + "\n" for item in items).encode()

    return {
        "math.jsonl": lines(rows),
        "code.jsonl": lines([CODE]),
        "calls.jsonl": lines([CALLS]),
        "chat.jsonl": lines(
            [
                {
                    "messages": [
                        {"role": "user", "content": QUESTION},
                        {"role": "assistant", "content": SOLUTION},
                    ]
                }
            ]
        ),
        "prompts.jsonl": lines([to_row(prompt)]),
        "rows.csv": f'question,answer\n"{QUESTION}","{SOLUTION}"\n'.encode(),
        "rows.tsv": f'question\tanswer\n"{QUESTION}"\t"{SOLUTION}"\n'.encode(),
        "rows.parquet": table.getvalue(),
    }


TOKENS = [
    *(
        b"\x00",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"\xed\xa0\x80",
        b"\r",
        b"\n",
        b"\t",
        b"../",
        b"/etc/",
    ),
    *(b"!!python/object/apply:os.system [touch x]", b"&a [*a]", b"*a", b"<<: ", b"? ", b"---\n"),
    *(b"nan", b".inf", b"-1", b"1e999", b"9" * 400, b"null", b"true", b"{", b"[" * 60, b'"', b"'"),
    *(
        b"\\u0000",
        b"\\ud800",
        b"{}",
        b"[]",
        b": ",
        b", ",
        b"\xe2\x80\xa8",
        b"\xd9\xa3",
        b"<<1=",
        b">>",
    ),
    *(
        b"#### ",
        b"<<" * 30,
        b"$",
        b"%",
        b"1/0",
        b"((((",
        b"**" * 9,
        b"cuda",
        b"endpoint",
        b"A" * 5000,
    ),
]


def mutated(data: bytes, rng: random.Random) -> bytes:
    """The bytes with one to six changes: flip, cut, double, insert, swap."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(out) + 1)
        end = min(len(out), at + rng.choice([1, 2, 8, 40]))
        kind = rng.randrange(5)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del out[at:end]
        elif kind == 2:
            out[at:at] = out[at:end] * rng.randint(1, 3)
        elif kind == 3:
            out[at:at] = rng.choice(TOKENS)
        else:
            out[at:end] = rng.choice(TOKENS)
    return bytes(out)


def cases(folder: Path, seed: int) -> Iterator[list[str]]:
    """Command lines without end, their files written to `folder` just before each is given."""
    rng, seeds = random.Random(seed), corpus_seeds()
    for number in range(1 << 40):
        name, data = rng.choice(list(seeds.items()))
        corpus = folder / f"{number % 8}-{name}"
        recipe = folder / f"{number % 8}.yaml"
        text = RECIPE.format(corpus=rng.choice(["builtin:world", str(corpus)])).encode()
        kind = rng.randrange(3)
        corpus.write_bytes(data if kind == 0 else mutated(data, rng))
        recipe.write_bytes(mutated(text, rng) if kind == 0 else text)
        yield arguments(kind < 2, recipe, corpus, rng)


def arguments(checks: bool, recipe: Path, corpus: Path, rng: random.Random) -> list[str]:
    if checks:
        return ["check", str(recipe), "--sample", "4"]
    target = corpus.parent / "out" / f"{rng.randrange(4)}.jsonl"
    skip = ["--on-bad-row", rng.choice(["skip", "error"])]
    return ["augment", str(corpus), "-o", str(target), "--seed", str(rng.randrange(9)), *skip]


def try_generated(
    folder: Path, count: int, seed: int, attempt: Callable[[list[str]], None]
) -> None:
    """`count` recipes and corpora that hypothesis makes of odd values under real keys."""
    import hypothesis
    import hypothesis.configuration
    from hypothesis import strategies as st

    from icpo_lite.data.sources import NAMES
    from icpo_lite.recipe import ALIASES, EXPLAINED, Recipe

    odd_text = st.one_of(
        st.text(max_size=40),
        st.sampled_from(
            ["../../x", "a\x00b", "#### 3", "<<1/0=1>>", "x" * 3000, "nan", "1e400", "٣"]
        ),
    )
    leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), odd_text)
    value = st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4), st.dictionaries(odd_text, inner, max_size=4)
        ),
        max_leaves=8,
    )
    keys = sorted({*Recipe.model_fields, *ALIASES, *EXPLAINED, "extends", "unknown"})
    recipes = st.dictionaries(st.sampled_from(keys), value, min_size=1, max_size=3)
    columns = sorted({name for names in NAMES.values() for name in names})
    known = st.one_of(value, st.sampled_from([QUESTION, SOLUTION, "#### 41"]))
    rows = st.lists(st.dictionaries(st.sampled_from(columns), known, max_size=5), max_size=3)
    random_numbers = random.Random(seed)
    hypothesis.configuration.set_hypothesis_home_dir(folder / "out" / "hypothesis")

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate],
    )
    @hypothesis.given(st.booleans(), recipes, rows)
    def generated(checks: bool, changes: dict[str, Any], made: list[Any]) -> None:
        corpus, recipe = folder / "made.jsonl", folder / "made.yaml"
        good = {"question": QUESTION, "answer": SOLUTION}
        text = "".join(json.dumps(row) + "\n" for row in [good, *made])
        corpus.write_text(text, encoding="utf-8", errors="surrogatepass")
        base = RECIPE.format(corpus="builtin:world" if checks else str(corpus))
        kept = [line for line in base.splitlines() if line.partition(":")[0] not in changes]
        own = [f"{key}: {json.dumps(v)}" for key, v in changes.items()]
        recipe.write_text("\n".join([*kept, *own]), encoding="utf-8", errors="surrogatepass")
        attempt(arguments(checks, recipe, corpus, random_numbers))

    generated()


# ----------------------------------------------------------------------------------------- the run


def fuzz(folder: Path, count: int, *, subprocesses: int = 0, seed: int = 0) -> Outcome:
    """Try `count` cases in this process and `subprocesses` more outside it."""
    outcome, watch = Outcome(), Watch()
    (folder / "out").mkdir()
    begun = time.monotonic()

    def attempt(call: Callable[[Sequence[str]], tuple[int, str]], given: list[str]) -> None:
        watch.outside.clear()
        watch.allowed = Path(os.path.realpath(folder)) / "out"
        try:
            code, errors = call(given)
        finally:
            watch.allowed = None
        outcome.codes[code] += 1
        outside = [f"written outside: {place}" for place in watch.outside[:2]]
        for problem in [*problems_of(code, errors), *outside]:
            where = f"case {sum(outcome.codes.values())} {' '.join(given[:2])}"
            outcome.broken.append(f"{where}: {problem}")
            keep = folder.parent / f"broken-{len(outcome.broken)}"
            if len(outcome.broken) <= 20:
                keep.write_bytes(Path(given[1]).read_bytes())
        if sum(outcome.codes.values()) % 1000 == 0:
            told = f"{sum(outcome.codes.values())} cases, {time.monotonic() - begun:.0f} s"
            print(f"{told}, codes {dict(outcome.codes)}, broken {len(outcome.broken)}", flush=True)

    before = Path.cwd()
    os.chdir(folder)
    try:
        with environment(folder), cheap_binding():
            made = cases(folder, seed)
            for given, _ in zip(made, range(count - count // 2), strict=False):
                attempt(in_process, given)
            if count // 2:
                try_generated(folder, count // 2, seed, lambda given: attempt(in_process, given))
            listed = set(folder.parent.iterdir())
            for given, _ in zip(made, range(subprocesses), strict=False):
                attempt(as_subprocess, given)
            strangers = set(folder.parent.iterdir()) - listed
            strangers = {p for p in strangers if not p.name.startswith("broken-")}
            own = {"out", "made.jsonl", "made.yaml", *(p.name for p in folder.glob("[0-7]*"))}
            strangers |= {p for p in folder.iterdir() if p.name not in own}
            outcome.broken += [f"written outside by a subprocess: {p}" for p in strangers]
    finally:
        os.chdir(before)
    return outcome


@contextlib.contextmanager
def environment(folder: Path) -> Iterator[None]:
    """Caches inside the output directory; no network; all as it was afterwards."""
    package = str(Path(__file__).resolve().parents[2])
    inside = {name: str(folder / "out" / name) for name in ("XDG_CACHE_HOME", "HF_HOME", "TMPDIR")}
    for place in inside.values():
        Path(place).mkdir()
    changed = {**OFFLINE, **inside, "PYTHONPATH": package}
    kept = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    tempfile.tempdir = None
    try:
        yield
    finally:
        for name, value in kept.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
        tempfile.tempdir = None


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz recipes and corpora.")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--subprocesses", type=int, default=200)
    parser.add_argument("--replies", type=int, default=2000, help="mutated replies of a server")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    os.environ.update(OFFLINE)
    sys.dont_write_bytecode = True
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "work"
        folder.mkdir()
        outcome = fuzz(folder, given.count, subprocesses=given.subprocesses, seed=given.seed)
        print(f"{sum(outcome.codes.values())} cases, exit codes {dict(outcome.codes)}")
        import fuzz_endpoint

        replies = fuzz_endpoint.fuzz(given.replies, Path(place), given.seed)
        print(f"{sum(replies.ends.values())} replies of a server, {dict(replies.ends)}")
        broken = [*outcome.broken, *replies.broken]
        for problem in broken[:40]:
            print(f"BROKEN {problem}")
    print(f"{len(broken)} broken")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
