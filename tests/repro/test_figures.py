"""The study's figures: of the expected size, with the expected content, and without a warning."""

import io

import numpy
import pytest
import torch
from matplotlib import pyplot
from PIL import Image

from mglib import frame
from mglib.metrics import Estimate
from mglib.repro.figures import (
    against,
    attention_overlay,
    cards,
    contact_sheet,
    curves,
    forest,
    funnel,
    legible,
    over_size,
    signs,
    token_colours,
)
from mglib.study import display_names

AXES = {"xlabel": "x", "ylabel": "y"}
pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(autouse=True)
def closed():
    yield
    pyplot.close("all")


def texts(figure):
    """Draw a figure, which would warn of missing glyphs, and return all that is written in it."""
    figure.savefig(io.BytesIO())
    found = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    for ax in figure.axes:
        legend = ax.get_legend()
        found += [text.get_text() for text in (legend.get_texts() if legend else [])]
        found += [ax.get_title(), ax.get_xlabel(), ax.get_ylabel()]
        found += [text.get_text() for text in (*ax.texts, *ax.get_yticklabels())]
    return found


def rows(measured):
    """Return estimates of Table 5 as a tidy frame."""
    return frame.rows("t5", measured)


def test_a_contact_sheet_has_its_rows_and_columns():
    images = [Image.new("RGB", (40, 30), colour) for colour in ("red", "green", "blue")]
    sheet = contact_sheet(images, ["a", "b", "c"], columns=2, side=50, lines=1)
    cell, gap, text = 50, 12, 17 + 8
    assert sheet.size == (2 * (cell + gap) + gap, 2 * (cell + text + gap) + gap)
    assert sheet.getpixel((gap + 25, gap + 25)) == (255, 0, 0)
    assert sheet.getpixel((gap + cell + gap + 25, gap + 25)) == (0, 128, 0)
    assert sheet.getpixel((gap + 25, gap + cell + text + gap + 25)) == (0, 0, 255)


def below(caption, **how):
    """Return the ink below a single picture."""
    sheet = contact_sheet([Image.new("RGB", (9, 9), "white")], [caption], columns=1, side=200, **how)
    return 255 - numpy.asarray(sheet.convert("L"), dtype=int)[212:]


def test_signs_that_the_font_lacks_are_shown_as_unknown():
    assert legible("a café — 3 × 4 ≤ 12\n“so”…") == "a café — 3 × 4 ≤ 12\n“so”…"
    assert legible("a 漢字 b") == "a \ufffd b" and "\ufffd" in signs()
    assert legible("a\r\tb\x1cc\n") == "a  b c\n" and below("a\x1cb").any()  # layout refuses control codes
    assert (below("漢") == below("\ufffd")).all() and (below("—") != below("\ufffd")).any()


def test_every_name_can_be_written():
    assert [name for name in display_names.NAMES.values() if legible(name) != name] == []


def test_figures_carry_names_and_not_keys():
    one = Estimate(0.5, 0.4, 0.6, 10)
    some = rows({"blip2": {"chair_i": one, "length": one}, "text_oracle": {"chair_i": one}})
    found = texts(forest(some, xlabel="share"))
    assert {"BLIP-2", "text oracle", "CHAIR_i"} <= set(found) and not {"blip2", "chair_i"} & set(found)
    log = [{"step": step, "loss": 1.0} for step in range(3)]
    assert curves({"no_qformer": log}).axes[0].get_title() == "no Q-Former"
    both = {"length": one, "chair_i": one}
    found = rows({"short": both, "long": both, "llava": dict.fromkeys(both)})
    drawn = [*texts(forest(found, xlabel="x")), *texts(against(found, x="length", y="chair_i", **AXES))]
    assert {"MiniGPT-4, long", "MiniGPT-4, short", "paper: LLaVA, quoted"} <= set(drawn)
    image = [Image.new("RGB", (9, 9))]
    by_key, by_name = (numpy.asarray(cards(image, {name: ["a"]})) for name in ("text_oracle", "text oracle"))
    assert (by_key == by_name).all()


def test_a_forest_has_two_panels_in_a_row_each_with_its_own_axis():
    one = Estimate(0.5, 0.4, 0.6, 10)
    some = rows({name: dict.fromkeys(("chair_i", "length", "covered"), one) for name in ("blip2", "long")})
    figure = forest(some, xlabel={"length": "words"}, panel="measure")
    places = [ax.get_subplotspec() for ax in figure.axes]
    assert [(each.rowspan.start, each.colspan.start) for each in places] == [(0, 0), (0, 1), (1, 0)]
    assert [ax.get_xlabel() for ax in figure.axes] == ["", "words", ""] and not figure.legends
    labels = [[text.get_text() for text in ax.get_yticklabels()] for ax in figure.axes]
    assert labels == [["BLIP-2", "MiniGPT-4, long"], ["", ""], ["BLIP-2", "MiniGPT-4, long"]]


def test_a_row_that_one_panel_lacks_keeps_its_line_there():
    one = Estimate(0.5, 0.4, 0.6, 10)
    some = rows({"blip2": {"length": one}, "long": {"length": one, "chair_i": one}})
    more = some.assign(split="test_new_pairs")
    figure = forest(frame.concat(some, more), xlabel="x", panel="measure", hue="split")
    heights = [[line.get_ydata()[0] for line in ax.lines if len(line.get_xdata()) == 2] for ax in figure.axes]
    assert heights == [[0, 2.8, 1, 3.8], [2.8, 3.8]]
    assert [ax.get_ylim() for ax in figure.axes] == [(4.8, -1)] * 2
    assert [text.get_text() for text in figure.axes[1].get_yticklabels()] == ["", ""]


def test_a_measure_is_drawn_over_the_size_of_the_language_model():
    one = rows({name: {"requests": Estimate(0.5, 0.4, 0.6, 10)} for name in ("weak_lm", "minigpt4")})
    figure = over_size(one.assign(size=[5e8, 1e8], given="the picture"), hue="given", ylabel="requests met")
    ax = figure.axes[0]
    assert list(ax.lines[0].get_xdata()) == [1e8, 5e8] and "the picture" in texts(figure)
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["100 million", "500 million"]
    assert over_size(one.iloc[:0], hue="given", ylabel="") is None and forest(one[:0], xlabel="") is None


def written(sheet, left, top):
    """Return whether there is text at this position of a sheet."""
    place = sheet.convert("L").crop((left, top, left + 100, top + 60))
    return (255 - numpy.asarray(place, dtype=int)).sum() > 1000


def test_texts_are_next_to_their_picture_in_rows_of_as_many_as_asked():
    pictures = [Image.new("RGB", (9, 9), "red")] * 2
    sheet = cards(pictures, {name: ["said", "said"] for name in "abc"}, side=50, width=100, lines=2, across=2)
    block = 20 + 17 * 2
    row = 2 * block + 12
    assert sheet.size == (50 + 2 * 112 + 24, 2 * row + 12)
    assert sheet.getpixel((30, 12 + row + 25)) == (255, 0, 0)
    assert written(sheet, 74, 12) and written(sheet, 186, 12 + row) and written(sheet, 74, 12 + row + block)
    assert cards([], {"a": []}) is None


def test_texts_are_written_and_end_after_their_lines():
    assert below("a red bus").sum() > 1000 and (below("a red bus") != below("a red car")).any()
    assert below("").sum() > 0  # an empty answer is said to be one
    long = "a red bus on the street " * 20
    assert below(long, lines=2).shape < below(long, lines=4).shape
    assert (below(long, lines=3) == below(long + " and more", lines=3)).all()
    assert below(long, lines=2)[-5:].sum() == 0  # nothing reaches the border


def test_tokens_that_differ_have_colours_that_differ(random):
    tokens = 0.01 * torch.randn(2, 17, 8, generator=random)
    tokens[:, 1:9] += 1  # the upper half of each picture
    found = token_colours(tokens)
    assert len(found) == 2 and {picture.size for picture in found} == {(224, 224)}
    pixels = numpy.asarray(found[0], dtype=int)
    assert abs(pixels[:112, :, 0].mean() - pixels[112:, :, 0].mean()) > 150
    assert (pixels[:56, :56] == pixels[0, 0]).all()  # one square a token


def test_a_picture_is_bright_where_a_query_looks():
    attention = torch.full((17,), 0.01)
    attention[1 + 5] = 1.0  # the second patch of the second row
    shown = attention_overlay(Image.new("L", (30, 60), 255), attention, side=80)
    assert shown.size == (80, 80) and shown.mode == "RGB"
    assert shown.getpixel((30, 30))[0] > 240 and shown.getpixel((70, 70))[0] < 120
    assert attention_overlay(Image.new("RGB", (9, 9)), attention).size == (224, 224)


def test_curves_show_each_training_and_each_part():
    log = [{"step": step, "loss": 9.0 / step, "contrast": 3.0 / step} for step in range(1, 40)]
    figure = curves({"one": log, "two": log[:3]}, ("loss", "contrast", "absent"))
    assert len(figure.axes) == 2
    assert {"one", "two", "step", "loss (nats)", "loss", "contrast"} <= set(texts(figure))
    assert "absent" not in texts(figure)


def test_four_trainings_stand_in_two_rows_and_five_leave_no_empty_panel():
    log = [{"step": step, "loss": 9.0 / step} for step in range(1, 4)]
    places = [ax.get_subplotspec() for ax in curves(dict.fromkeys("abcd", log)).axes]
    assert [(one.rowspan.start, one.colspan.start) for one in places] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert len(curves(dict.fromkeys("abcde", log)).axes) == 5


def test_ours_and_the_papers_point_of_a_name_look_alike_and_are_joined():
    one, other = Estimate(20.0, 10.0, 30.0, 10), Estimate(0.5, 0.4, 0.6, 10)
    none = Estimate(0.0, 0.0, 0.0, 10)  # cannot be drawn on a logarithmic axis
    both, silent = {"length": one, "chair_i": other}, {"length": none, "chair_i": other}
    points = {"blip2_ft": both, "long": both, "llava": dict.fromkeys(both), "everything": silent}
    ax = against(rows(points), x="length", y="chair_i", **AXES).axes[0]
    other, ours = (container.lines[0] for container in ax.containers)
    x = {"paper: MiniGPT-4, long": [175.0], None: [20.0, 175.0]}
    theirs, joined = (
        next(line for line in ax.lines if list(line.get_xdata()) == each) for each in x.values()
    )
    assert theirs.get_label() == "paper: MiniGPT-4, long"
    assert ours.get_color() == theirs.get_color() == joined.get_color() != other.get_color()
    assert ours.get_marker() == theirs.get_marker() and theirs.get_fillstyle() == "none"
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert {"BLIP-2 FT", "MiniGPT-4, long", "paper: LLaVA, quoted"} < set(labels) and len(labels) == 4
    assert against(rows({"everything": silent}), x="length", y="chair_i", **AXES) is None


def test_the_funnel_has_the_counts_of_both_and_the_papers_only_where_it_tells_them():
    figure = funnel({"generated": 600, "after rule": 500, "kept": 300}, {"generated": 5000, "kept": 3500})
    found = texts(figure)
    assert {"600", "500", "300", "5,000", "3,500", "ours", "paper", "after rule"} <= set(found)
    ours, paper = ([bar.get_width() for bar in bars] for bars in figure.axes[0].containers)
    assert ours == [1, 500 / 600, 0.5] and paper == [1, 0.7]
