"""The page on which methods take which models: that it tells what happens when they are tried."""

import pytest

from vitstudy.library import choices, support
from vitstudy.library.support import FAMILIES, METHODS, Outcome

NAMES = list(FAMILIES)
TRIED = [
    (method, NAMES[(place + shift) % len(NAMES)])
    for place, method in enumerate(METHODS)
    for shift in (0, len(NAMES) // 2)
]
"""Two families of each method, together all families: the whole page takes minutes to make."""


@pytest.mark.parametrize(("method", "family"), TRIED)
def test_the_committed_page_tells_what_happens_now(method, family):
    text = support.path().read_text(encoding="utf-8")
    cells = {
        row.split(" | ")[0].strip("| `"): row.strip("| ").split(" | ")[1:]
        for row in text.splitlines()
        if row.startswith("| `")
    }
    outcome = support.attempt(method, family)
    assert cells[method][NAMES.index(family)] == support._cell(outcome)
    if outcome.refusal:
        assert f"- `{method}`: {outcome.refusal} (" in text
    for kind, reason in outcome.left:
        assert f"- {kind}: {reason} (" in text


def test_every_method_of_the_page_can_be_used_and_no_kind_is_left_out():
    kinds = {choices.get(key).method for key in METHODS}
    assert {each.kind for each in choices.list_methods()} - {"-"} <= kinds


def test_a_refusal_and_what_is_left_stand_on_the_page_once_with_their_families():
    outcomes = [Outcome(method, family, 3) for method in METHODS for family in FAMILIES]
    places = {(each.method, each.family): place for place, each in enumerate(outcomes)}
    for family in ("Swin", "BEiT"):
        outcomes[places["hydra", family]] = Outcome("hydra", family, refusal="no blocks here")
    left = (("LayerNorm", "in float"),) * 2
    outcomes[places["dynamic", "ViT"]] = Outcome("dynamic", "ViT", 4, left)
    page = support.page(outcomes)
    assert "- `hydra`: no blocks here (BEiT, Swin)\n" in page
    assert "- LayerNorm: in float (ViT)" in page and "| 4 changed, 2 left |" in page
