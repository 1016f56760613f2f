"""Rule-based repair of generated paragraphs: the rewriter `str -> str` that needs no other model.

Its rules and thresholds are its own: the evaluation looks for faults with other code.
"""

import re
import unicodedata
from collections.abc import Sequence
from itertools import pairwise


def listed(words: str) -> frozenset[str]:
    return frozenset(words.split())


MARKS = re.compile(r"</?Img>|<ImageHere>|<\|[^|>]*\|>|</?s>|#{2,}|\b(?:Human|Assistant|User|System) ?:")
LINKS = re.compile(r"(?:https?://|www\.)\S+")
OTHER_SCRIPT = re.compile(r"[^\W\d_a-zA-Z\u00C0-\u024F]+")
STRAY = re.compile(r"[^\w\s.,;:!?'\"()%&$€£°/+-]|_")
ENDLESS = re.compile(r"[^\W\d_]{22,}")  # letters in a row; almost no English word is this long
STOPS = re.compile(r"[.,;:!?]{2,}")  # the first that ends a sentence is kept
RUN = re.compile(r"([^\w\s])(?:\s?\1)+")  # a repeated symbol
TYPED = str.maketrans("‘’“”–—", "''\"\"--")
STOP = re.compile(r"([\w.]*)([.!?]+)[\"')]*(?=\s|$)")  # with the word before it
INITIALS = re.compile(r"(?:[A-Za-z]\.)*[A-Za-z]")
CLOSED = re.compile(r"[.!?][\"')]*$")
LETTERS = re.compile(r"[^\W_]+(?:'[^\W_]+)*")

TITLES = listed("mr ms mrs dr st prof jr sr mt ft vs gen capt sgt rev")  # a name follows
NUMBERED = listed("no nos fig vol p pp ca approx")  # a number follows
ENGLISH = listed("""
    a about an and are as at be by for from has have her his in is it its near no not of on one or other over
    she some that the their them there these they this to under was which while with you
""")
FOREIGN = listed("""
    auf aus avec con das dans de del dem den der des deux di dos du ein eine el elle en es est et für il ist
    la las le les los mit na nicht os para pas por que qui se si sobre sont su sur um una und une uno vom
    von zu
""")
# A sentence does not end with one of these: they need another word after them.
OPEN = listed("""
    a an and are as at be because behind beside between but by for from has have his her in into is its near
    of on or that the their this to under very was were which while with
""")
FEWEST_WORDS = 3  # of a sentence
LOOP = 12  # longest repeated run, in words
AGAIN = 8  # words: a run this long that recurs in the same sentence starts a loop


def repair(text: str) -> str:
    """Rewrite a paragraph by rules: the rewriter that needs no other model.

    Does what the paper asks of ChatGPT as far as rules can: removes meaningless characters, what is not
    English, loops and repeated sentences, and closes or removes what is unfinished. It invents no word, and
    it returns an empty text where nothing is left.
    """
    kept: list[str] = []
    known: set[tuple[str, ...]] = set()
    for sentence in finished(sentences(clean(text))):
        mended = close(without_loops(sentence)) if is_english(sentence) else ""
        said = tuple(plain(mended))
        if len(said) >= FEWEST_WORDS and said not in known:
            known.add(said)
            kept.append(mended[0].upper() + mended[1:])
    return " ".join(kept)


def finished(parts: Sequence[str]) -> Sequence[str]:
    """Drop a last sentence without an end, whose last word may be cut off; a single sentence stays."""
    return parts[:-1] if len(parts) > 1 and not CLOSED.search(parts[-1]) else parts


def clean(text: str) -> str:
    """Remove what is not text: prompt markers, links, other scripts, stray and repeated symbols."""
    text = unicodedata.normalize("NFKC", text).translate(TYPED)
    for pattern in (MARKS, LINKS, OTHER_SCRIPT, STRAY, ENDLESS):
        text = pattern.sub(" ", text)
    text = re.sub(r"\s+(?=[.,;:!?])", "", " ".join(text.split()))
    text = STOPS.sub(lambda found: next((sign for sign in found[0] if sign in ".!?"), found[0][0]), text)
    return re.sub(r"(?<=[a-z][.!?])(?=[A-Z])", " ", RUN.sub(r"\1", text))


def sentences(text: str) -> list[str]:
    """Split where a full stop, exclamation or question mark ends a sentence and white space follows."""
    ends = [stop.end() for stop in STOP.finditer(text) if is_end(stop, text[stop.end() :].split())]
    parts = (text[start:end].strip().lstrip(",;:/+- ") for start, end in pairwise([0, *ends, len(text)]))
    return [part for part in parts if part]


def is_end(stop: re.Match, rest: Sequence[str]) -> bool:
    """Return whether a stop ends a sentence, given the words after it: that of an abbreviation does not."""
    word = stop[1].rstrip(".")
    if not rest or stop[2] != "." or word == "I":
        return True
    if word.lower() in NUMBERED:
        return not rest[0][0].isdigit()
    if INITIALS.fullmatch(word):  # "the U.S. flag", "J. Smith"; but "in the U.S. The flag"
        return rest[0][0].isupper() and rest[0].lower() in ENGLISH
    return word.lower() not in TITLES


def plain(text: str) -> list[str]:
    """Return the words of a text in lower case, an apostrophe inside a word included."""
    return [word.lower() for word in LETTERS.findall(text)]


def is_english(sentence: str) -> bool:
    """Return whether a sentence has at most one foreign function word, or at least as many English."""
    said = plain(sentence)
    foreign = sum(word in FOREIGN for word in said)
    return foreign < 2 or foreign <= sum(word in ENGLISH for word in said)


def without_loops(sentence: str) -> str:
    """Keep one copy of what is repeated in a row, and cut the sentence where it starts to loop.

    "a dog, a dog, a dog and a cat" -> "a dog and a cat". Afterwards the sentence is cut where a run of AGAIN
    words first recurs.
    """
    parts = sentence.split()
    said = [" ".join(plain(part)) for part in parts]
    place = 0
    while place < len(parts):
        for length in range(1, LOOP + 1):
            if said[place : place + length] == said[place + length : place + 2 * length] != []:
                # The later copy stays: what follows it belongs to it.
                del parts[place : place + length], said[place : place + length]
                place = 0  # the parts now joined may form a loop themselves
                break
        else:
            place += 1
    seen: set[tuple[str, ...]] = set()
    for start in range(len(said) - AGAIN + 1):
        run = tuple(said[start : start + AGAIN])
        if run in seen:
            return " ".join(parts[:start])
        seen.add(run)
    return " ".join(parts)


def close(sentence: str) -> str:
    """End an unfinished sentence: cut last words that need another one, then add a full stop."""
    if CLOSED.search(sentence):
        return sentence
    parts = sentence.split()
    while parts and (not plain(parts[-1]) or plain(parts[-1])[-1] in OPEN):
        parts.pop()
    return " ".join(parts).rstrip(",;:-/+. ") + "." if parts else ""
