"""The words of the small world: web captions, poor and noisy as the web's are, and five references a picture.

An object is named only if it is there and a relation only if it holds, but for the web's mismatched captions.
The wording stands in data/world/phrases.csv, where `{objects}` and its kin are filled in.
"""

from dataclasses import dataclass, replace
from random import Random

from mglib.config import NoiseConfig, WorldConfig
from mglib.mentions import Vocabulary
from mglib.world import catalog
from mglib.world.catalog import STANDS, Thing, choose, wording
from mglib.world.scene import Relation, Scene, sample, stream

SOURCES = ("cc_sbu", "laion", "special")  # in the order in which their shards are read
NOISE = ("none", "clipped", "shouting", "mismatched", "long")
# How many kinds of object a web caption names (from none), by how many there are: 0.58 of them on average.
NAMED_WEIGHTS = {1: (22, 78), 2: (6, 74, 20), 3: (2, 44, 44, 10), 4: (1, 27, 40, 25, 7)}
PLACE_SHARE = 0.5  # of the web captions speak of the setting
CAPITAL_SHARE = 0.5  # begin with a capital
FILLER_SHARE = 0.1  # of the sentences that a long caption adds
SIGN_SHARE = 0.5  # of the references of a picture with a signboard read it out
RELATION_SHARE = 0.04  # of the web captions that name objects in a relation state it: 1 % of all
REFERENCES = 5  # a picture, as in COCO
WEB_CAPTIONS = 6  # of each picture that BLIP-2 is pretrained on
REFERRED_EVERY = 4  # so many-th of those pictures has references too
NAMES = Vocabulary({thing.name: thing.words for thing in catalog.THINGS.values()})


@dataclass(frozen=True)
class Caption:
    """A web caption or a careful person's reference, the objects it names and the relation it states.

    A web caption has a fault (one of NOISE) and the manner of a web data set (one of SOURCES).
    """

    text: str
    named: tuple[str, ...]
    relation: Relation | None = None
    noise: str = "none"
    source: str = "laion"


def mentions(text: str) -> list[str]:
    """Return the objects that `text` says by name, plural or synonym, each once, in their order."""
    return list(dict.fromkeys(NAMES.mentions(text)))


def web_caption(config: WorldConfig, scene: Scene, purpose: str = "web") -> Caption:
    """Write the caption that the web would have for a picture; one for each `purpose`.

    The pool is taken from CC and SBU alone, as the paper's curated pictures are.
    """
    rng = stream(config, scene.image_id, purpose)
    source = "cc_sbu" if rng.random() < config.cc_sbu_share or scene.split == "pool" else "laion"
    shares = [getattr(config.noise, kind) for kind in NOISE[1:]]
    noise = rng.choices(NOISE, [1 - sum(shares), *shares])[0]
    if noise == "mismatched":
        scene = _another(rng, config, scene)
    hidden = catalog.names("new") if noise == "mismatched" else []
    names = _notice(rng, scene, hidden)
    text, relation = _say_plainly(rng, scene, names, source)
    if noise == "long":
        text = _lengthen(rng, text, scene, names)
    elif rng.random() < CAPITAL_SHARE:
        text = capitalise(text)
    if noise == "clipped":
        text = _clip(rng, text)
    elif noise == "shouting":
        text = text.upper() + "!" * rng.randint(1, 4)
    named = tuple(mentions(text))
    whole = relation and relation.subject in named and relation.object in named
    return Caption(text, named, relation if whole else None, noise, source)


def references(config: WorldConfig, scene: Scene) -> list[Caption]:
    """Write five different references of a picture."""
    rng = stream(config, scene.image_id, "references")
    written: dict[str, Caption] = {}
    while len(written) < REFERENCES:
        reference = _refer(rng, scene)
        written.setdefault(reference.text, reference)
    return list(written.values())


def pretraining_captions(config: WorldConfig, scene: Scene) -> list[Caption]:
    """Write the different captions that BLIP-2 learns a picture by, the first from the web's manner.

    They have none of the web's faults, since BLIP-2 learns from web captions that a captioner wrote anew and
    filtered (CapFilt; Li et al. 2022, 2023). Some pictures have references too: it mixes in COCO's.
    """
    faultless = replace(config, noise=NoiseConfig(clipped=0.0, shouting=0.0, mismatched=0.0, long=0.0))
    said: list[Caption] = [web_caption(faultless, scene, f"web {number}") for number in range(WEB_CAPTIONS)]
    if scene.index % REFERRED_EVERY == 0:
        said += references(config, scene)
    return list({one.text: one for one in said}.values())


def capitalise(text: str) -> str:
    """Write the first letter large and leave the rest."""
    return text[:1].upper() + text[1:]


def join(parts: list[str]) -> str:
    """Join as people do: "a, b and c"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _another(rng: Random, config: WorldConfig, scene: Scene) -> Scene:
    """Return another picture of the split, with other objects if a few tries find one."""
    count = getattr(config, scene.split)
    for _ in range(8):
        other = sample(config, scene.split, (scene.index + rng.randint(1, max(1, count - 1))) % count)
        if not set(other.names) & set(scene.names):
            break
    return other


def _notice(rng: Random, scene: Scene, hidden: list[str]) -> list[str]:
    """Choose which kinds of object are named, the large and near ones rather than others."""
    salience: dict[str, float] = {}
    for item in scene.objects:
        if item.name not in hidden:
            salience[item.name] = salience.get(item.name, 0.0) + item.salience
    if not salience:
        return []
    names = []
    for _ in range(rng.choices(range(len(salience) + 1), NAMED_WEIGHTS[len(salience)])[0]):
        names += rng.choices(list(salience), list(salience.values()))
        del salience[names[-1]]
    return names


def _phrase(rng: Random, kind: str, few: bool = False) -> str:
    """Choose a phrase of `kind`; with `few` objects only one that does not speak of "the rest"."""
    return choose(rng, [pair for pair in wording()[kind] if not (few and "{rest}" in pair[0])])


def _fill(rng: Random, text: str, scene: Scene, names: list[str], stated: Relation | None = None) -> str:
    """Fill the slots of a phrase; `stated` fills {a}, {b} and {relation}."""
    # What is on the ground comes first and tells the place: "on the grass" is not said of a kite alone.
    things = sorted((catalog.THINGS[name] for name in names), key=lambda thing: STANDS.index(thing.stands))
    slots = {"place": _place(rng, scene, things), "noun": catalog.SETTINGS[scene.setting].noun}
    if things:
        counts = [scene.count(thing.name) for thing in things]
        pairs = list(zip(things, counts, strict=True))
        phrases = [thing.counted(count) for thing, count in pairs]
        rest = join(phrases[1:]) if len(things) > 1 else ""
        bare = [thing.name if count == 1 else thing.plural for thing, count in pairs]
        slots |= {
            "objects": join(phrases),
            "bare": join(bare),
            "tags": ", ".join(bare),
            "plural": join([thing.plural for thing in things]),
            "first": phrases[0],
            "posed": f"{phrases[0]} {rng.choice(things[0].verbs)}",
            "rest": rest,
            "with_rest": rest and f" with {rest}",
            "be": "is" if counts[0] == 1 else "are",
        }
    if stated:
        thing, count = catalog.THINGS[stated.subject], scene.count(stated.subject)
        slots |= {
            "a": thing.counted(count),
            "b": catalog.THINGS[stated.object].counted(scene.count(stated.object)),
            "posed_a": f"{thing.counted(count)} {rng.choice(thing.verbs)}",
            "be_a": "is" if count == 1 else "are",
            "relation": _phrase(rng, stated.predicate),
        }
    return text.format(**slots)


def _place(rng: Random, scene: Scene, things: list[Thing]) -> str:
    """Say where the scene is, in words that are true of the first of `things`."""
    setting = catalog.SETTINGS[scene.setting]
    if things and things[0].stands in ("water", "sky", "swim"):
        return _phrase(rng, f"place {things[0].stands}").format(noun=setting.noun)
    return rng.choice(setting.phrases)


def _say_plainly(rng: Random, scene: Scene, names: list[str], source: str) -> tuple[str, Relation | None]:
    among = [fact for fact in scene.relations if fact.subject in names and fact.object in names]
    stated = rng.choice(among) if among and rng.random() < RELATION_SHARE else None
    if stated:
        return _fill(rng, _phrase(rng, "web relation"), scene, names, stated), stated
    kind = f"{source} empty" if not names else f"{source} place" if rng.random() < PLACE_SHARE else source
    return _fill(rng, _phrase(rng, kind, len(names) < 2), scene, names), None


def _lengthen(rng: Random, text: str, scene: Scene, names: list[str]) -> str:
    """Say the same again in other words, seldom add what web pages add: two or three sentences."""
    again = "again" if names else "again empty"
    sentences, wanted = [text], rng.choice((2, 2, 3))
    while len(sentences) < wanted:
        kind = "filler" if rng.random() < FILLER_SHARE else again
        said = _fill(rng, _phrase(rng, kind), scene, names)
        if said not in sentences:
            sentences.append(said)
    return " ".join(f"{capitalise(sentence)}." for sentence in sentences)


def _clip(rng: Random, text: str) -> str:
    """Cut a caption where a short field of a database would."""
    words = text.split()
    if len(words) == 1:
        return text + "..."
    kept = words[: max(1, rng.randint(len(words) // 2, len(words) - 1))]
    return " ".join(kept).rstrip(",-:|") + rng.choice(("", "...", " ..."))


def _refer(rng: Random, scene: Scene) -> Caption:
    names = list(scene.names)
    rng.shuffle(names)
    if len(names) > 1 and rng.random() < 0.35:
        names = names[: rng.randint(1, len(names) - 1)]
    among = [fact for fact in scene.relations if fact.subject in names and fact.object in names]
    stated = rng.choice(among) if among and rng.random() < 0.7 else None
    kind = "reference relation" if stated else "reference"
    kind += " plain" if rng.random() < 0.25 else ""
    text = _fill(rng, _phrase(rng, kind, len(names) < 2), scene, names, stated)
    others = [name for name in names if stated and name not in (stated.subject, stated.object)]
    if others:
        text += ", " + _fill(rng, _phrase(rng, "extra"), scene, others)
    if scene.writing and rng.random() < SIGN_SHARE:
        text += ", " + _phrase(rng, "sign").format(text=f'"{scene.writing[0].text}"')
    return Caption(capitalise(text) + ".", tuple(names), stated)
