"""What readers see: one name per key, in one order."""

from mglib.study import display_names


def test_no_two_keys_of_rows_look_alike():
    measures = ("covered", "references covered")  # also what one system covers more than another
    names = [name for name in display_names.NAMES.values() if name not in measures]
    assert len(names) == len(set(names))


def test_the_systems_of_table_1_stand_in_reading_order():
    shuffled = dict.fromkeys(
        ("facts", "text_oracle", "minigpt4", "a new one", "locna", "stage1", "blip2_ft", "blip2")
    )
    assert [display_names.of(row) for row in display_names.ordered(shuffled)] == [
        "BLIP-2",
        "BLIP-2 FT",
        "stage 1",
        "MiniGPT-4 (LocNa)",
        "MiniGPT-4",
        "text oracle",
        "list of facts",
        "a new one",
    ]
