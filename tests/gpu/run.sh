#!/usr/bin/env bash
# What needs a GPU, in one command of under eight minutes, without a network: the gpu-marked tests,
# float16 with outliers, the recipes' steps on random weights of the real shapes within the memory
# of small cards, a 7B step beside TRL's, the kernel beside its peers. Writes one JSON that also
# says what was skipped and why.
#   tests/gpu/run.sh [-o gpu.json] [--minutes 8] [--only NAME]…
#   tests/gpu/run.sh --preflight                     only says which packages are missing
#   tests/gpu/run.sh --device cpu --shapes tiny      the same code on a CPU, to see that it works
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
python=${PYTHON:-python}
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" HF_HUB_OFFLINE=1
exec "$python" "$root/tests/gpu/suite.py" "$@"
