"""The notebooks are valid, hold no outputs, and run from top to bottom."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from icpo_lite.recipe import shipped_recipes

nbformat = pytest.importorskip("nbformat", reason="nbmake is not installed")
NOTEBOOKS = sorted(shipped_recipes()["tiny"].parent.glob("*.ipynb"))
#: A run that a CI's CPU does in seconds.
QUICK = (
    *("max_steps=2", "prompts_per_step=2", "num_generations=2", "compare={}", "device=cpu"),
    *("evaluation.problems=2", "evaluation.runs=1", "log_completions_steps=0"),
)


def cells(path, kind="code"):
    return [c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == kind]


def commands():
    return {
        name
        for path in NOTEBOOKS
        for source in cells(path)
        for name in re.findall(r'(?:^!icpo-lite |"icpo-lite", ")(\w+)', source, re.MULTILINE)
    }


def test_there_is_one_for_each_place():
    assert [path.stem for path in NOTEBOOKS] == ["colab", "kaggle"]
    assert commands() == {"doctor", "preview", "train", "report", "chat", "export"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_is_valid_and_holds_no_outputs(path):
    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    for cell in book.cells:
        if cell.cell_type == "code":
            assert not cell.outputs
            assert cell.execution_count is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_installing_leaves_torch_alone(path):
    """pip is told the installed torch, local part and all, before it chooses anything."""
    (install,) = [source for source in cells(path) if "%pip" in source]
    assert 'importlib.metadata.version("torch")' in install
    assert "-c constraints.txt" in install
    assert sum("pip install" in source for source in cells(path)) == 1


def run_cell(source, **names):
    """A cell without its lines for IPython, as it would run with these names."""
    plain = [line for line in source.splitlines() if not re.match(r"\s*[!%]", line)]
    exec("\n".join(plain), names)
    return names


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_torch_that_is_too_old_and_a_source_that_is_not_named_are_told(path, monkeypatch):
    (install,) = [source for source in cells(path) if "%pip" in source]
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.8.0+cu126")
    with pytest.raises(SystemExit, match=r"torch 2\.8\.0\+cu126 of this machine is too old"):
        run_cell(install, SOURCE="")
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.10.0")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="SOURCE is empty: say in the first cell"):
        run_cell(install, SOURCE="")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_value_with_spaces_stays_one_value(path, monkeypatch):
    monkeypatch.setenv("ICPO_MIRROR", "")
    monkeypatch.setenv("ICPO_RECIPE", "my recipe.yaml")
    monkeypatch.setenv("ICPO_CHANGES", "'dataset_name=my problems.jsonl' max_steps=2")
    names = run_cell(cells(path)[0])
    told = shlex.split(names["TRAINED"])
    assert told[:3] == ["my recipe.yaml", "dataset_name=my problems.jsonl", "max_steps=2"]
    assert told[3] == "output_dir=runs/my recipe"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_what_takes_hours_shows_its_output_as_it_comes(path):
    """A `%%bash` cell shows nothing until it ends."""
    assert not any("%%bash" in source for source in cells(path))


def test_kaggles_is_colabs_but_for_the_drive_and_earlier_output(tmp_path, monkeypatch):
    """So that running one tries both; the cell that only Kaggle's has is tried here."""
    colab, kaggle = (cells(path) for path in NOTEBOOKS)
    (earlier,) = [source for source in kaggle if "/kaggle/input" in source]
    kaggle.remove(earlier)
    without = [
        re.sub(r"(?ms)^# Checkpoints and.*?(?=^WHERE)|\n+^if MIRROR:.*", "", c) for c in colab
    ]
    for ours, theirs in zip(without, kaggle, strict=True):
        apart = set(ours.splitlines()) ^ set(theirs.splitlines())
        assert all(re.match(r'WHERE = |\s+"Take the newest', line) for line in apart), apart
    place = tmp_path / "input" / "notebook" / "runs" / "tiny"
    place.mkdir(parents=True)
    (place / "kept").touch()
    monkeypatch.chdir(tmp_path)
    run_cell(earlier.replace("/kaggle/input", str(tmp_path / "input")), RUN="runs/tiny")
    assert (tmp_path / "runs" / "tiny" / "kept").is_file()


@pytest.mark.timeout(900)  # some 40 s of computing, a kernel and seven commands that import torch
def test_notebook_runs_from_top_to_bottom(tmp_path):
    """Colab's, by nbmake, on the tiny recipe, with the commands of this environment."""
    pytest.importorskip("nbmake")
    (path,) = [path for path in NOTEBOOKS if path.stem == "colab"]
    shutil.copy(path, tmp_path)
    mirror = tmp_path / "mirror"
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "ICPO_RECIPE": "tiny",
        "ICPO_CHANGES": " ".join(QUICK),
        "ICPO_MIRROR": str(mirror),
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "jupyter"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--nbmake", "-q", "-c", os.devnull, path.name],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    run = tmp_path / "runs" / "tiny"
    assert (run / "finished").is_file()
    assert (tmp_path / "runs" / "tiny-export" / "model.safetensors").is_file()
    assert list(mirror.rglob("run.json"))
    for name in ("model.safetensors", "README.md", "report.html"):
        assert (tmp_path / "mirror-export" / name).is_file()
