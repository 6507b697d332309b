"""The papers' numbers against each other, and what follows from a ViT-B/16 by hand."""

import pytest

from vitstudy import profiles
from vitstudy.profiles import Architecture
from vitstudy.report import published


def test_the_published_speeds_of_one_shape_disagree():
    frame = published.contradictions().set_index("of")
    vanilla = frame.loc["Vanilla ViT in Tables 1 and 2"]
    assert (vanilla["first"], vanilla["second"], vanilla["factor"]) == ("0.050", "0.093", 1.86)
    deit = frame.loc["Vanilla ViT and DeiT base in Table 1"].set_index("published")
    assert tuple(deit.loc["CPU speed, it/s", ["first", "second"]]) == ("0.050", "0.096")
    assert set(published.same_shape()["size, MB"]) == {327}


def test_the_published_sizes_of_one_pruning_ratio_disagree():
    frame = published.contradictions().set_index("of")
    pruned = frame.loc["ViT-Pruning(r=0.2) in Tables 1 and 2"]
    assert (pruned["first"], pruned["second"]) == ("254", "272")
    # 90 classes more of 768 weights and a bias, 4 bytes each.
    assert "0.26 MB" in pruned["what speaks against it"]
    gone = frame.loc["Vanilla ViT and ViT-Pruning(r=0.1) in Table 1", "what speaks against it"]
    assert gone.startswith("8.0%")  # 1 - 301 / 327


def test_the_printed_size_is_that_of_a_vit_b_of_32_bits():
    assert published.parameters(1) == pytest.approx(85.8e6, rel=0.002)
    assert published.tokens(profiles.get("paper").architecture) == 197


def test_attentions_share_by_hand():
    # One block of width 4, hidden 8, 4 patches + 1 = 5 tokens; patches of 2 x 2 x 1; 3 classes.
    tiny = Architecture(width=4, depth=1, heads=1, mlp_ratio=2, image_size=4, patch_size=2)
    products = 2 * 5 * 5 * 4
    rest = 5 * (4 * 16 + 2 * 4 * 8) + 4 * (1 * 2 * 2 * 4) + 4 * 3
    assert published.attention_share(tiny, 3, 1) == pytest.approx(products / (products + rest))


def test_a_token_more_is_half_a_percent_of_a_vit_bs_arithmetic():
    assert published.one_token_more(profiles.get("paper").architecture) == pytest.approx(
        1.0053, abs=2e-4
    )


def test_statements_that_disagree_come_with_numbers_of_the_tables():
    frame = published.disagreements().set_index("about")
    assert frame.loc["what pruning costs", "numbers"] == "r = 0.1: -10.58 and -18.41 points"
    assert "85.7 million" in frame.loc["size of the model", "numbers"]
    assert (frame != "").all(axis=None)


def test_a_row_that_the_papers_do_not_have_is_an_error():
    with pytest.raises(KeyError):
        published.printed("rounded-w4", 1)
