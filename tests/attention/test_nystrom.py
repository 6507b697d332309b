"""Nyström attention: its mathematics, the layer that takes over, the model with it, bad input."""

import copy

import foreign_models
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from recorded import assert_recorded, recorded
from timm.models.vision_transformer import Attention
from torch import nn

from vitstudy import measure, models
from vitstudy.attention import nystrom, nystrom_codes, replace
from vitstudy.errors import UserError
from vitstudy.pruning import slim
from vitstudy.quantization import dynamic, fq_vit, lsq


def qkv(n, batch=2, heads=2, d=8, dtype=torch.float64, spread=1.0, seed=0):
    shape = (3, batch, heads, n, d)
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return (spread * values).unbind(0)


def softmax_attention(q, k, v, scale):
    return (q @ k.mT * scale).softmax(-1) @ v


# -- landmarks ------------------------------------------------------------------------------------


def test_segment_means_of_seven_tokens_by_hand():
    x = torch.tensor([1.0, 3.0, 5.0, 7.0, 9.0, 11.0, 100.0]).double()[:, None]
    # 7 = 2 + 2 + 3: the last segment has the token that is left over
    assert nystrom.segment_means(x, 3).flatten().tolist() == [2, 6, 40]
    assert nystrom.segment_means(x, 1).flatten().tolist() == [136 / 7]
    assert torch.equal(nystrom.segment_means(x, 7), x)


def test_the_class_token_is_in_the_first_segment_or_a_landmark_of_its_own():
    x = torch.tensor([10.0, 1.0, 3.0, 5.0, 7.0])[:, None]
    assert nystrom.landmarks(x, 2).flatten().tolist() == [5.5, 5]
    assert nystrom.landmarks(x, 3, own=1).flatten().tolist() == [10, 2, 6]
    assert torch.equal(nystrom.landmarks(x, 5, own=1), x)


@given(st.data())
def test_segments_cover_all_tokens_once_in_order_and_differ_by_one_at_most(data):
    n = data.draw(st.integers(1, 200))
    m = data.draw(st.integers(1, n))
    weights = nystrom.segment_means(torch.eye(n, dtype=torch.float64), m)
    sizes = (weights > 0).sum(1)
    assert sizes.sum() == n and sizes.max() - sizes.min() <= 1
    assert (sizes.diff() >= 0).all()
    first = (weights > 0).double().argmax(1)
    assert torch.equal(first, torch.cat([torch.zeros(1, dtype=torch.long), sizes.cumsum(0)[:-1]]))
    torch.testing.assert_close(weights.sum(1), torch.ones(m, dtype=torch.float64))


@pytest.mark.parametrize(("m", "own"), [(0, 0), (-1, 0), (8, 0), (1, 1), (8, 1)])
def test_landmarks_that_there_cannot_be_are_refused(m, own):
    with pytest.raises(ValueError, match="landmarks"):
        nystrom.landmarks(torch.zeros(7, 2), m, own)


# -- the inverse ----------------------------------------------------------------------------------


def test_one_iteration_by_hand():
    # A = diag(1, 1/2): norms 1 and 1, so Z = A; AZ = diag(1, 1/4), and per entry
    # z (13 - az (15 - az (7 - az))) / 4: 1 stays; 1/2 (13 - 1/4 (15 - 1/4 (7 - 1/4))) / 4
    a = torch.diag(torch.tensor([1.0, 0.5], dtype=torch.float64))
    z = nystrom.iterative_inverse(a, 1)
    assert z.diagonal().tolist() == [1.0, 0.5 * (13 - 0.25 * (15 - 0.25 * 6.75)) / 4]
    assert z[0, 1] == z[1, 0] == 0


def test_iterations_converge_to_the_inverse_of_a_well_conditioned_matrix():
    a = (torch.randn(3, 2, 16, 16, generator=torch.Generator().manual_seed(0)).double()).softmax(-1)
    a = a + torch.eye(16)
    z = nystrom.iterative_inverse(a, 12)
    torch.testing.assert_close(z, torch.linalg.inv(a), rtol=1e-9, atol=1e-9)
    assert nystrom.inverse_residual(a, z).shape == (3, 2)
    assert nystrom.inverse_residual(a, z).max() < 1e-9
    residuals = [
        nystrom.inverse_residual(a, nystrom.iterative_inverse(a, i)).max() for i in (0, 2, 4)
    ]
    assert residuals[0] > residuals[1] > residuals[2]


def test_the_exact_inverse_meets_penroses_conditions_for_a_singular_matrix():
    a = torch.rand(2, 8, 3, generator=torch.Generator().manual_seed(0)).double()
    a = a @ a.mT  # of rank 3
    z = nystrom.exact_inverse(a)
    for left, right in ((a @ z @ a, a), (z @ a @ z, z), ((a @ z).mT, a @ z), ((z @ a).mT, z @ a)):
        torch.testing.assert_close(left, right, rtol=1e-8, atol=1e-8)


def test_only_the_whole_batchs_start_makes_an_image_depend_on_those_beside_it():
    q, k, v = qkv(12)
    for start in nystrom.STARTS:
        both = nystrom.nystrom_attention(q, k, v, 4, start=start, iterations=2)
        alone = [
            nystrom.nystrom_attention(
                *(x[i : i + 1] for x in (q, k, v)), 4, start=start, iterations=2
            )
            for i in (0, 1)
        ]
        same = torch.allclose(both, torch.cat(alone), rtol=1e-12, atol=1e-12)
        assert same is (start in ("paper", "exact")), start
    with pytest.raises(ValueError, match="valid: paper, exact, original, lucidrains"):
        nystrom.iterative_inverse(q @ q.mT, start="zero")


# -- attention ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "m", "own"), [(12, 4, 0), (13, 5, 0), (17, 6, 1), (65, 24, 0)])
def test_attention_is_the_papers_formula_written_out_with_loops(n, m, own):
    q, k, v = (x.numpy() for x in qkv(n))
    got = nystrom.nystrom_attention(*qkv(n), m, own=own).numpy()
    length, longer = divmod(n - own, m - own)
    sizes = [1] * own + [length] * (m - own - longer) + [length + 1] * longer
    starts = np.cumsum([0, *sizes])

    def softmax(x):
        e = np.exp(x - x.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)

    for b, h in np.ndindex(2, 2):
        Q, K, V = q[b, h] / np.sqrt(8), k[b, h], v[b, h]
        Ql, Kl = (
            np.stack(
                [
                    x[start : start + size].mean(0)
                    for start, size in zip(starts[:-1], sizes, strict=True)
                ]
            )
            for x in (Q, K)
        )
        A, E = softmax(Ql @ Kl.T), np.eye(m)
        Z = A.T / (np.abs(A).sum(0).max() * np.abs(A).sum(1).max())
        for _ in range(6):
            Z = 0.25 * Z @ (13 * E - A @ Z @ (15 * E - A @ Z @ (7 * E - A @ Z)))
        expected = softmax(Q @ Kl.T) @ Z @ softmax(Ql @ K.T) @ V
        np.testing.assert_allclose(got[b, h], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("own", [0, 1])
def test_as_many_landmarks_as_tokens_is_softmax_attention(own):
    q, k, v = qkv(17)
    expected = softmax_attention(q, k, v, 8**-0.5)
    got = nystrom.nystrom_attention(q, k, v, 17, own=own)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("spread", [0.1, 1.0, 3.0])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-7)])
def test_the_exact_inverse_gives_softmax_attention_when_every_token_is_a_landmark(
    spread, dtype, tolerance
):
    # past the shortcut: the three factors really multiplied, however badly A is conditioned
    for n in (17, 65):
        q, k, v = qkv(n, dtype=dtype, spread=spread)
        got = nystrom.attend_by_landmarks(q, k, v, q, k, scale=8**-0.5, inverse="exact")
        assert got.dtype == dtype
        error = (got - softmax_attention(q, k, v, 8**-0.5)).abs().max()
        assert error < tolerance * max(1, spread)


def test_tokens_that_are_all_alike_have_a_singular_matrix_and_finite_attention():
    q, k, v = qkv(12)
    q, k = q[..., :1, :].expand_as(q), k[..., :1, :].expand_as(k)
    for inverse in nystrom.INVERSES:
        got = nystrom.nystrom_attention(q, k, v, 4, inverse=inverse)
        torch.testing.assert_close(got, v.mean(-2, keepdim=True).expand_as(v))
    with pytest.raises(ValueError, match="valid: iterative, exact"):
        nystrom.nystrom_attention(q, k, v, 4, inverse="none")


def test_the_matrix_written_out_gives_the_same_output_and_its_rows_sum_to_one():
    q, k, v = qkv(20)
    matrix = nystrom.nystrom_matrix(q, k, 7, 8**-0.5, iterations=30)
    got = nystrom.nystrom_attention(q, k, v, 7, iterations=30)
    torch.testing.assert_close(matrix @ v, got, rtol=1e-10, atol=1e-10)
    # Z of a row-stochastic A keeps vectors of ones, once it has converged
    torch.testing.assert_close(matrix.sum(-1), torch.ones(2, 2, 20, dtype=torch.float64))
    exact = nystrom.softmax_matrix(q, k, 8**-0.5)
    assert nystrom.relative_error(exact, exact) == 0
    assert nystrom.relative_error(2 * exact, exact) == 1


def test_gradients_are_those_of_the_formula():
    q, k, v = (x.requires_grad_() for x in qkv(6, batch=1, heads=1, d=2))
    assert torch.autograd.gradcheck(lambda *x: nystrom.nystrom_attention(*x, 3), (q, k, v))


def test_under_autocast_the_inverse_stays_in_float32():
    q, k, v = qkv(16, dtype=torch.float32, spread=2.0)
    expected = nystrom.nystrom_attention(q, k, v, 4)
    with torch.autocast("cpu", torch.bfloat16):
        half = (x.bfloat16() for x in (q, k, v))
        got = nystrom.nystrom_attention(*half, 4)
    assert got.dtype == torch.bfloat16
    assert (got.float() - expected).norm() / expected.norm() < 0.03


# -- recorded vectors of the public codes (README rows `nystrom_*`) -------------------------------


DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


@DTYPES
def test_recorded_official_with_convolution(dtype):
    given, meta = recorded("nystrom_official__n64_m32_conv33", dtype)
    got = nystrom_codes.official(
        *(given[name] for name in ("in_q", "in_k", "in_v")),
        meta["m"],
        given["in_mask"],
        iterations=meta["n_iter"],
        start=meta["init_option"],
        convolution=given["w.conv.weight"],
    )
    assert_recorded(got, given, meta)


@DTYPES
def test_recorded_third_party_with_padding_in_front(dtype):
    given, meta = recorded("nystrom_lucidrains__n65_m24", dtype)
    heads = (given["in_x"] @ given["w.to_qkv.weight"].mT).unflatten(-1, (3, meta["heads"], -1))
    got = nystrom_codes.lucidrains(*heads.permute(2, 0, 3, 1, 4), meta["m"])
    got = got.transpose(1, 2).flatten(2) @ given["w.to_out.0.weight"].mT + given["w.to_out.0.bias"]
    assert_recorded(got, given, meta)


@DTYPES
def test_recorded_uneven_segments(dtype):
    given, meta = recorded("nystrom_t2t__n65_m24", dtype)
    heads = (given["in_x"] @ given["w.qkv.weight"].mT).unflatten(-1, (3, 1, -1))
    q, k, v = heads.permute(2, 0, 3, 1, 4)
    got = nystrom.nystrom_attention(
        q, k, v, meta["m"], scale=1 / meta["scale_divisor"], start=meta["init_option"]
    )
    assert_recorded(got[:, 0], given, meta, "out_core")
    got = v[:, 0] + got[:, 0] @ given["w.proj.weight"].mT + given["w.proj.bias"]
    assert_recorded(got, given, meta)


@pytest.mark.parametrize("start", ["original", "exact", "lucidrains"])
@pytest.mark.parametrize("iterations", [1, 6, 12])
@DTYPES
def test_recorded_inverse(dtype, iterations, start):
    given, meta = recorded("nystrom_pinv__m24", dtype)
    got = nystrom.iterative_inverse(given["in_A"], iterations, start)
    assert_recorded(got, given, meta, f"out_{start}_it{iterations}")


def test_recorded_pseudo_inverse():
    given, _ = recorded("nystrom_pinv__m24", torch.float64)
    torch.testing.assert_close(
        nystrom.exact_inverse(given["in_A"]), given["true_pinv_f64"], rtol=1e-10, atol=1e-10
    )


@pytest.mark.parametrize("code", [nystrom_codes.official, nystrom_codes.lucidrains])
def test_masked_tokens_have_no_say_in_the_others(code):
    q, k, v = qkv(12)
    mask = torch.ones(2, 12)
    mask[0, 7:] = 0
    changed = [x.clone() for x in (q, k, v)]
    for x in changed:
        x[0, :, 7:] = 5 * torch.randn(5, 8, dtype=torch.float64)
    weight = torch.randn(2, 1, 3, 1, dtype=torch.float64)
    for convolution in (None, weight):
        before = code(q, k, v, 4, mask, convolution=convolution)
        after = code(*changed, 4, mask, convolution=convolution)
        torch.testing.assert_close(after[0, :, :7], before[0, :, :7])
        assert torch.isfinite(after).all()
    # and with every token there a mask changes nothing
    everyone = torch.ones(2, 12)
    torch.testing.assert_close(code(q, k, v, 4, everyone), code(q, k, v, 4), rtol=1e-7, atol=1e-7)


def test_the_codes_agree_with_the_formula_where_segments_are_even():
    q, k, v = qkv(12, batch=1, heads=1)
    expected = nystrom.nystrom_attention(q, k, v, 4)
    for code in (nystrom_codes.official, nystrom_codes.lucidrains):
        torch.testing.assert_close(code(q, k, v, 4), expected)
    got = nystrom_codes.official(q, k, v, 12)
    torch.testing.assert_close(got, softmax_attention(q, k, v, 8**-0.5))
    with pytest.raises(ValueError, match="5 landmarks do not divide 12 tokens"):
        nystrom_codes.official(q, k, v, 5)
    with pytest.raises(ValueError, match="0 landmarks"):
        nystrom_codes.lucidrains(q, k, v, 0)


# -- the layer and the model ----------------------------------------------------------------------


def test_a_layer_with_every_token_a_landmark_is_timms_own(vit, images):
    expected = vit(images)
    for place in nystrom.CLASS_TOKENS:
        model = nystrom.replace_attention(copy.deepcopy(vit), None, class_token=place)
        assert all(replace.mechanism_of(block.attn) for block in model.blocks)
        torch.testing.assert_close(model(images), expected, rtol=1e-6, atol=1e-6)


def test_a_layers_output_is_the_formula_between_its_own_projections(vit):
    x = torch.randn(2, 17, 24, generator=torch.Generator().manual_seed(0))
    given = vit.blocks[0].attn
    q, k, v = given.qkv(x).unflatten(-1, (3, 2, 12)).permute(2, 0, 3, 1, 4)
    core = nystrom.nystrom_attention(q, k, v, 5, own=1, iterations=3)
    expected = given.proj(core.transpose(1, 2).flatten(2))
    nystrom.replace_attention(vit, 5, class_token="own", iterations=3)
    torch.testing.assert_close(vit.blocks[0].attn(x), expected)
    assert "num_landmarks=5, class_token='own', iterations=3" in repr(vit.blocks[0].attn)
    with pytest.raises(ValueError, match="takes no mask"):
        vit.blocks[0].attn(x, is_causal=True)


def test_the_weights_keep_their_names_and_a_change_is_repeated_on_loading(vit, images, tmp_path):
    before, names = vit(images), list(vit.state_dict())
    model = models.changed(copy.deepcopy(vit), nystrom.__name__, num_landmarks=6)
    assert list(model.state_dict()) == names
    models.save(model, tmp_path / "model")
    loaded = models.load(tmp_path / "model")
    assert loaded.description["changes"] == [{"module": nystrom.__name__, "num_landmarks": 6}]
    assert torch.equal(loaded(images), model(images))
    assert not torch.allclose(model(images), before, atol=1e-3)
    assert torch.equal(vit(images), before) and type(vit.blocks[0].attn) is Attention


def _by_lsq(model, images):
    return lsq.prepare(model, 4, 4, images=images)[0].eval(), lsq.__name__


def _dynamically(model, images):
    return dynamic.quantize(model), dynamic.__name__


def _by_fq_vit(model, images):
    model, skipped = fq_vit.quantize_model(model, images)
    assert ("blocks.0.attn", "ReplacedAttention") in [(n, why[:17]) for n, why in skipped]
    return model, fq_vit.__name__


@pytest.mark.parametrize("quantize", [_by_lsq, _dynamically, _by_fq_vit])
def test_quantizers_run_on_top_and_their_files_load_again(vit, images, tmp_path, quantize):
    model = models.changed(vit, nystrom.__name__, num_landmarks=6, class_token="own")
    quantized, packer = quantize(model, images)
    assert all(replace.mechanism_of(m) for m in _attentions(quantized))
    models.save(quantized, tmp_path / "model", packer)
    loaded = models.load(tmp_path / "model")
    assert all(replace.mechanism_of(m) for m in _attentions(loaded))
    assert torch.equal(loaded(images), quantized(images))


def _attentions(model):
    found = [module for name, module in model.named_modules() if name.endswith(".attn")]
    assert len(found) == 2
    return found


class Open(nn.Module):
    """A layer as pruning leaves it: heads of its own, an `attend` that can be replaced."""

    def __init__(self, attention):
        super().__init__()
        self.qkv, self.proj, self.scale = attention.qkv, attention.proj, attention.scale

    def heads(self, x):
        return self.qkv(x).unflatten(-1, (3, 2, 12)).permute(2, 0, 3, 1, 4).unbind(0)

    def attend(self, q, k, v, mask=None, is_causal=False):
        return F.scaled_dot_product_attention(q, k, v, mask, is_causal=is_causal, scale=self.scale)

    def forward(self, x, attn_mask=None, is_causal=False):
        x = self.attend(*self.heads(x), attn_mask, is_causal)
        return self.proj(x.transpose(1, 2).flatten(2))


def test_a_layer_that_lets_its_attend_be_replaced_keeps_its_heads(vit, images):
    opened = copy.deepcopy(vit)
    for block in opened.blocks:
        block.attn = Open(block.attn)
    nystrom.replace_attention(opened, 6)
    assert type(opened.blocks[0].attn) is Open
    expected = nystrom.replace_attention(vit, 6)(images)
    torch.testing.assert_close(opened(images), expected)
    torch.testing.assert_close(copy.deepcopy(opened)(images), expected)


@pytest.mark.parametrize("m", [1, 6, 16, 17])
def test_macs_are_counted_as_the_formula_says(vit, m):
    exact = measure.count_macs(vit, 16, 3)
    change = nystrom.nystrom_macs(17, m, 24, 2, 6) - 2 * 17**2 * 24
    model = nystrom.replace_attention(vit, m)
    assert measure.count_macs(model, 16, 3) == exact + 2 * change
    by_hand = 4 * 17 * m * 24 + 2 * m * m * 24 + 6 * 4 * 2 * m**3
    assert nystrom.nystrom_macs(17, m, 24, 2, 6) == (by_hand if m < 17 else 2 * 17**2 * 24)


# -- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize("m", [0, -3, 18, 100, 2.5, True, "8"])
def test_a_number_of_landmarks_that_there_cannot_be_is_one_line(vit, m):
    with pytest.raises(UserError, match=r"^num_landmarks is .*17 tokens here; valid: 1 to 17$"):
        nystrom.replace_attention(vit, m)
    assert type(vit.blocks[0].attn) is Attention


def test_other_options_that_there_cannot_be_are_one_line(vit):
    with pytest.raises(UserError, match="valid: 2 to 17"):
        nystrom.replace_attention(vit, 1, class_token="own")
    with pytest.raises(UserError, match="unknown class_token 'last'; valid: segment, own"):
        nystrom.replace_attention(vit, 4, class_token="last")
    for iterations in (0, 1.5):
        with pytest.raises(UserError, match="iterations is"):
            nystrom.replace_attention(vit, 4, iterations=iterations)


def test_a_model_without_softmax_attention_is_one_line(vit):
    replaced = nystrom.replace_attention(copy.deepcopy(vit), 4)
    with pytest.raises(UserError, match=r"blocks\.0\.attn attends by Nyström attention already"):
        nystrom.replace_attention(replaced, 4)
    other = copy.deepcopy(vit)
    other.blocks[1].attn = nn.Identity()
    with pytest.raises(UserError, match=r"blocks\.1\.attn is Identity: Nyström attention replaces"):
        nystrom.replace_attention(other, 4)
    dropping = copy.deepcopy(vit)
    dropping.blocks[0].attn.attn_drop.p = 0.1
    with pytest.raises(UserError, match="gate or dropout"):
        nystrom.replace_attention(dropping, 4)
    vit.blocks = nn.Sequential()
    for model in (vit, nn.Sequential(nn.Conv2d(3, 8, 3))):
        with pytest.raises(UserError, match="has no transformer blocks"):
            nystrom.replace_attention(model, 4)


# Models that the study did not build


@pytest.mark.parametrize("variant", foreign_models.VARIANTS)
def test_a_foreign_model_attends_by_landmarks_or_is_refused_by_the_layers_name(variant):
    model = foreign_models.build(variant)

    def replaced(number):
        return nystrom.replace_attention(copy.deepcopy(model), number)

    if foreign_models.check_refused("nystrom", variant, lambda: replaced(None)):
        return
    images = foreign_models.images_for(model)
    with torch.no_grad():
        foreign_models.assert_close(replaced(None)(images), model(images))
        fewer = replaced(4)
        assert all(replace.mechanism_of(block.attn) for block in fewer.blocks)
        assert torch.isfinite(fewer(images)).all()
        assert not torch.allclose(fewer(images), model(images), rtol=1e-3)


def test_fewer_tokens_than_landmarks_are_one_line():
    model = nystrom.replace_attention(foreign_models.build("any image size"), None)
    with pytest.raises(UserError, match="17 landmarks, and an image of only 5 tokens"):
        model(torch.zeros(1, 3, 16, 16))


def test_a_slim_attention_with_dropout_on_its_matrix_is_one_line():
    model = foreign_models.build("attention dropout")
    small = slim.slim(model, slim.uniform(slim.shape_of(model), 0.5))
    with pytest.raises(UserError, match=r"blocks\.0\.attn has a gate or dropout"):
        nystrom.replace_attention(small, 4)
