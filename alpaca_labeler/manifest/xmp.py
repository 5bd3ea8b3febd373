"""A label as a keyword in the text of an XMP sidecar. Opens no file.

Expat tells where the lists of keywords lie, and only their items are edited, so every other byte
stays: comments, prefixes, processing instructions, order. Of a question and its label there are

- the label in `dc:subject`, and `question|label` in `lr:hierarchicalSubject`;
- `question|label` in `alpaca:keywords`: this tool added that keyword. `question|` says that it was
  there before, so it is somebody else's and stays when the label changes;
- `question|name` in `alpaca:checkedBy`, if a person decided.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Final
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from alpaca_labeler.errors import LabelerError

NAMESPACES: Final = {
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "dc": "http://purl.org/dc/elements/1.1/",
    "lr": "http://ns.adobe.com/lightroom/1.0/",
    "alpaca": "https://github.com/alpaca-labeler/alpaca-labeler/xmp/1.0/",
}
RDF: Final = NAMESPACES["rdf"]
SUBJECT, HIERARCHY = "dc:subject", "lr:hierarchicalSubject"
KEYWORDS, CHECKED_BY = "alpaca:keywords", "alpaca:checkedBy"
LISTS: Final = {
    f"{NAMESPACES[name.split(':')[0]]} {name.split(':')[1]}": name
    for name in (SUBJECT, HIERARCHY, KEYWORDS, CHECKED_BY)
}
CONTAINERS: Final = {f"{RDF} Bag", f"{RDF} Seq", f"{RDF} Alt"}
MAX_DEPTH: Final = 100

EMPTY: Final = f"""<?xml version="1.0" encoding="UTF-8"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="alpaca-labeler">
 <rdf:RDF xmlns:rdf="{RDF}">
 </rdf:RDF>
</x:xmpmeta>
""".encode()
"""A sidecar that says nothing, beginning as those of darktable and digiKam do."""

_TAG: Final = re.compile(rb"""<([^\s/>]+)(?:[^"'>]++|"[^"]*"|'[^']*')*+>""")
_Edit = tuple[int, int, str]
"""From and to which byte, and the text that goes there."""


class XmpError(LabelerError):
    """A sidecar cannot be edited. The message says what is wrong with it."""


@dataclass(slots=True)
class _Element:
    """Where an element lies in the text, in bytes."""

    name: str
    level: int
    """1: rdf:RDF, 2: in it, 3: one of `LISTS`, 4: its container, 5: an item; 0: anything else."""
    start: int
    inside: int
    """Where its start tag ends."""
    close: int = 0
    """Where its end tag begins; `end` if it has none."""
    end: int = 0
    text: str = ""
    children: list[_Element] = field(default_factory=list)


class Sidecar:
    """The text of a sidecar, and where its lists of keywords lie."""

    def __init__(self, data: bytes) -> None:
        """Read `data`. Raises `XmpError` if it cannot be edited."""
        if b"\0" in data:
            raise XmpError("it is not in UTF-8")
        self._data, self._encoding, self._about = data, "utf-8", ""
        self._open, self._roots = [_Element("", 0, 0, 0)], list[_Element]()
        # Nothing from outside is loaded: expat does so only through handlers that are not set.
        parser = self._parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True
        parser.XmlDeclHandler = self._declaration
        parser.EntityDeclHandler = self._entity
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        try:
            parser.Parse(data, True)  # noqa: FBT003 - it takes no keywords
        except (expat.ExpatError, LookupError, ValueError) as error:
            raise XmpError(f"it is broken XML ({error})") from None
        if len(self._roots) != 1:
            raise XmpError("it is no XMP: that has one rdf:RDF")
        self._lists: dict[str, list[_Element]] = {name: [] for name in LISTS.values()}
        for each in (each for block in self._roots[0].children for each in block.children):
            if [child.name in CONTAINERS for child in each.children] != [True]:
                raise XmpError(f"its {LISTS[each.name]} is not a list")
            self._lists[LISTS[each.name]] += each.children

    def _declaration(self, _version: str, encoding: str | None, _standalone: int) -> None:
        self._encoding = encoding or "utf-8"

    def _entity(self, name: str, *_: object) -> None:
        raise XmpError(f"it declares an entity ({name}), which no sidecar needs")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        parent, start = self._open[-1], self._parser.CurrentByteIndex
        if len(self._open) > MAX_DEPTH:
            raise XmpError(f"its elements are nested more than {MAX_DEPTH} deep")
        inside = parent.level in {1, 3, 4} or (parent.level == 2 and name in LISTS)
        level = 1 if name == f"{RDF} RDF" else parent.level + 1 if inside else 0
        tag = _TAG.match(self._data, start)
        element = _Element(name, level, start, tag.end() if tag else start)
        self._open.append(element)
        if level:
            (parent.children if level > 1 else self._roots).append(element)
        if level == 2:
            self._about = attributes.get(f"{RDF} about") or attributes.get("about") or self._about
            for attribute in LISTS.keys() & attributes:
                raise XmpError(f"its {LISTS[attribute]} is not a list")
        if parent.level == 5:
            parent.text = "\0"  # no plain text, so it is nobody's keyword

    def _end(self, _name: str) -> None:
        element = self._open.pop()
        element.close = element.end = self._parser.CurrentByteIndex
        if self._data[element.inside - 2 : element.inside] != b"/>":
            element.end = self._data.index(b">", element.close) + 1

    def _text(self, text: str) -> None:
        if self._open[-1].level == 5:
            self._open[-1].text += text

    def _items(self, name: str) -> list[_Element]:
        return [item for each in self._lists[name] for item in each.children]

    def _texts(self, name: str, prefix: str = "") -> list[str]:
        return [item.text for item in self._items(name) if item.text.startswith(prefix)]

    def said(self, question: str, labels: Collection[str]) -> set[str]:
        """Return the labels that this tool wrote: those it noted, and of `labels`, the known ones.

        Other programs may drop the notes, and other people may have keywords below the question's.
        """
        noted = {text[len(question) + 1 :] for text in self._texts(KEYWORDS, f"{question}|")}
        paths = self._texts(HIERARCHY)
        return {label for label in {*labels, *noted} - {""} if f"{question}|{label}" in paths}

    # --- writing ---

    def saying(self, question: str, label: str, who: str, labels: Collection[str]) -> bytes:
        """Return the text with a label in place of what was said of the question.

        `who` decided, if anybody; an empty label takes back what was said. `labels` as in `said`.
        """
        prefix, said = f"{question}|", self.said(question, labels)
        notes, flat = self._texts(KEYWORDS, prefix), self._texts(SUBJECT)
        ours = {note[len(prefix) :] for note in notes} - {""} if notes else said
        old_paths = {prefix + each for each in said}
        needed = {path.split("|")[-1] for path in self._texts(HIERARCHY) if path not in old_paths}
        added = ours | {note.partition("|")[2] for note in self._texts(KEYWORDS)}
        note = prefix + label * (label not in flat or label in added)
        changes = [
            (SUBJECT, ours - needed, label),
            (HIERARCHY, old_paths, label and prefix + label),
            (KEYWORDS, notes, label and note),
            (CHECKED_BY, self._texts(CHECKED_BY, prefix), who and prefix + who),
        ]
        edits = [edit for change in changes for edit in self._replaced(*change)]
        new = [(name, text) for name, _, text in changes if text and not self._lists[name]]
        data = self._data
        for start, end, text in sorted(edits + self._block(new), reverse=True):
            data = data[:start] + text.encode(self._encoding, "xmlcharrefreplace") + data[end:]
        return data

    def _replaced(self, name: str, old: Collection[str], new: str) -> Iterator[_Edit]:
        """Yield the edits that leave `new`, if anything, in place of the old items of a list."""
        add = "" if new in self._texts(name) else escape(new)
        for item in self._items(name):
            if item.text in old and item.text != new:
                if add:  # in its place, so that nothing around it changes
                    yield item.inside, item.close, add
                else:
                    yield item.start - len(self._space(item)), item.end, ""
                add = ""
        if add and self._lists[name]:
            bag = self._lists[name][0]
            li = self._tag(bag)[: -len("Bag")] + "li"
            yield self._appended(bag, f"<{li}>{add}</{li}>")

    def _block(self, new: list[tuple[str, str]]) -> list[_Edit]:
        """Return the edit that adds lists of one item each."""
        spaces = "".join(f'\n    xmlns:{prefix}="{uri}"' for prefix, uri in NAMESPACES.items())
        bag = "<rdf:Bag>\n     <rdf:li>{}</rdf:li>\n    </rdf:Bag>"
        lists = "".join(
            f"\n   <{name}>\n    {bag.format(escape(text))}\n   </{name}>" for name, text in new
        )
        tag = f"rdf:Description rdf:about={quoteattr(self._about)}{spaces}"
        block = f"<{tag}>{lists}\n  </rdf:Description>"
        return [self._appended(self._roots[0], block)] if new else []

    def _appended(self, parent: _Element, text: str) -> _Edit:
        """Return the edit that puts an element behind the last of its parent."""
        if parent.children:
            last = parent.children[-1]
            return last.end, last.end, self._space(last) + text
        if parent.inside < parent.end:
            return parent.inside, parent.inside, f"\n  {text}"
        return parent.end - 2, parent.end, f">{text}</{self._tag(parent)}>"

    def _tag(self, element: _Element) -> str:
        found = _TAG.match(self._data, element.start)
        return found[1].decode(self._encoding) if found else ""

    def _space(self, element: _Element) -> str:
        """Return the white space before an element."""
        before = self._data[max(0, element.start - 100) : element.start]
        return before[len(before.rstrip(b" \t\r\n")) :].decode()
