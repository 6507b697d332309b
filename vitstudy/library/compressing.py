"""`compress` and `load`: a method of the study on a model of one's own, by the code of its cells.

The model is written to a file, as a baseline of the study is, and the method's own `compress` is
called with a context that holds this file and the user's images in the place of a data set. What
the method made is written to a file too, and the model that comes back is the one that was read.
"""

from __future__ import annotations

import copy
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor, nn

from vitstudy import making, measure, methods, models, structure
from vitstudy.context import Context
from vitstudy.errors import TrainingFailed, UserError
from vitstudy.library import choices, given
from vitstudy.library.report import Report
from vitstudy.methods import FINE_TUNING, Method
from vitstudy.profiles import Recipe
from vitstudy.quantization.layers import NEVER_CALLED, copy_of_float_model
from vitstudy.structure import Like

LEARNING_RATE = Recipe.learning_rate * FINE_TUNING["rate"]
"""Of AdamW: the rate with which the study fine-tunes its own baselines."""


class CompressedModel(nn.Module):
    """A model that a method has made smaller; it is called as the given one is.

    `report` says what was done, `network` is the model itself, and what is no attribute of this
    class is one of it.
    """

    def __init__(self, network: nn.Module, report: Report | None, packer: str):
        super().__init__()
        self.network, self.report, self.packer = network, report, packer
        self.eval()

    def __getattr__(self, name: str) -> object:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("__") or "network" not in self.__dict__.get("_modules", {}):
                raise
            return getattr(super().__getattr__("network"), name)

    def forward(self, *inputs: Tensor, **arguments: object) -> Tensor:
        return self.network(*inputs, **arguments)

    def save(self, path: str | Path) -> None:
        """Write the model to `path`, whole or not at all; `vitstudy.load` reads it."""
        report = self.report.header() if self.report else None
        models.save(self.network, Path(path), self.packer, self.network.preprocessing, report)

    def extra_repr(self) -> str:
        return self.report.line() if self.report else "a model of the study"


def compress(
    model: nn.Module,
    method: str,
    *,
    calibration: object = None,
    train: object = None,
    teacher: nn.Module | None = None,
    steps: int = 100,
    batch_size: int = 32,
    learning_rate: float = LEARNING_RATE,
    seed: int = 0,
) -> CompressedModel:
    """A smaller copy of `model`, made by a method of the study; `model` itself stays as it is.

    model: any float32 network of images (N, C, H, W), or of other tensors (N, ...), that gives one
    tensor. Its layers that the method does not know are left as they are and listed in the report,
    or refused in one line. method: a key of `list_methods()`, which says what it needs of:

    - calibration: images as the model takes them, normalised: a tensor (N, ...), a pair (images,
      labels), a Dataset or a DataLoader, of which the first 1,024 images are read.
    - train: a Dataset or a DataLoader of pairs (image, label), for methods that train. Each of
      their trainings takes `steps` batches, of `batch_size` images where a Dataset is given, with
      AdamW at `learning_rate`.
    - teacher: a model with the same classes, for methods that distil.

    The result is on the CPU, in evaluation mode. Raises UserError, in one line, for what cannot be.
    """
    chosen = choices.get(method)
    if isinstance(model, CompressedModel):
        model = model.network
    _check_numbers(steps=steps, batch_size=batch_size, learning_rate=learning_rate)
    with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(seed)
        stream = None if train is None else given.Stream(train, batch_size)
        images = None if calibration is None else given.calibration(calibration)
        _check_needs(chosen, stream is not None, images is not None, teacher is not None)
        if images is None and stream is not None:
            images = given.Calibration(*stream.batch(torch.arange(min(batch_size, len(stream)))))
        float_model = _float_copy(model, "the model")
        example = given.example(float_model, images, stream)
        workshop = _Workshop(
            Path(folder),
            stream,
            images,
            Budget(steps, stream.batch_size if stream else batch_size, learning_rate, seed),
        )
        with _one_line(method, type(model).__name__):
            workshop.bring(choices.GIVEN, float_model, example)
            if teacher is not None:
                workshop.bring(choices.TEACHER, _float_copy(teacher, "the teacher"), example)
            return workshop.finished(chosen, float_model, example)


def load(path: str | Path, *, like: nn.Module | None = None) -> CompressedModel:
    """The model that `CompressedModel.save` wrote to `path`, with the same logits; on the CPU.

    like: a model of the same structure as the one that was compressed, its weights do not matter.
    It is needed where the file says so: the code of other networks than timm's is in no file. Also
    reads the files of the study's own models. Raises UserError for a file that is absent, damaged,
    of a later format, or of another structure than `like`.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    if like is not None and not isinstance(like, nn.Module):
        raise UserError(f"like is a {type(like).__name__}; give a torch.nn.Module")
    likes = () if like is None else (Like(_float_copy(like, "the model given as like")),)
    network = models.load(path, likes)
    header, size = network.report, path.stat().st_size
    return CompressedModel(network, header and Report.of_file(header, size), network.packer)


# -- checks ---------------------------------------------------------------------------------------


def _check_numbers(*, steps: int, batch_size: int, learning_rate: float) -> None:
    for name, value in (("steps", steps), ("batch_size", batch_size)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UserError(f"{name} is {value!r}; valid: a whole number from 1 on")
    if not 0 < learning_rate < 1:
        raise UserError(f"learning_rate is {learning_rate!r}; valid: between 0 and 1")


def _check_needs(method: Method, train: bool, calibration: bool, teacher: bool) -> None:
    """Raise UserError where `method` needs what is not given."""
    wanted = {
        "train": (train, "trains: give train= a Dataset or DataLoader of pairs (image, label)"),
        "calibration": (
            calibration or train,
            "needs calibration images: give calibration= images as the model takes them, (N, C, "
            "H, W)",
        ),
        "teacher": (teacher, "distils: give teacher= a model with the same classes"),
    }
    for name, (is_given, sentence) in wanted.items():
        if name in choices.needs(method) and not is_given:
            raise UserError(f"{method.key} {sentence}")


def _float_copy(model: nn.Module, what: str) -> nn.Module:
    """A copy of a float32 model on the CPU, in evaluation mode; UserError for any other."""
    if not isinstance(model, nn.Module):
        raise UserError(f"{what} is a {type(model).__name__}; give a torch.nn.Module")
    parameters = dict(model.named_parameters())
    if not parameters:
        raise UserError(f"{what}, {type(model).__name__}, has no parameters to compress")
    if not list(model.children()):
        raise UserError(f"{what} is a single {type(model).__name__}: wrap it in nn.Sequential")
    for name, parameter in parameters.items():
        if parameter.dtype != torch.float32:
            raise UserError(f"{name} is {parameter.dtype}: give a float32 model, model.float()")
    structure.check_sharing(model)
    try:
        return copy_of_float_model(model).cpu()
    except (RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"{what}, {type(model).__name__}: {_line(error)}") from error


def _line(error: Exception) -> str:
    """The first line of a message, without a terminal's colours, and at most 300 characters."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()
    return plain.partition("\n")[0][:300].strip() or type(error).__name__


@contextmanager
def _one_line(method: str, model: str) -> Iterator[None]:
    """Tell in one line what a method, or a library below it, has against a model."""
    try:
        yield
    except (UserError, OSError, MemoryError, ImportError, NameError, SyntaxError):
        raise  # told in one line already, or a fault of the machine or of this package
    except TrainingFailed as error:
        raise UserError(f"{error}: take a lower learning_rate") from error
    except Exception as error:
        raise UserError(f"{method} does not take this {model}: {_line(error)}") from error


def _outputs(model: nn.Module, example: Tensor, what: str) -> Tensor:
    """What `model` gives for `example`; UserError where it does not take it or gives no tensor."""
    try:
        with torch.inference_mode():
            outputs = model(example)
    except Exception as error:
        raise UserError(
            f"{what} does not take inputs of {tuple(example.shape[1:])}: {_line(error)}"
        ) from error
    if not isinstance(outputs, Tensor):
        raise UserError(f"{what} gives a {type(outputs).__name__}; valid: one tensor of logits")
    if not torch.isfinite(outputs).all():
        raise UserError(f"{what} gives NaN or infinity for the images that are given")
    return outputs


# -- the methods, called as a cell calls them -----------------------------------------------------


@dataclass(frozen=True)
class Budget:
    """How a user's model is trained."""

    steps: int
    batch_size: int
    learning_rate: float
    seed: int

    def recipe(self, method: Method) -> Recipe:
        """The recipe of whose steps the share that `method` takes is `steps`."""
        share = choices.share_of_steps(method) or 1
        return Recipe(
            steps=round(self.steps / share),
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            matrix_learning_rate=0,
            weight_decay=0,
            label_smoothing=0,
        )


class _OwnContext(Context):
    """A context of files that last as long as one call, and of images that are taken as given."""

    @property
    def preprocessing(self) -> dict:
        return {}

    def checkpoint(self) -> None:
        return None


@dataclass
class _Workshop:
    """A folder with the file of each model that a method starts from, made when it is asked for."""

    folder: Path
    train: given.Stream | None
    calibration: given.Calibration | None
    budget: Budget
    files: dict[str, Path] = field(default_factory=dict)
    likes: list[Like] = field(default_factory=list)
    contexts: list[Context] = field(default_factory=list)
    spec: given.Spec | None = None
    image_size: int = 0

    def bring(self, key: str, model: nn.Module, example: Tensor) -> None:
        """Take a model of the user's in the place of the method `key`."""
        outputs = _outputs(model, example, f"the {'teacher' if key == 'teacher' else 'model'}")
        model.description = description = _described(model, example[:1])
        if isinstance(like := description.get("like"), Like):
            self.likes.append(like)
        if key == choices.GIVEN:
            self.spec = given.Spec(outputs.shape[-1], example.shape[1])
            self.image_size = example.shape[-1]
        elif outputs.shape[-1] != self.spec.num_classes:
            raise UserError(
                f"the teacher tells {outputs.shape[-1]} classes apart, the model "
                f"{self.spec.num_classes}: they must be of the same classes"
            )
        self.files[key] = self.folder / f"{key}.safetensors"
        models.save(model, self.files[key])

    def file(self, key: str) -> Path:
        """The file of the method `key`, made where there is none yet."""
        if key not in self.files:
            method = methods.get(key)
            made, context = self.made(method)
            self.files[key] = self.folder / f"{key}.safetensors"
            making.kept(made, method, context, self.files[key])
        return self.files[key]

    def made(self, method: Method) -> tuple[nn.Module, Context]:
        """What `method` makes of the user's model, and the context that counted it."""
        checkpoints = self.folder / f"{method.key}.scratch"
        checkpoints.mkdir()
        context = _OwnContext(
            profile=given.Setting(given.Network(self.image_size), self.budget.recipe(method)),
            data=given.Images(self.spec, self.train, self.calibration),
            seed=self.budget.seed,
            name=method.key,
            config=method.config,
            artifacts={key: self.file(key) for key in method.parents},
            checkpoints=checkpoints,
            device=method.device,
            likes=tuple(self.likes),
        )
        self.contexts.append(context)
        return making.made(method, context), context

    def finished(self, method: Method, model: nn.Module, example: Tensor) -> CompressedModel:
        """The model that `method` makes, as its file holds it, with its report.

        Raises UserError where nothing was done, and where the file does not give what was made.
        """
        made, context = self.made(method)
        made = made.eval() if method.requires else made.cpu().eval()
        touched = _names(each for other in self.contexts for each in other.layers_touched)
        known = {*dict(model.named_modules()), *dict(model.named_parameters()), "(model)"}
        touched = [name for name in touched if name in known]
        skipped = {
            each["layer"]: each
            for other in self.contexts
            for each in other.layers_skipped
            if each["layer"] in known and each["layer"] not in touched
        }
        if not touched and (method.weight_bits != 32 or method.activation_bits != 32):
            left = ", ".join(sorted({each["type"] for each in skipped.values()})) or "no layer"
            raise UserError(
                f"{method.key} knows none of the layers of this {type(model).__name__}: {left}"
            )
        final = self.folder / "final.safetensors"
        network = making.kept(made, method, context, final)
        with torch.inference_mode():
            same = torch.equal(network(example), made(example))
        if not same:
            raise UserError(_half_done(method, model, example, touched))
        packer = import_module(method.packer)
        before = measure.costs_of(model, models, example[:1])
        after = measure.costs_of(network, packer, example[:1])
        bits = method.weight_bits
        report = Report(
            method=method.key,
            title=method.title,
            model=type(model).__name__,
            stages=[each.key for each in choices.stages(method)],
            layers_touched=touched,
            layers_skipped=list(skipped.values()),
            bytes_before=self.files[choices.GIVEN].stat().st_size,
            bytes_after=0,
            parameters_before=before["parameters"],
            parameters_after=after["parameters"],
            macs_before=before["macs"],
            macs_after=after["macs"],
            weight_bits=import_module(method.module).mean_bits(network) if bits is None else bits,
            activation_bits=method.activation_bits,
            simulated=method.simulated,
            steps=sum(each.steps for each in self.contexts),
            images_seen=sum(each.images_seen for each in self.contexts),
        )
        made = CompressedModel(network, report, method.packer)
        made.save(final)
        made.report = replace(report, bytes_after=final.stat().st_size)
        return made


def _names(names: Iterator[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _described(model: nn.Module, example: Tensor) -> dict:
    """The description of `model`: its own, of the study or of `load`, where it is still true."""
    own = getattr(model, "description", None)
    if isinstance(own, dict) and {"architecture", "timm", "like"} & {*own}:
        like = own.get("like")
        if like is None or isinstance(like, Like):
            other = models.skeleton(own)
            if structure.fingerprint(other) == structure.fingerprint(model):
                return own
    return structure.describe(model, example)


def _half_done(method: Method, model: nn.Module, example: Tensor, touched: list[str]) -> str:
    """Why the file does not give what the method made: a layer whose weight is read past it."""
    called: set[str] = set()

    def note(name: str) -> Callable[..., None]:
        return lambda *_: called.add(name)

    network = copy.deepcopy(model)
    layers = {n: each for n, each in network.named_modules() if n in touched}
    for name, layer in layers.items():
        layer.register_forward_hook(note(name))
    _outputs(network, example, "the model")
    for name in layers:
        if name not in called:
            return f"{name} {NEVER_CALLED}"
    return (
        f"{method.key} does not take this {type(model).__name__}: its file gives other outputs "
        "than what was made; a layer keeps numbers that are not among its tensors"
    )
