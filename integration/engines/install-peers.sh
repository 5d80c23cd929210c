#!/usr/bin/env bash
# Installs Dynamo's mock engines and SGLang's router where the tests look for them:
# $INFERPICK_ENGINES, or else inferpick/engines in the user's cache folder. It takes 400 MB;
# what is there already is not made again.
set -euo pipefail
cd "$(dirname "$0")"
dynamo=1.6.1
router=0.3.2
. ./cache.sh
python=$dir/peers/bin/python

installed() { "$python" -c 'import dynamo.mocker, dynamo.frontend, sglang_router.launch_router' 2>/dev/null; }

if ! installed; then
	py=${PYTHON:-python3.12}
	command -v "$py" >/dev/null || { echo "install-peers: $py is needed; PYTHON names another" >&2; exit 1; }
	[ -x "$python" ] || "$py" -m venv "$dir/peers"
	pip() { "$python" -m pip --quiet --disable-pip-version-check install "$@"; }

	# Dynamo asks for simulators of hardware, which a mock engine does not need.
	pip --no-deps "ai-dynamo==$dynamo" "ai-dynamo-runtime==$dynamo" "sglang-router==$router"
	pip uvloop "pydantic<=2.13.5" msgspec pyzmq aiohttp prometheus-client zstandard certifi pyyaml packaging tqdm numpy tokenizers \
		setproctitle orjson uvicorn fastapi
	installed || { echo "install-peers: they are not there after all, see $dir/peers" >&2; exit 1; }
fi
[ -e "$dir/mock-model/config.json" ] || "$python" make_mock_model.py "$dir/mock-model"
echo "Dynamo $dynamo and the router of SGLang $router are in $dir/peers"
