"""What is not a photo, by its name or its first bytes."""

from __future__ import annotations

import pytest

from alpaca_labeler.photos import skip
from alpaca_labeler.photos.skip import Kind, Skip, Skipped
from tests.fuzz.seeds import drawn, encoded

HEX, ZEROS = 32 * "a", 40 * "0"
UUID = "01234567-89ab-cdef-0123-456789abcdef"


PATHS = {
    None: f"""
        a.jpg farm/2026/A.JPEG a.b/c.PNG DSC_1.NEF x/../y/./a.jpg //a.jpg originals/a.jpg
        resources/a.jpg Photos.photoslibrary/originals/0/a.heic thumbnails/a.jpg
        previews/dad/1.jpg iPhoto.photolibrary/Masters/2012/a.jpg cache/IMG_20260131.jpg
        previews/2026/1.jpg eaDir/a.jpg geocache/a/1.jpg {HEX}/ab/1.jpg CaptureOne/a.jpg
        recycled/a.jpg recycle/a.jpg cloud/a.jpg Shoot.cocatalog/Originals/a.jpg no%suffix
        previews/paris%2026/1.jpg thumbs%up/01/1.jpg two%thumbs/a/1.jpg""",
    Kind.SYSTEM: f"""
        farm/@eaDir|/a.jpg/SYNOPHOTO_THUMB_M.jpg #recycle|/a.jpg @Recycle|/a.jpg
        x/__MACOSX|/._a.jpg $Recycle.Bin|/S-1-5/$R1.jpg c/Cat%Previews.lrdata|/0/1.jpg
        System%Volume%Information|/a.jpg iPhoto%Library/Modified|/a.jpg
        P.photoslibrary/resources|/derivatives/a.jpeg Shoot.cocatalog/Cache|/a.jpg
        Old.aplibrary/Thumbnails|/a.jpg immich/thumbs|/kim/ab/cd/1_preview.jpeg
        thumbs|/{UUID}/1-thumbnail.webp nc/appdata_oc1|/preview/12345/256-256-crop.jpg
        nc/kim/files_trashbin|/files/a.jpg.d1700000000 nc/kim/files_versions|/a.jpg.v1700000000
        storage/sidecar|/2026/a.heic.jpg
        storage/cache|/thumbnails/a/b/c/{ZEROS}_224x224_center.jpg site/DeletedFiles|/b.jpg
        s/CaptureOne/Cache|/Thumbnails/a.jpg.cot square_thumbnails_small|/{HEX}.webp
        thumbs128|/thumb0000000000000001.jpg Thumbnails|/f/f0123456.jpg
        _data/i|/upload/2026/a-th.jpg kim/thumbnails|/123456/36-36.png
        mipmaps-{ZEROS}.d|/3/17.jpg""",
    Kind.HIDDEN: """
        .thumbnails|/a.jpg c/.ipynb_checkpoints|/a.jpg farm/._a.jpg| .trashed-17-a.jpg|
        .notes.txt.icloud|""",
    Kind.NOT_DOWNLOADED: "b/.IMG_1.HEIC.icloud| IMG_1.JPG.owncloud| IMG_1.jpg.crdownload|",
    Kind.MARKER: "farm/| farm_$folder$|",
    Kind.OTHER: "notes.txt| a.jpg.xmp|",
}
"""Kind: paths, in which `%` is a space and `|` ends the folder or name that is skipped."""


@pytest.mark.parametrize(
    ("kind", "marked"), [(kind, path) for kind, paths in PATHS.items() for path in paths.split()]
)
def test_a_path_is_skipped_by_its_outermost_folder_or_its_name(kind, marked):
    place, _, rest = marked.replace("%", " ").partition("|")
    assert skip.by_path(place + rest) == (Skip(kind, place) if kind else None)
    if rest:
        folder = (place + rest).rpartition("/")[0]
        assert skip.by_folder(folder) in (Skip(kind, place), None)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_photos_begin_like_photos(form):
    assert skip.begins_like_a_photo(encoded(drawn(), form)[: skip.SNIFFED_BYTES])


@pytest.mark.parametrize(
    ("start", "is_photo", "is_heic"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", True, True),
        (b"\0\0\0\x18ftypmiaf\0\0\0\0mif1heic", True, True),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", True, False),
        (b"\0\0\0\x18ftypavif\0\0\0\0mif1miaf", True, False),
        (b"\0\0\0\x14ftypqt  \0\0\0\0qt  heic", False, False),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", True, False),
    ],
)
def test_iso_media_files_are_told_by_their_brands(start, is_photo, is_heic):
    assert (skip.begins_like_a_photo(start), skip.is_heic(start)) == (is_photo, is_heic)


TEXTS = [
    *(b"", b"BM", b"GIF87a", b"GIF89a is a format of 1989"),
    *(b"BMW notes: the oil was changed\n", b"RIFF WEBP and others compared, a study"),
    b"BM and then \0 some zeros \0\0\0\0 that are no header",
]


@pytest.mark.parametrize("text", TEXTS)
def test_text_does_not_begin_like_a_photo(text):
    assert not skip.begins_like_a_photo(text[: skip.SNIFFED_BYTES])


def test_a_tally_counts_a_folder_once_and_names_some_placeholders():
    skipped = Skipped()
    placeholders = [f".{number}.jpg.icloud" for number in range(9)]
    others = ["@eaDir/1.jpg", "@eaDir/2.jpg", "x/@eaDir/1.jpg", "a.txt", "b.txt"]
    for path in others + placeholders:
        found = skip.by_path(path)
        assert found, path
        skipped.add(found)
    assert skipped.counts == {Kind.SYSTEM: 2, Kind.OTHER: 2, Kind.NOT_DOWNLOADED: 9}
    assert skipped.not_downloaded == placeholders[:5]
