#!/usr/bin/env bash
# Installs NIXL, with which vLLM servers hand over KV caches, and a model with weights, where
# the tests look for them: $INFERPICK_ENGINES, or else inferpick/engines in the user's cache
# folder. It takes 250 MB, and install-vllm.sh comes first.
set -euo pipefail
cd "$(dirname "$0")"
nixl=1.5.1
. ./cache.sh
python=$dir/venv/bin/python

[ -x "$python" ] || { echo "install-nixl: run install-vllm.sh first" >&2; exit 1; }
installed() { PYTHONPATH=$dir/nixl "$python" -c 'import nixl._api' 2>/dev/null; }

if ! installed; then
	# It needs nothing that vLLM does not bring. CUDA 13 is that of vLLM's torch, which
	# NIXL looks at even where there is no GPU.
	"$python" -m pip --quiet --disable-pip-version-check install --no-deps --target "$dir/nixl" "nixl==$nixl" "nixl-cu13==$nixl"
	# Its thread looks for work all the time, on a processor of its own. Microseconds.
	sed -i.bak 's/agent_config\.pthrDelay = 0$/agent_config.pthrDelay = 1000/' "$dir/nixl/nixl_cu13/_api.py"
	installed || { echo "install-nixl: it is not there after all, see $dir/nixl" >&2; exit 1; }
fi
# The processes of vLLM wait for each other in loops around sched_yield, for a second after
# each step. Where a yield costs the turn, as in Linux 6.18, one that has yielded often does
# not run again before the others on its processor sleep: hand-overs took 30 seconds.
cat >"$dir/nixl/sitecustomize.py" <<'PYTHON'
import os
import time

os.sched_yield = lambda: time.sleep(0.0001)
PYTHON
[ -e "$dir/weights/model.safetensors" ] || "$python" make_weights.py "$dir/model" "$dir/weights"
echo "NIXL $nixl is in $dir/nixl, and a model with weights in $dir/weights"
