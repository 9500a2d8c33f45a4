#!/bin/sh
# The generators of typed clients that some tests run over /openapi.json: of Python (in a virtual environment of its own,
# for it wants another typer than ours) and of TypeScript (where there is npm). Into DIRECTORY, once; else it says loudly
# which tests will be skipped.
#
#   scripts/install_generators.sh DIRECTORY [PYTHON]
set -u

OPENAPI_PYTHON_CLIENT=0.29.1
RUFF=0.17
OPENAPI_TYPESCRIPT=7.13.0
TYPESCRIPT=5.9.3

directory=$1
python=${2:-python3}
missing=""

if [ ! -x "$directory/python/bin/openapi-python-client" ]; then
    rm -rf "$directory/python"
    { "$python" -m venv "$directory/python" &&
        "$directory/python/bin/python" -m pip install --quiet --disable-pip-version-check \
            "openapi-python-client==$OPENAPI_PYTHON_CLIENT" "ruff>=$RUFF"; } || missing="openapi-python-client"
fi

if [ ! -x "$directory/node/node_modules/.bin/openapi-typescript" ]; then
    rm -rf "$directory/node"
    mkdir -p "$directory/node"
    { command -v npm >/dev/null &&
        npm install --prefix "$directory/node" --no-save --no-package-lock --no-audit --no-fund --loglevel=error \
            "openapi-typescript@$OPENAPI_TYPESCRIPT" "typescript@$TYPESCRIPT" >/dev/null; } ||
        missing="$missing openapi-typescript (npm)"
fi

if [ -n "$missing" ]; then
    cat >&2 <<MESSAGE
**************************************************************************************************
  NOT INSTALLED: $missing
  The tests that generate typed clients with it are SKIPPED.
**************************************************************************************************
MESSAGE
fi
