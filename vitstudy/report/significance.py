"""Which differences of accuracy are more than chance, and which are surely small: paired tests.

Two models that saw the same images are compared image by image, seed by seed. One seed of images
that are each their own source: McNemar's test. Images that share sources (the digit pairs), or
several seeds: a bootstrap over sources and seeds. Two rows that were trained apart, where vanilla
alone was trained from several seeds: a t-test that has the deviation of those trainings in it.
Beside the test for a difference stands one for equivalence, since what is not significant is not
thereby known to be small. Many differences at once: Holm's correction. Everything is computed from
the records' predictions.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from scipy import special

from vitstudy import data, files, methods
from vitstudy.report.evidence import Evidence
from vitstudy.report.readable import interval
from vitstudy.study import Cell

LEVEL = 0.05
"""A difference is called significant below it, after Holm's correction over its table."""
DRAWS = 10_000
"""Of the bootstrap: the least p is 2 / 10,001, small enough for Holm over 78 pairs."""
_CHUNK = 250
MARGIN = 0.5
"""Points of accuracy within which two rows count as equivalent."""

NO_LOSS = f"no loss beyond {MARGIN:g} points"
UNTOLD, LOSES, GAINS = "cannot be told", "loses", "gains"
OUTCOMES = (GAINS, NO_LOSS, UNTOLD, LOSES)

MCNEMAR = "McNemar, mid-p"
OVER_SOURCES = "bootstrap over source images"
OVER_SEEDS = "bootstrap over images and seeds"
OVER_BOTH = "bootstrap over source images and seeds"
OF_TRAININGS = "t, over images and vanilla's seeds"


# -- the mathematics ------------------------------------------------------------------------------


def mcnemar(first_only: int, second_only: int, *, mid: bool = True) -> float:
    """Two-sided p of McNemar's test, given how many images only the first or only the second model
    gets right: the exact binomial one, or with `mid` its mid-p, which is less conservative.

    McNemar, 1947; Fagerland, Lydersen and Laake, The McNemar Test for Binary Matched-Pairs Data,
    2013. Computed in whole numbers, so exact for any count.
    """
    count, fewer = first_only + second_only, min(first_only, second_only)
    if first_only == second_only:
        return 1.0
    term, below = 1, 0  # C(count, k), and its sum over k < fewer
    for k in range(fewer):
        below += term
        term = term * (count - k) // (k + 1)
    tail = 2 * below + (term if mid else 2 * term)
    return min(1.0, tail / 2**count)


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's step-down adjusted p of several tests, (N,) to (N,), in their own order.

    Calling significant what is below α then keeps the chance of any false call below α, whatever
    the tests' dependence (Holm, A Simple Sequentially Rejective Multiple Test Procedure, 1979).
    """
    p_values = np.asarray(p_values, float)
    order = np.argsort(p_values, kind="stable")
    scaled = p_values[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(scaled))
    return adjusted


def resampled_accuracy(correct: np.ndarray, sources: np.ndarray | None) -> np.ndarray:
    """Accuracy of M models on each of DRAWS resamplings of the images, the same ones for all.

    correct (M, N) bool; sources (N, S) whole numbers, or None where each image is its own source;
    returns (DRAWS, M), 0..1. Sources are drawn; an image weighs the product over its sources, as in
    `statistics.bootstrap_over_sources` (Owen, The Pigeonhole Bootstrap, 2007). The draws are fixed.
    """
    images = correct.shape[1]
    names, positions = np.arange(images), None
    if sources is not None:
        names, positions = np.unique(sources, return_inverse=True)
        positions = positions.reshape(sources.shape)
    generator = np.random.RandomState(0)  # the legacy generator: its stream is frozen for ever
    columns = correct.T.astype(np.float32)  # sums of whole numbers below 2^24 are exact
    found, left = [], DRAWS
    while left:
        rows = min(_CHUNK, left)
        drawn = generator.randint(0, len(names), (rows, len(names)))
        drawn += len(names) * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * len(names)).reshape(rows, -1)
        if positions is not None:
            times = times[:, positions].prod(axis=2)
        weights = times.astype(np.float32)  # (rows, N)
        total = weights.sum(axis=1)
        kept = total > 0  # a few sources may leave no image at all
        found.append((weights[kept] @ columns) / total[kept, None])
        left -= int(kept.sum())
    return np.concatenate(found)


def bootstrap_p(resampled: np.ndarray) -> float:
    """Two-sided p of the hypothesis that a difference is nought, from its resamplings (B,).

    Twice the share on the far side of nought, nought itself counted on both, and one draw more than
    were made, so that it is never 0: it is below α where the interval of level 1 - α leaves nought
    out (Davison and Hinkley, Bootstrap Methods and Their Application, 1997, section 4.2).
    """
    fewer = min((resampled <= 0).sum(), (resampled >= 0).sum())
    return min(1.0, 2 * (int(fewer) + 1) / (len(resampled) + 1))


def upper_tail(distance: float, freedom: float = math.inf) -> float:
    """The chance that Student's t of `freedom` degrees, normal where infinite, exceeds it."""
    return float(
        special.ndtr(-distance) if freedom == math.inf else special.stdtr(freedom, -distance)
    )


def tost(value: float, error: float, margin: float, freedom: float = math.inf) -> float:
    """p of two one-sided tests that the true value lies within `margin` of nought, either way.

    value, its standard `error` and `margin` in one unit; t of `freedom` degrees. The hypothesis
    that is tested is that the value lies as far out as the margin or farther; p is the greater of
    the two tests', which is that of the nearer end. It is below α exactly where the interval of
    level 1 - 2α lies within the margin (Schuirmann, A Comparison of the Two One-Sided Tests
    Procedure, 1987). Where there is no error, p is 0 or 1.
    """
    room = margin - abs(value)
    return upper_tail(room / error, freedom) if error else float(room <= 0)


def error_of_trainings(
    image_error: float, deviation: float, ours: int, theirs: int, freedom: int
) -> tuple[float, float]:
    """Standard error of a difference of two trainings' accuracy, and its degrees of freedom.

    image_error: standard error of the trained models' difference over test images; deviation: the
    standard deviation of trainings that differ in their seed alone, known to `freedom` degrees;
    ours, theirs: how many trainings each side is the mean of. Variances add,
    e² = image_error² + deviation² (1/ours + 1/theirs), and the degrees of freedom are those of
    Satterthwaite, An Approximate Distribution of Estimates of Variance Components, 1946, with the
    images' part taken as known. Both trainings are taken to scatter alike.
    """
    of_seeds = deviation**2 * (1 / ours + 1 / theirs)
    variance = image_error**2 + of_seeds
    return math.sqrt(variance), freedom * (variance / of_seeds) ** 2 if of_seeds else math.inf


def outcome(points: float, significant: bool, equivalent: bool) -> str:
    """One of OUTCOMES, of a difference and what its two tests say.

    Equivalence comes first: a significant loss that is surely within the margin is no loss beyond
    it.
    """
    if equivalent:
        return NO_LOSS
    return (GAINS if points > 0 else LOSES) if significant else UNTOLD


# -- records --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """Accuracy of `first` less that of `second`, in points, on the same images and seeds.

    Of two trainings, of which vanilla's has several seeds, less the mean over those.
    """

    first: str
    second: str
    points: float
    low: float
    high: float
    """95 %: by the bootstrap, or of two trainings by t."""
    p_value: float
    test: str
    seeds: int
    p_equivalent: float
    """p of `tost` with MARGIN."""
    covers: str
    """What the interval and both tests have in them: images alone, or trainings too."""
    p_holm: float = math.nan
    """p after the correction over the differences that it was `corrected` with."""

    @property
    def significant(self) -> bool:
        """Whether it is more than chance, after the correction where there was one."""
        return (self.p_value if math.isnan(self.p_holm) else self.p_holm) < LEVEL

    def __str__(self) -> str:
        return interval(self.points, self.low, self.high)


class Comparison:
    """All rows of a profile on one data set that have predictions, to be compared in pairs."""

    def __init__(self, evidence: Evidence, dataset: str) -> None:
        self.profile, self.dataset = evidence.known, dataset
        self.correct: dict[tuple[str, int], np.ndarray] = {}  # (N,) bool, by row and seed; of
        # vanilla also those of the seeds that it alone was trained from
        self.labels: np.ndarray | None = None
        self.shared = False
        for cell in _cells(evidence, dataset):
            found = evidence.predictions(dataset, cell.method, cell.seed)
            if self.labels is None:
                self.labels = found["labels"]
            if not np.array_equal(self.labels, found["labels"]):
                continue  # other images, from before the data changed: no pair can be made
            self.correct[cell.method, cell.seed] = found["classes"][:, 0] == found["labels"]
            record = evidence.record(dataset, cell.method, cell.seed)
            self.shared |= record.accuracy_interval != "wilson"
        self._resampled = None
        self._told: dict[tuple, Difference | str] = {}

    def difference(
        self, first: str, second: str, seeds: Iterable[int] | None = None
    ) -> Difference | str:
        """The difference of two rows over the seeds that both have; else why there is none.

        Of `seeds` alone, where they are given.
        """
        chosen = [s for s in self._seeds(first, second) if seeds is None or s in seeds]
        asked = (first, second, *chosen)
        if asked not in self._told:  # tables, figures and sentences ask for the same ones
            self._told[asked] = self._difference(first, second, chosen)
        return self._told[asked]

    def _difference(self, first: str, second: str, chosen: list[int]) -> Difference | str:
        if not chosen:
            absent = [key for key in (first, second) if not self._seeds(key)]
            return f"no predictions of {' and '.join(absent) or f'one seed of {first}, {second}'}"
        apart = training(first) != training(second)
        if apart and len(chosen) == 1 and (again := self._every("vanilla"))[1:]:
            return self._of_trainings(first, second, again)
        pairs = [(self.correct[first, seed], self.correct[second, seed]) for seed in chosen]
        draws = 100 * self._draws({first: 1, second: -1}, chosen)
        if len(chosen) == 1 and not self.shared:
            (ours, theirs), test = pairs[0], MCNEMAR
            p_value = mcnemar(int((ours & ~theirs).sum()), int((theirs & ~ours).sum()))
        else:
            p_value = bootstrap_p(draws)
            test = OVER_SEEDS if not self.shared else OVER_BOTH
            test = OVER_SOURCES if len(chosen) == 1 else test
        covers = "images of one trained model" if not apart else "images of one training each"
        covers = covers if len(chosen) == 1 else f"images and {len(chosen)} trainings"
        low, high = np.percentile(draws, [2.5, 97.5])
        points = float(np.mean([100 * (ours.mean() - theirs.mean()) for ours, theirs in pairs]))
        small = tost(points, float(draws.std()), MARGIN)
        return Difference(
            *(first, second, points, low, high, p_value, test, len(chosen), small, covers)
        )

    def _of_trainings(self, first: str, second: str, again: list[int]) -> Difference:
        """The difference of two trainings, whose scatter is vanilla's over the seeds `again`."""
        columns = {key: self._every(key) for key in (first, second)}
        means = {
            key: np.mean([100 * self.correct[key, seed].mean() for seed in seeds])
            for key, seeds in columns.items()
        }
        ours, theirs = (self._resampling(key, columns[key]).mean(axis=1) for key in columns)
        deviation = np.std([100 * self.correct["vanilla", seed].mean() for seed in again], ddof=1)
        counts = [len(seeds) for seeds in columns.values()]
        error, freedom = error_of_trainings(
            float(100 * (ours - theirs).std()), float(deviation), *counts, len(again) - 1
        )
        points = float(means[first] - means[second])
        half = error * float(special.stdtrit(freedom, 0.975) if freedom < math.inf else 1.959964)
        covers = f"images and trainings, by {len(again)} of vanilla's (± {deviation:.2f})"
        return Difference(
            *(first, second, points, points - half, points + half),
            2 * upper_tail(abs(points) / error, freedom),
            *(OF_TRAININGS, 1, tost(points, error, MARGIN, freedom), covers),
        )

    def contrast(self, weights: dict[str, float]) -> tuple[float, float, float, float] | None:
        """The sum of the rows' accuracies by `weights`, in points, its 95 % interval, and its p.

        Over the images and the seeds that all of them have; None where there is none.
        """
        seeds = self._seeds(*weights)
        if not seeds:
            return None
        means = {
            key: np.mean([100 * self.correct[key, seed].mean() for seed in seeds])
            for key in weights
        }
        draws = self._draws(weights, seeds)
        low, high = np.percentile(draws, [2.5, 97.5])
        points = sum(weight * means[key] for key, weight in weights.items())
        return float(points), 100 * float(low), 100 * float(high), bootstrap_p(draws)

    def row(self, key: str, stream: int = 1) -> tuple[float, np.ndarray] | None:
        """A row's accuracy over its seeds, 0..1, and its resamplings (DRAWS,); None without any.

        Rows with the same seeds are drawn alike; `stream` is where the draws of seeds come from.
        """
        seeds = self._seeds(key)
        if not seeds:
            return None
        accuracy = np.mean([self.correct[key, seed].mean() for seed in seeds])
        return float(accuracy), self._draws({key: 1}, seeds, stream)

    def _seeds(self, *keys: str) -> list[int]:
        """The seeds of which all rows of `keys` have predictions."""
        every = self.profile.seeds
        return [seed for seed in every if all((key, seed) in self.correct for key in keys)]

    def _draws(self, weights: dict[str, float], seeds: list[int], stream: int = 1) -> np.ndarray:
        """Resampled sums of accuracies by `weights`, 0..1: over images, and over seeds where there
        are several.

        A seed is drawn for all rows at once: a row of seed k starts from the baseline of seed k.
        """
        by_seed = sum(weight * self._resampling(key, seeds) for key, weight in weights.items())
        generator = np.random.RandomState(stream)
        chosen = generator.randint(0, len(seeds), by_seed.shape)
        return np.take_along_axis(by_seed, chosen, axis=1).mean(axis=1, dtype=np.float64)

    def _resampling(self, key: str, seeds: list[int]) -> np.ndarray:
        """A row's accuracy on each resampling of the images, by seed: (DRAWS, seeds), 0..1."""
        if self._resampled is None:
            sources = self._sources() if self.shared else None
            self._order = {name: column for column, name in enumerate(self.correct)}
            self._resampled = resampled_accuracy(np.stack(list(self.correct.values())), sources)
        return self._resampled[:, [self._order[key, seed] for seed in seeds]]

    def _every(self, key: str) -> list[int]:
        """The seeds of which a row has predictions, those that vanilla alone has among them."""
        every = (*self.profile.seeds, *self.profile.vanilla_seeds)
        return [seed for seed in every if (key, seed) in self.correct]

    def _sources(self) -> np.ndarray:
        """The test images' sources, (N, S): made with the data set, which is made here."""
        return data.load(self.dataset, self.profile.limit).test.sources


def training(key: str) -> str:
    """The row whose training from scratch a row's weights come from: itself where it is one.

    A teacher gives no weights. Rows of one training differ by what was done to it; between rows of
    two lies the luck of either, too.
    """
    given = [parent for parent in methods.get(key).parents if parent != "teacher"]
    return training(given[0]) if given else key


def _cells(evidence: Evidence, dataset: str) -> list[Cell]:
    """The cells of the data set that are done and have predictions."""
    known = evidence.known
    cells = [
        evidence.cell(dataset, row.key, seed)
        for row in (*methods.METHODS, *methods.VARIANTS, *methods.SURVEYED)
        for seed in evidence.records(
            dataset,
            row.key,
            (*known.seeds, *known.vanilla_seeds) if row.key == "vanilla" else known.seeds,
        )
    ]
    return [cell for cell in cells if cell.predictions_path.exists()]


def comparison(profile: str, dataset: str) -> Comparison:
    """The comparison of a profile's rows on `dataset`; kept while the predictions are the same."""
    evidence = Evidence(profile)
    folder = files.results(profile) / "records" / dataset
    state = [
        (str(path), (stat := path.stat()).st_mtime_ns, stat.st_size)
        for path in sorted(folder.glob("*/seed*.*"))
    ]
    return _kept(evidence, dataset, evidence.known, str(files.root()), tuple(state))


def difference(
    profile: str, dataset: str, first: str, second: str, seeds: Iterable[int] | None = None
) -> Difference | None:
    """`Comparison.difference` of the profile's rows; None where they cannot be compared."""
    found = comparison(profile, dataset).difference(first, second, seeds)
    return found if isinstance(found, Difference) else None


@lru_cache(maxsize=16)  # every profile's data sets, which notebook 10 holds together
def _kept(evidence: Evidence, dataset: str, *_: object) -> Comparison:
    return Comparison(evidence, dataset)


# -- tables ---------------------------------------------------------------------------------------


def corrected(family: Iterable[Difference]) -> list[Difference]:
    """The differences of one table or text, each with its p after Holm's correction over all."""
    family = list(family)
    adjusted = holm(np.array([each.p_value for each in family]))
    pairs = zip(family, adjusted, strict=True)
    return [dataclasses.replace(each, p_holm=float(p)) for each, p in pairs]


JUDGED = ["significant", "p_equivalent_holm", "outcome"]
COLUMNS = [*(field.name for field in dataclasses.fields(Difference)), *JUDGED]


def differences(profile: str, dataset: str, pairs: list[tuple[str, str]]) -> pd.DataFrame:
    """The differences of `pairs` of rows that can be compared, Holm's correction over all of them.

    Columns: those of `Difference`, and JUDGED: whether p after the correction is below LEVEL, and
    the `outcome`, for which equivalence is judged by each row's own p: a row that is called
    equivalent by mistake makes no other so. Its p after the correction stands beside it.
    """
    every = comparison(profile, dataset)
    found = [each for pair in pairs if isinstance(each := every.difference(*pair), Difference)]
    rows = [dataclasses.asdict(each) for each in corrected(found)]
    frame = pd.DataFrame(rows, columns=COLUMNS[: -len(JUDGED)])
    frame["significant"] = frame["p_holm"] < LEVEL
    frame["p_equivalent_holm"] = holm(frame["p_equivalent"].to_numpy())
    equivalent = frame["p_equivalent"] < LEVEL
    judged = zip(frame["points"], frame["significant"], equivalent, strict=True)
    frame["outcome"] = [outcome(*each) for each in judged]
    return frame


def against_vanilla(profile: str, dataset: str) -> pd.DataFrame:
    """Each of the papers' other rows against vanilla: the table's own family of tests."""
    rows = [method.key for method in methods.METHODS if method.key != "vanilla"]
    return differences(profile, dataset, [(key, "vanilla") for key in rows])


def against_their_row(profile: str, dataset: str) -> pd.DataFrame:
    """Each variant and control against the papers' row that it stands beneath."""
    pairs = [(method.key, method.beneath) for method in methods.VARIANTS]
    return differences(profile, dataset, pairs)


def all_pairs(profile: str, dataset: str) -> pd.DataFrame:
    """Each of the papers' rows against each one above it."""
    keys = [method.key for method in methods.METHODS]
    pairs = [(keys[i], keys[j]) for i in range(len(keys)) for j in range(i)]
    return differences(profile, dataset, pairs)
