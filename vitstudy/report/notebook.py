"""What the notebooks call: the check of their parameters, and display."""

from __future__ import annotations

import ast
import base64
import html
import io
import re
from collections.abc import Callable

import pandas as pd
from IPython import get_ipython
from IPython.display import Markdown, display
from matplotlib.figure import Figure
from PIL import Image

from vitstudy import profiles
from vitstudy.errors import unknown
from vitstudy.profiles import Profile
from vitstudy.report import style
from vitstudy.report.readable import notes_below

INJECTED = re.compile(r"#\s*(Injected p|P)arameters\b")
"""How the cell begins that papermill puts below the one tagged `parameters`."""


def begin(profile: str) -> Profile:
    """Check what the notebook was given and set the look of its figures; the profile.

    Raises UserError where papermill was told a parameter that the notebook does not have (which
    papermill itself takes with a warning), or a profile that does not exist.
    """
    shell = get_ipython()
    if shell is not None:
        check_parameters(shell.user_ns.get("In", []))
    style.apply()
    return profiles.get(profile)


def check_parameters(history: list[str]) -> None:
    """Raise UserError where an injected cell sets a name that the cell before it does not.

    `history` holds the sources of the cells that have run, in order.
    """
    for position, source in enumerate(history):
        if INJECTED.match(source):
            valid = _assigned(history[position - 1]) if position else []
            for name in _assigned(source):
                if name not in valid:
                    raise unknown("parameter", name, valid or ["none"])


def _assigned(source: str) -> list[str]:
    """Names that the source of a cell assigns; none where it is no plain Python."""
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return []
    targets = []
    for node in body:
        if isinstance(node, ast.Assign):
            targets += node.targets
        elif isinstance(node, ast.AnnAssign):
            targets.append(node.target)
    return [target.id for target in targets if isinstance(target, ast.Name)]


# -- display --------------------------------------------------------------------------------------


def say(text: str) -> None:
    """Show `text` as Markdown: prose whose numbers were computed."""
    display(Markdown(text))


def table(frame: pd.DataFrame) -> None:
    """Show a table without its index, whole, nothing where a value is missing; notes beneath it."""
    frame, notes = notes_below(frame)
    with pd.option_context("display.max_colwidth", None, "display.max_rows", None):
        shown = frame.to_html(index=False, na_rep="", border=0)
        plain = frame.to_string(index=False)
    if notes:
        shown, plain = f"{shown}<p>{html.escape(notes)}</p>", f"{plain}\n{notes}"
    display({"text/html": shown, "text/plain": plain}, raw=True)


def show(figure: Figure, profile: Profile | str, name: str, alt: str) -> None:
    """Save `figure` as `figures/<profile>/<name>` and show it; `alt` says it in words.

    What belongs to no profile names its folder.
    """
    path = style.save(figure, profile if isinstance(profile, str) else profile.name, name)
    _display(figure, alt, path.read_bytes())


def _display(figure: Figure, alt: str, rendered: bytes | None = None) -> None:
    """Show `figure`, of which the PNG may be at hand already."""
    png = base64.b64encode(_of_256_colours(rendered or style.render(figure, "png"))).decode()
    width = round(100 * figure.get_figwidth())
    # Shown at half the pixels that it has, so that it is sharp on fine screens.
    display(
        {"image/png": png, "text/plain": alt},
        raw=True,
        metadata={"image/png": {"width": width, "alt": alt}},
    )


def _of_256_colours(png: bytes) -> bytes:
    """The same picture in a third of the bytes: a notebook with a dozen of them stays small."""
    small = io.BytesIO()
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture.quantize(256, dither=Image.Dither.NONE).save(small, "png", optimize=True)
    return small.getvalue()


def has_front_end() -> bool:
    """Whether the running cell was sent by a front end, such as JupyterLab.

    Those name the cell in their request to the kernel; what runs whole files does not.
    """
    request = getattr(get_ipython(), "get_parent", dict)()
    return "cellId" in request.get("metadata", {})


def knobs(draw: Callable[..., Figure], alt: str, **ranges: tuple) -> None:
    """Show `draw` of its starting values, under sliders where somebody is there to turn them.

    `ranges` are by name of `draw`'s arguments (least, greatest, start), whole numbers or floats, a
    float's with the slider's step as a fourth. A widget's state in a file keeps code hosts from
    showing the file, so papermill, nbval and nbconvert, where nobody is, get the figure alone.
    """
    if not has_front_end():
        _display(draw(**{name: given[2] for name, given in ranges.items()}), alt)
        return
    import ipywidgets

    bars = {}
    for name, (low, high, start, *step) in ranges.items():
        kind = ipywidgets.FloatSlider if step else ipywidgets.IntSlider
        look = {"step": step[0], "readout_format": ".4g"} if step else {}
        bars[name] = kind(
            start, min=low, max=high, description=name, continuous_update=False, **look
        )
    drawn = ipywidgets.interactive_output(lambda **values: _display(draw(**values), alt), bars)
    display(ipywidgets.VBox([*bars.values(), drawn]))


def fields(show: Callable[..., None], shares: dict[str, float], numbers: dict[str, float]) -> None:
    """Call `show` with every value by name, and again when a reader changes one.

    `shares` get a slider from 0 to 1, `numbers` a field to type into. Where nobody is there to
    change them, as in `knobs`, the values given are shown alone.
    """
    if not has_front_end():
        show(**shares, **numbers)
        return
    import ipywidgets

    wide = {"style": {"description_width": "150px"}, "continuous_update": False}
    sliders = {
        name: ipywidgets.FloatSlider(value, min=0, max=1, step=0.05, description=name, **wide)
        for name, value in shares.items()
    }
    typed = {
        name: ipywidgets.FloatText(value, description=name, **wide)
        for name, value in numbers.items()
    }
    drawn = ipywidgets.interactive_output(show, {**sliders, **typed})
    columns = [ipywidgets.VBox(list(each.values())) for each in (sliders, typed)]
    display(ipywidgets.VBox([ipywidgets.HBox(columns), drawn]))
