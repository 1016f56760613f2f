"""The mixture: every sample once, one source per batch, exact resume, and nothing lost silently."""

import json
import tarfile
from collections import Counter
from itertools import chain, islice

import pytest
import torch
from data_files import jpeg, write_shard, write_tar

from mglib.data import mixture
from mglib.data.mixture import Mixture, Source, count_shards
from mglib.data.quarantine import Quarantine

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on one core

PICTURE = jpeg("red", (8, 8))


def collate(rows):
    return {"size": len(rows), "captions": [caption for _, caption in rows], "first": rows[0][0].size}


@pytest.fixture
def source(tmp_path):
    """Return a function that writes shards of the given sizes, whose captions name their samples."""

    def build(name, sizes, weight=1.0, *, bad=()):
        folder = tmp_path / name
        folder.mkdir()
        for number, size in enumerate(sizes):
            keys = [f"{number:05d}{sample:04d}" for sample in range(size)]
            rows = [(key, b"" if key in bad else PICTURE, f"{name} {key}") for key in keys]
            write_shard(folder / f"{number:05d}.tar", rows)
        urls = f"{folder}/{{00000..{len(sizes) - 1:05d}}}.tar"
        return Source.open(name, urls, weight=weight, counts=folder / "counts.jsonl")

    return build


@pytest.fixture
def mix(tmp_path):
    """Return a function that builds one rank's mixture."""

    def build(sources, *, share=0.05, **settings):
        quarantine = Quarantine(tmp_path / f"bad-{settings.get('rank', 0)}.jsonl", share=share)
        settings = {"batch_size": 4, "seed": 0, **settings}
        return Mixture(sources=sources, collate=collate, quarantine=quarantine, **settings)

    return build


def names(source):
    return [
        f"{source.name} {number:05d}{sample:04d}"
        for number, count in enumerate(source.counts)
        for sample in range(count)
    ]


def take(mixture, count):
    return [batch["captions"] for batch in islice(mixture, count)]


def epoch(mixture):
    """Return the captions of the next epoch of a mixture with one source."""
    (only,) = mixture.sources
    stream = mixture.streams[only.name]
    return [caption for batch in take(mixture, stream.workers * stream.batches()) for caption in batch]


# --- an epoch ---


@pytest.mark.parametrize("workers", [0, 2])
def test_two_ranks_see_each_sample_once_in_an_epoch(source, mix, workers):
    laion = source("laion", [7, 1, 12, 5, 9])
    ranks = [mix([laion], rank=rank, ranks=2, workers=workers) for rank in range(2)]
    for _ in range(2):  # epochs
        seen = [epoch(rank) for rank in ranks]
        assert not set(seen[0]) & set(seen[1])
        assert sorted(seen[0] + seen[1]) == names(laion)
    for rank in ranks:
        assert rank.state_dict()["done"] == {"laion": 12 if workers else 10}


def test_epochs_and_seeds_differ_and_a_seed_repeats(source, mix):
    laion = source("LAION!", [20, 20])  # captions are cleaned
    before = torch.random.get_rng_state()
    rank = mix([laion])
    first, second = epoch(rank), epoch(rank)
    assert torch.equal(torch.random.get_rng_state(), before)
    written = [name.replace("LAION!", "laion") for name in names(laion)]
    assert first != second and first != written and sorted(first) == sorted(second) == written
    assert epoch(mix([laion])) == first != epoch(mix([laion], seed=1))


# --- sources ---


def test_a_batch_has_one_source_by_weight_and_the_same_on_all_ranks(source, mix):
    sources = [source("laion", [40], 115.0), source("cc", [40], 14.0)]
    ranks = [take(mix(sources, rank=rank, ranks=2), 400) for rank in range(2)]
    one, two = ([{caption.split()[0] for caption in batch} for batch in batches] for batches in ranks)
    assert one == two and all(len(origin) == 1 for origin in one)
    share = Counter(min(origin) for origin in one)["laion"] / 400
    assert abs(share - 115 / 129) < 0.05  # three standard errors


# --- resuming ---


@pytest.mark.parametrize(("workers", "stops"), [(0, (1, 4, 11)), (2, (5,))])
def test_a_stopped_run_goes_on_as_if_it_had_never_stopped(source, mix, workers, stops):
    sources = [source("laion", [9, 11, 6], 2.0), source("cc", [14], 1.0)]
    whole = take(mix(sources, workers=workers), 16)
    for stop in stops:
        first = mix(sources, workers=workers)
        assert take(first, stop) == whole[:stop]
        state = json.loads(json.dumps(first.state_dict()))
        second = mix(sources, workers=workers)
        second.load_state_dict(state)
        assert take(second, 16 - stop) == whole[stop:]
        assert second.quarantine.good == sum(map(len, whole))


def test_shards_that_are_done_are_not_opened_again(source, mix, monkeypatch):
    laion = source("laion", [8] * 6)
    first = mix([laion])
    seen = take(first, 9)  # four shards and half of the fifth
    opened = []
    read_shard = mixture.read_shard
    monkeypatch.setattr(mixture, "read_shard", lambda url: opened.append(url) or read_shard(url))
    second = mix([laion])
    second.load_state_dict(first.state_dict())
    rest = take(second, 3)
    assert len(opened) == 2
    assert sorted(caption for batch in seen + rest for caption in batch) == names(laion)


# --- counting and refusing ---


def test_shards_are_counted_once_or_by_img2dataset(tmp_path, source):
    laion = source("laion", [3, 2])
    assert laion.counts == (3, 2) and laion.total == 5
    for url in laion.shards:
        tmp_path.joinpath(url).write_bytes(b"")
    assert count_shards(laion.shards, tmp_path / "laion" / "counts.jsonl") == (3, 2)
    stats = tmp_path / "laion" / "00000_stats.json"
    stats.write_text('{"count": 9, "successes": 7}')
    assert count_shards(laion.shards, tmp_path / "fresh.json") == (7, 0)  # the other is empty
    stats.write_text("{}")
    with pytest.raises(ValueError, match=r"00000_stats\.json: `successes`: Field required"):
        count_shards(laion.shards, tmp_path / "other.json")


def test_what_cannot_be_mixed_or_resumed_is_refused(source, mix):
    laion = source("laion", [8])
    with pytest.raises(ValueError, match="Two sources have one name"):
        mix([laion, laion])
    with pytest.raises(ValueError, match=r"laion has 8 samples for 9 readers"):
        mix([laion], ranks=3, workers=3)
    state = mix([laion]).state_dict()
    for changes in ({"batch_size": 2}, {"seed": 1}, {"ranks": 2}, {"workers": 2}):
        with pytest.raises(ValueError, match="are not those of the run that is to go on"):
            mix([laion], **changes).load_state_dict(state)


@pytest.mark.parametrize("scheme", ["file:{}", "pipe:cat {}"])
def test_addresses_are_read_as_paths_are(tmp_path, source, mix, scheme):
    laion = source("laion", [5, 6])
    root = scheme.format(tmp_path)
    urls = f"{root}/laion/{{00000..00001}}.tar"
    remote = Source.open("laion", urls, weight=1.0, counts=tmp_path / "remote.json")
    assert remote.counts == (5, 6)
    absent = f"{root}/none.tar"
    assert count_shards([absent], tmp_path / "none.json") == (0,) and not (tmp_path / "none.json").exists()
    for ranks in (1, 3):  # three leave shards half read
        parts = [epoch(mix([remote], rank=rank, ranks=ranks)) for rank in range(ranks)]
        assert sorted(chain(*parts)) == names(laion)


# --- bad samples ---


def listed(mixture):
    mixture.quarantine.write()
    return [json.loads(line) for line in mixture.quarantine.file.read_text().splitlines()]


def test_a_bad_sample_leaves_its_batch_and_is_listed(source, mix):
    laion = source("laion", [30, 30], bad={"000010007"})
    rank = mix([laion])
    seen = epoch(rank)
    assert sorted(seen) == [name for name in names(laion) if name != "laion 000010007"]
    (fault,) = listed(rank)
    assert (fault["where"], fault["sample"]) == (laion.shards[1], "000010007")
    assert fault["reason"].startswith("broken picture: empty, or none of the formats")
    assert (rank.quarantine.good, rank.quarantine.bad) == (59, 1)


def test_a_batch_without_a_good_sample_is_passed_over(source, mix):
    laion = source("laion", [4, 4], bad={f"00000000{number}" for number in range(4)})
    batches = take(mix([laion], share=0.6), 3)  # one per epoch
    assert [sorted(batch) for batch in batches] == [names(laion)[4:]] * 3


def test_a_broken_tar_costs_what_it_lacks_and_what_was_not_counted_is_not_read(tmp_path, source, mix):
    laion = source("laion", [40, 40])
    path = tmp_path / "laion" / "00001.tar"
    path.write_bytes(path.read_bytes()[:30_000])
    rank = mix([laion], share=1.0, batch_size=20)
    seen = epoch(rank)
    assert sorted(seen) == names(laion)[: len(seen)] and 40 < len(seen) < 80
    reasons = [fault["reason"] for fault in listed(rank)]
    assert any(reason.startswith("broken shard: ") for reason in reasons)
    assert rank.quarantine.good + rank.quarantine.bad == 80
    write_shard(path, [(f"00001{n:04d}", PICTURE, f"laion 00001{n:04d}") for n in range(42)])
    rank = mix([laion])
    assert sorted(epoch(rank)) == names(laion)
    assert [fault["reason"] for fault in listed(rank)] == [
        "it holds more than the 40 samples that were counted"
    ]


def test_a_shard_that_cannot_be_read_is_told_of_and_counted_again(tmp_path, source, mix):
    laion = source("laion", [4, 4])
    path = tmp_path / "laion" / "00001.tar"
    whole = path.read_bytes()
    path.write_bytes(b"")
    counts = tmp_path / "fresh.json"
    broken = Source(name="laion", shards=laion.shards, counts=count_shards(laion.shards, counts), weight=1.0)
    assert broken.counts == (4, 0)
    assert "no sample of it can be read" in [fault["reason"] for fault in listed(mix([broken]))]
    path.write_bytes(whole)
    assert count_shards(laion.shards, counts) == (4, 4)


def test_what_is_no_sample_is_told_of_wherever_it_stands(tmp_path, mix):
    link = tarfile.TarInfo("000000000.jpg")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    good = [("000000001.jpg", PICTURE), ("000000001.json", b'{"caption": "one"}')]
    write_tar(tmp_path / "0.tar", [link, *good])
    write_tar(tmp_path / "1.tar", [*good, ("README", b"text")])
    laion = Source.open("laion", f"{tmp_path}/{{0..1}}.tar", weight=1.0, counts=tmp_path / "counts.json")
    for ranks in (1, 2):
        found = set()
        for rank in range(ranks):
            part = mix([laion], rank=rank, ranks=ranks)
            assert len(epoch(part)) == 2 // ranks
            found |= {fault["sample"] for fault in listed(part)}
        assert found == {"000000000.jpg", "README"}
