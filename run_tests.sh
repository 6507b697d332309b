#!/usr/bin/env bash
# Sets the study up, lints it and runs every test. Arguments go to pytest.
set -euo pipefail

# shellcheck source=scripts/environment.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/scripts/environment.sh"
find_python
set_up papermill snakemake nbval pytest hypothesis xdist ruff mypy
cd -- "$root"
"$PY" -m ruff check --quiet .
"$PY" -m ruff format --check --quiet .
# Strict types of the public modules, which pyproject.toml lists.
"$PY" -m mypy --no-error-summary
# Side by side on every core; one that has nothing left takes over what another has before it.
exec "$PY" -m pytest -n auto --dist worksteal "$@"
