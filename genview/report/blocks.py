"""What a section of the report is made of; the template knows how each kind looks."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Figure:
    """A drawing: inline SVG, what it shows in words for those who cannot see it, and its caption."""

    name: str
    svg: str
    alt: str
    caption: str
    kind: str = "figure"


@dataclass(frozen=True)
class Cell:
    """A table's cell: a value with a smaller second line, perhaps marked as the best of its row."""

    text: str
    note: str = ""
    best: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of cells under a header; numbers are set flush right."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    caption: str = ""
    numeric: Sequence[int] = ()
    kind: str = "table"


@dataclass(frozen=True)
class Tile:
    """One small picture as a data URI, with its alternative text and a label below it."""

    uri: str
    alt: str
    label: str = ""
    width: int = 96
    height: int = 96
    pixelated: bool = False


@dataclass(frozen=True)
class Card:
    """Pictures that belong to one image, side by side, with a heading and a line of text."""

    tiles: Sequence[Tile]
    title: str = ""
    text: str = ""


@dataclass(frozen=True)
class Gallery:
    """Cards in groups, each group with a heading."""

    title: str
    groups: Sequence[tuple[str, Sequence[Card]]]
    caption: str = ""
    kind: str = "gallery"


@dataclass(frozen=True)
class Facts:
    """A few figures with their names."""

    items: Sequence[tuple[str, str]]
    kind: str = "facts"


@dataclass(frozen=True)
class Note:
    """A remark; ``warning`` if the reader should not go on without it."""

    text: str
    warning: bool = False
    kind: str = "note"


@dataclass(frozen=True)
class Source:
    """Preformatted text that is folded until it is asked for."""

    title: str
    text: str
    kind: str = "source"


Block = Figure | Table | Gallery | Facts | Note | Source


@dataclass
class Section:
    """A part of the report; ``summary`` is the sentence that it lends to the head of the page."""

    identifier: str
    title: str
    lead: str = ""
    blocks: list[Block] = field(default_factory=list)
    summary: str = ""

    def arranged(self) -> list[tuple[str, list[Block]]]:
        """Neighbouring blocks of one kind together: figures stand side by side where there is room."""
        return [(kind, list(blocks)) for kind, blocks in itertools.groupby(self.blocks, key=lambda block: block.kind)]
