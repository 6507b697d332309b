# The graph: cells ─► speed (alone on the machine) ─► notebooks ─► site.
#
#   ./run_all.sh [profile] [snakemake options]    or    snakemake --cores 2 --config profile=digits
#
# What a cell declares here is a stamp, never a record or an artifact: Snakemake deletes outputs
# before a job and skips those that exist, while whether a cell is up to date is study's to say.
# A job takes the cells of one data set, seed and family of methods, since starting Python with
# torch costs more seconds than a small cell does; --config group=cell makes every cell a job of its own.
# `--until` is a setting here: Snakemake's own never starts a job whose rule is named and that waits
# for another job of that rule, as those of cells do.
# A job that fails leaves a note and has its stamp all the same: what does not need it is still
# made, the end tells, and the next run tries again what has a note.

import sys

from vitstudy import files, graph, notebooks, profiles

PROFILE = profiles.get(config.get("profile", "digits"))
NAME = PROFILE.name
FROM_RECORDS = str(config.get("from_records", False)).lower() in ("1", "true")
EVERY_TIER = str(config.get("all", False)).lower() in ("1", "true")
UNTIL = str(config.get("until", "")).split()
JOBS = graph.jobs(NAME, config.get("group", "family"), EVERY_TIER)
PRIORITIES = graph.priorities(NAME, JOBS)
RECORDS = sorted(str(path) for path in files.results(NAME).glob("records/*/*/*.json"))

JOB = f"'{sys.executable}' -m vitstudy.job {NAME}"
STAMPS = f"results/{NAME}/stamps"
REPORT = [str(path) for path in sorted(files.SOURCE.glob("report/*.py"))]
ENDS = {
    "cells": expand(f"{STAMPS}/cells-{{job}}", job=JOBS),
    "notebook": expand(f"{STAMPS}/notebook-{{name}}", name=notebooks.names()),
    **{name: f"{STAMPS}/{name}" for name in ("speed", "survey", "site")},
}


workdir: str(files.root())


if workflow.is_main_process:
    graph.clear_stale(NAME, {} if FROM_RECORDS else JOBS, notebooks.shown(NAME))


rule all:
    input:
        [ENDS.get(name, name) for name in UNTIL] or ENDS["site"],


rule cells:
    output:
        touch(f"{STAMPS}/cells-{{job}}"),
    input:
        lambda wildcards: [f"{STAMPS}/cells-{each}" for each in graph.before(JOBS, wildcards.job)],
    params:
        cells=lambda wildcards: [str(cell) for cell in JOBS[wildcards.job]],
    threads: PROFILE.threads or workflow.cores
    priority: lambda wildcards: PRIORITIES[wildcards.job]
    shell:
        # A cell that fails has a record that says so, and the job's others go on.
        f"{JOB} cells-{{wildcards.job}} run --keep-going --no-parents {{params.cells:q}}"


rule speed:
    output:
        touch(f"{STAMPS}/speed"),
    input:
        ENDS["cells"],
    threads: workflow.cores  # nothing else beside it
    shell:
        f"{JOB} speed speed {NAME}"


rule survey:
    output:
        touch(f"{STAMPS}/survey"),
    input:
        [str(path) for path in sorted(files.SOURCE.glob("survey/**/*.*")) if path.suffix != ".pyc"],
        REPORT,
    shell:
        f"{JOB} survey survey"


rule notebook:
    output:
        touch(f"{STAMPS}/notebook-{{name}}"),
    input:
        RECORDS if FROM_RECORDS else f"{STAMPS}/speed",
        lambda wildcards: f"{STAMPS}/survey" if wildcards.name == "09_eer_survey" else [],
        str(notebooks.folder() / "{name}.ipynb"),
        REPORT,
    shell:
        f"{JOB} notebook-{{wildcards.name}} notebook {{wildcards.name}} {NAME} --if-measured"


rule site:
    output:
        touch(f"{STAMPS}/site"),
    input:
        ENDS["notebook"],
        [str(path) for path in sorted(files.REPOSITORY.glob("docs/*"))],
        [str(path) for path in sorted(files.REPOSITORY.glob("results/*/tables/table*.md"))],
    threads: workflow.cores
    shell:
        f"{JOB} site site {NAME}{' --all' * EVERY_TIER}"
