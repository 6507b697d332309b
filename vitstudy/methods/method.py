"""What an entry in the list of methods says of a row."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from vitstudy.configs import Config
from vitstudy.methods.published import Published

TIERS = ("paper", "survey", "control", "variant", "sweep")
"""What a method is to the study, from the papers' own rows to the points of a sweep:

`paper` is a row that the three papers print, `survey` a method that the survey discusses, `control`
is what a notebook's argument needs beside it, `variant` is another setting that is worth its
training where the data are evidence, and `sweep` is one point of many, computed when it is asked
for by name.
"""


@dataclass(frozen=True, kw_only=True)
class Method:
    """A row of the study: what it is called, how it is made, and what it is measured for."""

    key: str
    title: str
    """The Model column, as the papers print it, less the reference."""
    method: str
    """The Method column."""
    reference: str
    config: Config
    """Its settings, which also name the module whose `compress(context)` takes them."""
    published: tuple[Published, Published] | None = None
    """CIFAR-10 (Table 1) and CIFAR-100 (Table 2); None where the papers have no such row."""
    survey_model: str = ""
    """The model in the survey's tables that is the method's own; empty where they have none."""
    tier: str = "variant"
    """One of `TIERS`."""
    beneath: str = ""
    """The papers' row that it is a variant or a control of; empty for what is a row itself."""
    packer: str = "vitstudy.models"
    """Where `pack` and `unpack` of its models are, and `facts` of those that an engine runs."""
    parents: tuple[str, ...] = ()
    """The methods whose artifacts it starts from; vanilla's predictions are at hand for all."""
    parents_of_pretrained: tuple[str, ...] | None = None
    """The same in a profile that starts from pretrained weights, where it differs there."""
    reads: tuple[str, ...] = ()
    """What of the profile it depends on besides its architecture, recipe, limit and threads."""
    weight_bits: float | None = 32
    """None where they are learned: the module's `mean_bits(model)` then counts them."""
    activation_bits: float | None = 32
    simulated: bool = False
    """Whether the artifact imitates in float the arithmetic that it is named for."""
    batch_dependent: bool = False
    """Whether an image's logits depend on the images beside it, as where activations are quantized
    at run time by the range of the whole batch: it is then evaluated one by one, too."""
    timed: bool = True
    """Whether its speed is measured; not where another row's model has the same shape."""
    device: str | None = None
    """Where its models must run; None for wherever the machine runs best."""
    requires: tuple[str, ...] = ()
    """Packages beyond the study's own, as they are imported and installed: those of its engine."""
    note: str = ""

    @property
    def module(self) -> str:
        """The import path of the module whose `compress(context)` makes its models."""
        return self.config.module

    @property
    def options(self) -> dict[str, Any]:
        """Its settings as plain JSON, as a record keeps them."""
        return self.config.options()


def not_installed(method: Method) -> str:
    """Why `method` cannot be run here, as a clause; empty where it can."""
    absent = [name for name in method.requires if find_spec(name) is None]
    verb = "is" if len(absent) == 1 else "are"
    return f"{', '.join(absent)} {verb} not installed" if absent else ""
