"""What is chosen of all that was tried."""

import pandas

from mglib.evals import trials


def test_the_first_of_equals_is_taken_for_each_model():
    tried = [
        {"model": "x", "way": 1, "score": 0.2},
        {"model": "y", "way": 2, "score": 0.9},
        {"model": "x", "way": 3, "score": 0.4},
        {"model": "x", "way": 4, "score": 0.4},
    ]
    best = trials.best(pandas.DataFrame(tried), "score")
    assert {model: line["way"] for model, line in best.items()} == {"x": 3, "y": 2}


def test_where_nothing_was_tried_nothing_is_best():
    assert trials.best(pandas.DataFrame([]), "score") == {}
