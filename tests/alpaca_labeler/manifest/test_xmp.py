"""Labels in sidecars: what others wrote stays, whatever they wrote and with which program."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
from datetime import UTC, datetime
from xml.sax.saxutils import escape

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from alpaca_labeler.main import main
from alpaca_labeler.manifest.xmp import EMPTY, NAMESPACES, RDF, Sidecar
from alpaca_labeler.table.facts import Answer, Failure, Read
from alpaca_labeler.table.row import Row
from tests.support.permissions import without_overrides

LABELS = ("alpaca", "not alpaca")
SPACES = " ".join(f'xmlns:{prefix}="{NAMESPACES[prefix]}"' for prefix in ("rdf", "dc", "lr"))
EXIFTOOL = f"""<?xpacket begin='\ufeff' id='W5M0MpCehiHzreSzNTczkc9d'?>
<x:xmpmeta xmlns:x='adobe:ns:meta/' x:xmptk='Image::ExifTool 12.57'>
<rdf:RDF xmlns:rdf='{RDF}'>

 <rdf:Description rdf:about=''
  xmlns:dc='{NAMESPACES["dc"]}'>
  <dc:subject>
   <rdf:Bag>
    <rdf:li>barn</rdf:li>
    <rdf:li>Kim &amp; Bo</rdf:li>
   </rdf:Bag>
  </dc:subject>
 </rdf:Description>
</rdf:RDF>
</x:xmpmeta>
<?xpacket end='w'?>"""
DARKTABLE = f"""<?xml version="1.0" encoding="UTF-8"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0-Exiv2">
 <rdf:RDF {SPACES}>
  <rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:darktable="http://darktable.sf.net/" xmp:Rating="4" darktable:history_end="1">
   <darktable:history><rdf:Seq>
     <rdf:li darktable:num="0" darktable:operation="exposure" darktable:params="00>00"/>
   </rdf:Seq></darktable:history>
   <dc:subject><rdf:Seq><rdf:li>barn</rdf:li></rdf:Seq></dc:subject>
   <lr:hierarchicalSubject><rdf:Seq><rdf:li>farm|barn</rdf:li></rdf:Seq></lr:hierarchicalSubject>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
"""
TAGS = '<d:TagsList xmlns:d="http://www.digikam.org/ns/1.0/"><rdf:Seq>\n<rdf:li>farm/barn'
DIGIKAM = DARKTABLE.replace("rdf:Seq", "rdf:Bag").replace(
    "<dc:subject>", f"{TAGS}</rdf:li></rdf:Seq></d:TagsList>\n<dc:subject>"
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Photos a.jpg (alpaca), b.jpg and b.png (not alpaca) in the current folder."""
    monkeypatch.chdir(tmp_path)
    for name, label in (("a.jpg", "alpaca"), ("b.jpg", "not alpaca"), ("b.png", "not alpaca")):
        (tmp_path / name).write_bytes(b"a photo")
        add(row(name, label))
    return tmp_path


def row(name, label="alpaca", failure=None):
    read = Read("2026-01-01T00:00:00.000000Z", f"sha256:{name}")
    index = LABELS.index(label) ^ 1 if label else None
    return Row(name, read, Answer("1-a", label, index, "alpaca", 0.9, failure=failure))


def add(*rows):
    with open("manifest.jsonl", "ab") as file:
        file.writelines(each.to_line() for each in rows)


def decide(name, label, who="kim"):
    add(row(name).decided(label, who, datetime.now(UTC), attribute="alpaca"))


def export(*words, code=0):
    """Export, and return what was said."""
    done = CliRunner().invoke(main, ["manifest", "export", "--format", "xmp", *words])
    assert done.exit_code == code, done.output
    return done.output.splitlines()


def exiftool(path):
    """Return a sidecar as exiftool reads it."""
    if shutil.which("exiftool") is None:
        pytest.skip("exiftool is not installed")
    words = ["exiftool", "-json", "-struct", "-G1", "-xmp:all", path]
    [found] = json.loads(subprocess.run(words, capture_output=True, check=True).stdout)
    return {key: value for key, value in found.items() if key != "SourceFile"}


def said(label):
    path = [f"alpaca|{label}"]
    keywords = {"XMP-dc:Subject": [label], "XMP-lr:HierarchicalSubject": path}
    return {**keywords, "XMP-alpaca:Keywords": path}


def texts(data, name="dc:subject"):
    return Sidecar(data)._texts(name)


def say(data, label, question="alpaca", labels=LABELS):
    return Sidecar(data).saying(question, label, "", labels)


def test_a_person_decides_otherwise_and_one_keyword_changes(folder):
    assert export("--dry-run")[0].startswith("3 sidecars would be written: keyword alpaca 1")
    assert not [*folder.glob("*.xmp")]
    assert export() == ["3 sidecars: keyword alpaca 1, not alpaca 2"]
    first, other = exiftool("a.jpg.xmp"), os.stat("b.jpg.xmp").st_mtime_ns
    before = (folder / "a.jpg.xmp").read_text().splitlines()
    assert first == {"XMP-x:XMPToolkit": "alpaca-labeler", **said("alpaca")}

    decide("a.jpg", "not alpaca")
    assert export() == [
        "3 sidecars: keyword not alpaca 3; 1 checked by kim",
        "1 existing sidecar merged: nothing else in them changed",
        "2 existing sidecars said so already",
    ]
    checked = {"XMP-alpaca:CheckedBy": ["alpaca|kim"]}
    assert exiftool("a.jpg.xmp") == first | said("not alpaca") | checked
    gone = {*before} - {*(folder / "a.jpg.xmp").read_text().splitlines()}
    assert {line.strip() for line in gone} == {
        f"<rdf:li>{text}</rdf:li>" for text in ("alpaca", "alpaca|alpaca")
    }
    assert os.stat("b.jpg.xmp").st_mtime_ns == other
    assert {path.read_bytes() for path in folder.glob("*.[jp][pn]g")} == {b"a photo"}


@pytest.mark.parametrize("program", [EXIFTOOL, DARKTABLE, DIGIKAM])
def test_what_a_program_wrote_stays(folder, program):
    (folder / "a.jpg.xmp").write_text(program)
    before = exiftool("a.jpg.xmp")
    for label in ("alpaca", "not alpaca", "alpaca"):
        decide("a.jpg", label)
        export()
        ours = {**said(label), "XMP-alpaca:CheckedBy": ["alpaca|kim"]}
        lists = {key: [*before.get(key, []), *ours[key]] for key in ours}
        assert exiftool("a.jpg.xmp") == before | lists


WORDS = st.text(st.characters(exclude_categories=["C"]), min_size=1).filter(
    lambda word: word.strip() not in LABELS and "|" not in word
)


@st.composite
def sidecars(draw):
    """Draw a sidecar, however it is written, and its keywords."""
    rdf = draw(st.sampled_from(["rdf:", "R:", ""]))
    end = draw(st.sampled_from(["", "\n ", "\r\n\t"]))
    odd = draw(st.sampled_from(["", "<!-- <rdf:li>alpaca</rdf:li> -->", "<?odd x>y?>"]))
    bag = rdf + draw(st.sampled_from(["Bag", "Seq", "Alt"]))
    words = draw(st.lists(WORDS, max_size=3))
    items = "".join(f"{end}<{rdf}li>{escape(word)}</{rdf}li>{odd}" for word in words)
    inner = f"<{bag}>{items}{end}</{bag}>" if words else f"<{bag}/>"
    subject = f"{odd}<d:subject>{odd}{end}{inner}</d:subject>{end}" * draw(st.booleans())
    struct = "<x:y a='>'><d:subject>alpaca</d:subject><x:z/></x:y>"
    begin = draw(st.sampled_from(["", "\ufeff", "<!DOCTYPE m>", '<?xml version="1.0"?>', odd]))
    text = f"""{begin}<m xmlns:x='urn:x' xmlns:d="{NAMESPACES["dc"]}">{odd}
<{rdf}RDF {f"xmlns:{rdf}".rstrip(":")}='{RDF}'>{odd}{end}<{rdf}Description about='é'
x:b = "&quot;/>">{struct}{subject}</{rdf}Description>{odd}{end}</{rdf}RDF>{end}</m>{odd}"""
    return text.encode(), words if subject else []


def without_ours(data):
    """Return the text without what this tool adds; else it must be the same byte for byte."""
    block = r"\s*<rdf:Description[^<]*xmlns:alpaca=.*?</rdf:Description>"
    text = re.sub(block, "", data.decode(), flags=re.DOTALL)
    text = re.sub(r"\s*<((?:\w+:)?li)>(not )?alpaca</\1>(?! -->)", "", text)
    return re.sub(r"<((?:\w+:)?(?:Bag|Seq|Alt))></\1>", r"<\1/>", text)


STEPS = st.lists(st.tuples(st.sampled_from([*LABELS, ""]), st.sampled_from(["kim", ""])))


@given(sidecars(), STEPS)
def test_nothing_but_our_own_keyword_ever_changes(sidecar, steps):
    before, words = data, _ = sidecar
    for label, who in steps:
        data = Sidecar(data).saying("alpaca", label, label and who, LABELS)
        assert Sidecar(data).saying("alpaca", label, label and who, LABELS) == data
        assert texts(data) == [*words, *filter(None, [label])]
        assert texts(data, "alpaca:checkedBy") == [f"alpaca|{who}"] * bool(label and who)
        assert without_ours(data) == without_ours(before)


def test_a_keyword_that_somebody_else_wrote_stays_when_the_label_changes():
    kims = EXIFTOOL.replace("barn", "alpaca").encode()
    assert texts(say(say(kims, "alpaca"), "not alpaca")) == ["alpaca", "Kim & Bo", "not alpaca"]
    path = DARKTABLE.replace("farm|barn", "animal|alpaca").encode()
    assert "alpaca" in texts(say(say(path, "alpaca"), "not alpaca"))
    below = say(DARKTABLE.replace("farm|barn", "alpaca|Bella").encode(), "alpaca")
    assert "alpaca|Bella" in texts(say(below, "not alpaca"), "lr:hierarchicalSubject")


def test_two_questions_with_the_same_answer_share_a_keyword():
    seen, data = [], EMPTY
    for label in ("yes", "no", "yes"):
        for question in ("wool", "ears"):
            data = say(data, label, question, ["yes", "no"])
            seen.append(sorted(texts(data)))
    assert seen == [["yes"], ["yes"], ["no", "yes"], ["no"], ["no", "yes"], ["yes"]]


def test_a_keyword_is_known_for_ours_if_another_program_dropped_our_notes():
    notes = rb"<alpaca:keywords>.*</alpaca:keywords>"
    dropped = re.sub(notes, b"", say(EMPTY, "alpaca"), flags=re.DOTALL)
    assert texts(say(dropped, "not alpaca")) == ["not alpaca"]


HOSTILE = [
    ("broken XML", b""),
    ("broken XML", b"\xff\xd8\xff\xe0JFIF"),
    ("broken XML", EXIFTOOL[:-300].encode()),
    ("entity", b"<!DOCTYPE x [<!ENTITY a 'aa'><!ENTITY b '&a;&a;'>]><x>&b;</x>"),
    ("entity", b"<!DOCTYPE x [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><x>&a;</x>"),
    ("no XMP", b"<html><p>404</p></html>"),
    ("not in UTF-8", EXIFTOOL.encode("utf-16")),
    ("deep", b"<x>" * 5000),
    ("over the limit", b" " * (16 * 2**20 + 1)),
    ("is not a list", DARKTABLE.replace("rdf:Seq", "rdf:Map").encode()),
    ("is not a list", DARKTABLE.replace("xmp:Rating", "dc:subject").encode()),
]


@pytest.mark.parametrize(("why", "data"), HOSTILE)
def test_a_sidecar_that_cannot_be_edited_is_named_and_stays(folder, why, data):
    (folder / "a.jpg.xmp").write_bytes(data)
    problem, *rest = export(code=1)
    assert re.search(f"a.jpg.xmp: .*{why}", problem)
    assert rest == ["2 sidecars: keyword not alpaca 2", "Error: 1 sidecar could not be written"]
    assert (folder / "a.jpg.xmp").read_bytes() == data


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink("x", path)])
def test_what_stands_in_a_sidecars_place_stays(make):
    make("a.jpg.xmp")
    assert "a.jpg.xmp: " in export(code=1)[0]
    assert not os.path.isfile("a.jpg.xmp")


def test_a_disk_that_takes_no_more_loses_nothing(folder):
    (folder / "a.jpg.xmp").write_text(EXIFTOOL)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, before[1]))
    try:
        said = export(code=1)[:3]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert said == [f"{folder}/{each}.xmp: File too large" for each in ("a.jpg", "b.jpg", "b.png")]
    assert (folder / "a.jpg.xmp").read_text() == EXIFTOOL
    assert len([*folder.iterdir()]) == 5


@pytest.mark.parametrize("locked", [".", "a.jpg.xmp"])
def test_what_is_read_only_stays(folder, locked):
    (folder / "a.jpg.xmp").write_text(EXIFTOOL)
    os.chmod(locked, 0o555)
    with without_overrides():
        assert export(code=1)[0].endswith("a.jpg.xmp: Permission denied")
    os.chmod(locked, 0o755)
    assert (folder / "a.jpg.xmp").read_text() == EXIFTOOL


def test_adobes_name_may_stand_for_two_photos_that_agree(folder):
    assert export("--xmp-style", "adobe") == ["2 sidecars: keyword alpaca 1, not alpaca 1"]
    decide("b.png", "alpaca")
    assert "b.xmp: photos of different labels share it" in export("--xmp-style", "adobe", code=1)[0]
    assert texts((folder / "b.xmp").read_bytes()) == ["not alpaca"]


def test_photos_that_cannot_have_a_sidecar_are_counted(folder):
    add(row("a.cr2", None, Failure("unsupported")), row(str(folder / "a.jpg")))
    add(*map(row, ["s3://b/a.jpg", "/etc/hostname", "../a.jpg", "gone.jpg", "nul\0.jpg"]))
    assert export() == [
        "3 sidecars: keyword alpaca 1, not alpaca 2",
        "1 left out: in a bucket, where no sidecar can lie beside it",
        "2 left out: no longer there",
        "2 left out: outside the manifest's folder",
        "1 left out: without a label",
    ]


def test_only_some_labels_are_written_and_those_that_no_longer_hold_taken_back(folder):
    assert export("--only", "alpaca")[0] == "1 sidecar: keyword alpaca 1"
    decide("b.png", "not alpaca", "ana")
    assert export("--checked")[0] == "1 sidecar: keyword not alpaca 1; 1 checked by ana"
    decide("a.jpg", "not alpaca")
    decide("b.jpg", "alpaca")
    assert export("--only", "alpaca")[:2] == [
        "1 sidecar: keyword alpaca 1; 1 checked by kim",
        "1 existing sidecar cleared of a label that no longer holds",
    ]
    assert texts((folder / "a.jpg.xmp").read_bytes()) == []
    assert texts((folder / "b.png.xmp").read_bytes()) == ["not alpaca"]


@pytest.mark.usefixtures("folder")
def test_options_of_other_formats_are_refused():
    assert "name no output" in export("-o", "x.xmp", code=2)[-1]
    assert "are for --format xmp" in export("--format", "csv", "--checked", code=2)[-1]
