"""Compile the row and the tile kernel for GPUs that are not here, and print what it takes of them.

    python tests/benchmarks/compile_kernel.py [--json]

Needs triton (the Linux wheel holds ptxas and cuobjdump), no GPU.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from icpo_lite.policy.kernels.logprob_triton import TILE, WARPS, _row_kernel
from icpo_lite.policy.kernels.logprob_triton_tiles import _tile_kernel

TARGETS = (75, 80, 89, 90)
FLAGS = ("BIAS", "CAP", "WANT_DZ", "WANT_DH", "BOOST")
#: (type of dz, FLAGS): forward only, with gradient, everything at once.
VARIANTS = (
    ("fp32", (0, 0, 0, 0, 0)),
    ("fp32", (0, 0, 1, 0, 0)),
    ("bf16", (0, 0, 1, 0, 0)),
    ("fp16", (0, 0, 1, 0, 1)),
    ("bf16", (1, 1, 1, 1, 0)),
    ("fp16", (1, 1, 1, 1, 1)),
)
TILE_FLAGS = ("BIAS", "CAP", "WANT_WEIGHT")
TILE_VARIANTS = (
    ("fp32", (0, 0, 0)),
    ("bf16", (0, 0, 1)),
    ("fp16", (0, 0, 1)),
    ("fp16", (1, 1, 1)),
)
#: (kernel, its flags, its variants)
KERNELS = ((_row_kernel, FLAGS, VARIANTS), (_tile_kernel, TILE_FLAGS, TILE_VARIANTS))
CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"


def signature(jitted: Any, dz_type: str) -> dict[str, str]:
    """Types as triton_rows passes them."""
    special = {"dz_ptr": f"*{dz_type}", "dh_ptr": f"*{dz_type}", "targets_ptr": "*i64"}
    special["weight_ptr"] = f"*{dz_type}"
    integers = {"vocabulary", "width", "dz_stride", "dh_stride", "weight_stride", "first"}
    return {
        name: special.get(name)
        or ("constexpr" if name.isupper() else "*fp32" if name.endswith("_ptr") else None)
        or ("i32" if name in integers else "fp32")
        for name in jitted.arg_names
    }


def compile_for(
    jitted: Any, flags: tuple[str, ...], target: int, dz_type: str, variant: tuple[int, ...]
) -> dict[str, object]:
    types = signature(jitted, dz_type)
    constants = {**dict(zip(flags, map(bool, variant), strict=True)), "TILE": TILE}
    aligned = [name for name in types if name.endswith(("_ptr", "stride")) or name == "width"]
    names = list(types)
    attributes = {(names.index(name),): [["tt.divisibility", 16]] for name in aligned}
    kernel = triton.compile(
        ASTSource(jitted, types, constants, attributes),
        target=GPUTarget("cuda", target, 32),
        options={"num_warps": WARPS, "enable_fp_fusion": True},
    )
    with tempfile.NamedTemporaryFile(suffix=".cubin") as cubin:
        cubin.write(kernel.asm["cubin"])
        cubin.flush()
        dump = subprocess.run(
            [CUOBJDUMP, "-res-usage", cubin.name], capture_output=True, text=True, check=True
        )
    usage = next(line for line in dump.stdout.splitlines() if "REG:" in line)
    return {
        "kernel": jitted.__name__,
        "target": f"sm{target}",
        "dz": dz_type,
        "flags": [name for name, on in zip(flags, variant, strict=True) if on],
        "usage": usage.strip(),
        "tensor_core": "mma" in kernel.asm["ptx"],
    }


if __name__ == "__main__":
    report = [
        compile_for(jitted, flags, target, dz_type, variant)
        for jitted, flags, variants in KERNELS
        for target in TARGETS
        for dz_type, variant in variants
    ]
    if "--json" in sys.argv:
        print(json.dumps(report))
    else:
        for entry in report:
            print(
                entry["kernel"],
                entry["target"],
                entry["dz"],
                "+".join(entry["flags"]) or "-",
                entry["usage"],
            )
