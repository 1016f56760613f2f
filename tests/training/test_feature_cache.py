"""The cache of frozen features: each file is computed once, checked, and computed again if damaged."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from mglib.training import feature_cache as features
from mglib.training.feature_cache import cached

COUNT = 10  # in files of four: two whole ones and a half


@pytest.fixture(autouse=True)
def small_files(monkeypatch):
    monkeypatch.setattr(features, "CHUNK", 4)


class Compute:
    """Returns a row of three quotients for each number and records which numbers it was asked for."""

    def __init__(self, *, die_at=None):
        self.asked, self.die_at = [], die_at

    def __call__(self, items):
        if self.die_at in items:
            raise KeyboardInterrupt
        self.asked += items
        return rows(items)


def rows(items):
    return torch.tensor(items).reshape(-1, 1) / torch.tensor([1.0, 3.0, 7.0])


def get(folder, compute, *, count=COUNT):
    return cached(folder, lambda: iter(range(count)), count, compute, what="thirds", batch_size=3)


def stacked(found):
    return torch.stack(list(found))


def test_rows_are_the_computed_values_in_bfloat16(tmp_path):
    found = get(tmp_path, Compute())
    assert found.shape == (COUNT, 3) and len(found) == COUNT
    assert found[7].dtype == torch.bfloat16
    assert torch.equal(stacked(found), rows(list(range(COUNT))).bfloat16())
    assert torch.equal(found.batch([9, 0, 4]), rows([9, 0, 4]).bfloat16())


def flip(file):
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("harm", [flip, lambda file: file.unlink()])
def test_a_damaged_or_deleted_file_is_reported_and_computed_again(tmp_path, capsys, harm):
    get(tmp_path, Compute())
    harm(tmp_path / "00001.npy")
    compute = Compute()
    found = get(tmp_path, compute)
    assert compute.asked == [4, 5, 6, 7]
    assert "thirds: 00001.npy is damaged and is computed again." in capsys.readouterr().out
    assert torch.equal(stacked(found), rows(list(range(COUNT))).bfloat16())


def test_every_item_is_computed_once_and_a_second_call_reads_none(tmp_path):
    compute = Compute()
    first = get(tmp_path, compute)
    assert compute.asked == list(range(COUNT))
    files = ["00000.npy", "00001.npy", "00002.npy", "index.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == files

    def refuse():
        raise AssertionError("the items were read again")

    again = cached(tmp_path, refuse, COUNT, refuse, what="thirds")
    assert torch.equal(stacked(first), stacked(again))


@pytest.mark.parametrize("text", ["", '{"00000.npy": '])
def test_an_unreadable_index_is_told_of_and_everything_is_computed_again(tmp_path, capsys, text):
    get(tmp_path, Compute())
    (tmp_path / "index.json").write_text(text)
    compute = Compute()
    found = get(tmp_path, compute)
    assert compute.asked == list(range(COUNT))
    assert "index.json is damaged" in capsys.readouterr().out
    assert torch.equal(stacked(found), rows(list(range(COUNT))).bfloat16())


def test_an_interrupted_computation_goes_on_at_its_last_finished_file(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        get(tmp_path, Compute(die_at=9))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000.npy", "00001.npy", "index.json"]
    compute = Compute()
    found = get(tmp_path, compute)
    assert compute.asked == [8, 9]
    assert torch.equal(stacked(found), rows(list(range(COUNT))).bfloat16())


def test_two_at_once_compute_every_item_once(tmp_path):
    class Slow(Compute):
        def __call__(self, items):
            time.sleep(0.05)
            return super().__call__(items)

    compute = Slow()
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda _: stacked(get(tmp_path, compute)), range(2))
    assert compute.asked == list(range(COUNT)) and torch.equal(one, other)
