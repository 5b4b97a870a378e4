"""`doctor`: each problem is named, has a remedy and decides the exit code."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from icpo_lite.cli import run
from icpo_lite.tools import doctor

GOOD = {**doctor.FLOORS, "torch": "2.13.0+cpu"}


def states(findings) -> dict[str, str]:
    return {f.subject: f.state for f in findings}


def test_this_machine_can_train(tmp_path, capsys) -> None:
    code = run(["doctor", "--json", "--output-dir", str(tmp_path)])
    found = json.loads(capsys.readouterr().out)
    assert code == (0 if found["can_train"] else 1)
    assert {"platform", "torch", "4-bit", "kernels", "disk"} <= {
        f["subject"] for f in found["findings"]
    }


def test_the_table_is_80_columns_wide(tmp_path, capsys) -> None:
    run(["doctor", "--output-dir", str(tmp_path)])
    table = capsys.readouterr().out.split("\n\n")[0]
    assert max(map(len, table.splitlines())) <= 80


def test_a_problem_ends_with_1(monkeypatch, capsys) -> None:
    broken = doctor.Finding("torch", "problem", "gone", "install it")
    monkeypatch.setattr(doctor, "examine", lambda _: doctor.Examination((broken,), "pip install x"))
    assert run(["doctor"]) == 1
    assert "install it" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "version", "clashes"),
    [
        ("transformers", "5.23.0", True),
        ("transformers", "5.17.2", False),
        ("trl", "1.16.0", True),
        ("trl", "1.15.1", False),
        ("datasets", "5.2.0", True),
        ("datasets", "4.9", False),
        ("torch", "2.15.0", True),
        ("torch", "2.14.1+cu130", False),
        ("unsloth", "2025.11.1", True),
        ("unsloth", "2026.9.9", True),  # takes no transformers from 5.6 on
        ("peft", "0.18.1", True),
    ],
)
def test_versions_that_clash(name: str, version: str, clashes: bool) -> None:
    have = {**GOOD, name: version}
    found = list(doctor.library_findings(have.get))
    problems = [f for f in found if f.state == "problem"]
    assert [f.subject for f in problems] == ([name] if clashes else [])
    assert all(f.remedy for f in problems)


@pytest.mark.parametrize(
    ("name", "version", "clashes"),
    [
        ("torch", "2.14.0+cu130", False),
        ("torch", "2.13.0", True),
        ("torch", "2.15.0", True),
        ("transformers", "5.16.1", False),
        ("transformers", "5.16.0", True),
        ("transformers", "5.18.0", True),
    ],
)
def test_versions_that_clash_with_vllm(name: str, version: str, clashes: bool) -> None:
    plugin = {doctor.VLLM_IN_4_BITS: "0.0.3"}
    have = {"torch": "2.14.0", "transformers": "5.17.2", "vllm": "0.33.1", **plugin, name: version}
    found = list(doctor.vllm_findings(have.get))
    assert [f.subject for f in found] == ([name] if clashes else [])
    assert not list(doctor.vllm_findings({name: version}.get))


def test_vllm_without_the_plugin_for_4_bits() -> None:
    have = {"torch": "2.14.0", "transformers": "5.17.0", "vllm": "0.33.0"}
    (found,) = doctor.vllm_findings(have.get)
    assert (found.subject, found.state) == ("vllm-bnb-plugin", "problem")
    assert "icpo-lite[vllm]" in found.remedy


#: Lines of the metadata of unsloth and unsloth_zoo 2026.10.9 and of vLLM 0.33.0.
DECLARED = {
    "unsloth": [
        "torch<2.15.0,>=2.4.0",
        "bitsandbytes!=0.46.0,!=0.48.0,>=0.45.5",
        "datasets!=4.0.*,!=4.1.0,!=4.4.*,!=4.5.0,<5.0.0,>=3.4.1",
        "transformers!=5.0.0,!=5.1.0,<=5.17.0,>=4.52.4",
        "trl!=0.19.0,<=1.15.0,>=0.18.2",
        'triton-windows; sys_platform == "win32"',
        'peft==0.11.0; extra == "studio"',
    ],
    "unsloth_zoo": ['torchao>=0.13.0; sys_platform != "darwin"'],
    "vllm": ["torch==2.14.0", "transformers<5.21.0,>=5.16.1", "torchvision==0.29.0"],
}


@pytest.mark.parametrize(
    ("name", "version", "owner"),
    [
        ("datasets", "4.4.2", "unsloth"),
        ("transformers", "5.17.1", "unsloth"),
        ("torchao", "0.12.0", "unsloth_zoo"),
        ("torchvision", "0.28.0", "vllm"),
        ("peft", "0.21.2", ""),  # the bound is an extra's
        ("torch", "2.15.0", ""),  # told by the tables
    ],
)
def test_what_libraries_say_of_each_other(name: str, version: str, owner: str) -> None:
    have = {**GOOD, "torch": "2.14.0", "transformers": "5.17.0", "unsloth": "2026.10.9"}
    have |= {"unsloth_zoo": "2026.10.9", "vllm": "0.33.0", "vllm-bnb-plugin": "0.0.3"}
    have |= {name: version}
    found = list(doctor.declared_findings(have.get, DECLARED.get))
    assert [f.subject for f in found] == ([name] if owner else [])
    assert all(owner in f.text and f.remedy for f in found)
    assert not list(doctor.declared_findings({**have, name: None}.get, DECLARED.get))


def test_the_extras_allow_nothing_that_unsloth_and_vllm_refuse() -> None:
    """Of the releases that exist: the bounds between which `cuda` and `vllm` choose."""
    from packaging.requirements import Requirement

    root = Path(doctor.__file__).resolve().parents[2]
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *extras["cuda"], *extras["vllm"][1:]]
    asked = {}
    for one in map(Requirement, lines):
        asked[one.name] = asked.get(one.name, one.specifier) & one.specifier
    released = {
        "torch": ("2.13.0", "2.14.0", "2.14.1"),
        "transformers": ("5.15.1", "5.16.0", "5.16.1", "5.17.0", "5.18.0", "5.24.0"),
        "trl": ("1.15.0", "1.16.0"),
    }
    best = {
        n: [v for v in versions if asked[n].contains(v)][-1] for n, versions in released.items()
    }
    assert best == {"torch": "2.14.0", "transformers": "5.17.0", "trl": "1.15.0"}
    for line in (*DECLARED["unsloth"], *DECLARED["vllm"]):
        wanted = Requirement(line)
        if wanted.name in best:
            assert wanted.specifier.contains(best[wanted.name]), line
    assert "vllm-bnb-plugin" in asked


def test_the_extras_ask_for_what_doctor_accepts() -> None:
    """pyproject.toml, doctor and the versions that CI tries are one set."""
    from packaging.requirements import Requirement

    root = Path(doctor.__file__).resolve().parents[2]
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    base = {r.name: r for r in map(Requirement, project["dependencies"])}
    extras = project["optional-dependencies"]
    cuda = {r.name: r for r in map(Requirement, extras["cuda"])}
    vllm = {r.name: r for r in map(Requirement, extras["vllm"])}
    for name, cap in doctor.UNSLOTH_CAPS.items():
        assert f"<{cap}" in str(cuda[name].specifier)
    for name, floor in doctor.FLOORS.items():
        asked = base.get(name) or cuda[name]
        assert floor in str(asked.specifier), name
    for name, (first, last) in doctor.VLLM_NEEDS.items():
        bounds = base[name].specifier & vllm[name].specifier
        if name in cuda:
            bounds &= cuda[name].specifier
        assert bounds.contains(first)
        assert not bounds.contains(last)
    script = (root / ".ci" / "run").read_text()
    oldest, newest = re.findall(r"^ +with_transformers (\S+)", script, re.MULTILINE)
    assert oldest == doctor.FLOORS["transformers"]
    assert cuda["transformers"].specifier.contains(f"{newest}.0")
    newer = ".".join([newest.split(".")[0], str(int(newest.split(".")[1]) + 1)])
    assert newer == doctor.UNSLOTH_CAPS["transformers"]


def test_without_unsloth_its_caps_do_not_count() -> None:
    have = {**GOOD, "transformers": "5.23.0"}
    del have["unsloth"]
    assert "problem" not in states(doctor.library_findings(have.get)).values()


def test_the_pip_line_keeps_the_installed_torch() -> None:
    assert '"torch==2.13.0+cpu"' in doctor.pip_line(GOOD.get)
    assert '"transformers>=5.15,<5.18"' in doctor.pip_line(GOOD.get)


def test_a_p100_is_left_aside_and_a_t4_computes_in_float16() -> None:
    p100 = doctor._gpu_finding(0, "Tesla P100", 16 << 30, (6, 0), ["sm_75", "sm_80"], "2.11")
    assert (p100.state, bool(p100.remedy)) == ("note", True)
    t4 = doctor._gpu_finding(0, "Tesla T4", 15 << 30, (7, 5), ["sm_75", "sm_80"], "2.11")
    assert "float16: below capability 8" in t4.text


@pytest.mark.parametrize(
    ("system", "release", "state"),
    [
        ("linux", "6.8.0-generic", "ok"),
        ("linux", "5.15.167.4-microsoft-standard-WSL2", "ok"),
        ("linux", "4.4.0-19041-Microsoft", "problem"),
        ("darwin", "24", "problem"),
        ("win32", "11", "problem"),
    ],
)
def test_platforms(system: str, release: str, state: str) -> None:
    assert states(doctor.platform_findings(system, release))["platform"] == state


def test_notebooks_are_recognised(monkeypatch) -> None:
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Interactive")
    assert doctor.notebook_host() == "Kaggle"
