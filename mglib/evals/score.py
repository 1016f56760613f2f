"""Score tables for any model's answers: joined with a folder's pictures or questions, scored, with intervals.

*study* is this repository's reading, *official* that of the benchmark's own scorer, if it has one. An answer
is matched to the record that agrees with all it states; one that fits none or several is counted and listed.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas

from mglib.data import check, coco, questions
from mglib.data.answers import PictureNames, read_answers
from mglib.data.coco import CocoPicture
from mglib.data.pictures import print_files_used
from mglib.data.quarantine import Fault, keep
from mglib.data.questions import ChoiceQuestion, GraphQuestion, YesNoQuestion
from mglib.evals import chair, chair_official, coverage, pope, vqa
from mglib.evals.chair import Mentions
from mglib.evals.chair_official import OFFICIAL, SYNONYMS
from mglib.evals.cleaning import clean, spoken
from mglib.metrics import Counts, columns
from mglib.paths import write_text
from mglib.world.scene import Scene, read_scenes

Record = CocoPicture | ChoiceQuestion | GraphQuestion | YesNoQuestion
Known = Mapping[Path, Sequence[Any]]  # the records of each ground-truth file
Rate = Callable[[str, Any], float]  # an answer and its record -> points
Joined = dict[Path, pandas.DataFrame]  # those records with their answers
SHOWN = 3  # printed examples of each kind left out
UNREADABLE = "that cannot be read"
UNKNOWN = "about nothing that is there"
UNCERTAIN = "that may be about several things"
OTHER_WORDS = "to another question than the one of their number"
SECOND = "after another answer to the same"
UNANSWERED = "without an answer"


@dataclass
class Scored:
    """A table, and everything left out of it."""

    lines: list[dict[str, str | float | None]] = field(default_factory=list)
    left_out: defaultdict[str, list[Fault]] = field(default_factory=lambda: defaultdict(list))
    remarks: list[str] = field(default_factory=list)
    used: str = ""
    files: set[Path] = field(default_factory=set)  # with the ground truth

    def add(self, reading: str, found: Mapping[str, Counts], **about: str) -> None:
        """Add a line for each measure."""
        for measure, counts in found.items():
            line = {**about, "measure": measure, "reading": reading, **columns("value", counts.estimate())}
            self.lines.append(line)

    def remark(self, what: str, found: Sequence[str], then: str) -> None:
        """Add a remark: how many of something there are, if any, and the first of them."""
        if found:
            self.remarks.append(f"{what}: {len(found):,}, the first is {found[0]}{then}")


def score(task: str, answers: Path, data: Path) -> Scored:
    """Score a file of answers; print the table, what was used and what was left out, also listed in a file.

    Raises ValueError, or OSError for a missing file, with a message for the user.
    """
    if task not in TASKS:
        raise ValueError(f"There is no task {task!r}: choose one of {', '.join(TASKS)}.")
    if not data.exists():
        raise FileNotFoundError(f"There is no {data}: name with --data where the truth is.")
    scored = TASKS[task](answers, data)
    table = pandas.DataFrame(scored.lines).rename(columns={"n": "pictures"})
    print(table.to_string(index=False, float_format="{:.4f}".format))
    print("(low to high: 95 % intervals over pictures)", *scored.remarks, scored.used, sep="\n")
    print_files_used(data, scored.files)
    for what, faults in scored.left_out.items():
        more = [f"  and {len(faults) - SHOWN:,} more"] if len(faults) > SHOWN else []
        print(f"{len(faults):,} {what}:", *(f"  {fault}" for fault in faults[:SHOWN]), *more, sep="\n")
    listed = [{"what": what, **asdict(one)} for what, some in scored.left_out.items() for one in some]
    file = answers.with_name(f"{answers.stem}-left-out.jsonl")
    try:
        if listed:
            write_text(file, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in listed))
            print(f"{file} lists them all.")
        else:
            file.unlink(missing_ok=True)  # of an earlier run
    except OSError as error:  # other people's answers may lie where nothing can be written
        print(f"{file} could not be written: {error}. Copy the answers to a folder of yours for the list.")
    return scored


# --- which answer is about which record ---


def answer_frame(scored: Scored, file: Path) -> pandas.DataFrame:
    """Read answers, one per row; `named` is the id or file by which each names its picture."""
    names = ["where", "text", "choice", "image", "image_id", "question", "question_id"]
    rows = [vars(one) for one in keep_from(scored, read_answers(file))]
    frame = pandas.DataFrame(rows, columns=names, dtype=object)
    frame["named"] = frame["image_id"].where(frame["image_id"].notna(), frame["image"])
    return frame


def keep_from(scored: Scored, stream: Any) -> list[Any]:
    """Return what can be read and list what cannot."""
    faults: list[Fault] = []
    found = list(keep(stream, faults))
    if faults:
        scored.left_out[UNREADABLE] += faults
    return found


def identity(one: Record) -> tuple[str, str | None, str | None, str | None]:
    """Return a record's picture, the picture's number, what is asked about it, and the question's id."""
    if isinstance(one, CocoPicture):
        return one.file.as_posix(), str(one.id), None, None
    if isinstance(one, YesNoQuestion):
        return one.image, None, one.text, one.question_id
    return str(one.image_id), None, one.question, one.question_id


def plain(text: str) -> str:
    """Return a question with case and spacing normalised, and "imange", a typo in POPE's files, corrected."""
    return " ".join(text.lower().replace("imange", "image").split())


def fit(answer: Any) -> int:
    """Rate a joined row: 2 if the answer comes with exactly the record's question, 1 if with none or with
    instructions around it, 0 if with another one.
    """
    if answer.question is None or answer.words is None:
        return 1
    asked, given = plain(answer.words), plain(answer.question)
    return 2 if asked in (given, plain(answer.question.strip().split("\n")[0])) else int(asked in given)


def find_pictures(answers: pandas.DataFrame, records: pandas.DataFrame) -> tuple[list[Any], dict[str, str]]:
    """Return the picture that each answer names, None if none is certain; and the reasons, by `where`.

    A name that may mean several pictures is uncertain, and so are two names that cannot mean the same file
    but match the same picture.
    """
    names = PictureNames(records["picture"])
    numbered = records.dropna(subset="picture_id").groupby("picture_id")["picture"].unique().to_dict()
    found, aliases = [], defaultdict(set)
    for one in answers.itertuples():
        pictures = list(numbered.get(one.image_id, ()))
        if not pictures and one.named is not None:
            pictures = names.find(one.named)
            if len(pictures) == 1:
                aliases[pictures[0]].add(one.named)
        found.append(pictures)
    certain, reasons = [], {}
    for one, pictures in zip(answers.itertuples(), found, strict=True):
        others = aliases[pictures[0]] - {one.named} if pictures else ()
        rivals = sorted(name for name in others if not PictureNames([name]).find(one.named))
        if len(pictures) > 1:
            reasons[one.where] = f"{one.named} may be {pictures[0]} or {pictures[1]}: name its folder too"
        elif rivals and one.named in aliases[pictures[0]]:
            reasons[one.where] = f"{one.named} and {rivals[0]} would both be {pictures[0]}"
        certain.append(pictures[0] if pictures and one.where not in reasons else None)
    return certain, reasons


def candidates(answers: pandas.DataFrame, records: pandas.DataFrame, *, asks: bool) -> pandas.DataFrame:
    """Return the pairs of answer and record that share the picture or, failing that, the question's number.

    If an answer names both its picture and its question, its number is ignored: each of POPE's official files
    starts again at 1.
    """
    whole = answers["picture"].notna() & (answers["question"].notna() | (not asks))
    by_picture = answers[whole].drop(columns="question_id").merge(records, on="picture")
    numbered = answers[~whole & answers["question_id"].notna()]
    by_id = numbered.merge(records, on="question_id", suffixes=("_told", ""))
    by_id = by_id[by_id["named"].isna() | (by_id["picture_told"] == by_id["picture"])]
    pairs = pandas.concat([some for some in (by_picture, by_id) if len(some)] or [by_picture])
    return pairs.assign(
        fit=[fit(one) for one in pairs.itertuples()], by_id=pairs["where"].isin(by_id["where"])
    )


def join(scored: Scored, file: Path, known: Known, answers: pandas.DataFrame) -> Joined:
    """Join the records of each ground-truth file with the answers of `file`.

    The rows are all records of each file with their answers (None if there is none): `where`, `choice`,
    `text` as the official scorers get it, and `read`, which is cleaned. An answer may match a record in
    several files. Raises ValueError if nothing can be scored, or if only a number identifies the question of
    two different answers.
    """
    rows = [(source, one, *identity(one)) for source, ones in known.items() for one in ones]
    names = ["source", "record", "picture", "picture_id", "words", "question_id"]
    records = pandas.DataFrame(rows, columns=names, dtype=object).reset_index(names="row")
    asks = bool(records["words"].notna().any())
    answers = answers.drop_duplicates(list(answers.columns.drop("where"))).copy()
    nothing = UNKNOWN, f"nothing in {', '.join(map(str, known))} is what it is about"
    reasons = dict.fromkeys(answers["where"], nothing)
    untold, missing = answers["named"].isna(), "name its `image_id` or `image`"
    if asks:
        untold = answers["question_id"].isna() & (untold | answers["question"].isna())
        missing = "`question_id`, or `image` and `question`, tell it"
    mute = UNREADABLE, f"it does not say what it is about: {missing}"
    reasons |= dict.fromkeys(answers["where"][untold], mute)
    answers["picture"], uncertain = find_pictures(answers, records)
    reasons |= {where: (UNCERTAIN, reason) for where, reason in uncertain.items()}
    pairs = candidates(answers, records, asks=asks)
    pairs = first_answers(one_question_each(pairs, reasons), file, reasons)
    used = set(pairs["where"])
    for where, (what, reason) in reasons.items():
        if where not in used:
            scored.left_out[what].append(Fault(str(file), where, reason))
    if pairs.empty:
        first = next((fault for faults in scored.left_out.values() for fault in faults), "it is empty")
        raise ValueError(f"{file} holds no answer that can be scored. The first reason: {first}.")
    return with_texts(scored, records, pairs)


def one_question_each(pairs: pandas.DataFrame, reasons: dict[str, tuple[str, str]]) -> pandas.DataFrame:
    """Keep the pairs whose questions agree, of answers that match a single question or picture."""
    best = pairs.groupby("where")["fit"].transform("max")
    for one in pairs[(best == 0) & pairs["by_id"]].itertuples():
        reason = f"it is an answer to {one.question!r}, where {one.source} asks {one.words!r}"
        reasons[one.where] = OTHER_WORDS, reason
    pairs = pairs[(best > 0) & (pairs["fit"] == best)]
    meanings = pairs.drop_duplicates(["where", "picture", "picture_id", "words"])
    several = meanings[meanings.duplicated("where", keep=False)]
    for where, some in several.groupby("where"):
        first, second = (f"{one.words or one.picture_id!r} of {one.source}" for one in some[:2].itertuples())
        reasons[where] = UNCERTAIN, f"it may be about {first} or {second}: name its image and question"
    return pairs[~pairs["where"].isin(several["where"])]


def first_answers(
    pairs: pandas.DataFrame, file: Path, reasons: dict[str, tuple[str, str]]
) -> pandas.DataFrame:
    """Keep the first answer to each record; raises ValueError if others may be to other questions."""
    for _, some in pairs[pairs.duplicated("row", keep=False)].groupby("row"):
        first, *others = some.itertuples()
        for one in others:
            if (first.by_id or one.by_id) and (first.text, first.choice) != (one.text, one.choice):
                raise ValueError(
                    f"{file}: {first.where} and {one.where} answer question {one.question_id} differently, "
                    "and only its number says which question that is. If the file holds answers to several "
                    "files of questions, add `image` and `question` to its lines, or make a file of each."
                )
            reasons[one.where] = SECOND, f"{first.where} is another answer to the same"
    return pairs.drop_duplicates("row")


def with_texts(scored: Scored, records: pandas.DataFrame, pairs: pandas.DataFrame) -> Joined:
    """Return the records by file with their cleaned answers; remark on what was cut off or is empty."""

    def each(read: Callable[[str, tuple[str | None, str | None]], str]) -> list[str | None]:
        rows = pairs.itertuples()
        return [None if one.text is None else read(one.text, (one.question, one.words)) for one in rows]

    pairs = pairs.assign(said=each(spoken), read=each(clean))
    cut = pairs["said"].notna() & (pairs["said"] != pairs["text"].str.strip())
    if cut.any():
        first = pairs[cut].iloc[0]
        scored.remarks.append(
            "A prompt, reasoning, an end symbol or further turns were cut off "
            f"{pairs['where'][cut].nunique():,} answers; the first is {first['where']}: {first['text']!r} is "
            f"read as {first['said']!r}."
        )
    empty = list(pairs["where"][pairs["said"].str.lower().isin(("", "nan", "null", "<na>"))].unique())
    scored.remark("Empty answers", empty, "; they are scored as they are.")
    pairs = pairs.assign(text=pairs["text"].where(~cut, pairs["said"]))
    rows = records.merge(pairs[["row", "where", "choice", "text", "read"]], on="row", how="left")
    rows = rows.astype(object).where(rows.notna(), None)
    return {source: frame.reset_index(drop=True) for source, frame in rows.groupby("source", sort=False)}


def answered(scored: Scored, joined: Joined) -> Joined:
    """Return the files with any answers; list what has no answer, and note what is used."""
    found = {}
    for source, frame in joined.items():
        if frame["where"].isna().all():
            scored.remarks.append(f"{source} is left out: nothing in it is answered.")
            continue
        found[source] = frame
        for one in frame[frame["where"].isna()].itertuples():
            name = one.question_id if one.question_id is not None else one.picture
            scored.left_out[UNANSWERED].append(Fault(str(source), name, "it has no answer"))
    if not found:
        raise ValueError("No question that counts is answered: GQA's balanced ones alone do.")
    scored.files |= found.keys()
    used = pandas.concat(found.values()).dropna(subset="where")
    scored.used = (
        f"{used['where'].nunique():,} answers about {used['picture'].nunique():,} pictures are scored."
    )
    return found


# --- pictures: CHAIR and coverage ---


def described(scored: Scored, file: Path, folder: Path) -> pandas.DataFrame:
    """Join the annotated pictures of a folder (COCO's layout) with descriptions; no picture is opened."""
    if folder.is_file():
        raise ValueError(f"{folder} is a file: name the folder that holds captions and instances.")
    known: dict[Path, list[CocoPicture]] = {}
    listed: set[int] = set()
    for captions in check.files(folder, "captions.json", "annotations/captions_*.json", "captions_*.json"):
        if captions.name.endswith("_results.json"):  # COCO's name for files of answers
            continue
        found = keep_from(scored, coco.read(Path(), captions, coco.instances_of(captions)))
        known[captions] = [one for one in found if one.id not in listed]  # 2014's and 2017's share pictures
        listed |= {one.id for one in known[captions]}
    frames = answered(scored, join(scored, file, known, answer_frame(scored, file)))
    scored.files |= set(map(coco.instances_of, frames))
    return pandas.concat(frames.values()).dropna(subset="text")


def chair_scores(file: Path, folder: Path) -> Scored:
    """Score descriptions by CHAIR, read as the study does and by the official rules."""
    scored = Scored()
    rows = described(scored, file, folder)
    pictures = list(rows["record"])
    graphs = {}
    if (folder / "scenes.jsonl").exists():  # the small world's: scenery and writing are true too
        scored.files.add(folder / "scenes.jsonl")
        graphs = {graph.image_id: graph for graph in read_scenes(folder / "scenes.jsonl")}
        if missing := [one.id for one in pictures if one.id not in graphs]:
            raise ValueError(
                f"{folder / 'scenes.jsonl'} lacks picture {missing[0]}: take a folder as it was made."
            )
    words, rules = chair.vocabulary() if graphs else chair.photo_vocabulary(), chair_official.at_hand()
    readings: dict[str, tuple[Mentions, Mapping[int, Scene], str]] = {
        "study": (words, graphs, "read"),
        rules: (chair_official.vocabulary(rules), {}, "text"),
    }
    for reading, (vocabulary, shown, column) in readings.items():
        truths = [chair.truth(one.objects, one.captions, vocabulary, shown.get(one.id)) for one in pictures]
        scored.add(reading, chair.counts(chair.read(list(rows[column]), truths, vocabulary)))
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
    rows = described(scored, file, folder)
    scored.files.add(folder / "facts.json")
    judge = coverage.fact_judge(coverage.read_facts(folder))
    references = [one.captions for one in rows["record"]]
    scored.add("study", coverage.counted({"": list(rows["read"])}, references, judge)[""])
    return scored


# --- questions: POPE, A-OKVQA and GQA ---


def pope_scores(file: Path, data: Path) -> Scored:
    """Score yes and no on POPE's files in a folder, or on one of them."""
    scored = Scored()
    files = [data] if data.is_file() else check.files(data, "*pope*.json")
    known = {path: keep_from(scored, questions.read_pope(path)) for path in files}
    answers = answer_frame(scored, file)
    identified = answers[["named", "question_id"]].notna().any(axis=None)
    if len(files) == 1 and len(answers) and not identified:  # as in POPE's own example
        answers["question_id"] = in_order(scored, file, answers, files[0], known[files[0]])
    for source, frame in answered(scored, join(scored, file, known, answers)).items():
        rows = frame.dropna(subset="text")
        asked = [pope.Question(one.image, "", one.text, one.label == "yes") for one in rows["record"]]
        official = ["yes" if pope.official(text) else "no" for text in rows["text"]]
        for reading, said in (("study", list(rows["read"])), ("official", official)):
            scored.add(reading, pope.counts(asked, said), questions=source.stem)
        unread = [f"{one.where}: {one.text!r}" for one in rows.itertuples() if pope.parse(one.read) is None]
        scored.remark(
            f"Answers to {source.stem} that say neither yes nor no",
            unread,
            "; they are wrong in the study's reading, and in the official one a yes, unless a no is in them.",
        )
    return scored


def in_order(
    scored: Scored, file: Path, answers: pandas.DataFrame, source: Path, asked: Sequence[YesNoQuestion]
) -> list[str]:
    """Return the question numbers of one file for answers in the same order; raises ValueError if they do not
    match.
    """
    if scored.left_out.get(UNREADABLE) or len(answers) != len(asked):
        raise ValueError(
            f"{file} has {len(answers)} answers without picture and question_id, {source} {len(asked)} "
            "questions: only as many answers, in the same order, can be told apart."
        )
    for answer, one in zip(answers.itertuples(), asked, strict=True):
        if answer.question is not None and plain(one.text) not in plain(answer.question):
            raise ValueError(
                f"{file}: {answer.where}: it is an answer to {answer.question!r}, where {source} asks "
                f"{one.text!r}. Put the answers into the order of {source}."
            )
    return [one.question_id for one in asked]


def vqa_scores(file: Path, data: Path) -> Scored:
    """Score answers to A-OKVQA's and GQA's questions, in a folder or in one file.

    Of GQA only the balanced ones count, as officially. An unanswered question counts as wrong in the official
    reading (GQA's own scorer stops instead); the study's reading covers what is answered.
    """
    scored = Scored()
    known: dict[Path, list[Record]] = {}
    patterns = "aokvqa*.json", "*questions*.json", "*questions*/*.json"
    for path in [data] if data.is_file() else check.files(data, *patterns):
        read = questions.read_a_okvqa if path.name.startswith("aokvqa") else questions.read_gqa
        known[path] = keep_from(scored, read(path))
    joined, unbalanced = {}, 0
    for source, frame in join(scored, file, known, answer_frame(scored, file)).items():
        balanced = frame["record"].map(lambda one: not isinstance(one, GraphQuestion) or one.balanced)
        balanced = balanced.astype(bool)
        unbalanced += int(frame.loc[~balanced, "where"].notna().sum())
        joined[source] = frame[balanced]
    if unbalanced:
        scored.remarks.append(
            f"Answers to GQA's questions that are not balanced: {unbalanced:,}; they count nowhere."
        )
    for source, frame in answered(scored, joined).items():
        if isinstance(frame["record"].iloc[0], ChoiceQuestion):
            choice_lines(scored, frame, source)
        else:
            graph_lines(scored, frame, source)
    return scored


def choice_lines(scored: Scored, frame: pandas.DataFrame, source: Path) -> None:
    """Add A-OKVQA's two tasks; direct answers exclude questions on which ten people differ too much."""
    vqa.Exam(choice=tuple(enumerate(frame["record"])), graph=())  # raises if the answers are withheld

    def is_right(said: str, one: ChoiceQuestion) -> bool:
        return said == one.choices[one.right]

    chosen = choices_of(scored, frame, source)
    chosen = rated(frame.assign(read=chosen, text=chosen), is_right, is_right)
    direct = rated(
        frame[[not one.difficult_direct_answer for one in frame["record"]]],
        lambda said, one: vqa.soft_accuracy(vqa.head(said), one.direct_answers),
        lambda said, one: min(1.0, sum(said.lower() == text.lower() for text in one.direct_answers) / 3),
    )
    for reading in ("study", "official"):
        for task, rows in (("aokvqa.choice", chosen), ("aokvqa.direct", direct)):
            if rows[reading].notna().any():
                scored.add(reading, {task: accuracy(rows, reading)}, questions=source.stem)
    remark_on_form(scored, direct, [text for one in direct["record"] for text in one.direct_answers], source)


def choices_of(scored: Scored, frame: pandas.DataFrame, source: Path) -> pandas.Series:
    """Return the choices taken: `multiple_choice` or, in a file without it, the answers, if each is one of
    its question's choices (A-OKVQA's `predictions_<split>-mc.json`).
    """
    chosen, said = frame.dropna(subset="choice"), frame.dropna(subset="text")
    if chosen.empty and all(one.text in one.record.choices for one in said.itertuples()):
        scored.remarks.append(
            f"Each answer to {source.stem} is one of its question's choices: they are scored as choices and "
            "as direct answers."
        )
        return frame["text"]
    odd = [one for one in chosen.itertuples() if one.choice not in one.record.choices]
    scored.remark(
        f"Choices that {source.stem} does not offer",
        [f"{one.choice!r} for {one.question_id}" for one in odd],
        "; they count as wrong. Write each as it is written there.",
    )
    return frame["choice"]


def graph_lines(scored: Scored, frame: pandas.DataFrame, source: Path) -> None:
    """Add GQA: all questions and, officially, the open and the binary ones apart."""
    vqa.Exam(choice=(), graph=tuple(enumerate(frame["record"])))  # raises if the answers are withheld
    frame = rated(
        frame,
        lambda said, one: vqa.exact(vqa.head(said), one.answer),
        lambda said, one: said == one.answer,
    )
    opened = frame["record"].map(lambda one: one.types.structural == "query").astype(bool)
    parts = {"gqa": frame, "gqa.binary": frame[~opened], "gqa.open": frame[opened]}
    counts = {name: accuracy(part, "official") for name, part in parts.items() if len(part)}
    scored.add("study", {"gqa": accuracy(frame, "study")}, questions=source.stem)
    scored.add("official", counts, questions=source.stem)
    remark_on_form(scored, frame, [one.answer for one in frame["record"]], source)


def rated(frame: pandas.DataFrame, study: Rate, official: Rate) -> pandas.DataFrame:
    """Add each answer's score in both readings, nan if there is none."""

    def points(column: str, rate: Rate) -> list[float]:
        pairs = zip(frame[column], frame["record"], strict=True)
        return [float("nan") if said is None else float(rate(said, one)) for said, one in pairs]

    return frame.assign(study=points("read", study), official=points("text", official))


def accuracy(frame: pandas.DataFrame, reading: str) -> Counts:
    """Return the points of each picture: officially over all its questions, else over those answered."""
    values = frame["official"].fillna(0.0) if reading == "official" else frame["study"].dropna()
    pictures = values.groupby(frame["picture"][values.index], sort=False).agg(["sum", "count"])
    return Counts(list(pictures["sum"]), list(pictures["count"]))


def remark_on_form(scored: Scored, frame: pandas.DataFrame, right: Sequence[str], source: Path) -> None:
    """Remark on answers that score lower officially, where strings are compared exactly, and on those too
    long to be right.
    """

    def named(rows: pandas.DataFrame) -> list[str]:
        return [f"{one.text!r} for {one.question_id}" for one in rows.itertuples()]

    scored.remark(
        f"Answers to {source.stem} that earn less officially, where every letter counts",
        named(frame[frame["study"] > frame["official"]]),
        ". Write them as the annotations are written, in small letters and without a full stop.",
    )
    said = frame.dropna(subset="read")
    odd = [not fits for fits in vqa.fits(list(said["read"]), right)]
    scored.remark(
        f"Answers to {source.stem} in more words than any right one",
        named(said[pandas.Series(odd, said.index, dtype=bool) & (said["read"] != "")]),
        "; they are wrong in both readings.",
    )


TASKS: dict[str, Callable[[Path, Path], Scored]] = {
    "chair": chair_scores,
    "pope": pope_scores,
    "vqa": vqa_scores,
    "coverage": coverage_scores,
}
