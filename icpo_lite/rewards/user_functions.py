"""A user's own reward functions: `file.py:name` in a recipe, with TRL's signature.

    def brevity(prompts, completions, **columns) -> list[float | None]

As in TRL for chats, `prompts[i]` is a list of messages and `completions[i]` a list of one:
`completions[i][0]["content"]` is the text. Columns are lists as long: the row's own, and `answer`,
`solution`, `task`, `intent`, `response_type`, `completion_ids`, and `group_index`, the number of
the group that a reply belongs to. `trainer_state` has TRL's `global_step` and `max_steps`. None
means: no opinion here.
"""

from __future__ import annotations

import importlib.util
import inspect
import math
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from icpo_lite.core.errors import GraderError, RecipeError
from icpo_lite.core.types import Prompt, Reward, RewardContext, Turn


@dataclass(frozen=True, slots=True)
class UserReward:
    """A loaded function. name: of its component in logs. path: its file, for errors."""

    name: str
    path: Path
    function: Callable[..., Any]

    def __call__(
        self,
        prompts: Sequence[Prompt],
        turns: Sequence[Turn],
        context: RewardContext | None = None,
    ) -> list[float | None]:
        """One reward or None for each reply; turns hold the judged replies of `prompts`.

        Raises GraderError, with the user's file and line, when the function fails or returns
        something else than as many numbers.
        """
        chats = [[{"role": m.role, "content": m.text} for m in p.messages] for p in prompts]
        replies = [[{"role": "assistant", "content": t.content}] for t in turns]
        columns = self._accepted(_columns(prompts, turns, context or RewardContext()))
        try:
            rewards = self.function(prompts=chats, completions=replies, **columns)
        except (Exception, SystemExit) as error:  # `sys.exit()` is no way out of a run either
            raise GraderError(failure(self.name, self.path, error)) from error
        return self._checked(rewards, len(turns))

    def _accepted(self, columns: dict[str, Any]) -> dict[str, Any]:
        """The columns that the function names, or all where it takes `**columns`."""
        parameters = inspect.signature(self.function).parameters
        if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            return columns
        return {k: v for k, v in columns.items() if k in parameters}

    def _checked(self, rewards: Any, count: int) -> list[float | None]:
        line = inspect.unwrap(self.function).__code__.co_firstlineno
        place = f"{self.path.name}:{line}: {self.name}"
        if inspect.iscoroutine(rewards):
            rewards.close()
            raise GraderError(f"{place}: expected a plain function, found an async one")
        if not isinstance(rewards, Sequence) or isinstance(rewards, str):
            rewards = rewards.tolist() if hasattr(rewards, "tolist") else rewards
        if not isinstance(rewards, list | tuple) or len(rewards) != count:
            found = f"{len(rewards)} values" if hasattr(rewards, "__len__") else repr(rewards)
            raise GraderError(f"{place}: expected a list of {count} numbers, found {found}")
        return [self._number(r, place) for r in rewards]

    def _number(self, reward: Any, place: str) -> float | None:
        if reward is None:
            return None
        try:
            number = float(reward)
        except (TypeError, ValueError):
            number = math.nan
        if isinstance(reward, str) or not math.isfinite(number):
            raise GraderError(f"{place}: expected finite numbers or None, found {reward!r}")
        return number


def failure(name: str, path: Path, error: BaseException) -> str:
    """What went wrong in a user's function, with the user's own file and line."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if f.filename == str(path)]
    place = f"{path.name}:{own[-1].lineno}" if own else path.name
    line = f", at `{own[-1].line}`" if own and own[-1].line else ""
    return f"{place}: {name} failed: {type(error).__name__}: {error}{line}"


def _columns(
    prompts: Sequence[Prompt], turns: Sequence[Turn], context: RewardContext
) -> dict[str, Any]:
    names = dict.fromkeys(name for p in prompts for name in p.columns)
    columns: dict[str, Any] = {n: [p.columns.get(n) for p in prompts] for n in names}
    columns |= {
        "answer": [p.answer for p in prompts],
        "solution": [p.solution for p in prompts],
        "task": [p.task for p in prompts],
        "intent": [p.intent.value for p in prompts],
        "response_type": [t.verdict.response_type.value if t.verdict else None for t in turns],
        "completion_ids": [list(t.token_ids) for t in turns],
        "group_index": list(context.groups or range(len(turns))),
        "trainer_state": context.state,
    }
    return {k: v for k, v in columns.items() if k not in ("prompts", "completions")}


def load_reward_funcs(
    specs: Sequence[str], folder: Path, *, allow_user_code: bool = True
) -> list[UserReward]:
    """The functions that a recipe names as `file.py:name`.

    folder: the recipe's; files resolve against it and may not lie outside.
    allow_user_code: False refuses any, for recipes from strangers (`--no-user-code`).
    Raises RecipeError for a spec that cannot be loaded.
    """
    if specs and not allow_user_code:
        raise RecipeError(
            f"reward_funcs: the recipe runs code of its own ({specs[0]}), and --no-user-code "
            "refuses that; drop the key or the option"
        )
    return [UserReward(*load_function("reward_funcs", spec, folder)) for spec in specs]


def load_function(key: str, spec: str, folder: Path) -> tuple[str, Path, Callable[..., Any]]:
    """(name, file, function) of `file.py:name` in a recipe's folder; `key` is named in errors.

    Raises RecipeError for a spec that cannot be loaded.
    """
    folder = folder.resolve()
    file, colon, name = spec.rpartition(":")
    if not colon or not file or not name.isidentifier():
        raise RecipeError(f"{key}: expected file.py:name, found {spec!r}")
    path = (folder / file).resolve()
    if not path.is_relative_to(folder):
        raise RecipeError(
            f"{key}: expected a file in the recipe's folder, {file} lies outside; move it"
        )
    if not path.is_file():
        raise RecipeError(f"{key}: expected a Python file, found none at {file}")
    function = getattr(_module(key, path), name, None)
    if not callable(function):
        raise RecipeError(f"{key}: expected a function {name} in {file}, found none")
    return name, path, function


def _module(key: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"icpo_lite_user_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise RecipeError(f"{key}: expected a Python file, found {path.name}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module  # dataclasses and pickling look a module up by its name
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        own = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
        line = error.lineno if isinstance(error, SyntaxError) else own[-1].lineno if own else 1
        raise RecipeError(
            f"{path.name}:{line}: cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    return module


def with_user_rewards(
    rewards: Sequence[Reward],
    functions: Sequence[UserReward],
    weights: Sequence[float],
    prompts: Sequence[Prompt],
    turns: Sequence[Turn],
    context: RewardContext | None = None,
) -> list[Reward]:
    """Rewards with each function's weighted value added as a component of its name.

    weights: one a function; empty means 1 each. None adds nothing.
    """
    added: list[dict[str, float]] = [{} for _ in rewards]
    for function, weight in zip(functions, weights or [1.0] * len(functions), strict=True):
        for parts, value in zip(added, function(prompts, turns, context), strict=True):
            if value is not None:
                parts[function.name] = weight * value
    return [
        Reward(r.total + sum(parts.values()), {**r.components, **parts})
        for r, parts in zip(rewards, added, strict=True)
    ]
