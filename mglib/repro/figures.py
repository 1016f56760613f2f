"""The study's figures: contact sheets, what tokens and queries see, curves, the architecture (Figure 1)."""

import re
import textwrap
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib
import numpy
import pandas
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional

from mglib.paper import PAPER
from mglib.study import display_names

WHITE, INK = "white", "#222222"
MARKERS = "osD^vP*X<>dpH"
COLOURS = ("C0", "C1", "C2", "C3", "C4", "C5", "C6", "C7", "C9")  # C8, a yellow, is too light on white
FONT = str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"))
LETTER = 7.4  # pixels: a letter of that font in the wider lines


@cache
def letters() -> ImageFont.FreeTypeFont:
    """Return the font of all sheets."""
    return ImageFont.truetype(FONT, 13)


@cache
def signs() -> frozenset[str]:
    """Return the characters that this font has, and the newline."""
    return frozenset({"\n", *map(chr, FT2Font(FONT).get_charmap())})


def legible(text: str) -> str:
    """Replace each run of characters that the font lacks with one U+FFFD, and white space other than newlines
    with spaces: the font's layout rejects some of it.
    """
    spaced = "".join(" " if one.isspace() and one != "\n" else one for one in text)
    known = "".join(one if one in signs() else "\ufffd" for one in spaced)
    return re.sub("\ufffd+", "\ufffd", known)


def contact_sheet(
    images: Sequence[Image.Image],
    captions: Sequence[str],
    *,
    columns: int = 4,
    side: int = 200,
    lines: int = 3,
) -> Image.Image | None:
    """Lay pictures out in rows, each with its text below; longer texts end in an ellipsis after `lines`
    lines. None if there are no pictures.
    """
    if not images:
        return None
    rows, gap, text = (len(images) + columns - 1) // columns, 12, 17 * lines + 8
    sheet = Image.new("RGB", (columns * (side + gap) + gap, rows * (side + text + gap) + gap), WHITE)
    draw = ImageDraw.Draw(sheet)
    for place, (image, caption) in enumerate(zip(images, captions, strict=True)):
        x, y = gap + place % columns * (side + gap), gap + place // columns * (side + text + gap)
        sheet.paste(image.resize((side, side)), (x, y))
        said = textwrap.wrap(legible(caption), width=int(side / LETTER), max_lines=lines, placeholder=" …")
        below = "\n".join(said) or "(nothing)"
        draw.multiline_text((x, y + side + 4), below, fill=INK, font=letters(), spacing=3)
    return sheet


def cards(
    images: Sequence[Image.Image],
    answers: Mapping[str, Sequence[str]],
    *,
    side: int = 180,
    width: int = 330,
    lines: int = 10,
    across: int = 2,
) -> Image.Image | None:
    """Lay out each picture with every model's answer to its right: `across` texts in a row, each below its
    model's name. The default fits the width of a page on GitHub. None if there are no pictures.
    """
    if not images:
        return None
    gap, head = 12, 20
    across = min(across, len(answers))
    block = head + 17 * lines
    height = max(side, -(-len(answers) // across) * block) + gap  # of a picture with its texts
    sheet = Image.new("RGB", (side + across * (width + gap) + 2 * gap, len(images) * height + gap), WHITE)
    draw = ImageDraw.Draw(sheet)
    for row, image in enumerate(images):
        sheet.paste(image.resize((side, side)), (gap, gap + row * height))
    for place, (name, texts) in enumerate(answers.items()):
        x = side + 2 * gap + place % across * (width + gap)
        for row, text in enumerate(texts[: len(images)]):
            y = gap + row * height + place // across * block
            draw.text((x, y), display_names.of(name), fill=INK, font=letters(), stroke_width=0.4)
            paragraphs = [
                textwrap.wrap(part, width=int(width / LETTER)) for part in legible(text).splitlines()
            ]
            said = [line for part in paragraphs for line in part] or ["(nothing)"]
            if len(said) > lines:
                said = [*said[: lines - 1], "…"]
            draw.multiline_text((x, y + head), "\n".join(said), fill=INK, font=letters(), spacing=3)
    return sheet


def token_colours(tokens: Tensor) -> list[Image.Image]:
    """Colour patches by the first three principal components of all pictures' tokens (B, 1 + P, D)."""
    B, N, D = tokens.shape
    grid = int((N - 1) ** 0.5)
    patches = tokens[:, 1:].float().reshape(-1, D)  # (B * P, D)
    centred = patches - patches.mean(0)
    _, _, axes = centred.svd()
    colours = centred @ axes[:, :3]  # (B * P, 3)
    low, high = colours.quantile(0.02, dim=0), colours.quantile(0.98, dim=0)
    pixels = ((colours - low) / (high - low)).clamp(0, 1).reshape(B, grid, grid, 3)
    small = [Image.fromarray((picture * 255).byte().numpy()) for picture in pixels]
    return [picture.resize((224, 224), Image.Resampling.NEAREST) for picture in small]  # one square per token


def attention_overlay(image: Image.Image, attention: Tensor, *, side: int = 224) -> Image.Image:
    """Brighten a picture where a query looks; `attention` (1 + P,) is over the vision tokens, CLS ignored."""
    grid = int((len(attention) - 1) ** 0.5)
    weights = attention[1:].float().reshape(1, 1, grid, grid)
    smooth = functional.interpolate(weights, size=(side, side), mode="bicubic").squeeze().clamp(min=0)
    mask = (smooth / smooth.max()).pow(0.6).unsqueeze(-1).numpy()
    pixels = numpy.asarray(image.convert("RGB").resize((side, side)), dtype=numpy.float32)
    return Image.fromarray((pixels * (0.2 + 0.8 * mask)).astype(numpy.uint8))


def _panels(
    count: int, across: int, width: float, height: float, more: float = 0.0
) -> tuple[Figure, list[Axes]]:
    """Return a figure and its `count` panels, in rows of `across`; `height` is that of one row."""
    down = -(-count // across)
    size = width, more + down * height
    figure, axes = pyplot.subplots(down, across, figsize=size, squeeze=False, layout="constrained")
    for ax in axes.flat[count:]:
        ax.remove()
    return figure, list(axes.flat[:count])


def curves(logs: Mapping[str, list[dict[str, float]]], parts: Sequence[str] = ("loss",)) -> Figure | None:
    """Draw the `parts` of each training's log over its steps, with a running mean; None without a log.

    Each training has its own panel and scale; more than three panels are laid out in rows of two.
    """
    logs = {name: log for name, log in logs.items() if log}
    if not logs:
        return None
    across = len(logs) if len(logs) <= 3 else 2
    figure, axes = _panels(len(logs), across, min(4.5 * across, 10), 3.4)
    for ax, (name, log) in zip(axes, logs.items(), strict=True):
        table = pandas.DataFrame(log)
        logged = [part for part in parts if part in table]
        for part in logged:
            line = ax.plot(table["step"], table[part], alpha=0.25, linewidth=1)[0]
            mean = table[part].rolling(10, min_periods=1).mean()
            ax.plot(table["step"], mean, color=line.get_color(), label=part)
        ax.set(title=display_names.of(name), xlabel="step", ylabel="loss (nats)")
        if len(logged) > 1:
            ax.legend(frameon=False)
    return figure


def forest(
    frame: pandas.DataFrame,
    *,
    xlabel: str | Mapping[str, str],
    rows: str = "system",
    hue: str = "measure",
    panel: str | None = None,
    chance: float | None = None,
    names: Mapping[str, str] | None = None,
) -> Figure | None:
    """Draw the numbers of a tidy frame with their 95 % intervals; None if no number has one.

    `rows`, `hue` and `panel` are columns of the frame: each value has a group of lines, a colour or a panel,
    labelled by `names` or its display name; two panels share a row of the figure. `xlabel` may map panels to
    labels. A dotted line marks `chance`, which is 0 if the numbers are differences.
    """
    known = frame.dropna(subset=["low", "high"])
    if known.empty:
        return None
    parts = [("", known)] if panel is None else list(known.groupby(panel, sort=False))
    single = hue in (panel, rows)  # then a colour would add nothing
    colours = dict(zip(dict.fromkeys(known[hue]), cycle(COLOURS[:1] if single else COLOURS), strict=False))
    at, ticks = _lines(known, rows, None if single else hue)
    across = min(len(parts), 2)
    figure, axes = _panels(len(parts), across, 9, 0.9 + 0.24 * (max(at.values()) + 1.8), 0.4)
    for place, (ax, (title, part)) in enumerate(zip(axes, parts, strict=True)):
        for one in part.to_dict("records"):
            y = at[one[rows], "" if single else one[hue]]
            ax.plot([one["low"], one["high"]], [y, y], color=colours[one[hue]], linewidth=2.5)
            ax.plot(one["value"], y, "o", color=colours[one[hue]])
        labels = [display_names.of(name, names) for name in ticks]
        ax.set_yticks([*ticks.values()], [""] * len(ticks) if place % across else labels)
        under = xlabel if isinstance(xlabel, str) else xlabel.get(title, "")
        ax.set(xlabel=under, ylim=(max(at.values()) + 1, -1))
        ax.locator_params(axis="x", nbins=5)
        ax.set_title(display_names.column(title, names) if title else "")
        if chance is not None:
            ax.axvline(chance, color="0.5", linestyle=":", label="chance" if chance else "no difference")
    for name, colour in {} if single or len(colours) == 1 else colours.items():
        axes[0].plot([], [], "o-", color=colour, label=display_names.column(name, names))
    handles, texts = axes[0].get_legend_handles_labels()
    if handles:
        columns = 4 if len("".join(texts)) < 75 else 2
        figure.legend(handles, texts, loc="outside lower center", ncols=columns, frameon=False)
    return figure


def claims(lines: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the numbers that decide the claims (`claims.drawn`): a dot with its 95 % interval in the colour of
    the verdict, the range in which the claim holds as a grey bar, the paper's value as a diamond, and the
    value of each training as a small line.
    """
    colours = {"reproduced": "C2", "not reproduced": "C3", "inconclusive": "0.45"}
    reach = 1.05 * max(abs(one[end]) for one in lines for end in ("low", "high"))
    figure, ax = pyplot.subplots(figsize=(10, 1 + 0.36 * len(lines)), layout="constrained")
    for y, one in enumerate(lines):
        ends = [min(max(end, -reach), reach) for end in one["range"]]
        ax.barh(y, ends[1] - ends[0], left=ends[0], height=0.8, color="0.92", zorder=0)
        ax.plot([one["low"], one["high"]], [y, y], color=colours[one["verdict"]], linewidth=2.5)
        ax.plot(one["value"], y, "o", color=colours[one["verdict"]])
        ax.plot(one["seeds"], [y] * len(one["seeds"]), "|", color=INK, markersize=9)
        if one["paper"] is not None:
            ax.plot(one["paper"], y, "D", color=INK, fillstyle="none")
        ax.text(1.01, y, one["what"], transform=ax.get_yaxis_transform(), va="center", fontsize=8)
    of = [one["claim"] for one in lines]
    firsts = [place for place, claim in enumerate(of) if claim not in of[:place]]
    middles = [first + (of.count(of[first]) - 1) / 2 for first in firsts]
    ax.set_yticks(middles, [textwrap.fill(of[first], 56) for first in firsts], fontsize=8)
    for first in firsts[1:]:
        ax.axhline(first - 0.5, color="0.85", linewidth=0.8)
    ax.set(xlim=(-reach, reach), ylim=(len(lines) - 0.5, -0.5))
    ax.set_xlabel("share, difference of shares, or references of five; 95 % interval")
    ax.grid(visible=False, axis="y")
    for verdict, colour in colours.items():
        ax.plot([], [], "o-", color=colour, label=verdict)
    ax.plot([], [], "D", color=INK, fillstyle="none", label="the paper")
    if any(one["seeds"] for one in lines):
        ax.plot([], [], "|", color=INK, label="each seed")
    ax.barh(0, 0, color="0.92", label="the claim holds")
    figure.legend(loc="outside lower center", ncols=6, frameon=False, fontsize=9)
    return figure


def _lines(
    frame: pandas.DataFrame, rows: str, hue: str | None
) -> tuple[dict[tuple[str, str], float], dict[str, float]]:
    """Return the y position of each row's line in each colour, the same in all panels, and of its label."""
    at: dict[tuple[str, str], float] = {}
    ticks, y = {}, 0.0
    order = list(dict.fromkeys(frame[hue])) if hue else [""]
    for name, group in frame.groupby(rows, sort=False):
        there = [one for one in order if hue is None or one in set(group[hue])]
        at |= {(name, one): y + line for line, one in enumerate(there)}
        ticks[name] = y + (len(there) - 1) / 2
        y += len(there) + 0.8
    return at, ticks


def over_size(frame: pandas.DataFrame, *, hue: str, ylabel: str) -> Figure | None:
    """Draw the numbers of a tidy frame with their 95 % intervals over `size`, the parameters of the language
    model: a line for each value of the column `hue`. None if no number has one.
    """
    known = frame.dropna(subset=["low", "high"])
    if known.empty:
        return None
    figure, ax = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for line, (name, part) in enumerate(known.groupby(hue, sort=False)):
        part = part.sort_values("size")
        reach = [part["value"] - part["low"], part["high"] - part["value"]]
        shifted = part["size"] * (1 + 0.02 * line)  # so that intervals do not overlap
        how = {"fmt": f"{MARKERS[line]}-", "markersize": 8, "capsize": 3, "label": name}
        ax.errorbar(shifted, part["value"], reach, **how)
    sizes = sorted(set(known["size"]))
    ax.set(xscale="log", xlabel="parameters of the language model", ylabel=ylabel)
    ax.set_xticks(sizes, [f"{size / 1e6:,.0f} million" for size in sizes])
    ax.set_xticks([], minor=True)
    ax.margins(x=0.2)
    ax.legend(title=hue, frameon=False)
    return figure


def funnel(ours: dict[str, int], paper: dict[str, int]) -> Figure:
    """Draw what is left after each step as a share of the first, ours and, where given, the paper's."""
    figure, ax = pyplot.subplots(figsize=(7, 0.6 + 0.6 * len(ours)), layout="constrained")
    for name, counts, colour, offset in (("ours", ours, "C0", -0.2), ("paper", paper, "0.65", 0.2)):
        whole = next(iter(counts.values()))
        places = [list(ours).index(step) + offset for step in counts]
        bars = ax.barh(places, [count / whole for count in counts.values()], 0.38, color=colour, label=name)
        ax.bar_label(bars, [f"{count:,}" for count in counts.values()], padding=4, fontsize=9)
    ax.set_yticks(range(len(ours)), list(ours))
    ax.invert_yaxis()
    ax.set(xlim=(0, 1.15), xlabel="share of the pictures that is left")
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def architecture(blocks: Sequence[tuple[str, str, str]], answer: str) -> Figure:
    """Draw the chain of parts, bottom to top as in the paper's Figure 1.

    Each block is (name, the shape it returns, "trained", "frozen" or ""); `answer` is on top.
    """
    height = 1.25 * len(blocks) + 1.2
    figure, ax = pyplot.subplots(figsize=(6.4, 0.78 * height))
    ax.set(xlim=(0, 10), ylim=(-0.6, height))
    ax.axis("off")
    for level, (name, shape, role) in enumerate(blocks):
        y = level * 1.25
        colour = "#f6c28b" if role == "trained" else "#cfe3f5"
        ax.add_patch(
            FancyBboxPatch((1.6, y), 6.8, 0.72, boxstyle="round,pad=0.06", facecolor=colour, edgecolor="0.35")
        )
        ax.text(5, y + 0.47, name, ha="center", va="center", weight="bold", fontsize=10)
        ax.text(5, y + 0.17, shape, ha="center", va="center", fontsize=8.5, color="0.25")
        ax.text(8.75, y + 0.36, role, va="center", fontsize=9, color="0.3")
        ax.annotate("", (5, y + 1.2), (5, y + 0.8), arrowprops={"arrowstyle": "-|>", "color": "0.35"})
    ax.text(5, len(blocks) * 1.25 + 0.25, textwrap.fill(answer, 60), ha="center", va="center", style="italic")
    return figure


def against(frame: pandas.DataFrame, *, x: str, y: str, xlabel: str, ylabel: str) -> Figure | None:
    """Draw one measure of a tidy frame against another with both intervals, and the paper's points without; x
    is logarithmic, so only systems whose interval is above zero are drawn. None if there are none.

    A system has one colour and one marker, filled for ours and hollow for the paper's; a dotted line joins
    the two. Systems that only the paper has are black.
    """
    task, systems = frame["task"].iloc[0], list(dict.fromkeys(frame["system"]))
    rows = {(row["measure"], row["system"]): row for row in frame.dropna(subset=["low"]).to_dict("records")}
    ours = [one for one in systems if (y, one) in rows and (x, one) in rows and rows[x, one]["low"] > 0]
    theirs = {one: [PAPER.get(f"{task}.{measure}.{one}") for measure in (x, y)] for one in systems}
    theirs = {one: point for one, point in theirs.items() if None not in point}
    if not ours:
        return None
    figure, ax = pyplot.subplots(figsize=(8.5, 5.2), layout="constrained")
    for marker, name, colour in zip(cycle(MARKERS), systems, cycle(COLOURS), strict=False):
        colour, label = colour if name in ours else INK, display_names.of(name)
        both = [rows[x, name], rows[y, name]] if name in ours else []
        if both:
            values = [one["value"] for one in both]
            across, up = ([[one["value"] - one["low"]], [one["high"] - one["value"]]] for one in both)
            ax.errorbar(*values, up, across, fmt=marker, markersize=8, capsize=2, color=colour, label=label)
        if name in theirs:
            how = {"markersize": 9, "markeredgewidth": 2, "fillstyle": "none", "linestyle": "none"}
            ax.plot(*theirs[name], marker, color=colour, label=f"paper: {label}", **how)
        if both and name in theirs:
            joined = zip(values, theirs[name], strict=True)
            ax.plot(*joined, color=colour, linestyle=":", linewidth=1.2, zorder=1)
    ax.set(xscale="log", xlabel=xlabel, ylabel=ylabel)
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1), fontsize=9)
    return figure
