"""The study: cells, each computed once, kept as an artifact and a record, and found again.

`cell` says what a cell is and which cells there are, `staleness` whether a cell is up to date,
`computing` makes one, `adoption` proves that a change of the code computes nothing else.
"""

from vitstudy.study.cell import Cell, cells, not_run, select
from vitstudy.study.computing import attempt, commit, fail, lacks_parent, predictions, run
from vitstudy.study.staleness import (
    artifact_hash,
    damage,
    fingerprint,
    is_done,
    read,
    recorded,
    sources,
    versions,
    why_not,
)

__all__ = [
    "Cell",
    "artifact_hash",
    "attempt",
    "cells",
    "commit",
    "damage",
    "fail",
    "fingerprint",
    "is_done",
    "lacks_parent",
    "not_run",
    "predictions",
    "read",
    "recorded",
    "run",
    "select",
    "sources",
    "versions",
    "why_not",
]
