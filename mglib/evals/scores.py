"""Tables for anybody's answers: matched with the pictures or questions of a folder, scored, with intervals.

Two readings stand beside each other: *study* is this repository's, *official* the official scorer's.
What cannot be matched is counted and listed; nothing is passed over in silence.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import pandas

from mglib.data import check, coco, questions
from mglib.data.answers import Answer, picture_key, read_answers
from mglib.data.coco import CocoPicture
from mglib.data.quarantine import Fault, keep, strict
from mglib.data.questions import ChoiceQuestion, GraphQuestion, YesNoQuestion
from mglib.data.scenes import read_scenes
from mglib.data.splits import Split
from mglib.evals import chair, chair_official, coverage, pope, vqa
from mglib.evals.chair import Mentions
from mglib.evals.chair_official import OFFICIAL, SYNONYMS
from mglib.evals.choices import Scores
from mglib.metrics import Counts, columns

T = TypeVar("T")
Key = tuple[Hashable, ...]  # what an answer or a record is about
Pairs = dict[Path, list[tuple[T, Answer]]]  # the answered records of each file


@dataclass
class Scored:
    """A table, and all that did not get into it."""

    lines: list[dict[str, str | float | None]] = field(default_factory=list)
    bad: list[Fault] = field(default_factory=list)
    unknown: list[Fault] = field(default_factory=list)
    unanswered: list[Fault] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def left_out(self) -> dict[str, list[Fault]]:
        """What is left out, by what it is."""
        return {
            "that cannot be read": self.bad,
            "about nothing that is there, or the second of its kind": self.unknown,
            "without an answer": self.unanswered,
        }

    def add(self, reading: str, found: Mapping[str, Counts], **about: str) -> None:
        """Add a line for each measure."""
        for measure, counts in found.items():
            line = {**about, "measure": measure, "reading": reading, **columns("value", counts.estimate())}
            self.lines.append(line)

    def table(self) -> pandas.DataFrame:
        """Return the lines with their 95 % intervals, which are over pictures."""
        return pandas.DataFrame(self.lines).rename(columns={"n": "pictures"})

    def answers(self, file: Path, key: Callable[[Answer], Key | None], missing: str) -> dict[Key, Answer]:
        """Read a file's answers by what they are about, of which `missing` says how to tell it; the first one
        counts.
        """
        found: dict[Key, Answer] = {}
        for answer in keep(read_answers(file), self.bad):
            about = key(answer)
            if about is None:
                reason = f"it does not say what it is about: {missing}"
                self.bad.append(Fault(str(file), answer.where, reason))
            elif replace(found.setdefault(about, answer), where=answer.where) != answer:
                reason = f"{found[about].where} is another answer to the same"
                self.unknown.append(Fault(str(file), answer.where, reason))
        return found

    def match(
        self,
        given: Mapping[Key, Answer],
        file: Path,
        known: Mapping[Path, Sequence[T]],
        keys: Callable[[T], Sequence[Key]],
        words: Callable[[T], str] | None = None,
    ) -> Pairs:
        """Pair the records that are `known`, by their file, with the answers of `file`.

        An answer may serve a record in several files; one that tells its question has to ask the `words` of
        the record. A file in which nothing is answered is left out and named. Raises ValueError where no file
        has a record that is answered.
        """
        found, used = {}, set()
        for source, records in known.items():
            about = [next((key for key in keys(one) if key in given), None) for one in records]
            for place, (one, key) in enumerate(zip(records, about, strict=True)):
                if words and key and (fault := other_words(given[key], words(one), source)):
                    self.unknown.append(Fault(str(file), given[key].where, fault))
                    used.add(key)
                    about[place] = None
            pairs = [(one, given[key]) for one, key in zip(records, about, strict=True) if key]
            if not pairs:
                self.remarks.append(f"{source} is left out: nothing in it is answered.")
                continue
            found[source] = pairs
            used |= {key for key in about if key}
            self.unanswered += [
                Fault(str(source), " ".join(map(str, keys(one)[0])), "it has no answer")
                for one, key in zip(records, about, strict=True)
                if key is None
            ]
        reason = f"nothing in {', '.join(map(str, known))} is what it is about"
        self.unknown += [Fault(str(file), one.where, reason) for key, one in given.items() if key not in used]
        if not found:
            first = next(iter([*self.bad, *self.unknown]), "it is empty")
            raise ValueError(f"{file} holds no answer that can be scored. The first reason: {first}.")
        said = {answer.where: answer.text for pairs in found.values() for _, answer in pairs}
        if empty := [where for where, text in said.items() if text is not None and not text.strip()]:
            self.remarks.append(
                f"Empty answers: {len(empty):,}, the first is {empty[0]}; they are scored as they are."
            )
        return found


def plain(text: str) -> str:
    """Return a question's words, however they are spaced; some of POPE's files ask of an "imange"."""
    return " ".join(text.lower().replace("imange", "image").split())


def other_words(answer: Answer, asked: str, source: Path) -> str | None:
    """Say that an answer is to another question than the one `asked`; instructions may stand around it."""
    if answer.question is None or plain(asked) in plain(answer.question):
        return None
    return f"it is an answer to {answer.question!r}, where {source} asks {asked!r}"


# --- pictures: CHAIR and coverage ---


def picture_about(answer: Answer) -> Key | None:
    """Say which picture is described: by its id in COCO's results format, by its file from `make answer`."""
    if answer.image_id is not None:
        return ("picture", picture_key(answer.image_id))
    return None if answer.image is None else ("file", picture_key(str(answer.image)))


def described(scored: Scored, file: Path, folder: Path) -> Pairs:
    """Pair an annotated folder's pictures (in COCO's layout) with their descriptions; none is opened."""
    if folder.is_file():
        raise ValueError(f"{folder} is a file: name the folder that holds captions and instances.")
    known: dict[Path, list[CocoPicture]] = {}
    seen: set[int] = set()
    for captions in check.files(folder, "captions.json", "annotations/captions_*.json", "captions_*.json"):
        if captions.name.endswith("_results.json"):  # COCO's name for answers
            continue
        instances = captions.with_name(captions.name.replace("captions", "instances", 1))
        found = keep(coco.read(folder, captions, instances), scored.bad)
        known[captions] = [one for one in found if one.id not in seen]  # 2014's and 2017's share pictures
        seen |= {one.id for one in known[captions]}
    return scored.match(
        scored.answers(file, picture_about, "name its picture with `image_id` or `image`"),
        file,
        known,
        lambda one: (("picture", str(one.id)), ("file", picture_key(one.file.name))),
    )


def as_split(pictures: Sequence[CocoPicture]) -> Split:
    """Make a split of annotated pictures whose files are not looked at."""
    return Split(
        name="answered",
        hashes=(),
        captions=("",) * len(pictures),
        images=lambda: iter(()),
        references=tuple(one.captions for one in pictures),
        objects=tuple(one.objects for one in pictures),
    )


def chair_scores(file: Path, folder: Path) -> Scored:
    """Score descriptions by CHAIR, read as the study does and by the official rules."""
    scored = Scored()
    pairs = [pair for some in described(scored, file, folder).values() for pair in some]
    split, texts = as_split([one for one, _ in pairs]), [answer.text or "" for _, answer in pairs]
    scenes, ids = folder / "scenes.jsonl", {one.id: place for place, (one, _) in enumerate(pairs)}
    graphs = None
    if scenes.exists():  # the small world's: scenery and writing are true too
        graphs = [graph for graph in read_scenes(scenes) if graph.image_id in ids]
        graphs.sort(key=lambda graph: ids[graph.image_id])
    words: Mentions = chair.vocabulary() if graphs else chair.photo_vocabulary()
    rules = chair_official.at_hand()
    official: Mentions = chair_official.vocabulary(rules)
    for reading, vocabulary, shown in (("study", words, graphs), (rules, official, None)):
        scored.add(
            reading, chair.counts(chair.read(texts, chair.truths(split, vocabulary, shown), vocabulary))
        )
    if rules != OFFICIAL:
        scored.remarks.append(
            "official_rules are the official rules with the study's synonyms; put the official synonyms.txt "
            f"at {SYNONYMS} for the official numbers."
        )
    return scored


def coverage_scores(file: Path, folder: Path) -> Scored:
    """Score descriptions by how many references they cover; `facts.json` holds what the references state."""
    scored = Scored()
    if not (folder / "facts.json").exists():
        raise ValueError(
            f"{folder} has no facts.json: only the small world's references come with their facts. Others "
            "need a person or a language model as judge (the paper's was ChatGPT)."
        )
    pairs = [pair for some in described(scored, file, folder).values() for pair in some]
    judge = coverage.fact_judge(coverage.read_facts(folder))
    texts, references = [answer.text or "" for _, answer in pairs], [one.captions for one, _ in pairs]
    scored.add("study", coverage.counted({"": texts}, references, judge)[""])
    return scored


# --- questions: POPE, A-OKVQA and GQA ---


def question_about(answer: Answer, *, by_id: bool = True) -> Key | None:
    """Say which question is answered: by its id, else by its picture and its words."""
    if by_id and answer.question_id is not None:
        return ("question", answer.question_id)
    picture = answer.image if answer.image is not None else answer.image_id
    if picture is None or answer.question is None:
        return None
    first, *_ = answer.question.strip().split("\n")  # instructions stand below
    return ("question about", *words_about(str(picture), first))


def words_about(picture: str, question: str) -> tuple[str, str]:
    """Return a question's picture and words, however they are written."""
    return picture_key(picture), plain(question)


def question_words(one: ChoiceQuestion | GraphQuestion | YesNoQuestion) -> str:
    """Return what is asked."""
    return one.text if isinstance(one, YesNoQuestion) else one.question


def question_keys(one: ChoiceQuestion | GraphQuestion | YesNoQuestion) -> tuple[Key, Key]:
    """Return both ways in which an answer may say that it is to this question."""
    picture = one.image if isinstance(one, YesNoQuestion) else str(one.image_id)
    return ("question", one.question_id), ("question about", *words_about(picture, question_words(one)))


def question_files(data: Path, *patterns: str) -> list[Path]:
    """Return the one file that is named, or the files of a folder with these names."""
    return [data] if data.is_file() else check.files(data, *patterns)


def pope_scores(file: Path, data: Path) -> Scored:
    """Score yes and no on POPE's files in a folder, or on one of them."""
    scored = Scored()
    files = question_files(data, "*pope*.json")
    known = {path: list(keep(questions.read_pope(path), scored.bad)) for path in files}
    one = len(files) == 1
    if one and in_order(file):
        given = dict(
            zip((question_keys(ask)[0] for ask in known[files[0]]), ordered(file, known), strict=True)
        )
    else:  # each of the official files counts its questions from 1 again
        missing = "`question_id`, or `image` and `question`, tell it"
        if not one:
            missing = "`image` and `question` tell it, or name one of POPE's files in --data"
        given = scored.answers(file, lambda answer: question_about(answer, by_id=one), missing)
    for source, pairs in scored.match(given, file, known, question_keys, question_words).items():
        places = {ask.image: place for place, ask in enumerate({ask.image: ask for ask, _ in pairs}.values())}
        asked = [pope.Question(places[ask.image], "", ask.text, ask.label == "yes") for ask, _ in pairs]
        texts = [answer.text or "" for _, answer in pairs]
        official = ["yes" if pope.official(text) else "no" for text in texts]
        for reading, said in (("study", texts), ("official", official)):
            scored.add(reading, pope.counts(asked, said), questions=source.stem)
    return scored


def in_order(file: Path) -> bool:
    """Tell whether answers say nothing of what they are about, as in POPE's own example: order tells."""
    return all(
        one.question_id is None and one.image is None and one.image_id is None
        for one in keep(read_answers(file), [])
    )


def ordered(file: Path, known: Mapping[Path, Sequence[YesNoQuestion]]) -> list[Answer]:
    """Return the answers to the questions of one file, in its order; raises ValueError where they differ."""
    ((source, asked),) = known.items()
    answers = list(strict(read_answers(file)))
    if len(answers) != len(asked):
        raise ValueError(
            f"{file} has {len(answers)} answers without picture and question_id, {source} {len(asked)} "
            "questions: only as many answers, in the same order, can be told apart."
        )
    for answer, one in zip(answers, asked, strict=True):
        if fault := other_words(answer, one.text, source):
            raise ValueError(f"{file}: {answer.where}: {fault}. Put the answers into the order of {source}.")
    return answers


def vqa_scores(file: Path, data: Path) -> Scored:
    """Score answers to A-OKVQA's and GQA's questions, in a folder or in one file.

    Of GQA the balanced ones count, as officially. A question without an answer is a wrong one in the official
    reading, where GQA's own scorer stops; the study's reading is of what is answered.
    """
    scored = Scored()
    known: dict[Path, list[ChoiceQuestion | GraphQuestion]] = {}
    left: set[Key] = set()
    for path in question_files(data, "aokvqa*.json", "*questions*.json", "*questions*/*.json"):
        read = questions.read_a_okvqa if path.name.startswith("aokvqa") else questions.read_gqa
        every = list(keep(read(path), scored.bad))
        known[path] = [one for one in every if getattr(one, "balanced", True)]
        left |= {question_keys(one)[0] for one in every} - {question_keys(one)[0] for one in known[path]}
    given = scored.answers(file, question_about, "`question_id`, or `image` and `question`, tell it")
    if beside := left & given.keys():
        scored.remarks.append(
            f"Answers to GQA's questions that are not balanced: {len(beside):,}; they count nowhere."
        )
        given = {key: answer for key, answer in given.items() if key not in beside}
    for source, pairs in scored.match(given, file, known, question_keys, question_words).items():
        every = known[source]
        told = {one.question_id: answer for one, answer in pairs}
        if isinstance(every[0], ChoiceQuestion):
            choice_lines(scored, vqa.Exam(choice=tuple(enumerate(every)), graph=()), told, source)
        else:
            graph_lines(scored, vqa.Exam(choice=(), graph=tuple(enumerate(every))), told, source)
    return scored


def choice_lines(scored: Scored, exam: vqa.Exam, told: Mapping[str, Answer], source: Path) -> None:
    """Add A-OKVQA's two tasks; questions that ten people answer too differently are not asked directly."""
    every = [one for _, one in exam.choice]
    chosen = choices_of(scored, every, told, source)
    right = {one.question_id: one.choices[one.correct_choice_idx] for one in every}
    picked = {name: float(choice == right[name]) for name, choice in chosen.items()}
    direct = [one for _, one in exam.direct]
    said = spoken(direct, told)
    people = {one.question_id: one.direct_answers for one in direct}
    study = {name: vqa.soft_accuracy(vqa.head(text), people[name]) for name, text in said.items()}
    official = {
        name: min(1.0, sum(text.lower() == one.lower() for one in people[name]) / 3)
        for name, text in said.items()
    }
    for reading, whole in (("study", False), ("official", True)):
        if picked:
            counts = {"aokvqa.choice": accuracy(every, picked, whole=whole)}
            scored.add(reading, counts, questions=source.stem)
        if said:
            points = official if whole else study
            counts = {"aokvqa.direct": accuracy(direct, points, whole=whole)}
            scored.add(reading, counts, questions=source.stem)
    remark_on_spelling(scored, said, study, official, source)


def choices_of(
    scored: Scored, every: Sequence[ChoiceQuestion], told: Mapping[str, Answer], source: Path
) -> dict[str, str]:
    """Return which choice was taken, by question id: `multiple_choice`, or in a file without it the answers,
    if each is one of its question's choices (A-OKVQA's `predictions_<split>-mc.json`).
    """
    offered = {one.question_id: one.choices for one in every}
    chosen = {name: answer.choice for name, answer in told.items() if answer.choice is not None}
    texts = spoken(every, told)
    if not chosen and all(text in offered[name] for name, text in texts.items()):
        scored.remarks.append(
            f"Each answer to {source.stem} is one of its question's choices: they are scored as choices and "
            "as direct answers."
        )
        return texts
    if odd := [name for name, choice in chosen.items() if choice not in offered[name]]:
        scored.remarks.append(
            f"Choices that {source.stem} does not offer: {len(odd):,}, the first is {chosen[odd[0]]!r} for "
            f"{odd[0]}; they count as wrong. Write each as it stands there."
        )
    return chosen


def graph_lines(scored: Scored, exam: vqa.Exam, told: Mapping[str, Answer], source: Path) -> None:
    """Add GQA: all questions, and officially those that are open and those answered by one of two."""
    every = [one for _, one in exam.graph]
    said, right = spoken(every, told), {one.question_id: one.answer for one in every}
    study = {name: vqa.exact(vqa.head(text), right[name]) for name, text in said.items()}
    official = {name: float(text == right[name]) for name, text in said.items()}
    scored.add("study", {"gqa": accuracy(every, study, whole=False)}, questions=source.stem)
    opened = [one for one in every if one.types is not None and one.types.structural == "query"]
    closed = [one for one in every if one.types is not None and one.types.structural != "query"]
    kinds = {"gqa": every, "gqa.binary": closed, "gqa.open": opened}
    found = {name: accuracy(some, official, whole=True) for name, some in kinds.items() if some}
    scored.add("official", found, questions=source.stem)
    remark_on_spelling(scored, said, study, official, source)


def remark_on_spelling(
    scored: Scored,
    said: Mapping[str, str],
    study: Mapping[str, float],
    official: Mapping[str, float],
    source: Path,
) -> None:
    """Tell of answers that the official scorer, which compares letter by letter, takes for worse."""
    if worse := [name for name in said if study[name] > official[name]]:
        scored.remarks.append(
            f"Answers to {source.stem} that earn less officially, where every letter counts: "
            f"{len(worse):,}, the first is {said[worse[0]]!r} for {worse[0]}. Write them as the annotations "
            "are written, in small letters and without a full stop."
        )


def spoken(every: Iterable[ChoiceQuestion | GraphQuestion], told: Mapping[str, Answer]) -> dict[str, str]:
    """Return the answers in words by the id of their question."""
    texts = {one.question_id: told[one.question_id].text for one in every if one.question_id in told}
    return {name: text for name, text in texts.items() if text is not None}


def accuracy(
    every: Sequence[ChoiceQuestion | GraphQuestion], values: Mapping[str, float], *, whole: bool
) -> Counts:
    """Return the points of each picture: among all its questions, or among those that have some."""
    some = [one for one in every if whole or one.question_id in values]
    points = tuple(values.get(one.question_id, 0.0) for one in some)
    return Scores(points, tuple(one.image_id for one in some)).counts()


TASKS: dict[str, Callable[[Path, Path], Scored]] = {
    "chair": chair_scores,
    "pope": pope_scores,
    "vqa": vqa_scores,
    "coverage": coverage_scores,
}
