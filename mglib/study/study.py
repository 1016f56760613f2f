"""What the notebooks share: the parts that a profile names, built or loaded, and its data, each made once."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from mglib.config import ConcatConfig, PretrainConfig, Profile, ReleaseConfig, WorldConfig
from mglib.data import released
from mglib.data.narratives import read_narratives
from mglib.data.quarantine import keep, strict
from mglib.data.records import read_json
from mglib.data.shards import WebPair, present, read_shards, shards
from mglib.data.splits import Split, annotated_split, web_split
from mglib.errors import needed
from mglib.evals import chair
from mglib.evals.coverage import Judge, fact_judge, read_facts
from mglib.evals.vqa import Exam
from mglib.keys import hash_source
from mglib.mentions import Vocabulary
from mglib.model import device
from mglib.model.language import Language
from mglib.model.qformer import QFormer
from mglib.model.token_concat import Concat
from mglib.model.vision import Vision, preprocess
from mglib.paths import CACHE, DOWNLOADS, ROOT, hash_json, sha256
from mglib.settings import Settings
from mglib.study.blip2 import Blip2
from mglib.study.blip2 import load as load_blip2
from mglib.training import feature_cache
from mglib.weights import chosen, sources
from mglib.weights.official import load_qformer, load_vision
from mglib.weights.tensors import hash_tensors
from mglib.weights.vicuna import Quantised, load_language
from mglib.world.build import build
from mglib.world.catalog import vocabulary
from mglib.world.scene import SHARDED, SPECIAL_SPLITS


@dataclass(frozen=True, kw_only=True)
class Study:
    """One profile under one seed, with one source of pretrained weights.

    Its pictures are those of the small world and its frozen parts come from the package index or the hub;
    `PublishedStudy` has the same interface, from published files.
    """

    profile: Profile
    seed: int
    weights: str

    streams: ClassVar = False  # whether stage 1 streams its pairs; else it caches the features of `train`
    has_blip2: ClassVar = True  # whether its BLIP-2 has a language model and a text branch of its own
    # The names of the test splits, which only publishing cells read, then those of the special pictures.
    tests: ClassVar[tuple[str, ...]] = ("test_seen", "test_new_pairs", "test_new_objects")
    special_tests: ClassVar = tuple(name for name in SPECIAL_SPLITS if name.endswith("_test"))
    # The splits that A-OKVQA and GQA ask about, by their use.
    questioned: ClassVar = {"train": "train", "val": "val", "test": "test_seen"}
    stage2_splits: ClassVar[dict[str, str]] = {}  # splits whose texts train a variant of stage 2, by its name

    @classmethod
    def open(cls, settings: Settings) -> "Study":
        """Return the study that settings ask for; raises ValueError if they name something unknown."""
        return cls.of(settings.found(), seed=settings.seed, weights=settings.weights)

    @staticmethod
    def of(profile: Profile, *, seed: int, weights: str) -> "Study":
        """Return the study of a profile, of the class that its data need."""
        kind = Study if profile.release is None else PublishedStudy
        return kind(profile=profile, seed=seed, weights=weights)

    def draw(self) -> dict[str, Any]:
        """Draw the study's pictures unless they exist and return their card, empty for real pictures."""
        return build(self.world_config, font=sources.font(), folder=self.world)

    def split(self, name: str) -> Split:
        """Read a split from its official formats."""
        folder = self.world / name
        return web_split(folder) if name in SHARDED else annotated_split(folder)

    def pictures(self, name: str) -> str:
        """Return what a split's pictures are, for notes on numbers."""
        return "drawn scenes"

    def scenes(self, name: str) -> Path | None:
        """Return the file of a split's exact scene graphs; None if only the objects are annotated."""
        return self.world / name / "scenes.jsonl"

    def pool(self) -> Iterator[WebPair]:
        """Yield the pairs of the pool, pictures still encoded."""
        return strict(read_shards(shards(self.world / "pool")))

    def pool_texts(self) -> dict[str, dict[int, str]]:
        """Return other texts about the pool, by the variant that learns from them and by picture id."""
        pool = self.world / "pool"
        narratives = strict(read_narratives(pool / "localized_narratives.jsonl"))
        described = read_json(pool / "descriptions.json")["annotations"]
        return {
            "locna": {int(one.image_id): one.caption for one in narratives},
            "oracle": {int(one["image_id"]): one["caption"] for one in described},
        }

    def stage1_shards(self) -> list[tuple[list[Path], float]]:
        """Return the shards on disk of each source of stage 1, with the source's weight."""
        train = self.world / "train"
        return [(shards(train), 1.0)] if train.is_dir() else []

    def judge(self, name: str) -> Judge | None:
        """Return the judge of whether an answer covers a reference; None if references have no facts."""
        return fact_judge(read_facts(self.world / name))

    def exam(self, name: str) -> Exam:
        """Return the questions of A-OKVQA and GQA about a split."""
        return Exam.read(self.world / name)

    def vocabulary(self) -> Vocabulary:
        """Return the names of what can be annotated in the pictures."""
        return vocabulary()

    def nameable(self) -> Vocabulary:
        """Return the names of everything that can be invented about the pictures, scenery too."""
        return chair.vocabulary()

    def coco_vocabulary(self) -> Vocabulary:
        """Return the names of COCO's objects among those."""
        return chair.coco_vocabulary()

    @property
    def world(self) -> Path:
        """The folder of the small world, named by its settings; raises ValueError if there is none."""
        return CACHE / f"world-{hash_json(asdict(self.world_config))}"

    @cached_property
    def vision_state(self) -> Path:
        """The file of the image encoder's weights."""
        return sources.vision_state(self.weights)

    def vision(self) -> Vision:
        """Load the frozen image encoder."""
        vision = Vision.load(self.profile.vision, self.vision_state, attention=self.attention)
        return vision.to(self.device, self.dtype)

    @cached_property
    def blip2(self) -> Blip2:
        """BLIP-2 mini, which every run starts from; raises ValueError as `blip2.load` or if there is none."""
        config = self.pretraining
        folder = ROOT / "data" / config.release
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is not there: run this in a clone of the repository.")
        return load_blip2(folder, config, self.qformer, weights=self.weights, device=self.device)

    def frozen_qformer(self) -> QFormer | Concat:
        """Return BLIP-2's Q-Former as stage 1 takes it over, or what replaces it."""
        return self.blip2.model.qformer

    def own_language(self) -> Language:
        """Load the profile's own frozen language model."""
        folder = sources.language_folder(self.profile.language.name, self.weights)
        return Language.load(folder, dtype=self.dtype, attention=self.attention)

    @property
    def world_config(self) -> WorldConfig:
        """The settings of the small world; raises ValueError if the data are real."""
        return needed(self.profile.world, "a profile with a small world, as `mini`")

    @property
    def pretraining(self) -> PretrainConfig:
        """How BLIP-2 mini is made; raises ValueError if the profile's BLIP-2 is published."""
        return needed(self.profile.pretrain, "a profile whose BLIP-2 is made here, as `mini`")

    @property
    def release(self) -> ReleaseConfig:
        """The published files that the study is made from; raises ValueError if there are none."""
        return needed(self.profile.release, "a profile of published files, as `vicuna-7b`")

    @property
    def evaluated(self) -> tuple[str, ...]:
        """The splits that the evaluation of all models needs."""
        names = ("val", "pool", *self.tests, *self.questioned.values(), *self.special_tests)
        return tuple(dict.fromkeys(names))

    @cached_property
    def device(self) -> torch.device:
        return device.pick()

    @cached_property
    def dtype(self) -> torch.dtype:
        """The precision of frozen weights."""
        return device.frozen_dtype(self.device)

    @property
    def bf16(self) -> bool:
        """Whether products in training run in bfloat16 (the trained weights themselves stay in float32)."""
        return self.dtype == torch.bfloat16

    @property
    def attention(self) -> str:
        """The attention implementation of transformers that is fast on this device."""
        return device.attention(self.device)

    @cached_property
    def chosen_language(self) -> Path | None:
        """The folder of the language model that replaces the profile's own; None if none does."""
        path_or_repo = self.profile.language.place
        return None if path_or_repo is None else chosen.find(path_or_repo, self.weights)

    @property
    def quantised(self) -> Quantised | None:
        """The quantisation of the language model; None if it is not quantised."""
        return self.profile.release.quantised if self.profile.release else None

    def language(self) -> Language:
        """Load the frozen language model."""
        if self.chosen_language is None:
            language = self.own_language()
        else:
            language = chosen.load(
                self.chosen_language, dtype=self.dtype, quantised=self.quantised, attention=self.attention
            )
        return language if self.quantised else language.to(self.device)  # quantised weights already are

    def folder(self, what: str, **depends: object) -> Path:
        """Return a training's folder, found by all that its result depends on: `depends` and what the study
        itself sets. `what` is only a label: the folder is found under any other.
        """
        own = {
            "seed": self.seed,
            "weights": self.weights,
            "dtype": self.dtype,
            "quantised": self.quantised,
            "chosen language": self.chosen_language and chosen.identity(self.chosen_language),
        }
        key = hash_json({name: str(value) for name, value in {**own, **depends}.items()})
        known = sorted((CACHE / "trained").glob(f"*-{key}"))
        return known[0] if known else CACHE / "trained" / f"{what}-{key}"

    def qformer(self, *, text_branch: bool = False) -> QFormer | Concat:
        """Build a Q-Former with weights drawn from the seed, or what replaces it; only BLIP-2's
        pretraining needs its text branch.
        """
        if isinstance(self.profile.qformer, ConcatConfig):
            return Concat(config=self.profile.qformer)
        config = self.profile.qformer if text_branch else self.profile.qformer.without_text()
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            return QFormer(config=config, vision_width=self.profile.vision.width, attention=self.attention)

    def tokens(self, split: Split, vision: Vision) -> feature_cache.Features:
        """Return the vision tokens of a split, (len, N, D_v), from the cache or computed into it."""

        def compute(images: list[Image.Image]) -> Tensor:
            pixels = torch.stack([preprocess(image, self.profile.vision) for image in images])
            return vision(pixels.to(self.device))

        folder = self.features_folder("tokens", split, hash_source(preprocess, Vision))
        what = f"vision tokens of {split.name}"
        return feature_cache.cached(folder, split.images, len(split), compute, what=what, batch_size=8)

    def queries(
        self, split: Split, tokens: feature_cache.Features, qformer: QFormer | Concat
    ) -> feature_cache.Features:
        """Return the frozen Q-Former's output, (len, Q, D_q), from the cache or computed into it."""

        def compute(rows: list[Tensor]) -> Tensor:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                return qformer(torch.stack(rows).to(self.device))

        code, weights = hash_source(preprocess, Vision, type(qformer)), hash_tensors(qformer.state_dict())
        folder = self.features_folder("queries", split, code, weights)
        what = f"queries of {split.name}"
        return feature_cache.cached(
            folder, lambda: iter(tokens), len(split), compute, what=what, batch_size=64
        )

    def features_folder(self, kind: str, split: Split, *depends: str) -> Path:
        """Return a cache folder keyed by pictures, encoder, precision and all else the features depend on."""
        encoder = [sha256(self.vision_state), asdict(self.profile.vision), str(self.dtype)]
        return CACHE / kind / f"{split.name}-{hash_json([split.key(), encoder, depends])}"


@dataclass(frozen=True, kw_only=True)
class PublishedStudy(Study):
    """A study of the paper's data sets, with the parts that its authors and others published."""

    streams, has_blip2, stage2_splits = True, False, {"official": released.ALIGNMENT}
    tests = released.TESTS
    special_tests = ()
    # Published training questions are about pictures that nothing else here needs: those of `val` replace
    # them where only answers are counted.
    questioned: ClassVar = {"train": released.VAL, "val": released.VAL, "test": released.TEST}

    def draw(self) -> dict[str, Any]:
        return {}

    def split(self, name: str) -> Split:
        return released.split(DOWNLOADS, self.release, name)

    def pictures(self, name: str) -> str:
        return "web pictures" if name == "pool" else "pictures of COCO val2017"

    def scenes(self, name: str) -> None:
        return None

    def pool(self) -> Iterator[WebPair]:
        return keep(released.pool(DOWNLOADS, self.release), [])

    def pool_texts(self) -> dict[str, dict[int, str]]:
        return {}

    def stage1_shards(self) -> list[tuple[list[Path], float]]:
        named = [(present(str(DOWNLOADS / web.shards))[0], web.weight) for web in self.release.web]
        here = [([Path(name) for name in names if Path(name).is_file()], weight) for names, weight in named]
        return [(files, weight) for files, weight in here if files]

    def judge(self, name: str) -> None:
        return None

    def exam(self, name: str) -> Exam:
        asked = released.questions(DOWNLOADS, self.release, name)
        return Exam(choice=asked.choice, graph=asked.graph)

    def vocabulary(self) -> Vocabulary:
        return chair.photo_vocabulary()

    nameable = coco_vocabulary = vocabulary

    @property
    def world(self) -> Path:
        raise ValueError(
            f"The profile {self.profile.name} has real data and no small world: `make plan "
            f"PROFILE={self.profile.name}` says what it needs, `make train` runs its stage 1."
        )

    @cached_property
    def vision_state(self) -> Path:
        return DOWNLOADS / self.release.vision

    def vision(self) -> Vision:
        vision = Vision(config=self.profile.vision, attention=self.attention)
        load_vision(vision, self.vision_state)
        return vision.to(self.device, self.dtype)

    def own_language(self) -> Language:
        folder = DOWNLOADS / self.release.language
        return load_language(folder, dtype=self.dtype, quantised=self.quantised, attention=self.attention)

    @property
    def blip2(self) -> Blip2:
        raise ValueError(
            "The released Q-Former is read without its text branch and its language model, so BLIP-2 neither "
            "writes captions nor judges texts: set `temperatures` to () in the "
            "profile's curation."
        )

    def frozen_qformer(self) -> QFormer | Concat:
        qformer = self.qformer()
        if isinstance(qformer, QFormer) and self.release.qformer is not None:
            load_qformer(qformer, DOWNLOADS / self.release.qformer)
        return qformer.to(self.device).eval().requires_grad_(False)
