"""What the encoder and BLIP-2 see in the pictures of the study (notebook 01; paper and BLIP-2, section 3)."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from mglib import frame, metrics
from mglib.config import Profile
from mglib.data.splits import Split, batched
from mglib.evals.retrieval import chance, retrieval_recall
from mglib.evals.spatial import read_pictures
from mglib.evals.vqa import picture_places
from mglib.mentions import object_counts
from mglib.model.decoding import greedy
from mglib.model.minigpt4 import MiniGPT4
from mglib.model.qformer import QFormer
from mglib.study.blip2 import Blip2
from mglib.study.models import prompted_blip2
from mglib.study.study import Study
from mglib.training.feature_cache import Features

SHARES = {
    "split": "split",
    "captions": "captions",
    "kinds_a_picture": "kinds of object a picture",
    "named": "objects that the caption names, share",
    "relations": "captions that say where, share",
    "words": "words a caption",
    "clipped": "cut short, share",
    "mismatched": "of another picture, share",
    "shouting": "in capitals, share",
    "long": "long-winded, share",
}  # key in the world's card -> display name
MEASURES = {"retrieval_i2t_r1": "picture to text, R@1", "retrieval_t2i_r1": "text to picture, R@1"}
TRAININGS = {"batch_size": "captions a step", "last_loss": "loss of the last step, nats"}


def shares(card: dict[str, Any]) -> pandas.DataFrame | None:
    """Return statistics of each split's captions, for train also by source; None if there is no card."""
    if not card:
        return None
    rows = [{"split": name, **entry, **entry["noise"]} for name, entry in card["splits"].items()]
    sources = card["splits"]["train"]["sources"].items()
    rows += [{"split": f"train, {name}", **entry, **entry["noise"]} for name, entry in sources]
    return pandas.DataFrame(rows)[list(SHARES)].rename(columns=SHARES).round(3)


def world_size(study: Study, card: dict[str, Any]) -> pandas.DataFrame:
    """Return the number of pictures in the small world and the share of objects that captions name; exact."""
    if not card:
        reason = "the pictures are real, and what is in them is not known exactly"
        return frame.concat(*(frame.absent("world", what, reason) for what in ("pictures", "named")))
    splits = card["splits"]
    counted = {
        "pictures": sum(entry["pictures"] for entry in splits.values()),
        "named": splits["train"]["named"],
    }
    notes = {
        "pictures": "drawn scenes, all splits; the paper's figure is its stage-1 web pairs, approximate",
        "named": "share of a training picture's objects that its caption names; exact over the split",
    }
    return frame.rows("world", {"": counted}, note=notes)


def sizes(profiles: Mapping[str, Profile], models: Mapping[str, MiniGPT4]) -> pandas.DataFrame:
    """Return how large each profile's model is and how many pairs it reads, one column per profile.

    The models may be on torch's meta device: only shapes are read.
    """
    found = {}
    for name, profile in profiles.items():
        model, vision = models[name], profile.vision
        rows = {
            "side of the picture, pixels": vision.image_size,
            "vision tokens, N": vision.tokens,
            "their width, D_v": vision.width,
            "queries, Q": profile.qformer.queries,
            "their width, D_q": profile.qformer.width,
            "width of the language model, D_l": model.language.width,
            "parameters: image encoder": parameters(model.vision),
            "parameters: Q-Former": parameters(model.qformer),
            "parameters: projection, the only one trained": parameters(model.projection),
            "parameters: language model": parameters(model.language),
            "stage 1: pairs read": profile.stage1.steps * profile.stage1.batch_size,
            "stage 2: texts read": profile.stage2.steps * profile.stage2.batch_size,
        }
        found[name] = {what: f"{count:,}" for what, count in rows.items()}
    return pandas.DataFrame(found).rename_axis("size")


def parameters(module: nn.Module) -> int:
    """Count a module's parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def blip2_size(study: Study) -> pandas.DataFrame:
    """Return how many pictures BLIP-2 was pretrained on."""
    if not study.has_blip2:
        return frame.absent("blip2", "pictures", "the Q-Former is BLIP-2's own")
    note = "pictures that BLIP-2 mini was pretrained on; the paper's Q-Former saw 129 million"
    return frame.rows("blip2", {"": {"pictures": study.blip2.card["pictures"]}}, note=note)


def trained_parameters(model: MiniGPT4) -> pandas.DataFrame:
    """Return how many parameters stage 1 trains."""
    note = "the projection; the paper's is 768 -> 4096 for Vicuna-7B"
    return frame.rows("model", {"": {"trained_parameters": parameters(model.projection)}}, note=note)


def trainings(blip2: Blip2) -> pandas.DataFrame:
    """Return the length and the final loss of each of BLIP-2 mini's trainings."""
    return blip2.trainings().rename(columns=TRAININGS)


def retrieval(study: Study, tokens: dict[str, Features], splits: dict[str, Split]) -> pandas.DataFrame:
    """Return picture-to-text and text-to-picture recall in each split, by contrastive similarity alone, with
    the chance level of random ranking.
    """
    if not study.has_blip2:
        return frame.absent("qformer", "retrieval", "the release is read without its text branch")
    blip2, found = study.blip2, []
    note = "contrastive similarity only; drawn scenes; 5 references a picture"
    for name, split in splits.items():
        recall = retrieval_recall(
            blip2.representation,
            tokens[name],
            split.references,
            tokenizer=blip2.language.tokenizer,
            max_text=study.pretraining.max_text,
            batch_size=study.profile.evaluation.batch_size,
        )
        rows = {"": recall, "chance": chance(split.references)}
        found.append(frame.rows("qformer", rows, note=note, remarks={"chance": "random ranking"}, split=name))
    return frame.concat(*found)


@torch.inference_mode()
def looks(study: Study, qformer: QFormer, tokens: Features, rows: Sequence[int]) -> Tensor:
    """Return the queries' attention to some pictures in the last cross-attention layer, (rows, Q, N)."""
    _, attention = qformer(tokens.batch(rows).to(study.device), output_attentions=True)
    return attention[-1].float().mean(1).cpu()


def in_boxes(study: Study, qformer: QFormer, tokens: Features) -> pandas.DataFrame:
    """Return the share of the queries' attention to patches of val in object boxes, the boxes' share of the
    picture, the paired difference, and the share of queries whose mean attention in boxes exceeds the area.
    """
    folder, side = study.world / "val", study.world_config.size
    places, pictures = picture_places(folder), read_pictures(folder)
    attention = torch.cat([looks(study, qformer, tokens, rows) for rows in batched(range(len(tokens)), 64)])
    patches = attention[:, :, 1:] / attention[:, :, 1:].sum(-1, keepdim=True)  # (P, Q, N - 1), CLS left out
    grid, covered = int(patches.shape[-1] ** 0.5), torch.zeros(len(tokens), side, side)
    for picture in pictures:
        for (x, y, w, h), _ in picture.objects:
            covered[places[picture.id], round(y) : round(y + h), round(x) : round(x + w)] = 1
    inside = adaptive_avg_pool2d(covered, grid).flatten(1)  # (P, N - 1)
    mass, area = torch.einsum("pqn,pn->pq", patches, inside), inside.mean(1)  # (P, Q), (P,)
    share = metrics.each((mass.mean(0) > area.mean()).float().tolist())
    mean, boxes = (metrics.each(some.tolist()) for some in (mass.mean(1), area))
    found = {"mass": mean, "area": boxes, "mass_minus_area": metrics.paired(mean, boxes)}
    notes = {
        "mass": "share of the attention to patches that lies in boxes of objects, mean over queries, val",
        "area": "share of the picture that these boxes cover, where attention would fall by chance",
        "mass_minus_area": "paired by picture",
        "queries": "share of queries whose mean attention in boxes is above that area; n counts queries",
    }
    return frame.rows("qformer", {"in_boxes": found | {"queries": share}}, note=notes)


def captions(study: Study, queries: dict[str, Features]) -> dict[str, list[str]]:
    """Let BLIP-2 mini caption every split; empty if it has no language model of its own."""
    if not study.has_blip2:
        return {}
    settings, blip2 = study.profile.evaluation, prompted_blip2(study.blip2)
    way, size = greedy(settings.max_new_tokens), settings.batch_size
    return {
        name: blip2.answers(shown, "", way, batch_size=size, what=f"captions of {name}")
        for name, shown in queries.items()
    }


def named(study: Study, said: dict[str, list[str]], splits: dict[str, Split]) -> pandas.DataFrame:
    """Compare the objects that captions name with those that are there, split by split, and count the
    captions that name an object more than once.
    """
    if not said:
        return frame.absent("blip2", "chair_i", "the release is read without its own language model")
    words, found = study.vocabulary(), []
    note = "BLIP-2 mini on drawn scenes, greedy; the paper's is BLIP-2 FlanT5-XXL on COCO"
    for name, split in splits.items():
        mentions = [words.mentions(text) for text in said[name]]
        counted = object_counts(mentions, split.objects)
        counted["twice"] = metrics.each([float(len(set(names)) < len(names)) for names in mentions])
        found.append(frame.rows("blip2", {"": counted}, note=note, split=name))
    return frame.concat(*found)
