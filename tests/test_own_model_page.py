"""The page on which methods take which models: that it tells what happens when they are tried."""

from vitstudy.library import choices, support
from vitstudy.library.support import FAMILIES, METHODS, Outcome


def test_the_committed_page_tells_what_happens_now():
    outcomes = [support.attempt(method, family) for method in METHODS for family in FAMILIES]
    assert support.path().read_text(encoding="utf-8") == support.page(outcomes)


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
