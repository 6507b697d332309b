"""What is known of each data set before a file of it is opened.

`digits`       scikit-learn's handwritten digits (1,797 images of 8x8 pixels), at 32x32, 10 classes
`digit-pairs`  two of those digits side by side, 100 classes
`cifar10`, `cifar100`  Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vitstudy.errors import unknown

SPLITS = ("train", "calibration", "validation", "test")
IMAGE_SIZE = 32
"""Height and width of every image as it is kept, in pixels."""


@dataclass(frozen=True)
class Spec:
    """Describe one data set."""

    name: str
    title: str
    num_classes: int
    channels: int
    sizes: tuple[int, int, int, int]
    """Number of images in train, calibration, validation and test."""
    mean: tuple[float, ...]
    """Mean of the training pixels, one a channel, on the scale 0..1."""
    std: tuple[float, ...]
    """Standard deviation of the training pixels, one a channel, on the scale 0..1."""
    flip: bool
    """Whether an image mirrored left to right keeps its label."""
    shift: int
    """Pixels by which a training image may be shifted."""
    label_column: str = ""
    """Column of a Parquet file that holds the labels; empty where the set is made here."""
    content: str = ""
    """Expected SHA-256 of all images and labels; empty where the set is made here."""

    @property
    def given_sizes(self) -> tuple[int, int]:
        """Number of training and of test images, as the set is published."""
        return sum(self.sizes[:3]), self.sizes[3]


# 2,048 images for calibration leave half of them, 1,024, as the largest calibration size studied.
CIFAR_SIZES = (45_000, 2_048, 2_952, 10_000)
SPECS = {
    spec.name: spec
    for spec in (
        Spec("digits", "Digits", 10, 1, (1_149, 128, 160, 360), (0.3040,), (0.3228,), False, 2),
        Spec(
            "digit-pairs",
            "Digit pairs",
            100,
            1,
            (8_000, 200, 400, 2_000),
            (0.3040,),
            (0.3228,),
            False,
            2,
        ),
        Spec(
            "cifar10",
            "CIFAR-10",
            10,
            3,
            CIFAR_SIZES,
            (0.4914, 0.4822, 0.4465),
            (0.2470, 0.2435, 0.2616),
            True,
            4,
            "label",
            "e1f188864ac2691d00769fe4114a97e59cb6296f7e3cec14af5e507e06fae3f7",
        ),
        Spec(
            "cifar100",
            "CIFAR-100",
            100,
            3,
            CIFAR_SIZES,
            (0.5071, 0.4865, 0.4409),
            (0.2673, 0.2564, 0.2762),
            True,
            4,
            "fine_label",
            "c7a2189286687af7f1aeba1f8eb74b4410ce069b1553d299c65d060edf829a7f",
        ),
    )
}


CLASSES = {
    "digits": "0 1 2 3 4 5 6 7 8 9",
    "cifar10": "airplane automobile bird cat deer dog frog horse ship truck",
    "cifar100": """
        apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus
        butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch
        crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo
        keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain
        mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain
        plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
        skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone
        television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
    """,
}
"""The names of a set's classes in the order of their labels, as it is published."""


def class_names(name: str) -> list[str]:
    """Return the names of the classes of the data set `name`, in the order of their labels."""
    if name in CLASSES:
        return CLASSES[name].split()
    return [f"{number:02d}" for number in range(spec(name).num_classes)]  # the pairs' two digits


def preprocessing(name: str, image_size: int) -> dict[str, Any]:
    """Return what a model's user needs to prepare images and to read logits, as plain values.

    Pixels are on the scale 0..1 before `mean` and `std`, (C,) each; an image of another size is
    resized to `image_size` squared by bicubic interpolation with antialiasing.
    """
    known = spec(name)
    return {
        "data": name,
        "image_size": image_size,
        "mean": list(known.mean),
        "std": list(known.std),
        "classes": class_names(name),
    }


def spec(name: str) -> Spec:
    """Return the description of the data set `name`; raise UserError where there is none."""
    if name not in SPECS:
        raise unknown("data set", name, SPECS)
    return SPECS[name]
