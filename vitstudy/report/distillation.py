"""What notebook 04 says of distillation: from records, predictions and analysis files alone."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import torch

from vitstudy import data, methods
from vitstudy.distillation.deit import hard_loss
from vitstudy.distillation.soft import divergence, soft_loss, soft_targets, survey_loss
from vitstudy.report import significance
from vitstudy.report.evidence import Evidence
from vitstudy.report.published import PUBLISHED_ON, change, printed
from vitstudy.report.readable import table
from vitstudy.report.significance import Difference

STUDENTS = {
    "vanilla": "none",
    "soft": "soft, τ = 2",
    "soft-usual": "soft, τ = 2, usual direction",
    "soft-t1": "soft, τ = 1",
    "soft-t8": "soft, τ = 8",
    "hard": "hard",
    "token-labels": "none, but the token",
    "deit-base": "hard, by a token",
}
"""Networks of vanilla's size trained for vanilla's steps, by what the teacher tells them."""
TINY = {"tiny-labels": "DeiT tiny: none", "deit-tiny": "DeiT tiny: hard, by a token"}
OTHERS = {**TINY, "teacher": "the teacher itself"}
ORDER = [*STUDENTS.values(), *OTHERS.values()]
CONTROLS = (
    ("deit-base", "token-labels", "a teacher for the token"),
    ("deit-base", "hard", "the token for the teacher"),
    ("deit-tiny", "tiny-labels", "a teacher for the token"),
    ("soft", "soft-usual", "the printed direction instead of the usual"),
)
"""A row, the row that lacks one part of it, and that part."""
TEMPERATURES = (0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0)


# -- the mathematics, by example ------------------------------------------------------------------


def worked_example() -> dict[str, float]:
    """Eq. 4 and 5 and their kin on one image of three classes, the label the first of them."""
    student = torch.tensor([[2.0, 1.0, 0.0]], dtype=torch.float64)
    teacher = torch.tensor([[1.0, 3.0, 0.0]], dtype=torch.float64)
    label = torch.tensor([0])
    eq4 = {"temperature": 2.0, "weight": 0.5}
    losses = {
        "CE(student, label)": soft_loss(student, teacher, label, temperature=1.0, weight=0.0),
        "KL(student ‖ teacher), τ = 1": divergence(student, teacher),
        "KL(teacher ‖ student), τ = 1": divergence(student, teacher, expectation="teacher"),
        "τ² KL(student ‖ teacher), τ = 2": divergence(student, teacher, 2.0),
        "Eq. 4 as printed, τ = 2, λ = ½": soft_loss(student, teacher, label, **eq4),
        "Eq. 4, the usual direction": soft_loss(
            student, teacher, label, **eq4, expectation="teacher"
        ),
        "the survey's Eq. 3-4": survey_loss(student, teacher, label),
        "Eq. 5, the teacher says class 1": hard_loss(student, teacher, label),
    }
    return {name: round(value.item(), 6) for name, value in losses.items()}


def directions(teacher: float = 0.9, points: int = 199) -> pd.DataFrame:
    """Both divergences of two classes by the student's probability of the first, in nats.

    Columns `student` (0..1, the ends left out), `as printed`, `usual`.
    """
    p = torch.linspace(0, 1, points + 2, dtype=torch.float64)[1:-1]
    student = torch.stack([p.log(), (1 - p).log()], dim=-1)
    told = torch.tensor([[math.log(teacher), math.log(1 - teacher)]], dtype=torch.float64)
    curves = {"student": p.numpy()}
    for name, expectation in (("as printed", "student"), ("usual", "teacher")):
        values = [divergence(row[None], told, expectation=expectation).item() for row in student]
        curves[name] = np.array(values)
    return pd.DataFrame(curves)


# -- temperature ----------------------------------------------------------------------------------


def teachers(profile: str) -> dict[str, dict[str, np.ndarray]]:
    """The analysis files of the first seed's teachers, by data set; see `teacher.analyse`.

    Raises UserError, with the command to run, where there is none.
    """
    evidence = Evidence(profile)
    students = ("teacher", "deit-*", "soft", "hard")
    found = evidence.analyses("teacher")
    if not found:
        raise evidence.absent("teacher", *students, them="it and its students")
    return found


def softness(logits: np.ndarray, temperatures: tuple[float, ...] = TEMPERATURES) -> pd.DataFrame:
    """What the temperature makes of a teacher's logits (N, C), means over the images.

    Columns `temperature`, `top` (probability of the likeliest class), `entropy` (share of log C,
    the entropy of knowing nothing).
    """
    rows = []
    for temperature in temperatures:
        p = soft_targets(torch.from_numpy(logits).double(), temperature)
        entropy = -(p * p.clamp(min=1e-300).log()).sum(-1).mean() / math.log(p.shape[-1])
        rows.append((temperature, p.amax(-1).mean().item(), entropy.item()))
    return pd.DataFrame(rows, columns=["temperature", "top", "entropy"])


def softness_by_dataset(by_dataset: dict[str, dict[str, np.ndarray]]) -> dict[str, pd.DataFrame]:
    """`softness` of each of `teachers`, by the data set's title."""
    return {data.spec(name).title: softness(told["logits"]) for name, told in by_dataset.items()}


# -- students -------------------------------------------------------------------------------------


def compare(profile: str) -> pd.DataFrame:
    """Every student that is measured, and the teacher: accuracy, percent, first seed.

    Columns `dataset`, `key`, `taught`, `accuracy`, `low`, `high`, `difference` (from vanilla, on
    the same images; None of vanilla itself and without predictions), `record`.
    """
    evidence, rows = Evidence(profile), []
    for dataset in evidence.datasets:
        for key, taught in {**STUDENTS, **OTHERS}.items():
            record = evidence.record(dataset, key)
            if record is None:
                continue
            apart = None
            if key != "vanilla":
                first = evidence.known.seeds[:1]
                apart = significance.difference(profile, dataset, key, "vanilla", first)
            interval = [100 * record.accuracy_low, 100 * record.accuracy_high]
            rows.append((dataset, key, taught, 100 * record.accuracy, *interval, apart, record))
    columns = ["dataset", "key", "taught", "accuracy", "low", "high", "difference", "record"]
    return pd.DataFrame(rows, columns=columns)


def readable(compared: pd.DataFrame) -> pd.DataFrame:
    """`compare` as text for a reader, with what each training took."""
    columns = {
        "data set": ("dataset", lambda name: data.spec(name).title),
        "model": ("key", lambda key: methods.get(key).title),
        "taught by the teacher": "taught",
        "accuracy, %": ("accuracy", "{:.2f}"),
        "against vanilla, points (95 %)": ("difference", str),
        "calibration error": ("record", "{0.calibration_error:.3f}"),
        "parameters": ("record", "{0.parameters:,}"),
        "file, MiB": ("record", "{0.size_mib:.3f}"),
        "steps": ("record", "{0.steps:,}"),
        "training, s": ("record", "{0.training_seconds:.1f}"),
    }
    return table(compared, columns)


def what_they_learned(profile: str) -> pd.DataFrame:
    """On the validation images: how far each student's logits are from the teacher's.

    Columns `data set`, `student`, both divergences at τ = 1 in nats, and the share of images on
    which student and teacher decide alike, percent.
    """
    evidence, rows = Evidence(profile), []
    for dataset, told in teachers(profile).items():
        teacher = torch.from_numpy(told["logits"]).double()
        for key in STUDENTS:
            student = evidence.record(dataset, key) and evidence.analysis(dataset, key)
            if key == "vanilla" or not student:
                continue
            logits = torch.from_numpy(student["logits"]).double()
            printed = divergence(logits, teacher).item()
            usual = divergence(logits, teacher, expectation="teacher").item()
            alike = round(100 * float((logits.argmax(1) == teacher.argmax(1)).double().mean()), 1)
            names = data.spec(dataset).title, methods.get(key).title
            rows.append((*names, round(printed, 4), round(usual, 4), alike))
    columns = ["data set", "student", "KL(student ‖ teacher)", "KL(teacher ‖ student)"]
    return pd.DataFrame(rows, columns=[*columns, "decide alike, %"])


def heads(profile: str) -> pd.DataFrame:
    """Accuracy on the validation images of each head of a student with a token, and of their mean.

    Columns `data set`, `student`, `head`, `accuracy` and `as the teacher`, percent.
    """
    evidence, rows = Evidence(profile), []
    names = {"class_logits": "class", "token_logits": "distillation", "logits": "mean of both"}
    for dataset, told in teachers(profile).items():
        teacher = told["logits"].argmax(1)
        for key in ("deit-base", "token-labels", "deit-tiny", "tiny-labels"):
            student = evidence.record(dataset, key) and evidence.analysis(dataset, key)
            for name, head in names.items() if student else ():
                decided = student[name].argmax(1)
                right = round(100 * float((decided == told["labels"]).mean()), 2)
                alike = round(100 * float((decided == teacher).mean()), 2)
                title = data.spec(dataset).title
                rows.append((title, methods.get(key).title, head, right, alike))
    columns = ["data set", "student", "head", "accuracy", "as the teacher"]
    return pd.DataFrame(rows, columns=columns)


def tiny(profile: str) -> pd.DataFrame:
    """DeiT tiny's share of DeiT base: width, parameters, MACs and bytes; and points of accuracy."""
    evidence = Evidence(profile)
    rows = [
        (
            data.spec(dataset).title,
            f"{small.options['width']:.4g}",
            f"{small.parameters / whole.parameters:.3f}",
            f"{small.macs / whole.macs:.3f}",
            f"{small.size_bytes / whole.size_bytes:.3f}",
            f"{100 * (small.accuracy - whole.accuracy):+.2f}",
        )
        for dataset in evidence.datasets
        if (small := evidence.record(dataset, "deit-tiny"))
        and (whole := evidence.record(dataset, "deit-base"))
    ]
    columns = ["data set", "width", "parameters", "MACs", "bytes", "accuracy, points"]
    return pd.DataFrame(rows, columns=columns)


def published() -> pd.DataFrame:
    """What the papers print of distillation, percent, against their vanilla ViT's points."""
    rows = []
    for key in ("vanilla", "deit-base", "deit-tiny"):
        row = {"model": methods.get(key).title}
        for which, title in enumerate(PUBLISHED_ON, 1):
            row[title] = f"{printed(key, which).accuracy:.2f}"
            row[f"{title}, against vanilla"] = f"{change(key, which):+.2f}"
        rows.append(row)
    return pd.DataFrame(rows)


def cost(compared: pd.DataFrame) -> pd.DataFrame:
    """Seconds of training by data set: vanilla's, the teacher's, DeiT base's without its teacher's.

    `factor` is teacher and DeiT base together over vanilla. Rows of `compare`; data sets that lack
    one of the three are left out.
    """
    rows = []
    for dataset, part in compared.groupby("dataset", sort=False):
        seconds = {row.key: row.record.training_seconds for row in part.itertuples()}
        if {"vanilla", "teacher", "deit-base"} <= seconds.keys():
            row = {key: seconds[key] for key in ("vanilla", "teacher", "deit-base")}
            both = row["teacher"] + row["deit-base"]
            factor = round(both / row["vanilla"], 2) if row["vanilla"] else None
            rows.append({"data set": data.spec(dataset).title, **row, "factor": factor})
    columns = ["data set", "vanilla", "teacher", "deit-base", "factor"]
    return pd.DataFrame(rows, columns=columns)


def against_controls(profile: str) -> pd.DataFrame:
    """What each part of distillation adds, as the difference of two rows on the same test images.

    Columns `data set`, `what is added`, `model`, `against`, and `points (95 %)`, a Difference over
    the seeds that both have, its p corrected over all of them; pairs that cannot be compared are
    left out.
    """
    rows = [
        (data.spec(name).title, added, methods.get(key).title, methods.get(control).title, found)
        for name in Evidence(profile).datasets
        for key, control, added in CONTROLS
        if (found := significance.difference(profile, name, key, control))
    ]
    tested = significance.corrected(row[-1] for row in rows)
    rows = [(*row[:-1], found) for row, found in zip(rows, tested, strict=True)]
    columns = ["data set", "what is added", "model", "against", "points (95 %)"]
    return pd.DataFrame(rows, columns=columns)


def conclusions(
    compared: pd.DataFrame,
    controls: pd.DataFrame,
    softened: dict[str, pd.DataFrame],
    by_head: pd.DataFrame,
    bill: pd.DataFrame,
) -> list[str]:
    """Lines of Markdown: what the notebook's tables say, of what is measured."""
    lines = []
    for dataset, part in compared.groupby("dataset", sort=False):
        title, rows = data.spec(dataset).title, part.set_index("key")
        named = {"teacher": "the teacher", "vanilla": "the vanilla ViT", "deit-base": "DeiT base"}
        said = [
            f"{name} {rows.at[k, 'accuracy']:.2f} %" for k, name in named.items() if k in rows.index
        ]
        students = rows[rows.index.isin(STUDENTS) & (rows.index != "vanilla")]
        tested = students[students["difference"].notna()]
        family = significance.corrected(tested["difference"])
        apart = tested[[found.significant for found in family]]
        lines.append(
            f"- **{title}.** Test accuracy: {', '.join(said)}. {len(apart)} of {len(students)} "
            "students of vanilla's size differ from it significantly, after Holm's correction"
            f"{_listed(apart)}."
        )
    for row in controls.itertuples(index=False):
        found: Difference = row[-1]
        told = "significant" if found.significant else "not significant"
        lines.append(
            f"- On {row[0]}, {row[1]} is worth {found} points of {row.model}: {told} after Holm's "
            "correction."
        )
    for title, frame in softened.items():
        top = frame.set_index("temperature")["top"]
        lines.append(
            f"- On {title} the teacher's likeliest class has {100 * top[1.0]:.1f} % on average at "
            f"τ = 1 and {100 * top[8.0]:.1f} % at τ = 8."
        )
    whole = by_head[by_head["student"] == methods.get("deit-base").title]
    for title, part in whole.groupby("data set", sort=False):
        share = part.set_index("head")["as the teacher"]
        lines.append(
            f"- On {title} DeiT base's distillation head decides as the teacher on "
            f"{share['distillation']:.1f} % of the validation images, its class head on "
            f"{share['class']:.1f} %."
        )
    for row in bill.dropna(subset="factor").to_dict("records"):
        lines.append(
            f"- On {row['data set']} teacher and DeiT base together took {row['factor']:.1f} times "
            "the vanilla ViT's training."
        )
    return lines


def _listed(apart: pd.DataFrame) -> str:
    changes = apart["difference"].items()
    said = [f"{methods.get(key).title} {found.points:+.2f}" for key, found in changes]
    return f" ({', '.join(said)})" if said else ""
