#!/usr/bin/env bash
# Installs the packages that the benchmarks compare with, each in its own virtual environment
# under benchmarks/.venvs. Both need Python 3.12: PYTHON312, else python3.12 on the PATH, else pyenv's newest.
set -euo pipefail
cd "$(dirname "$0")"

find_python() {
    local candidate
    for candidate in "${PYTHON312:-}" python3.12 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.12.*/bin/python3.12; do
        if [ -n "$candidate" ] && "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 12))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "no Python 3.12 found: install it or set PYTHON312" >&2
    return 1
}

python=$(find_python)
for version in 0.6.7 0.8.1; do
    venv=".venvs/sdk${version//./}"
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "resonate-sdk==$version"
    echo "$venv: $("$venv/bin/python" --version), $("$venv/bin/python" -m pip freeze | grep -i '^resonate')"
done

# DBOS for the durable programs, with the driver for PostgreSQL that we have too; its SQLite must be newer than many
# systems have.
[ -x .venvs/dbos/bin/python ] || "$python" -m venv .venvs/dbos
.venvs/dbos/bin/python -m pip install --quiet --disable-pip-version-check dbos pysqlite3-binary 'psycopg[binary,pool]'
echo ".venvs/dbos: $(.venvs/dbos/bin/python --version), $(.venvs/dbos/bin/python -m pip freeze | grep -i '^dbos')"

# Ours runs on the same Python: this tree from src/, beside its dependencies.
[ -x .venvs/ours/bin/python ] || "$python" -m venv .venvs/ours
.venvs/ours/bin/python -m pip install --quiet --disable-pip-version-check --editable .. 'psycopg[binary,pool]'
echo ".venvs/ours: $(.venvs/ours/bin/python --version), $(.venvs/ours/bin/python -m pip freeze | grep -i '^psycopg-binary')"
