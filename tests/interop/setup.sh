#!/usr/bin/env bash
# Installs the official SDKs that the tests beside this file talk to, each in an environment of its own.
set -euo pipefail
cd "$(dirname "$0")"
python="${INTEROP_PYTHON:-python3.12}"
if [ ! -x .envs/sdk081/bin/python ]; then
  "$python" -m venv .envs/sdk081
  .envs/sdk081/bin/python -m pip install --quiet --disable-pip-version-check 'resonate-sdk==0.8.1'
fi
mkdir -p .envs/node
cp package.json .envs/node/
(cd .envs/node && npm install --silent --no-audit --no-fund --no-package-lock)
