#!/usr/bin/env bash
# Installs NIXL, with which vLLM servers hand over KV caches, where the tests look for it:
# $INFERPICK_ENGINES, or else inferpick/engines in the user's cache folder. It takes 200 MB,
# and install-vllm.sh comes first.
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
	installed || { echo "install-nixl: it is not there after all, see $dir/nixl" >&2; exit 1; }
fi
echo "NIXL $nixl is in $dir/nixl"
