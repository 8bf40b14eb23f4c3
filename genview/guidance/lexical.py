"""The lexical backend: a transparent count of a caption's visual constraints, on a CPU, without a model to load.

Tags come from TextBlob's lexicon-based tagger, colour names from CSS; the rest is the lists of ``lexicon``. The rules:

- the first thing named is the subject, a broad kind of thing that constrains nothing by itself;
- each concrete adjective, noun modifier, number, action, place in the frame, light, viewpoint or style is one
  constraint, and so is each further thing together with the preposition that places it;
- what is said twice in the same words counts once; feelings, judgements and words about the picture count nothing.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import webcolors
from nltk.stem.snowball import EnglishStemmer
from textblob.en import tag

from genview.config.guidance import Guidance
from genview.guidance import lexicon
from genview.guidance.answers import Answer

_STEMMER = EnglishStemmer()
# The tagger knows plain quotes only, and takes a dash between words for a part of them.
_PLAIN = str.maketrans({"—": " , ", "–": " , ", "’": "'", "‘": "'", "“": '"', "”": '"'})
_LETTERS = re.compile(r"[^\W\d_]")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _stems(text: str) -> frozenset[str]:
    return frozenset(_STEMMER.stem(word) for word in text.split())


def _phrases() -> dict[tuple[str, ...], str]:
    """Each phrase as its words, also hyphenated into one, with its category."""
    found: dict[tuple[str, ...], str] = {}
    for category, text in lexicon.PHRASES.items():
        for phrase in text.split(";"):
            words = tuple(phrase.split())
            found[words] = found[("-".join(words),)] = category
    return found


_PHRASES = _phrases()
_LONGEST = max(map(len, _PHRASES))
_COMPOUNDS = frozenset(tuple(name.split()) for name in lexicon.COMPOUNDS.split(";"))
_CATEGORY = {word: category for category, text in lexicon.CATEGORIES.items() for word in text.split()}
_COLOURS = _words(lexicon.COLOURS) | frozenset(webcolors.names())
_SHADES = _words(lexicon.SHADES)
_VERTICAL, _HORIZONTAL = _words(lexicon.VERTICAL), _words(lexicon.HORIZONTAL)
_PLACE = _VERTICAL | _HORIZONTAL
_PAIRED = _words(lexicon.PAIRED)
_PLACE_NOUNS = _words(lexicon.PLACE_NOUNS)
_FRAME = _words(lexicon.FRAME_NOUNS)
_NUMBERS = _words(lexicon.NUMBERS)
_ABSTRACT_ADJECTIVES = _words(lexicon.ABSTRACT_ADJECTIVES)
_ABSTRACT_VERBS, _ABSTRACT_NOUNS = _stems(lexicon.ABSTRACT_VERBS), _stems(lexicon.ABSTRACT_NOUNS)
_CONCRETE_NOUNS = _stems(lexicon.CONCRETE_NOUNS)
_AUXILIARIES = _words("be am is are was were been being 's 're has have had do does did")


@dataclass(frozen=True)
class Constraint:
    """One thing that a caption fixes about the picture, and the words that say so."""

    category: str
    text: str


@dataclass
class _Token:
    word: str
    kind: str
    """noun | adjective | participle | verb | number | preposition | determiner | other"""


_KINDS = {
    "NN": "noun",
    "JJ": "adjective",
    "VBG": "participle",
    "VBN": "participle",
    "VBD": "participle",
    "VB": "verb",
    "CD": "number",
    "IN": "preposition",
    "TO": "preposition",
    "DT": "determiner",
    "PRP$": "determiner",
}


def _is_name(token: _Token) -> bool:
    return token.kind in ("noun", "adjective", "participle")


def _tokens(caption: str) -> list[_Token]:
    """Words with their kinds; the tagger's slips that the neighbours give away are put right."""
    tokens = []
    before = ""
    tagged = tag(caption.translate(_PLAIN))
    names = [name for _, name in tagged[1:]] + [""]
    for (word, name), after in zip(tagged, names):
        kind = _KINDS.get(name) or _KINDS.get(name[:2], "other")
        if name == "VB" and before not in ("TO", "MD") and after not in ("DT", "PRP$", "PRP"):
            kind = "noun"  # "a red cross": a bare infinitive needs a word that asks for it, or gives an order
        elif name in ("VBD", "VBZ") and before == "DT" and after[:2] not in ("NN", "JJ"):
            kind = "noun"  # "a saw"
        tokens.append(_Token(word.lower(), kind))
        before = name
    for left, token in zip([_Token("", "other"), *tokens], tokens):
        if token.word in _NUMBERS:
            token.kind = "number"
        elif token.word in _COLOURS and token.kind != "noun":
            token.kind = "adjective"
        elif (left.word, token.word) in _COMPOUNDS:
            token.kind = "noun"
    for position, token in enumerate(tokens):
        before = tokens[position - 1].kind if position else "other"
        after = tokens[position + 1] if position + 1 < len(tokens) else _Token("", "other")
        ends_name = after.kind not in ("noun", "adjective") and (after.word != "and" or token.word not in _COLOURS)
        if token.kind == "adjective" and before in ("determiner", "adjective", "participle") and ends_name:
            article_before = any(earlier.kind == "determiner" for earlier in tokens[max(0, position - 4) : position])
            if article_before and (after.kind != "participle" or token.word in _CATEGORY):
                token.kind = "noun"  # "a sliced orange", "a red square"
    return tokens


class _Count:
    """Reads the tokens from left to right and collects the constraints."""

    def __init__(self, tokens: list[_Token]):
        self.tokens = tokens
        self.found: dict[Constraint, None] = {}
        self.has_subject = False

    def add(self, category: str, *words: str) -> None:
        self.found.setdefault(Constraint(category, " ".join(words)))

    def token(self, position: int) -> _Token:
        return self.tokens[position] if position < len(self.tokens) else _Token("", "other")

    def words(self, start: int, length: int) -> tuple[str, ...]:
        return tuple(token.word for token in self.tokens[start : start + length])

    def phrase(self, start: int) -> int:
        """Tokens that a phrase of the lexicon covers here; 0 if none."""
        for length in range(min(_LONGEST, len(self.tokens) - start), 0, -1):
            words = self.words(start, length)
            category = _PHRASES.get(words)
            if category is not None:
                one_thing = words[-2:] == ("pair", "of") and not _PAIRED.isdisjoint(self.words(start + length, 4))
                if category and not one_thing:
                    self.add(category, *words)
                return length
        return 0

    def place(self, start: int) -> int:
        """Tokens of a place in the frame, such as "at the top left"; a place of a thing ("of the hill") is not one."""
        end = start + 1
        while self.token(end).word in ("the", "its", "far", "very", "a"):
            end += 1
        axes: dict[str, str] = {}
        first = end
        while self.token(end).word in _PLACE or (end > first and self.token(end).word in _PLACE_NOUNS):
            word = self.token(end).word
            if word in _VERTICAL:
                axes.setdefault("vertical place", word)
            elif word in _HORIZONTAL:
                axes.setdefault("horizontal place", word)
            end += 1
        if not axes or self.token(end).kind == "noun":
            return 0
        if self.token(end).word == "of":
            rest = [token for token in self.tokens[end + 1 : end + 4] if token.kind == "noun"]
            if rest and rest[0].word not in _FRAME:
                return 0
        if (
            self.token(start).word in ("to", "towards", "toward")
            and start
            and self.token(start - 1).kind
            in (
                "participle",
                "verb",
            )
        ):
            return end - start  # "tilted to the left": part of what is said of the posture
        for category, word in axes.items():
            self.add(category, word)
        return end - start

    def modifier(self, position: int) -> None:
        """An adjective, participle or noun in front of a noun, or a predicate ("the car is red")."""
        word, kind = self.tokens[position].word, self.tokens[position].kind
        following = self.token(position + 1).word
        if _is_abstract_adjective(word):
            return
        if word in _SHADES and following in _COLOURS:
            return
        if kind == "noun" and (_is_abstract(word) or word in _FRAME):
            return
        if kind == "participle" and _STEMMER.stem(word) in _ABSTRACT_VERBS:
            return
        if word in _CATEGORY:
            self.add(_CATEGORY[word], word)
        elif word in _COLOURS:
            self.add("colour", word)
        else:
            self.add("kind" if kind == "noun" else "appearance", word)

    def name(self, start: int) -> int:
        """Tokens of a noun phrase without its article: its modifiers and its last noun."""
        end = start
        if start and self.token(start).kind == "participle" and self.token(start - 1).kind == "noun":
            return 0  # "boys playing baseball"
        while _is_name(self.token(end)) and not (end > start and self.token(end).kind == "participle"):
            end += 1
        while end > start and self.token(end - 1).kind != "noun":
            end -= 1
        if end == start:
            return 0
        head = end - 1
        compound = head > start and self.words(head - 1, 2) in _COMPOUNDS
        if not _is_abstract(self.tokens[head].word):
            for position in range(start, head - compound):
                self.modifier(position)
        self.thing(self.tokens[head].word)
        return end - start

    def thing(self, word: str) -> None:
        if word in _FRAME or _is_abstract(word):
            return
        if not self.has_subject:
            self.has_subject = True
        elif word in _COLOURS and word not in _CATEGORY:
            self.add("colour", word)
        else:
            self.add("thing", word)

    def action(self, position: int) -> int:
        """Tokens of a verb and the adjective or adverb that completes it ("standing upright")."""
        word = self.tokens[position].word
        if word in _AUXILIARIES or _STEMMER.stem(word) in _ABSTRACT_VERBS:
            return 1
        self.add("action", word)
        complement, after = self.token(position + 1), self.token(position + 2)
        return 2 if complement.kind == "adjective" and not _is_name(after) else 1

    def run(self) -> list[Constraint]:
        position = 0
        while position < len(self.tokens):
            token = self.tokens[position]
            length = self.phrase(position)
            if not length and token.kind == "preposition":
                length = self.place(position)
            if not length and _is_name(token):
                length = self.name(position)
            if not length and token.kind in ("participle", "verb"):
                length = self.action(position)
            if not length and token.kind == "adjective":
                self.modifier(position)
            if not length and token.kind == "number" and not re.fullmatch(r"(1[5-9]|20)\d\d", token.word):
                self.add("number", token.word)
            position += length or 1
        return list(self.found)


def _is_abstract(noun: str) -> bool:
    stem = _STEMMER.stem(noun)
    if stem in _CONCRETE_NOUNS:
        return False
    return stem in _ABSTRACT_NOUNS or noun.rstrip("s").endswith(lexicon.ABSTRACT_ENDINGS)


def _is_abstract_adjective(word: str) -> bool:
    """Also in the comparative and superlative: "happiest", "nicer"."""
    forms = {word}
    for ending in ("er", "est"):
        stem = word.removesuffix(ending)
        forms |= {stem, stem + "e", stem.removesuffix("i") + "y"}
    return not forms.isdisjoint(_ABSTRACT_ADJECTIVES)


def constraints(caption: str) -> list[Constraint]:
    """The different visual constraints of an English caption, in the order in which they are named."""
    return _Count(_tokens(caption)).run()


def score_of(count: int) -> int:
    """Rubric score of a number of visual constraints: none 1, one to three 2, four to six 3, more 4."""
    return 1 if count == 0 else 2 if count <= 3 else 3 if count <= 6 else 4


def answer(caption: str, *, explain: bool = False) -> Answer:
    """Score one caption; it cannot be scored if it has no words in Latin letters."""
    letters = _LETTERS.findall(caption)
    if sum(letter.isascii() for letter in letters) < 0.5 * max(len(letters), 1) or not letters:
        return Answer(None, raw_answer="not English: the lexicon has none of its words")
    found = constraints(caption)
    explanation = "; ".join(f"{item.category}: {item.text}" for item in found) if explain else None
    return Answer(score_of(len(found)), explanation=explanation)


class Scorer:
    """Scores captions; the images play no part."""

    is_costly = False

    def __init__(self, guidance: Guidance):
        self.explain = guidance.explain
        self.batch_size = 1024

    def score(self, captions: Sequence[str]) -> list[Answer]:
        """One answer per caption."""
        return [answer(caption, explain=self.explain) for caption in captions]
