"""Keywords of captions: which words they are, how often, in what order."""

from mglib.data.text import EMPTY_WORDS, shuffled_keywords


def test_keywords_are_words_that_carry_meaning_in_any_order():
    caption = "a red bus and two dogs in the park by the sea"
    drawn = [shuffled_keywords(caption, f"0/{index}", 16).split() for index in range(400)]
    words = {"red", "bus", "two", "dogs", "park", "sea"}
    assert all(set(found) <= words and len(found) <= 16 for found in drawn)
    assert set.union(*map(set, drawn)) == words and not words & EMPTY_WORDS
    assert shuffled_keywords(caption, "0/3", 16).split() == drawn[3]
    assert len({tuple(dict.fromkeys(found)) for found in drawn}) > 50
    assert max(len(shuffled_keywords(caption, str(index), 3).split()) for index in range(50)) == 3
    assert shuffled_keywords("it is there", "0/0", 16) == ""


def test_keywords_are_left_out_and_repeated_at_random():
    caption = "red bus two dogs park sea"
    drawn = [shuffled_keywords(caption, f"0/{index}", 100).split() for index in range(2_000)]
    kept = [len(set(found)) for found in drawn]
    times = [found.count(word) for found in drawn for word in set(found)]
    assert {*kept} == {*range(7)} and 2.7 < sum(kept) / len(kept) < 3.3  # half of six
    assert {*times} == {1, 2, 3, 4} and 2.4 < sum(times) / len(times) < 2.6
