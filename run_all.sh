#!/usr/bin/env bash
# Sets the study up and makes every record, table, figure, notebook and page of a profile.
set -euo pipefail

for argument in "$@"; do
    case $argument in
        -h | --help)
            cat <<'USAGE'
usage: ./run_all.sh [PROFILE] [--from-records] [--all] [SNAKEMAKE OPTIONS]

  PROFILE          digits (the default: two CPU cores, no data to fetch), cifar-cpu, cifar, cifar224, paper
  --from-records   show a profile from its committed records; compute nothing
  --all            also the methods that the profile computes only when they are asked for
  other options    go to Snakemake, such as --cores 4 or --executor slurm

The exit code is 0 where everything was made, 1 where something failed (the rest is made, the last lines
and site/index.html say what is missing, and the next run tries it again), 2 where you have something
to mend first.

  PYTHON=...            the Python to use, 3.11 to 3.13
  UV_TORCH_BACKEND=cpu  PyTorch without a GPU, when the environment is made
  VITSTUDY_DATA=...     where the data sets are; a relative path counts from this folder
USAGE
            exit 0
            ;;
    esac
done

# shellcheck source=scripts/environment.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/scripts/environment.sh"
VITSTUDY_STARTED=$(date +%s) # the time that the end tells includes the set-up
export VITSTUDY_STARTED
find_python
take_run_lock
set_up papermill snakemake
cd -- "$root"
exec "$PY" -m vitstudy reproduce "$@"
