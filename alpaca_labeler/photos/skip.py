"""The one rule of which files, folders and keys are skipped by their names.

Folders, buckets, the function, the audit and training all ask here. It never touches a disk or a
network. `Kind.OTHER` does not decide alone: code that has the content checks that too.
"""

from __future__ import annotations

import functools
import os
import re
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple, Self

RAW_SUFFIXES: Final = frozenset(
    ".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .fff .iiq .k25 .kdc .mef .mos .mrw .nef .nrw .orf .pef"
    " .raf .raw .rw2 .rwl .sr2 .srf .srw .x3f".split()
)
"""RAW photos. They are read, and fail with a message that says what to do, so none is missed."""
SUFFIXES: Final = RAW_SUFFIXES | frozenset(
    ".jpg .jpeg .jpe .jfif .png .apng .webp .gif .bmp .tif .tiff .avif .heic .heif .hif".split()
)
SNIFFED_BYTES: Final = 32
"""Bytes at a file's start that `begins_like_a_photo` needs."""
_SYSTEM_FOLDERS: Final = frozenset(
    # Synology, QNAP, Netgear, NetApp, Windows, Linux, macOS, Nextcloud, Timelapse
    "@eadir @tmp #recycle #snapshot ~snapshot @recycle @recently-snapshot @__thumb $recycle.bin"
    " recycler lost+found __macosx files_trashbin files_versions deletedfiles".split()
) | {"system volume information", "network trash folder", "temporary items"}
_PROGRAMS: Final = ("/captureone/cache", "/captureone/settings", "/storage/sidecar", "/_data/i")
"""Folders of Capture One, PhotoPrism and Piwigo, with the folder around each."""
_CACHE: Final = re.compile(
    r"(?:thumbs?|(?:.*[^a-z])?(?:cache|previews?|thumbnails?|mipmaps?|proxies))"
    r"(?:[-_]?(?:[0-9x]+|big|small|medium|large|[0-9a-f]{16}.*))?"
)
"""Matches the name of a folder that may be a program's cache of smaller pictures ..."""
_CONTENT_NAME: Final = re.compile(
    r"[0-9a-f]{1,2}|[0-9]{3}|[0-9]{5,7}"
    r"|.*[0-9a-f]{16}.*|.*[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}.*"
)
"""... and is one if names in it are digests, or ids, or their first digits, as no person names."""
_LIBRARIES: Final = (
    *(".photoslibrary", ".photolibrary", ".migratedphotolibrary", "iphoto library"),
    *(".aplibrary", ".cocatalog"),
)
"""Ends of names of libraries (Photos, iPhoto, Aperture, Capture One), with copies of each photo:
only `originals` or `masters` hold it once, as it was taken."""
_PLACEHOLDERS: Final = frozenset(
    ".icloud .nextcloud .owncloud .opencloud .cloud .rsls .crdownload .part".split()
)
"""Suffixes of iCloud, Nextcloud, ownCloud, OpenCloud, odrive, Resilio and unfinished downloads."""
TIFF_STARTS: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""TIFF and BigTIFF, of either byte order."""
RAW_STARTS: Final = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FOVb", b"\0MRM")
"""RAW files that are not TIFF: of Fujifilm, Olympus, Panasonic, Sigma, Minolta."""
_STARTS: Final = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF87a", b"GIF89a", *TIFF_STARTS, *RAW_STARTS)
_DIB_HEADERS: Final = frozenset({12, 16, 40, 52, 56, 64, 108, 124})  # sizes, of bitmaps
HEIC_BRANDS: Final = frozenset(b"heic heix heim heis hevc hevx hevm hevs mif1 msf1".split())
AVIF_BRANDS: Final = frozenset({b"avif", b"avis"})
_BRANDS: Final = HEIC_BRANDS | AVIF_BRANDS | {b"crx "}


class Kind(StrEnum):
    """Why something is skipped. The value is stable, for programs; `text` is for people."""

    text: str

    def __new__(cls, value: str, text: str) -> Self:
        """Make a kind of its value and its text."""
        kind = str.__new__(cls, value)
        kind._value_, kind.text = value, text
        return kind

    HIDDEN = "hidden", "hidden"
    SYSTEM = "system", "kept by a system or a photo program"
    NOT_DOWNLOADED = "not-downloaded", "in a cloud drive, not downloaded"
    MARKER = "folder-marker", "folder markers"
    LINK = "linked-folder", "linked folders that overlap others"
    OTHER = "not-an-image", "not images"


class Skip(NamedTuple):
    """One file or folder that is skipped."""

    kind: Kind
    place: str
    """The file, or the outermost folder that is skipped with all that is in it."""


@dataclass(slots=True)
class Skipped:
    """A tally of what was skipped: each folder counts once, whatever it holds."""

    counts: Counter[Kind] = field(default_factory=Counter)
    not_downloaded: list[str] = field(default_factory=list)
    """The first `SHOWN` placeholders of photos that are not on this disk."""
    folders: list[str] = field(default_factory=list)
    """Folders that cannot be read."""
    _last: Skip | None = None
    SHOWN = 5

    def add(self, skip: Skip) -> None:
        """Count it. A bucket lists the keys of one folder in a row: only the first counts."""
        if skip == self._last:
            return
        self._last = skip
        self.counts[skip.kind] += 1
        if skip.kind is Kind.NOT_DOWNLOADED and len(self.not_downloaded) < self.SHOWN:
            self.not_downloaded.append(skip.place)


def by_path(path: str, top: str = "") -> Skip | None:
    """Tell whether a file or key is skipped, by its folders and its name.

    `path` is separated by `/` and begins below `top`, the path of the folder that a person named:
    anyone who asks for `photos/@eaDir/` means it. A marker ends with `/`.
    """
    folder, _, name = path.rpartition("/")
    found, cache = _folders(folder, top)
    if found:
        return found
    if cache and _CONTENT_NAME.fullmatch(name.lower()):
        return Skip(Kind.SYSTEM, cache)
    kind = of_file(name) if name else Kind.MARKER
    return Skip(kind, path) if kind else None


def by_folder(path: str, top: str = "") -> Skip | None:
    """Tell whether a folder is skipped with all that is in it, by its name and those around it."""
    return _folders(path, top)[0]


@functools.lru_cache(maxsize=256)
def _folders(path: str, top: str) -> tuple[Skip | None, str]:
    """Tell whether a folder is skipped, and in which folder it lies that may be a cache."""
    names = path.split("/")
    parent, cache = top.lower(), ""
    for index, name in enumerate(map(str.lower, names), 1):
        place = "/".join(names[:index])
        if kind := _of_folder(name, parent):
            return Skip(kind, place), ""
        if cache and _CONTENT_NAME.fullmatch(name):
            return Skip(Kind.SYSTEM, cache), ""
        if _CACHE.fullmatch(name):
            cache = cache or place
        parent = name
    return None, cache


def _of_folder(name: str, parent: str) -> Kind | None:
    if name.startswith(".") and name not in {".", ".."}:  # keys may hold these two
        return Kind.HIDDEN
    if (
        name in _SYSTEM_FOLDERS
        or name.startswith("appdata_")  # of Nextcloud: previews, avatars
        or name.endswith((".lrdata", ".lrcat-data"))  # of Lightroom: previews
        or f"/{parent}/{name}".endswith(_PROGRAMS)
        or (parent.endswith(_LIBRARIES) and name not in {"originals", "masters"})
    ):
        return Kind.SYSTEM
    return None


def of_file(name: str) -> Kind | None:
    """Tell whether a file is skipped, by its name alone."""
    stem, suffix = os.path.splitext(name.lower())
    if suffix in _PLACEHOLDERS and stem.endswith(tuple(SUFFIXES)):
        return Kind.NOT_DOWNLOADED
    if name.startswith("."):
        return Kind.HIDDEN
    if name.endswith("_$folder$"):
        return Kind.MARKER
    # Names without a suffix are common in buckets and caches.
    return Kind.OTHER if suffix and suffix not in SUFFIXES else None


def begins_like_a_photo(start: bytes) -> bool:
    """Tell from the first `SNIFFED_BYTES` of a file whether a photo may follow."""
    if not any(byte < 9 for byte in start):
        return False  # text may begin with a magic number, but only a photo has bytes below 9
    return (
        start.startswith(_STARTS)
        or (start.startswith(b"BM") and int.from_bytes(start[14:18], "little") in _DIB_HEADERS)
        or (start[:4] == b"RIFF" and start[8:12] == b"WEBP")
        or not _BRANDS.isdisjoint(brands(start))
    )


def is_heic(start: bytes) -> bool:
    """Tell from the first bytes of a file whether it is HEIC, by any of its brands."""
    found = brands(start)
    return not HEIC_BRANDS.isdisjoint(found) and not AVIF_BRANDS & {*found}


def brands(start: bytes) -> list[bytes]:
    """Return the brands of an ISO media file, the major one first; none for other files."""
    if start[4:8] != b"ftyp":
        return []
    size = min(int.from_bytes(start[:4]), len(start))
    return [start[8:12], *(start[place : place + 4] for place in range(16, size, 4))]
