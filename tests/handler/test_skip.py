"""What is not a photo, by its name or its first bytes."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from alpaca_labeler.handler import skip
from alpaca_labeler.handler.skip import Kind, Skip, Skipped


@pytest.mark.parametrize(
    "path",
    [
        "a.jpg",
        "farm/2026/A.JPEG",
        "no suffix",
        "a.b/c.PNG",
        "DSC_1.NEF",
        "x/../y/./a.jpg",
        "//a.jpg",
        "originals/a.jpg",
        "resources/a.jpg",
        "Photos.photoslibrary/originals/0/a.heic",
        "iPhoto.photolibrary/Masters/2012/a.jpg",
        "thumbnails/a.jpg",
        "recycled/a.jpg",
        "Shoot.cocatalog/Originals/a.jpg",
        "recycle/a.jpg",
        "eaDir/a.jpg",
        "cloud/a.jpg",
    ],
)
def test_photos_are_not_skipped(path):
    assert skip.by_path(path) is None


@pytest.mark.parametrize(
    ("path", "place", "kind"),
    [
        ("farm/@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg", "farm/@eaDir", Kind.SYSTEM),
        ("#recycle/a.jpg", "#recycle", Kind.SYSTEM),
        ("#snapshot/GMT+01/a.jpg", "#snapshot", Kind.SYSTEM),
        ("@Recycle/a.jpg", "@Recycle", Kind.SYSTEM),
        ("$Recycle.Bin/S-1-5/$R1.jpg", "$Recycle.Bin", Kind.SYSTEM),
        ("System Volume Information/a.jpg", "System Volume Information", Kind.SYSTEM),
        ("x/__MACOSX/._a.jpg", "x/__MACOSX", Kind.SYSTEM),
        ("Network Trash Folder/a.jpg", "Network Trash Folder", Kind.SYSTEM),
        ("c/Cat Previews.lrdata/0/1.jpg", "c/Cat Previews.lrdata", Kind.SYSTEM),
        (
            "P.photoslibrary/resources/derivatives/a.jpeg",
            "P.photoslibrary/resources",
            Kind.SYSTEM,
        ),
        ("iPhoto Library/Modified/a.jpg", "iPhoto Library/Modified", Kind.SYSTEM),
        ("Shoot.cocatalog/Cache/a.jpg", "Shoot.cocatalog/Cache", Kind.SYSTEM),
        ("~snapshot/hourly.0/a.jpg", "~snapshot", Kind.SYSTEM),
        ("Old.aplibrary/Thumbnails/a.jpg", "Old.aplibrary/Thumbnails", Kind.SYSTEM),
        (".thumbnails/a.jpg", ".thumbnails", Kind.HIDDEN),
        ("c/.ipynb_checkpoints/a.jpg", "c/.ipynb_checkpoints", Kind.HIDDEN),
        (".@__thumb/a.jpg", ".@__thumb", Kind.HIDDEN),
        ("farm/._a.jpg", "farm/._a.jpg", Kind.HIDDEN),
        (".trashed-17-a.jpg", ".trashed-17-a.jpg", Kind.HIDDEN),
        ("b/.IMG_1.HEIC.icloud", "b/.IMG_1.HEIC.icloud", Kind.NOT_DOWNLOADED),
        ("IMG_1.jpg.nextcloud", "IMG_1.jpg.nextcloud", Kind.NOT_DOWNLOADED),
        ("IMG_1.JPG.owncloud", "IMG_1.JPG.owncloud", Kind.NOT_DOWNLOADED),
        ("IMG_1.jpg.crdownload", "IMG_1.jpg.crdownload", Kind.NOT_DOWNLOADED),
        (".notes.txt.icloud", ".notes.txt.icloud", Kind.HIDDEN),
        ("farm/", "farm/", Kind.MARKER),
        ("farm_$folder$", "farm_$folder$", Kind.MARKER),
        ("notes.txt", "notes.txt", Kind.OTHER),
        ("Thumbs.db", "Thumbs.db", Kind.OTHER),
    ],
)
def test_other_things_are_skipped_by_their_outermost_folder_or_name(path, place, kind):
    assert skip.by_path(path) == Skip(kind, place)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_photos_begin_like_photos(form):
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, form)
    assert skip.begins_like_a_photo(file.getvalue()[: skip.SNIFFED_BYTES])


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


@pytest.mark.parametrize(
    "text",
    [
        b"BMW notes: the oil was changed in May\n",
        b"BM",
        b"BM and then \0 some zeros \0\0\0\0 that are no header",
        b"GIF89a is a format of 1989",
        b"GIF87a",
        b"RIFF WEBP and others compared, a study",
        b"",
    ],
)
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


def test_each_kind_has_a_text_for_people():
    assert all(kind.text for kind in Kind)
