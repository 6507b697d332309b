"""Labels beside the points of a scatter, none over another, with a line where one had to move."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.transforms import Bbox

_ANGLES, _GAPS = (
    each.ravel()
    for each in np.meshgrid(
        np.radians(np.arange(0.5, 360, 10)),  # never straight, so that no ray divides by zero
        [2.0, 5, 9, 14, 20, 28, 38, 50, 64, 80, 100, 125, 155, 190],
    )
)
"""Places for a label: direction from its bubble, and points between the two."""
_NEAR = 8
"""Points of distance from which on a line leads to the label."""


def place(
    axes: Axes,
    points: np.ndarray,
    radii: np.ndarray,
    texts: list[str],
    fontsize: float = 7,
    emphasised: tuple[int, ...] = (),
    obstacles: tuple[Bbox, ...] = (),
    labelled: list[int] | None = None,
) -> list[Bbox]:
    """Write `texts` beside `points` (N, 2), data, of `radii` (N,), points; their boxes, pixels.

    Only the points `labelled` get one, all where it is None; a label keeps clear of every bubble,
    every other label, the axes' edge and the `obstacles` (pixels), as far as there is room. The
    figure's layout is settled here: nothing that moves the axes may follow.
    """
    figure = axes.figure
    canvas = FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    renderer = canvas.get_renderer()
    pixel = figure.dpi / 72
    centres = axes.transData.transform(points)
    sizes = np.asarray(radii) * pixel
    frame = axes.get_window_extent(renderer)
    wanted = list(range(len(points))) if labelled is None else labelled
    extents = {each: _extent(axes, renderer, texts[each], fontsize) for each in wanted}
    # The most crowded first: they have the fewest places to go.
    crowd = {each: np.sum(np.hypot(*(centres - centres[each]).T) < 60 * pixel) for each in wanted}
    taken, lines, boxes = list(obstacles), [], {}
    for each in sorted(wanted, key=lambda each: (-crowd[each], each)):
        box, line = _best(
            centres[each], sizes[each], centres, sizes, extents[each], pixel, frame, taken, lines
        )
        taken.append(box)
        lines.append(line)
        boxes[each] = box
        _write(axes, texts[each], centres[each], box, line, fontsize, each in emphasised, pixel)
    return [boxes[each] for each in wanted]


def _extent(axes: Axes, renderer, text: str, fontsize: float) -> tuple[float, float]:
    artist = axes.text(0, 0, text, fontsize=fontsize)
    box = artist.get_window_extent(renderer)
    artist.remove()
    return box.width + 2, box.height + 1


def _best(centre, radius, centres, sizes, extent, pixel, frame, taken, lines):
    """The box of least cost for one label, and the line that leads to it.

    All places are judged at once; arrays are (places, what is in the way), boxes x0, y0, x1, y1.
    """
    width, height = extent
    x, y = np.cos(_ANGLES), np.sin(_ANGLES)  # (places,)
    # The box touches the ray at the gap, whatever side it is on.
    reach = np.minimum(width / 2 / np.abs(x), height / 2 / np.abs(y))
    ray = np.stack([x, y], 1)
    middle = centre + (radius + _GAPS * pixel + reach)[:, None] * ray
    half = np.array([width, height]) / 2
    low, high = middle - half, middle + half
    start = centre + radius * ray
    end = np.clip(start, low, high)
    cost = _GAPS + 3 * np.abs(y) + (x < 0)
    outside = (low < (frame.x0, frame.y0)).any(1) | (high > (frame.x1, frame.y1)).any(1)
    cost[outside] += 1e6
    boxes = np.array([[box.x0, box.y0, box.x1, box.y1] for box in taken]).reshape(-1, 4)
    apart = (low[:, None] >= boxes[:, 2:]) | (high[:, None] <= boxes[:, :2])
    cost += 1e5 * (~apart.any(2)).sum(1)
    others = np.any(centres != centre, 1) | (sizes != radius)
    near = np.clip(centres[others], low[:, None], high[:, None]) - centres[others]
    cost += 90 * (np.hypot(near[..., 0], near[..., 1]) < sizes[others]).sum(1)
    cost += 150 * _hits(np.stack([start, end], 1), boxes).sum(1)
    if lines:
        drawn = np.array(lines)
        own = np.concatenate([low, high], 1)
        cost += 150 * _hits(drawn, own).sum(0)
        cost += 60 * _cross(start[:, None], end[:, None], drawn[:, 0], drawn[:, 1]).sum(1)
    best = int(np.argmin(cost))
    return Bbox([low[best], high[best]]), np.stack([start[best], end[best]])


def _hits(lines: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Which of the lines (N, 2, 2) go through which of the boxes (M, 4), looked at in steps."""
    steps = np.linspace(0, 1, 12)[:, None]
    points = lines[:, None, 0] * (1 - steps) + lines[:, None, 1] * steps  # (N, steps, 2)
    points = points[:, :, None]
    inside = (points > boxes[:, :2]) & (points < boxes[:, 2:])
    return inside.all(3).any(1)


def _cross(a, b, c, d) -> np.ndarray:
    """Whether the lines from a to b cross those from c to d; all (…, 2)."""

    def side(p, q, r):
        return (q[..., 0] - p[..., 0]) * (r[..., 1] - p[..., 1]) - (q[..., 1] - p[..., 1]) * (
            r[..., 0] - p[..., 0]
        )

    return (side(a, b, c) * side(a, b, d) < 0) & (side(c, d, a) * side(c, d, b) < 0)


def _write(axes, text, centre, box, line, fontsize, bold, pixel) -> None:
    back = axes.transData.inverted().transform
    if np.hypot(*(line[1] - line[0])) > _NEAR * pixel:
        # To the bubble's middle: where bubbles lie over each other, its edge would tell nothing.
        look = {"color": "#666666", "lw": 0.5, "marker": "o", "ms": 1.6, "markevery": [0]}
        (drawn,) = axes.plot(*back(np.stack([centre, line[1]])).T, zorder=3.5, **look)
        drawn.set_in_layout(False)
    middle = back((box.min + box.max) / 2)
    look = {"ha": "center", "va": "center", "fontweight": "bold" if bold else "normal"}
    ground = {"boxstyle": "square,pad=0.03", "fc": "white", "ec": "none", "alpha": 0.7}
    artist = axes.text(*middle, text, fontsize=fontsize, zorder=4, bbox=ground, **look)
    artist.set_in_layout(False)
