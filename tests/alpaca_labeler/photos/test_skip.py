"""What is not a photo, by its name or its first bytes."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from alpaca_labeler.photos import skip
from alpaca_labeler.photos.skip import Kind, Skip, Skipped

UUID = "01234567-89ab-cdef-0123-456789abcdef"


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
        "cache/IMG_20260131.jpg",
        "previews/paris 2026/1.jpg",
        "previews/2026/1.jpg",
        "previews/dad/1.jpg",
        "geocache/a/1.jpg",
        "thumbs up/01/1.jpg",
        "two thumbs/a/1.jpg",
        f"{32 * 'a'}/ab/1.jpg",
        "CaptureOne/a.jpg",
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
    ("path", "parts", "kind"),
    [
        ("farm/@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg", 2, Kind.SYSTEM),
        ("#recycle/a.jpg", 1, Kind.SYSTEM),
        ("@Recycle/a.jpg", 1, Kind.SYSTEM),
        ("$Recycle.Bin/S-1-5/$R1.jpg", 1, Kind.SYSTEM),
        ("System Volume Information/a.jpg", 1, Kind.SYSTEM),
        ("x/__MACOSX/._a.jpg", 2, Kind.SYSTEM),
        ("c/Cat Previews.lrdata/0/1.jpg", 2, Kind.SYSTEM),
        ("P.photoslibrary/resources/derivatives/a.jpeg", 2, Kind.SYSTEM),
        ("iPhoto Library/Modified/a.jpg", 2, Kind.SYSTEM),
        ("Shoot.cocatalog/Cache/a.jpg", 2, Kind.SYSTEM),
        ("Old.aplibrary/Thumbnails/a.jpg", 2, Kind.SYSTEM),
        ("immich/thumbs/kim/ab/cd/1_preview.jpeg", 2, Kind.SYSTEM),
        (f"thumbs/{UUID}/1-thumbnail.webp", 1, Kind.SYSTEM),
        ("nc/appdata_oc1/preview/12345/256-256-crop.jpg", 2, Kind.SYSTEM),
        ("nc/kim/files_trashbin/files/a.jpg.d1700000000", 3, Kind.SYSTEM),
        ("nc/kim/files_versions/a.jpg.v1700000000", 3, Kind.SYSTEM),
        (f"storage/cache/thumbnails/a/b/c/{40 * '0'}_224x224_center.jpg", 2, Kind.SYSTEM),
        ("storage/sidecar/2026/a.heic.jpg", 2, Kind.SYSTEM),
        ("s/CaptureOne/Cache/Thumbnails/a.jpg.cot", 3, Kind.SYSTEM),
        ("site/DeletedFiles/b.jpg", 2, Kind.SYSTEM),
        (f"square_thumbnails_small/{32 * 'a'}.webp", 1, Kind.SYSTEM),
        ("thumbs128/thumb0000000000000001.jpg", 1, Kind.SYSTEM),
        ("Thumbnails/f/f0123456.jpg", 1, Kind.SYSTEM),
        ("kim/thumbnails/123456/36-36.png", 2, Kind.SYSTEM),
        (f"mipmaps-{40 * '0'}.d/3/17.jpg", 1, Kind.SYSTEM),
        ("_data/i/upload/2026/a-th.jpg", 2, Kind.SYSTEM),
        (".thumbnails/a.jpg", 1, Kind.HIDDEN),
        ("c/.ipynb_checkpoints/a.jpg", 2, Kind.HIDDEN),
        ("farm/._a.jpg", 2, Kind.HIDDEN),
        (".trashed-17-a.jpg", 1, Kind.HIDDEN),
        (".notes.txt.icloud", 1, Kind.HIDDEN),
        ("b/.IMG_1.HEIC.icloud", 2, Kind.NOT_DOWNLOADED),
        ("IMG_1.JPG.owncloud", 1, Kind.NOT_DOWNLOADED),
        ("IMG_1.jpg.crdownload", 1, Kind.NOT_DOWNLOADED),
        ("farm/", 2, Kind.MARKER),
        ("farm_$folder$", 1, Kind.MARKER),
        ("notes.txt", 1, Kind.OTHER),
        ("a.jpg.xmp", 1, Kind.OTHER),
    ],
)
def test_other_things_are_skipped_by_their_outermost_folder_or_name(path, parts, kind):
    place = "/".join(path.split("/")[:parts])
    assert skip.by_path(path) == Skip(kind, place)
    if place != path:
        folder = path.rpartition("/")[0]
        assert skip.by_folder(folder) in (Skip(kind, place), None)


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
