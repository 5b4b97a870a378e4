"""The rooms and their ranks: a module imports only from a lower rank or inside its own room."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from report_cases import write_run

import icpo_lite

PACKAGE = Path(icpo_lite.__file__).parent

#: Rank → rooms, each a folder; rooms of one rank never import each other.
RANKS = {
    0: ["core"],
    1: ["recipe", "kernels"],
    2: ["policy"],
    3: ["rollout"],
    4: ["data", "rewards"],
    5: ["training", "evaluation"],
    6: ["runs"],
    7: ["tools"],
    8: ["cli", "api"],
    9: ["__main__"],
}
RANK = {room: rank for rank, rooms in RANKS.items() for room in rooms}
HEAVY = ["torch", "triton", "transformers", "unsloth", "peft", "bitsandbytes", "accelerate"]
FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(file: Path) -> str:
    return file.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(tree: ast.AST, package: str) -> Iterator[str]:
    """Dotted names of all modules that are imported, at any depth; `package` resolves dots."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            above = parts[: len(parts) + 1 - node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def rooms_imported(file: Path) -> set[str]:
    package = ".".join(["icpo_lite", *file.relative_to(PACKAGE).parent.parts])
    names = imported(ast.parse(file.read_text(encoding="utf-8")), package)
    rooms = {name.split(".")[1] for name in names if name.startswith("icpo_lite.")}
    return {
        room for room in rooms if (PACKAGE / room).is_dir() or (PACKAGE / f"{room}.py").exists()
    }


def test_imports_are_understood() -> None:
    """The walk itself: forms of import, functions and TYPE_CHECKING included."""
    code = (
        "import icpo_lite.a\nfrom icpo_lite import b\nfrom icpo_lite.c import x\n"
        "from . import d\nfrom ..e import y\nif TYPE_CHECKING:\n    import icpo_lite.f as z\n"
        "def g():\n    from icpo_lite.h.i import j\n"
    )
    found = set(imported(ast.parse(code), "icpo_lite.room"))
    wanted = {"a", "b", "c", "room.d", "e", "f", "h.i"}
    assert {f"icpo_lite.{name}" for name in wanted} <= found


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_imports_come_from_lower_ranks(file: Path) -> None:
    if file == PACKAGE / "__init__.py":
        body = ast.parse(file.read_text(encoding="utf-8")).body
        at_once = {name for line in body for name in imports_at_import_time(line)}
        assert at_once <= {"os", "__future__", "__future__.annotations"}
        return
    room = room_of(file)
    assert room in RANK, f"{file.name} has no rank; give it one in this table and in its design"
    for other in rooms_imported(file) - {room}:
        assert RANK[other] < RANK[room], (
            f"{file.relative_to(PACKAGE)} (rank {RANK[room]}) imports {other} (rank {RANK[other]})"
        )


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_one_room_alone_imports_the_adapters_of_a_model(file: Path) -> None:
    """unsloth must come before transformers and peft; only one place can see to that."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    roots = {name.split(".")[0] for name in imported(tree, "icpo_lite")}
    assert not roots & {"trl", "unsloth_cli", "studio"}
    if room_of(file) != "policy":
        assert not roots & {"unsloth", "peft", "bitsandbytes"}
    at_once = {name for line in tree.body for name in imports_at_import_time(line)}
    assert not {name.split(".")[0] for name in at_once} & {"unsloth", "peft", "bitsandbytes"}


def imports_at_import_time(statement: ast.stmt) -> Iterator[str]:
    """Imports that run when the module is imported: not those in functions or TYPE_CHECKING."""
    if isinstance(statement, ast.Import | ast.ImportFrom):
        yield from imported(ast.Module([statement], []), "icpo_lite")
    elif isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.dump(statement.test):
        return
    elif not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
        for child in ast.iter_child_nodes(statement):
            if isinstance(child, ast.stmt):
                yield from imports_at_import_time(child)


def heavy_after(code: str, folder: Path) -> list[str]:
    """Heavy libraries in `sys.modules` after `code` has run in a fresh interpreter."""
    script = (
        f"{code}\nimport json, sys\nprint(json.dumps([m for m in {HEAVY} if m in sys.modules]))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "PYTHONPATH": str(PACKAGE.parent)},
    )
    assert result.returncode == 0, result.stderr
    heavy: list[str] = json.loads(result.stdout.splitlines()[-1])
    return heavy


def modules_imported(file: Path) -> set[Path]:
    """Files of the package that a module imports when it is imported itself."""
    body = ast.parse(file.read_text(encoding="utf-8")).body
    names = {name for line in body for name in imports_at_import_time(line)}
    found = set()
    for name in names:
        if name.startswith("icpo_lite."):
            place = PACKAGE.joinpath(*name.split(".")[1:])
            found |= {f for f in (place.with_suffix(".py"), place / "__init__.py") if f.is_file()}
    return found - {file}


def test_there_is_no_circle_of_modules() -> None:
    """Not even inside a room: each module can be read after those that it stands on."""
    left = {file: modules_imported(file) for file in FILES}
    while free := [file for file, needed in left.items() if not needed & set(left)]:
        for file in free:
            del left[file]
    assert not left, f"a circle among {sorted(str(f.relative_to(PACKAGE)) for f in left)}"


def test_no_two_modules_bear_one_name() -> None:
    """A name says which file is meant; commands bear their own, a room's doors one and all."""
    doors = {"__init__.py", "from_recipe.py"}
    names = [f.name for f in FILES if room_of(f) != "cli" and f.name not in doors]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_a_module_can_be_read_at_one_sitting(file: Path) -> None:
    """One idea a module; more than 450 lines have been two every time."""
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 450


#: What a class is called that says how something is to be done, rather than what there is.
SETTINGS_NAME = re.compile(
    r"(Options|Settings|Config|Spec|Job|Wishes|Limits|Request|Choices|Keys|Params|Arguments)$"
)


def settings_classes() -> Iterator[tuple[str, str, str]]:
    """(file, class, field) of every options or settings class outside the recipe's own room."""
    for file in FILES:
        if room_of(file) == "recipe":
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and SETTINGS_NAME.search(node.name):
                for field in node.body:
                    if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                        yield str(file.relative_to(PACKAGE)), node.name, field.target.id


def test_no_settings_class_repeats_a_recipe_key() -> None:
    """Who needs a key takes the recipe's section, or is one: so its default exists once."""
    from icpo_lite.recipe import Evaluation, Recipe

    keys = {*Recipe.model_fields, *Evaluation.model_fields}
    found = list(settings_classes())
    assert len({name for _, name, _ in found}) > 5, "the walk finds the classes it is about"
    again = [f"{file}: {name}.{field}" for file, name, field in found if field in keys]
    assert not again, "inherit the recipe's section that has the key, or hold the section"


def test_a_key_stands_in_one_section() -> None:
    from icpo_lite.recipe import Recipe

    sections = [c for c in Recipe.__mro__ if c is not Recipe and "__annotations__" in vars(c)]
    stated = [name for c in sections for name in vars(c)["__annotations__"]]
    keys = [name for name in stated if name in Recipe.model_fields]
    assert sorted(keys) == sorted(Recipe.model_fields)


PROBLEMS = [
    {
        "question": "A box holds 6 rows of 8 eggs. Ann buys 3 boxes. How many eggs has Ann bought?",
        "answer": "A box holds 6*8=<<6*8=48>>48 eggs.\nAnn has 3*48=<<3*48=144>>144.\n#### 144",
    }
]


@pytest.mark.parametrize(
    "code",
    [
        "from icpo_lite.cli import run; assert run(['--help']) == 0",
        "from icpo_lite.cli import run; assert run(['train', '--help']) == 0",
        "from icpo_lite.cli import run; assert run(['init', 'r.yaml']) == 0",
        "from icpo_lite.cli import run; assert run(['augment', 'q.jsonl', '-o', 'o.jsonl']) == 0",
        "from icpo_lite.cli import run; assert run(['report', 'run']) == 0",
        "import icpo_lite.recipe, icpo_lite.core.endpoint, icpo_lite.core.types",
    ],
    ids=["--help", "train --help", "init", "augment", "report", "light modules"],
)
def test_light_commands_leave_heavy_libraries_alone(code: str, tmp_path: Path) -> None:
    rows = "".join(json.dumps(problem) + "\n" for problem in PROBLEMS)
    (tmp_path / "q.jsonl").write_text(rows, encoding="utf-8")
    write_run(tmp_path / "run")
    assert heavy_after(code, tmp_path) == []


def test_help_is_light_on_pydantic_and_yaml_too(tmp_path: Path) -> None:
    """Nor is it kept waiting for small modules that it has no use for."""
    code = (
        "from icpo_lite.cli import run; run(['--help']); import sys\n"
        "assert not {'pydantic', 'yaml', 'httpx', 'rich', 'numpy'} & set(sys.modules)\n"
        "assert not {'signal', 'unicodedata', 'difflib'} & set(sys.modules)"
    )
    assert heavy_after(code, tmp_path) == []


def test_heavy_libraries_would_be_seen(tmp_path: Path) -> None:
    assert heavy_after("import sys, types; sys.modules['triton'] = types", tmp_path) == ["triton"]
