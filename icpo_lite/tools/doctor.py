"""Whether this machine can train: GPU, driver, libraries that clash, disk; each problem's remedy.

Every check gives `Finding`s and raises nothing; a library that breaks on import is itself a
finding.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from icpo_lite.core.device import choose_device, has_kernels
from icpo_lite.core.errors import IcpoError
from icpo_lite.core.paths import user_cache

if TYPE_CHECKING:
    import torch

State = Literal["ok", "note", "problem"]
#: Oldest versions that work, as in pyproject.toml.
FLOORS = {
    "torch": "2.9",
    "transformers": "5.15",
    "peft": "0.19",
    "bitsandbytes": "0.49",
    "accelerate": "1.10",
    "safetensors": "0.6",
    "huggingface_hub": "1.0",
    "unsloth": "2026.10.4",
    "triton": "3.4",
}
OPTIONAL = ("unsloth", "triton")
#: First versions that unsloth 2026.10 refuses.
UNSLOTH_CAPS = {"torch": "2.15", "transformers": "5.18", "trl": "1.16", "datasets": "5"}
#: What vLLM 0.33 is built for: versions from the first, below the second.
VLLM_NEEDS = {"torch": ("2.14.0", "2.14.1"), "transformers": ("5.16.1", "5.18")}
#: vLLM from 0.28 on takes 4-bit weights through this plugin alone.
VLLM_IN_4_BITS = "vllm-bnb-plugin"
_VLLM_REMEDY = 'pip install "icpo-lite[vllm]", or pip uninstall vllm'
#: Whose own words on versions are read where they are installed.
DECLARING = ("unsloth", "unsloth_zoo", "vllm", VLLM_IN_4_BITS)
GIB = 1 << 30
#: Free space below which a run with checkpoints is likely to end in a full disk.
MIN_FREE = {"output": 2 * GIB, "cache": 5 * GIB}


@dataclass(frozen=True)
class Finding:
    """One line of the table. remedy: what to do; empty where nothing is to be done."""

    subject: str
    state: State
    text: str
    remedy: str = ""


@dataclass(frozen=True)
class Examination:
    findings: tuple[Finding, ...]
    pip: str

    @property
    def can_train(self) -> bool:
        return not any(f.state == "problem" for f in self.findings)


def examine(output: Path = Path("runs")) -> Examination:
    """Look at this machine. output: where runs are written."""
    checks: Sequence[Callable[[], Iterator[Finding]]] = (
        platform_findings,
        host_findings,
        gpu_findings,
        library_findings,
        vllm_findings,
        declared_findings,
        nf4_findings,
        triton_findings,
        lambda: disk_findings(output),
    )
    findings: list[Finding] = []
    for check in checks:
        findings += check()
    return Examination(tuple(findings), pip_line())


# ---------------------------------------------------------------------------------- the machine


def platform_findings(system: str = sys.platform, release: str | None = None) -> Iterator[Finding]:
    """Linux and WSL2 pass; every other system is refused by name."""
    release = platform.release() if release is None else release
    advice = {
        "win32": ("Windows", "install WSL2 (wsl --install) and work inside it"),
        "darwin": ("macOS", "use a Linux machine or a Colab notebook"),
    }
    if not system.startswith("linux"):
        name, remedy = advice.get(system, (system, "use Linux or WSL2"))
        yield Finding("platform", "problem", f"{name} is not supported", remedy)
    elif "microsoft" in release.lower():
        if "wsl2" in release.lower():
            yield Finding("platform", "ok", f"Linux under WSL2 ({release})")
        else:
            remedy = "in PowerShell: wsl --set-version <distribution> 2"
            yield Finding("platform", "problem", "WSL1, which has no GPU", remedy)
    else:
        yield Finding("platform", "ok", f"Linux {release}, {platform.machine()}")
    if place := notebook_host():
        remedy = "set output_dir to a mounted Drive or download it before the session ends"
        yield Finding("notebook", "note", f"{place}: its disk is lost with the session", remedy)
    yield Finding("python", "ok", platform.python_version())


def notebook_host() -> str:
    if "KAGGLE_KERNEL_RUN_TYPE" in os.environ:
        return "Kaggle"
    return "Colab" if "COLAB_RELEASE_TAG" in os.environ or "COLAB_GPU" in os.environ else ""


def host_findings() -> Iterator[Finding]:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cores = len(os.sched_getaffinity(0))
    yield Finding("memory", "ok", f"{total / GIB:.1f} GiB, {cores} CPU cores")


def gpu_findings() -> Iterator[Finding]:
    """Every GPU torch sees, what it can compute in, and the one that will be used."""
    try:
        import torch
    except Exception as error:  # a broken install fails in many ways; each is a finding
        remedy = "install torch for your system as pytorch.org/get-started says"
        yield Finding("torch", "problem", f"cannot be imported: {_first_line(error)}", remedy)
        return
    count = torch.cuda.device_count()
    for index in range(count):
        yield _gpu_finding(
            index,
            torch.cuda.get_device_name(index),
            torch.cuda.get_device_properties(index).total_memory,
            torch.cuda.get_device_capability(index),
            torch.cuda.get_arch_list(),
            torch.__version__,
        )
    if not count:
        yield _no_gpu(torch.version.cuda, nvidia_driver())
    elif driver := nvidia_driver():
        yield Finding("driver", "ok", f"{driver}; torch is built for CUDA {torch.version.cuda}")
    try:
        device = choose_device()
    except IcpoError as error:
        yield Finding("device", "problem", str(error))
        return
    dtype = str(device.dtype).removeprefix("torch.")
    yield Finding("trains on", "ok", f"{device.name} in {dtype}; {'; '.join(device.reasons)}"[:400])


def _gpu_finding(
    index: int,
    name: str,
    memory: int,
    capability: tuple[int, int],
    architectures: Sequence[str],
    torch_version: str,
) -> Finding:
    major, minor = capability
    size = f"{memory / GIB:.1f} GiB, compute capability {major}.{minor}"
    subject = f"cuda:{index}"
    if not has_kernels(major, minor, architectures):
        return Finding(
            subject,
            "note",
            f"{name}, {size}: torch {torch_version} has no kernels for it, it is left aside",
            "take another GPU (on Kaggle: T4), or a torch built for this one",
        )
    why = "bfloat16" if major >= 8 else "float16: below capability 8 there is no bfloat16 unit"
    return Finding(subject, "ok", f"{name}, {size}, {why}")


def _no_gpu(built_for: str | None, driver: str) -> Finding:
    text = "none that torch can use: training runs on the CPU, for small models only"
    if driver and not built_for:
        remedy = f"the driver ({driver}) is there but torch is a CPU build: install a CUDA build"
    elif built_for and not driver:
        remedy = f"torch is built for CUDA {built_for} but no NVIDIA driver answers: install one"
    elif driver:
        remedy = f"driver {driver} may be too old for CUDA {built_for}: update it"
    else:
        remedy = "for a model of 1B and more use a GPU; `icpo-lite train tiny` needs none"
    return Finding("GPU", "note", text, remedy)


def nvidia_driver() -> str:
    """The driver's version as the kernel module tells it, "" where there is none."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text()
    except OSError:
        text = ""
    found = re.search(r"(?:Kernel Module|x86_64|aarch64)\s+(?:for \S+\s+)?(\d+\.\d+[.\d]*)", text)
    if found:
        return found[1]
    return "of Windows" if Path("/usr/lib/wsl/lib/libcuda.so.1").exists() else ""


# --------------------------------------------------------------------------------- the libraries


def installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def release_of(version: str) -> tuple[int, ...]:
    """The numbers of a version: "2.13.0+cpu" is (2, 13, 0)."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def library_findings(version: Callable[[str], str | None] = installed) -> Iterator[Finding]:
    """Versions below our floors, and above unsloth's caps where unsloth is installed."""
    for name, floor in FLOORS.items():
        found = version(name)
        if found is None:
            if name not in OPTIONAL:
                yield Finding(name, "problem", "not installed", "use the pip line below")
        elif release_of(found) < release_of(floor):
            yield Finding(name, "problem", f"{found}, older than {floor}", "use the pip line below")
        else:
            yield Finding(name, "ok", found)
    if version("unsloth") is None:
        yield Finding("unsloth", "note", "not installed; training works without it")
        return
    for name, cap in UNSLOTH_CAPS.items():
        found = version(name)
        if found is not None and release_of(found) >= release_of(cap):
            yield Finding(
                name,
                "problem",
                f"{found}, but unsloth {version('unsloth')} needs it below {cap}",
                f'pip install "{name}<{cap}", or pip uninstall unsloth',
            )


def vllm_findings(version: Callable[[str], str | None] = installed) -> Iterator[Finding]:
    """Versions that vLLM, where it is installed, was not built for."""
    if version("vllm") is None:
        return
    for name, (first, last) in VLLM_NEEDS.items():
        found = version(name)
        if found is None or not release_of(first) <= release_of(found) < release_of(last):
            yield Finding(
                name,
                "problem",
                f"{found or 'not installed'}, but vLLM {version('vllm')} needs {first} or later, "
                f"below {last}",
                _VLLM_REMEDY,
            )
    if version(VLLM_IN_4_BITS) is None:
        yield Finding(
            VLLM_IN_4_BITS,
            "problem",
            f"not installed; without it vLLM {version('vllm')} loads no 4-bit weights",
            _VLLM_REMEDY,
        )


def declared_findings(
    version: Callable[[str], str | None] = installed,
    requires: Callable[[str], list[str] | None] = importlib.metadata.requires,
) -> Iterator[Finding]:
    """What unsloth and vLLM, where they are installed, say themselves against versions that the
    tables above let pass: single releases between the bounds, and bounds of later releases."""
    from packaging.requirements import Requirement

    told = {f.subject for f in (*library_findings(version), *vllm_findings(version)) if f.remedy}
    for owner in (name for name in DECLARING if version(name)):
        for wanted in map(Requirement, requires(owner) or ()):
            found = version(wanted.name)
            applies = wanted.marker is None or wanted.marker.evaluate({"extra": ""})
            fits = found is None or wanted.specifier.contains(found, prereleases=True)
            if applies and not fits and wanted.name not in told:
                told.add(wanted.name)
                text = f"{found}, but {owner} {version(owner)} takes {wanted.specifier}"
                remedy = f'pip install "{wanted.name}{wanted.specifier}", or pip uninstall {owner}'
                yield Finding(wanted.name, "problem", text, remedy)


def nf4_findings() -> Iterator[Finding]:
    """A matrix to NF4 and back, on the device that will train."""
    try:
        from icpo_lite.policy.four_bits import nf4_round_trip

        device = choose_device().torch_device
        error = nf4_round_trip(device)
    except Exception as failure:  # bitsandbytes fails in its own ways where its library is missing
        text = f"bitsandbytes cannot quantise: {_first_line(failure)}"
        remedy = "pip install --force-reinstall --no-deps bitsandbytes, or load_in_4bit: false"
        yield Finding("4-bit", "problem", text, remedy)
        return
    # NF4's widest gap is 0.304 of a block's largest value, so an error is at most 0.152 of it.
    if error > 0.16:
        yield Finding(
            "4-bit",
            "problem",
            f"NF4 is off by {error:.2f} of the largest weight; at most 0.16 is right",
            "pip install --upgrade --no-deps bitsandbytes, or load_in_4bit: false",
        )
    else:
        yield Finding("4-bit", "ok", f"NF4 round trip on {device.type}, off by {error:.2f} at most")


def triton_findings() -> Iterator[Finding]:
    """Triton builds its launcher with a C compiler when a kernel first runs."""
    if importlib.util.find_spec("triton") is None:
        yield Finding("kernels", "note", "triton is not installed: log-probs run in plain torch")
        return
    names = filter(None, (os.environ.get("CC"), "cc", "gcc", "clang"))
    compiler = next(filter(None, map(shutil.which, names)), None)
    if compiler is None:
        remedy = "apt-get install gcc, or set CC to a C compiler"
        yield Finding("kernels", "note", "triton finds no C compiler: plain torch is used", remedy)
        return
    try:
        device = choose_device().torch_device
        if device.type != "cuda":
            yield Finding("kernels", "note", "triton has no GPU here: plain torch is used")
            return
        _run_kernel(device)
    except Exception as failure:  # triton and its compiler fail in many ways; plain torch remains
        text = f"triton cannot run, plain torch is used: {_first_line(failure)}"
        yield Finding("kernels", "note", text, "pip install --upgrade triton, or leave it")
        return
    yield Finding("kernels", "ok", f"triton compiled and ran a kernel ({Path(compiler).name})")


def _run_kernel(device: torch.device) -> None:
    """The log-prob kernel on a few rows. Raises whatever hinders it."""
    import torch

    from icpo_lite.policy.kernels.logprob import token_logprobs

    hidden = torch.zeros(4, 64, device=device, dtype=torch.float16)
    weight = torch.zeros(128, 64, device=device, dtype=torch.float16)
    targets = torch.zeros(4, dtype=torch.long, device=device)
    token_logprobs(hidden, weight, targets, impl="triton")


def disk_findings(output: Path) -> Iterator[Finding]:
    hub = Path(os.environ.get("HF_HOME") or "~/.cache/huggingface").expanduser()
    places = (
        ("output", output, "set output_dir to a larger disk"),
        ("cache", hub, "set HF_HOME to a larger disk"),
        ("cache", user_cache("prompts"), "set XDG_CACHE_HOME to a larger disk"),
    )
    for kind, folder, remedy in places:
        there = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.is_dir())
        try:
            free = shutil.disk_usage(there).free
        except OSError as error:
            yield Finding("disk", "problem", f"{folder}: {error.strerror}", remedy)
            continue
        text = f"{free / GIB:.1f} GiB free for {folder}"
        if not os.access(there, os.W_OK):
            yield Finding("disk", "problem", f"{folder} cannot be written", remedy)
        elif free < MIN_FREE[kind]:
            yield Finding("disk", "note", f"only {text}", remedy)
        else:
            yield Finding("disk", "ok", text)


def pip_line(version: Callable[[str], str | None] = installed) -> str:
    """One command that repairs the libraries and leaves the installed torch as it is."""
    wanted = [n for n in FLOORS if n not in OPTIONAL and n != "torch"]
    caps = UNSLOTH_CAPS if version("unsloth") else {}
    specs = [
        f'"{name}>={FLOORS[name]}' + (f',<{caps[name]}"' if name in caps else '"')
        for name in wanted
    ]
    specs += [f'"{n}<{cap}"' for n, cap in caps.items() if n not in FLOORS and version(n)]
    if version("unsloth"):
        specs.append(f'"unsloth>={FLOORS["unsloth"]}"')
    torch = version("torch")
    # A requirement that names the very build keeps pip from replacing it.
    return f"pip install {' '.join(specs)}" + (f' "torch=={torch}"' if torch else ' "torch>=2.9"')


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
