"""Recipes: what is read, what is refused, and how the refusal reads."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

import icpo_lite
from icpo_lite.core.errors import RecipeError
from icpo_lite.recipe import (
    ALIASES,
    EXPLAINED,
    Evaluation,
    Recipe,
    compared_recipes,
    load_recipe,
    resolved_yaml,
    shipped_recipes,
)
from icpo_lite.recipe.objective_sections import CLIPPED_LOSSES
from icpo_lite.recipe.section import SettingName
from icpo_lite.recipe.strict_yaml import dump_yaml, read_yaml

MINIMAL = "model_name_or_path: m\ndataset_name: d\n"
PACKAGE = Path(icpo_lite.__file__).parent


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(folder: Path, text: str, *overrides: str, name: str = "r.yaml") -> Recipe:
    (folder / name).write_text(text, encoding="utf-8")
    return load_recipe(name, overrides)


def refusal(folder: Path, text: str, *overrides: str) -> str:
    with pytest.raises(RecipeError) as error:
        read(folder, text, *overrides)
    message = str(error.value)
    assert "\n" not in message
    return message


# ------------------------------------------------------------------------------------- reading


def test_defaults_and_where(folder: Path) -> None:
    recipe = read(folder, MINIMAL + "\nevaluation:\n  runs: 3\n")
    assert (recipe.model_name_or_path, recipe.evaluation.runs) == ("m", 3)
    assert recipe.output_dir == "runs/r"
    assert recipe.where("dataset_name") == "r.yaml:2"
    assert recipe.where("evaluation.runs") == "r.yaml:5"
    assert recipe.where("evaluation.problems") == "r.yaml:4", "the block around an unset option"
    assert recipe.where("seed") == "r.yaml"
    assert recipe.folder.resolve() == folder.resolve()


@pytest.mark.parametrize(
    ("text", "value"),
    [("seed: 010", 10), ("max_steps: 0100", 100), ("seed: 0x10", 16), ("seed: 0o17", 15)],
)
def test_numbers_are_those_of_yaml_1_2(folder: Path, text: str, value: int) -> None:
    """YAML 1.1, as PyYAML reads it, makes 8 of 010 and 64 of 0100."""
    key = text.partition(":")[0]
    assert getattr(read(folder, MINIMAL + text), key) == value
    assert yaml.safe_load("a: 010") == {"a": 8}, "PyYAML alone reads an octal number"


@pytest.mark.parametrize("text", ["no", "010", "1:30", "0o17", "+.5", "09", "<<", "~", "true"])
def test_text_that_looks_like_more_is_dumped_in_quotes(text: str) -> None:
    dumped = dump_yaml({"key": text})
    assert read_yaml(dumped, "x")[0] == yaml.safe_load(dumped) == {"key": text}


@pytest.mark.parametrize(
    ("text", "value"), [("1e-5", 1e-5), ("2E+1", 20.0), ("1.5e-3", 1.5e-3), (".5e-2", 0.005)]
)
def test_exponents_are_numbers(folder: Path, text: str, value: float) -> None:
    assert yaml.safe_load("1e-5") == "1e-5", "PyYAML alone reads a string"
    recipe = read(folder, f"{MINIMAL}learning_rate: {text}\naugment: {{x: [{text}]}}\n")
    assert recipe.learning_rate == value
    assert recipe.augment == {"x": [value]}
    assert read(folder, MINIMAL, f"learning_rate={text}").learning_rate == value


def test_overrides(folder: Path) -> None:
    recipe = read(
        folder,
        MINIMAL,
        "max_steps=7",
        "evaluation.runs=2",
        "evaluation.settings=[full,sharded]",
        "reward.targeted=0.8",
        "columns.question=problem",
        "lora_target_modules=q_proj,v_proj",
        "lora_rank=4",
        "epsilon_high=",
        "output_dir=out=1",
    )
    assert recipe.max_steps == 7
    assert recipe.evaluation == Evaluation(runs=2, settings=("full", "sharded"))
    assert recipe.reward == {"name": "guarded", "targeted": 0.8}
    assert recipe.columns == {"question": "problem"}
    assert recipe.lora_target_modules == ("q_proj", "v_proj")
    assert recipe.lora_r == 4
    assert recipe.epsilon_high is None
    assert recipe.output_dir == "out=1"
    assert recipe.where("evaluation.runs") == "command line"
    assert recipe.where("lora_r") == "command line"


def test_extends_merges_blocks_and_replaces_the_rest(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "base.yaml").write_text(
        MINIMAL + "columns: {question: a, answer: b}\nevaluation: {runs: 3, problems: 5}\n"
        "reward: {name: guarded, targeted: 0.9}\nlora_r: 4\n"
    )
    (folder / "sub" / "middle.yaml").write_text("extends: base.yaml\nlora_r: 8\nseed: 2\n")
    recipe = read(
        folder,
        "extends: sub/middle.yaml\ncolumns: {question: c}\nevaluation: {runs: 9}\nseed: 3\n",
        "reward.hedging=0.1",
    )
    assert (recipe.lora_r, recipe.seed) == (8, 3)
    assert recipe.columns == {"question": "c"}
    assert (recipe.evaluation.runs, recipe.evaluation.problems) == (9, 5)
    assert recipe.reward == {"name": "guarded", "targeted": 0.9, "hedging": 0.1}
    assert recipe.where("evaluation.problems") == "sub/base.yaml:4"
    assert recipe.where("evaluation.runs") == "r.yaml:3"
    assert recipe.where("columns.answer") == "r.yaml:2", "the parent's place has gone"


def test_another_reward_leaves_the_parents_options_behind(folder: Path) -> None:
    (folder / "base.yaml").write_text(MINIMAL + "reward: {name: guarded, targeted: 0.9}\n")
    assert read(folder, "extends: base.yaml\nreward: paper\n").reward == {"name": "paper"}
    assert read(folder, "extends: base.yaml\n", "reward=paper").reward == {"name": "paper"}
    assert read(folder, "extends: base.yaml\nreward: guarded\n").reward["targeted"] == 0.9


def test_a_dotted_override_changes_one_entry_of_any_mapping(folder: Path) -> None:
    text = (
        MINIMAL + "columns: {question: a, answer: b}\n"
        "endpoint: {base_url: 'http://h', model: m, extra_body: {a: 1, b: {c: 2}}}\n"
    )
    recipe = read(folder, text, "columns.question=c", "endpoint.extra_body.b.d=3")
    assert recipe.columns == {"question": "c", "answer": "b"}
    assert recipe.endpoint is not None
    assert recipe.endpoint.extra_body == {"a": 1, "b": {"c": 2, "d": 3}}
    assert read(folder, text, "columns={question: c}").columns == {"question": "c"}
    assert recipe.where("columns.question") == "command line"
    assert recipe.where("columns.answer") == "r.yaml:3"
    assert recipe.where("columns") == "r.yaml:3"
    with_reward = MINIMAL + "reward: {targeted: 0.9}\n"
    assert read(folder, with_reward, "reward.name=paper").reward == {"name": "paper"}
    assert read(folder, with_reward, "reward.name=guarded").reward["targeted"] == 0.9


def test_shipped_recipes_by_name_and_a_file_of_that_name_first(folder: Path) -> None:
    assert load_recipe("tiny") == load_recipe("tiny.yaml")
    assert load_recipe("tiny").output_dir == "runs/tiny"
    assert read(folder, "extends: tiny\nseed: 5\n").lora_r == load_recipe("tiny").lora_r
    (folder / "tiny").mkdir()
    assert load_recipe("tiny").model_name_or_path == "builtin:tiny", "a folder is no recipe"
    (folder / "tiny.yaml").write_text(MINIMAL)
    assert load_recipe("tiny.yaml").model_name_or_path == "m"


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_every_shipped_recipe_is_read(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.output_dir == f"runs/{name}"
    for other in compared_recipes(recipe).values():
        assert other.share_underspecified == 0


def test_recipes_for_every_size_of_card_are_shipped() -> None:
    sizes = {f"qwen{size}" for size in ("1.5b", "3b", "7b", "14b", "32b")}
    assert set(shipped_recipes()) >= {"tiny", "tiny-rlvr", "paper-1.5b", *sizes}
    for name in sizes:
        head = shipped_recipes()[name].read_text(encoding="utf-8").split("model_name_or_path")[0]
        assert f"icpo-lite train {name}\n" in head
        assert "Planned memory in GB" in head
        assert load_recipe(name).gradient_checkpointing


#: Recipe → model, and what its chat template is told.
FAMILIES = {
    "qwen3-1.7b": ("Qwen/Qwen3-1.7B", {"enable_thinking": False}),
    "qwen3-4b": ("Qwen/Qwen3-4B", {"enable_thinking": False}),
    "qwen3-4b-thinking": ("Qwen/Qwen3-4B", {"enable_thinking": True}),
    "qwen3-8b": ("Qwen/Qwen3-8B", {"enable_thinking": False}),
    "llama3.2-1b": ("meta-llama/Llama-3.2-1B-Instruct", {}),
    "llama3.2-3b": ("meta-llama/Llama-3.2-3B-Instruct", {}),
    "gemma3-1b": ("google/gemma-3-1b-it", {}),
    "gemma3-4b": ("google/gemma-3-4b-it", {}),
    "phi4-mini": ("microsoft/Phi-4-mini-instruct", {}),
    "smollm3-3b": ("HuggingFaceTB/SmolLM3-3B", {"enable_thinking": False}),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_recipes_of_other_families_are_whole_and_fit_a_card_of_12_gb(name: str) -> None:
    from icpo_lite.tools.cards import CARDS
    from icpo_lite.tools.known_shapes import known_config
    from icpo_lite.tools.model_shape import shape_of
    from icpo_lite.tools.planner import fit_on

    recipe = load_recipe(name)
    assert (recipe.model_name_or_path, recipe.chat_template_kwargs) == FAMILIES[name]
    assert f"icpo-lite train {name}\n" in shipped_recipes()[name].read_text(encoding="utf-8")
    assert recipe.gradient_checkpointing
    assert recipe.load_in_4bit is True
    shape = shape_of(known_config(recipe.model_name_or_path) or {})
    assert fit_on(CARDS["3060"], shape, recipe).fits


# ------------------------------------------------------------------------------------- aliases


def test_other_programs_names_are_understood(folder: Path) -> None:
    recipe = read(
        folder,
        "base_model: m\ndataset: d\nlora_rank: 3\nlora_target: all\nmicro_batch_size: 2\n"
        "scale_rewards: false\n",
    )
    assert (recipe.model_name_or_path, recipe.dataset_name, recipe.lora_r) == ("m", "d", 3)
    assert recipe.lora_target_modules == "all-linear"
    assert recipe.per_device_train_batch_size == 2
    assert recipe.scale_rewards == "none"
    assert recipe.where("lora_r") == "r.yaml:3"


def test_an_alias_in_the_child_replaces_the_parents_key(folder: Path) -> None:
    (folder / "base.yaml").write_text(MINIMAL + "lora_r: 4\n")
    assert read(folder, "extends: base.yaml\nlora_rank: 5\n").lora_r == 5


def test_names_of_other_programs_point_at_keys_that_exist() -> None:
    assert set(ALIASES.values()) <= set(Recipe.model_fields)
    assert not set(ALIASES) & set(Recipe.model_fields)
    assert not set(EXPLAINED) & (set(Recipe.model_fields) | set(ALIASES))


@pytest.mark.parametrize("key", sorted(EXPLAINED))
def test_names_without_an_equal_are_answered(folder: Path, key: str) -> None:
    message = refusal(folder, f"{MINIMAL}{key}: 1\n")
    assert message == f"r.yaml:3: {key} is not a key of icpo-lite; {EXPLAINED[key]}"


# ------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lerning_rate: 1\n", "r.yaml:3: unknown key lerning_rate; did you mean learning_rate?"),
        ("xyzzy: 1\n", "r.yaml:3: unknown key xyzzy; `icpo-lite init` writes all keys"),
        ("seed: 1\nseed: 2\n", "r.yaml:4: seed is written twice, first on line 3; keep one"),
        (
            "evaluation:\n  runs: 1\n  runs: 2\n",
            "r.yaml:5: runs is written twice, first on line 4; keep one",
        ),
        ("lora_r: 1\nlora_rank: 2\n", "r.yaml:4: lora_rank and lora_r name the same key; keep one"),
        (
            "evaluation:\n  run: 1\n",
            "r.yaml:4: unknown key evaluation.run; did you mean runs?",
        ),
        ("seed: [1\n", "r.yaml:4: expected YAML, found a problem:"),
        ("seed: 1\n\tlora_r: 2\n", "r.yaml:4: expected YAML, found a problem:"),
        ("seed: !!python/name:os.system x\n", "r.yaml:3: expected YAML, found a problem:"),
        ("7: 1\n", "r.yaml:3: expected a word as key, found '7'"),
        ("max_steps: true\n", "r.yaml:3: max_steps: expected a number, found true"),
        ("max_steps: yes\n", "r.yaml:3: max_steps: expected a valid integer, found 'yes'"),
        ("max_steps: 1:30\n", "r.yaml:3: max_steps: expected a valid integer, found '1:30'"),
        (
            "judge: no\n",
            "r.yaml:3: judge: expected one of rules, linear, self, endpoint, found 'no'",
        ),
        ("epsilon_high: true\n", "r.yaml:3: epsilon_high: expected a number, found true"),
        (
            "evaluation:\n  runs: false\n",
            "r.yaml:4: evaluation.runs: expected a number, found false",
        ),
        ("seed: many\n", "r.yaml:3: seed: expected a valid integer"),
        ("learning_rate: .nan\n", "r.yaml:3: learning_rate: expected a finite number"),
        ("learning_rate: 0\n", "r.yaml:3: learning_rate: expected greater than 0, found 0"),
        (
            "loss_type: gpro\n",
            "r.yaml:3: loss_type: expected one of grpo, bnpo, dr_grpo, dapo, cispo, sapo, luspo, "
            "vespo, gmpo, rec, asymre, opmd, a_lol, reg_grpo, refuel, copg, found 'gpro'; did you "
            "mean grpo?",
        ),
        ("evaluation:\n  settings: [ful]\n", "r.yaml:4: evaluation.settings: expected one of"),
        ("resume_from_checkpoint: 3\n", "r.yaml:3: resume_from_checkpoint: expected"),
        ("augment: &a {x: *a}\n", "r.yaml:3: expected a value, found a reference to itself"),
        ("device: gpu\n", "r.yaml:3: device: expected auto, cpu, cuda or cuda:N, found 'gpu'"),
        ("output_dir: ''\n", "r.yaml:3: output_dir: expected at least 1 character, found ''"),
        ("extends: 7\n", "r.yaml:3: expected extends: other.yaml, found 7"),
        ("extends: gone.yaml\n", "r.yaml:3: extends: expected a recipe file or a shipped recipe"),
        ("warmup_steps: 201\n", "r.yaml:3: warmup_steps: warmup_steps 201 is above max_steps 200"),
        ("warmup_steps: 1.5\n", "r.yaml:3: warmup_steps: expected a whole number of steps"),
        ("num_mini_batches: 3\n", "r.yaml:3: num_mini_batches: prompts_per_step 16 is not a"),
        ("num_generations: 1\n", "r.yaml:3: num_generations: expected greater than or equal to 2"),
        ("loss_type: cispo\n", "r.yaml:3: loss_type: cispo caps the ratio itself"),
        ("loss_type: cispo\nepsilon_high: 0.9\n", "r.yaml:4: epsilon_high: cispo caps the ratio"),
        ("delta: 1.2\n", "r.yaml:3: delta: expected delta above 1 + epsilon_high = 1.28"),
        ("judge: endpoint\n", "r.yaml:3: judge: judge: endpoint needs the block endpoint"),
        ("endpoint: {model: x}\n", "r.yaml:3: endpoint.base_url is missing"),
        ("endpoint: {base_url: 'x', model: x}\n", "r.yaml:3: endpoint.base_url: expected a URL"),
        ("reward: {name: 3}\n", "r.yaml:3: reward: expected a reward's name"),
        ("reward_weights: [1.0]\n", "r.yaml:3: reward_weights: expected a weight for each"),
        ("reward_funcs: [rewards]\n", "r.yaml:3: reward_funcs: expected file.py:function"),
        ("reward_funcs: [../r.py:f]\n", "r.yaml:3: reward_funcs: expected a file in the recipe's"),
        ("reward_funcs: [/r.py:f]\n", "r.yaml:3: reward_funcs: expected a file in the recipe's"),
        ("task: code\n", "r.yaml:3: task: grading code runs it"),
        (
            "advantage: cannon\n",
            "r.yaml:3: advantage: expected a name among group, canon, bnpo_paper, rae, gdpo, rloo",
        ),
        ("advantage: bnpo_paper\n", "r.yaml:3: advantage: bnpo_paper takes the mean reward"),
        (
            "advantage: rloo\nscale_rewards: none\n",
            "r.yaml:4: scale_rewards: advantage: rloo has a scale of its own",
        ),
        (
            "advantage: gdpo\nmulti_objective_aggregation: normalize_then_sum\n",
            "r.yaml:3: advantage: multi_objective_aggregation: normalize_then_sum is",
        ),
        (
            "advantage: rae\ndynamic_sampling: true\n",
            "r.yaml:4: dynamic_sampling: advantage: rae learns from groups of equal rewards too",
        ),
        (
            "advantage: canon\ndemonstrations: hpt\n",
            "r.yaml:3: advantage: canon splits sampled replies",
        ),
        (
            "advantage: rae\nrollout: conversation\ncredit: gtpo\n",
            "r.yaml:3: advantage: rae compares whole replies, credit: gtpo turns",
        ),
        ("loss_type: refuel\n", "r.yaml:3: loss_type: refuel compares rewards as they are"),
        (
            "loss_type: reg_grpo\ntoken_weights: d3s\n",
            "r.yaml:4: token_weights: loss_type: reg_grpo compares whole replies",
        ),
        ("loss_type: a_lol\n", "r.yaml:3: loss_type: a_lol learns from logged replies"),
        ("token_weights: hapo\nloss_type: rec\n", "r.yaml:3: token_weights: hapo moves the clip"),
        (
            "token_weights: hapo\nengine: continuous\n",
            "r.yaml:3: token_weights: hapo's temperature needs an engine that draws here",
        ),
        (
            "token_weights: d3s\ntop_entropy_quantile: 0.2\n",
            "r.yaml:3: token_weights: d3s chooses tokens by itself",
        ),
        (
            "token_weights: hapo\nadvantage: rloo\n",
            "r.yaml:3: token_weights: hapo has an advantage of its own",
        ),
        (
            "segments: spo\nadvantage: rae\n",
            "r.yaml:3: segments: spo values stretches of single sampled replies by itself; leave "
            "advantage out",
        ),
        (
            "group_rewards: win_rate\nrollout: conversation\n",
            "r.yaml:3: group_rewards: it compares single replies",
        ),
        (
            "logged_completions: runs/a\ndynamic_sampling: true\n",
            "r.yaml:3: logged_completions: its replies are given, not sampled; leave "
            "dynamic_sampling out",
        ),
    ],
)
def test_refusals_name_file_and_line(folder: Path, text: str, message: str) -> None:
    assert refusal(folder, MINIMAL + text).startswith(message)


def test_refusals_without_a_line(folder: Path) -> None:
    assert refusal(folder, "").startswith("r.yaml: model_name_or_path is missing")
    assert refusal(folder, "dataset_name: d\n").startswith("r.yaml: model_name_or_path is missing")
    assert refusal(folder, "- a\n").startswith("r.yaml:1: expected `key: value` lines")
    assert refusal(folder, "a: " + "[" * 5000).startswith("r.yaml: expected a recipe, found")
    (folder / "r.yaml").write_bytes(b"seed: \xff\n")
    with pytest.raises(RecipeError, match=r"r\.yaml: expected a UTF-8 text file"):
        load_recipe("r.yaml")


def test_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"found neither for 'tinny'; did you mean tiny\?$"):
        load_recipe("tinny")


def test_extends_in_a_circle(folder: Path) -> None:
    (folder / "b.yaml").write_text("extends: r.yaml\n")
    assert refusal(folder, "extends: b.yaml\n") == (
        "extends runs in a circle: r.yaml -> b.yaml -> r.yaml"
    )


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("max_steps", "command line: expected key=value, such as max_steps=20, found 'max_steps'"),
        ("=3", "command line: expected key=value"),
        ("a..b=3", "command line: expected key=value"),
        ("max_step=3", "command line: unknown key max_step; did you mean max_steps?"),
        ("extends=tiny", "command line: extends stands in a recipe file"),
        ("system_prompt={a", "command line: expected a YAML value in 'system_prompt={a'"),
        ("evaluation.runs=0", "command line: evaluation.runs: expected greater than or equal to 1"),
        ("cutoff_len=9", "command line: cutoff_len is not a key of icpo-lite"),
    ],
)
def test_refused_overrides(folder: Path, override: str, message: str) -> None:
    assert refusal(folder, MINIMAL, override).startswith(message)


# --------------------------------------------------------------------------- derived quantities


@pytest.mark.parametrize(
    ("prompts", "generations", "mini_batches", "per_device", "passes"),
    [(16, 8, 1, "null", 1), (16, 8, 1, 8, 16), (16, 8, 2, 8, 8), (4, 4, 1, 5, 4), (2, 4, 1, 64, 1)],
)
def test_accumulation_is_derived(
    folder: Path, prompts: int, generations: int, mini_batches: int, per_device: Any, passes: int
) -> None:
    """prompts x generations / mini-batches completions, per_device at a time, rounded up."""
    text = (
        f"{MINIMAL}prompts_per_step: {prompts}\nnum_generations: {generations}\n"
        f"num_mini_batches: {mini_batches}\nper_device_train_batch_size: {per_device}\n"
    )
    assert read(folder, text).gradient_accumulation_steps == passes
    agreed = read(folder, f"{text}gradient_accumulation_steps: {passes}\n")
    assert agreed.gradient_accumulation_steps == passes
    message = refusal(folder, f"{text}gradient_accumulation_steps: {passes + 1}\n")
    rows = prompts * generations // mini_batches
    assert f"{prompts} prompts x {generations} generations / {mini_batches} mini-batches" in message
    assert f"= {rows} completions" in message
    assert f"makes {passes} accumulation steps, found {passes + 1}" in message


@pytest.mark.parametrize(("warmup", "steps"), [("0", 0), ("0.05", 4), ("12", 12), ("0.5", 40)])
def test_warmup_is_steps_or_a_share(folder: Path, warmup: str, steps: int) -> None:
    assert read(folder, f"{MINIMAL}max_steps: 80\nwarmup_steps: {warmup}\n").warmup == steps


# ------------------------------------------------------------------------------- resolved dump


def test_resolved_dump_is_read_back_equal(folder: Path) -> None:
    recipe = read(
        folder,
        MINIMAL + "learning_rate: 1e-5\ndataset_config: '1e-5'\nsystem_prompt: \"a: b\\n…\"\n"
        "per_device_train_batch_size: 4\nreward: {name: guarded, targeted: 0.8}\n"
        "endpoint: {base_url: 'http://h/v1', model: m}\ncompare: [rlvr]\n",
    )
    assert recipe.dataset_config == "1e-5"
    text = resolved_yaml(recipe)
    assert set(yaml.safe_load(text)) == set(Recipe.model_fields) - {"gradient_accumulation_steps"}
    again = read(folder, text, name="other.yaml")
    assert again == recipe
    assert resolved_yaml(again) == text
    smaller = read(folder, text, "prompts_per_step=4", name="other.yaml")
    assert smaller.gradient_accumulation_steps == 8


@settings(max_examples=60, deadline=None)
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.from_regex(r"[a-z]{1,9}", fullmatch=True), inner, max_size=3)
        ),
        max_leaves=6,
    )
)
def test_any_value_survives_the_dump(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    folder = tmp_path_factory.mktemp("dump")
    recipe = Recipe(model_name_or_path="m", dataset_name="d", augment={"value": value})
    file = folder / "r.yaml"
    file.write_text(resolved_yaml(recipe), encoding="utf-8")
    assert load_recipe(file).augment == {"value": value}


def test_recipes_are_frozen_and_compare_by_their_keys(folder: Path) -> None:
    recipe = read(folder, MINIMAL)
    with pytest.raises(ValueError, match="frozen"):
        recipe.seed = 3  # type: ignore[misc]
    assert recipe == read(folder, "\n\n" + MINIMAL, "output_dir=runs/r", name="q.yaml")
    assert recipe != read(folder, MINIMAL, "seed=1")


# -------------------------------------------------------------------------------- binding blocks


class Weights(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    targeted: float = Field(1.0, ge=0)


@dataclass(frozen=True)
class Removal:
    facts: int = 1


def test_bind_checks_a_block_with_its_owners_model(folder: Path) -> None:
    recipe = read(folder, MINIMAL + "reward:\n  name: guarded\n  targeted: 0.5\n")
    assert recipe.bind("reward", Weights, skip=["name"]) == Weights(targeted=0.5)
    assert read(folder, MINIMAL, "augment.facts=2").bind("augment", Removal) == Removal(2)
    assert read(folder, MINIMAL).bind("augment", Removal) == Removal(1)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("targetted: 1", "r.yaml:5: unknown key reward.targetted; did you mean targeted?"),
        ("zzz: 1", "r.yaml:5: unknown key reward.zzz; expected one of targeted"),
        ("targeted: -1", "r.yaml:5: reward.targeted: expected greater than or equal to 0"),
        ("targeted: much", "r.yaml:5: reward.targeted: expected a valid number"),
    ],
)
def test_bind_reports_file_and_line(folder: Path, line: str, message: str) -> None:
    recipe = read(folder, f"{MINIMAL}reward:\n  name: guarded\n  {line}\n")
    with pytest.raises(RecipeError) as error:
        recipe.bind("reward", Weights, skip=["name"])
    assert str(error.value).startswith(message)


# ------------------------------------------------------------------------------------- compare


def test_compared_recipes_share_overrides_but_keep_what_makes_them_differ(folder: Path) -> None:
    recipe = load_recipe(
        "tiny", ["max_steps=3", "share_underspecified=0.3", "output_dir=out", "lora_rank=2"]
    )
    other = compared_recipes(recipe)["rlvr"]
    assert (other.max_steps, other.lora_r) == (3, 2)
    assert other.share_underspecified == 0.0, "tiny-rlvr.yaml sets this key itself"
    assert other.reward == {"name": "accuracy"}
    assert other.output_dir == "out-rlvr"
    assert other.compare == {}


def test_a_twin_for_comparison_without_a_file(folder: Path) -> None:
    recipe = read(folder, MINIMAL + "compare: [rlvr]\nreward: {name: guarded, targeted: 0.5}\n")
    twin = compared_recipes(recipe)["rlvr"]
    changed = {k for k, v in twin.model_dump().items() if v != recipe.model_dump()[k]}
    assert changed == {"reward", "share_underspecified", "compare", "output_dir"}
    with pytest.raises(RecipeError, match=r"r\.yaml:3: only rlvr can be compared without"):
        compared_recipes(read(folder, MINIMAL + "compare: [sft]\n"))


@pytest.mark.parametrize("other", ["rlvr: twin", "rlvr: tiny-rlvr.yaml"])
@pytest.mark.parametrize("own", ["out/checkpoint-5", "true"])
def test_a_compared_run_takes_up_its_own_checkpoints(folder: Path, other: str, own: str) -> None:
    recipe = read(folder, MINIMAL + f"compare: {{{other}}}\n")
    recipe = load_recipe(recipe.path, [f"resume_from_checkpoint={own}"])
    assert compared_recipes(recipe)["rlvr"].resume_from_checkpoint is None
    anew = load_recipe(recipe.path, ["resume_from_checkpoint=false"])
    assert compared_recipes(anew)["rlvr"].resume_from_checkpoint is False


@pytest.mark.parametrize(
    "given",
    [
        *("compare.rlvr=null", "compare.rlvr=none", "compare.rlvr=false", "compare.rlvr="),
        *("compare=none", "compare=null", "compare={}", "compare=[]", "compare={rlvr: null}"),
    ],
)
def test_what_reads_like_none_compares_with_nothing(given: str) -> None:
    assert load_recipe("tiny").compare
    recipe = load_recipe("tiny", [given])
    assert recipe.compare == {}
    assert compared_recipes(recipe) == {}


@pytest.mark.parametrize(
    "given", ["compare=rlvr", "compare=[rlvr]", "compare.rlvr=twin", "compare.rlvr=true"]
)
def test_the_twin_of_a_recipe_is_asked_for_by_name(given: str) -> None:
    recipe = load_recipe("tiny", [given])
    assert recipe.compare == {"rlvr": "twin"}
    assert compared_recipes(recipe)["rlvr"].share_underspecified == 0


def test_a_missing_compared_recipe_names_its_line(folder: Path) -> None:
    recipe = read(folder, MINIMAL + "compare:\n  rlvr: gone.yaml\n")
    with pytest.raises(RecipeError, match=r"r\.yaml:4: expected a recipe file"):
        compared_recipes(recipe)


# -------------------------------------------------------------------------- keys and their use


def test_every_key_is_described() -> None:
    for model in (Recipe, Evaluation):
        for name, field in model.model_fields.items():
            assert field.description, name


def test_choices_are_those_of_the_rooms_that_act_on_them() -> None:
    from icpo_lite.evaluation.settings import SETTINGS
    from icpo_lite.training.loss import DEMONSTRATIONS, LOSSES, clipped_ratio

    fields = Recipe.model_fields
    assert set(get_args(fields["loss_type"].annotation)) == set(LOSSES)
    assert set(get_args(fields["demonstrations"].annotation)) == set(DEMONSTRATIONS)
    clipped = {name for name, loss in LOSSES.items() if loss.surrogate is clipped_ratio}
    assert set(CLIPPED_LOSSES) == clipped
    assert set(get_args(SettingName)) == set(SETTINGS)
    assert set(Evaluation().settings) <= set(SETTINGS)


def renamed(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Every `alias = something.name` of a file, as (alias, name)."""
    for node in ast.walk(tree):
        match node:
            case ast.Assign([ast.Name(alias)], ast.Attribute(attr=name)):
                yield alias, name


#: Properties of a recipe → the key that they make something of.
DERIVED = {"warmup": "warmup_steps", "high": "epsilon_high"}


def read_keys(names: set[str]) -> set[str]:
    """Attributes of variables (or attributes) of these names, outside the recipe's own room."""
    found: set[str] = set()
    for file in PACKAGE.rglob("*.py"):
        if file.relative_to(PACKAGE).parts[0] == "recipe":
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        owners = names | {alias for alias, name in renamed(tree) if name in names}
        for node in ast.walk(tree):
            match node:
                case ast.Call(ast.Attribute(attr="bind"), [ast.Constant(str(key)), *_]):
                    found.add(key)
                case ast.Call(ast.Name("schedule"), [_, ast.Constant(str(key)), _]):
                    found.add(key)
                case ast.Call(ast.Name("compared_recipes")):
                    found.add("compare")
                case ast.Attribute(ast.Name(owner) | ast.Attribute(attr=owner), attr):
                    if owner.lstrip("_") in owners:
                        found.add(DERIVED.get(attr, attr))
    return found


def test_every_recipe_key_is_read_somewhere() -> None:
    # gradient_accumulation_steps is derived: the check of the batch sizes is its whole use.
    unread = (
        set(Recipe.model_fields) - read_keys({"recipe", "keys"}) - {"gradient_accumulation_steps"}
    )
    assert not unread, f"read by nobody: {sorted(unread)}"


def test_every_evaluation_option_is_read_somewhere() -> None:
    unread = set(Evaluation.model_fields) - read_keys({"evaluation"})
    assert not unread, f"read by nobody: {sorted(unread)}"
