#!/usr/bin/env bash
# Makes tiny models of other kinds, for servers that see, hear, embed and rank, beside what
# install-vllm.sh has installed. It takes 2 MB, and what is there already is not made again.
set -euo pipefail
cd "$(dirname "$0")"
. ./cache.sh
python=$dir/venv/bin/python
[ -x "$python" ] || { echo "install-kinds: run install-vllm.sh first" >&2; exit 1; }
"$python" -c 'import soundfile' 2>/dev/null || "$dir/venv/bin/uv" pip install --quiet --python "$python" soundfile==0.14.0
if [ ! -e "$dir/kinds/ranking/config.json" ]; then
	find ../.. -name '*.md' -not -path '*/.venv/*' -print0 | sort -z | xargs -0 "$python" make_kinds.py "$dir/kinds"
fi
echo "models that see, hear, embed and rank are in $dir/kinds"
