#!/usr/bin/env bash
# Sets the study up, lints it and runs every test. Arguments go to pytest.
set -euo pipefail

# shellcheck source=scripts/environment.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/scripts/environment.sh"
find_python
set_up papermill snakemake nbval pytest hypothesis ruff
cd -- "$root"
"$PY" -m ruff check --quiet .
exec "$PY" -m pytest "$@"
