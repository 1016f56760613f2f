"""The panel for reviewing in a real browser, by keys: `pytest -m browser` runs it (tests/browsers.py)."""

import pytest
from nbformat import v4

from mglib.curation.verdicts import verdicts

pytestmark = [pytest.mark.browser, pytest.mark.slow]

REVIEW = """
import io
from pathlib import Path
from PIL import Image
from mglib.people.review import Review, Reviewer

def picture(color):
    file = io.BytesIO()
    Image.new("RGB", (224, 224), color).save(file, "JPEG")
    return file.getvalue()

texts = [(color, f"The picture is {color}. It shows nothing else.") for color in ("red", "green", "blue")]
Reviewer(Review(texts, Path("log.jsonl")), picture).box
"""


def test_texts_are_accepted_edited_and_rejected_by_keys(show, lab):
    notebook = v4.new_notebook(cells=[v4.new_code_cell(REVIEW.strip())])
    page, log = show("review", notebook), lab[1] / "log.jsonl"
    keys = page.get_by_placeholder("click here, then press a, e, r or u")
    text = page.locator("textarea:visible").first
    keys.click()
    for key, progress in (("a", "1 of 3"), ("r", "2 of 3"), ("u", "1 of 3")):
        page.keyboard.press(key)
        page.get_by_text(progress, exact=True).wait_for()
    page.keyboard.press("e")
    page.wait_for_function("document.activeElement.tagName === 'TEXTAREA'")
    page.keyboard.press("Control+a")
    page.keyboard.type("A green picture.")
    keys.click()
    page.keyboard.press("a")
    page.get_by_text("2 of 3", exact=True).wait_for()
    page.keyboard.press("r")
    page.get_by_text("all have a verdict").wait_for()
    given = verdicts(log)
    assert [(one.keep, one.text) for one in given.values()] == [
        (True, "The picture is red. It shows nothing else."),
        (True, "A green picture."),
        (False, "The picture is blue. It shows nothing else."),
    ]
    assert text.input_value() == ""
