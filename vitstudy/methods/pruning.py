"""Gates, cuts by other scores, and their controls.

Every score cuts a model that was trained on for as long as the gates were, and what it leaves is
fine-tuned for as long again; `continued-twice` is trained for both without a cut.
"""

from __future__ import annotations

from vitstudy.configs import Continued
from vitstudy.methods.method import Method
from vitstudy.methods.references import YU, ZHU
from vitstudy.pruning.configs import Cut, Gates, Skip, Tune


def _gates(key: str, title: str, beneath: str, tier: str, gate_range: float | None, note: str):
    return Method(
        key=key,
        title=f"{title}, nothing cut",
        method="Pruning",
        reference=ZHU,
        tier=tier,
        beneath=beneath,
        config=Gates(gate_range=gate_range),
        parents=("vanilla",),
        timed=False,
        note=note,
    )


def _cut(key: str, title: str, reference: str, parent: str, config: Cut, tier: str, note: str):
    """The row `key` as the cut of `parent` leaves it, before the fine-tuning."""
    return Method(
        key=f"{key}-r{config.r}-cut",
        title=f"{title} (r={config.r}), before fine-tuning",
        method="Pruning",
        reference=reference,
        tier=tier,
        beneath=f"vtp-r{config.r}",
        config=config,
        parents=(parent,),
        timed=False,
        note=f"{note}, nothing trained after it",
    )


def _tuned(cut: Method, tier: str, *, timed: bool = False) -> Method:
    """What `cut` left, fine-tuned."""
    return Method(
        key=cut.key.removesuffix("-cut"),
        title=cut.title.removesuffix(", before fine-tuning"),
        method="Pruning",
        reference=cut.reference,
        tier=tier,
        beneath=cut.beneath,
        config=Tune(),
        parents=(cut.key,),
        timed=timed,
        note=cut.note.removesuffix(", nothing trained after it"),
    )


def _by_score(
    key: str, title: str, reference: str, config: Cut, tier: str, note: str
) -> tuple[Method, Method]:
    """The cut by a score that is no gate, and what it left fine-tuned."""
    cut = _cut(key, title, reference, "continued", config, tier, note)
    return cut, _tuned(cut, tier)


def _at(r: float, control: str) -> tuple[Method, ...]:
    """Cuts of r of all parameters; those that control the scores are of the tier `control`."""
    return (
        _cut(
            "vtp",
            "ViT-Pruning",
            ZHU,
            "vtp-gates",
            Cut(score="gate", r=r),
            "control",
            "cut by the gates",
        ),
        *(_slow() if r == 0.2 else ()),
        *_by_score(
            "taylor",
            "Pruning by Eq. 7",
            "the papers' Eq. 7",
            Cut(score="taylor", r=r, images=1_024),
            "sweep",
            "cut by the squared first-order change of the loss",
        ),
        *_by_score(
            "kl",
            "Pruning by Eq. 8",
            YU,
            Cut(score="kl", r=r, images=64, groups=16),
            "variant",
            "heads and MLP groups cut by the outputs' divergence",
        ),
        *_by_score(
            "magnitude",
            "Pruning by magnitude",
            "none",
            Cut(score="magnitude", r=r),
            control,
            "control: cut by the mean size of the weights",
        ),
        *_by_score(
            "random",
            "Pruning at random",
            "none",
            Cut(score="random", r=r),
            control,
            "control: cut by chance",
        ),
    )


def _slow() -> tuple[Method, Method]:
    cut = _cut(
        "vtp-slow",
        "ViT-Pruning, slow gates",
        ZHU,
        "vtp-gates-slow",
        Cut(score="gate", r=0.2),
        "variant",
        "cut by gates that hardly moved",
    )
    return cut, _tuned(cut, "sweep", timed=True)


VARIANTS = (
    _gates(
        "vtp-gates",
        "ViT-Pruning, gates trained",
        "vtp-r0.1",
        "control",
        1.0,
        "the baseline trained on with its dimensions behind soft gates, which cost l1",
    ),
    _gates(
        "vtp-gates-slow",
        "ViT-Pruning, slow gates",
        "vtp-r0.2",
        "variant",
        None,
        "gates learn at the network's own rate, as a plain fine-tuning has them",
    ),
    Method(
        key="continued-twice",
        title="Vanilla ViT, trained on twice",
        method="-",
        reference="none",
        tier="control",
        beneath="vtp-r0.1",
        config=Continued(),
        parents=("continued",),
        timed=False,
        note="control: the baseline fine-tuned for the steps of gates and fine-tuning, in float",
    ),
    *_at(0.1, "variant"),
    *_at(0.2, "control"),
    Method(
        key="skip-r0.2",
        title="Skip-dimension model (r=0.2)",
        method="Pruning",
        reference=YU,
        tier="sweep",
        beneath="vtp-r0.2",
        config=Skip(gate_range=1.0, r=0.2),
        parents=("vanilla",),
        note="whole blocks behind gates too, learned with the divergence of Eq. 8 in the loss",
    ),
)
