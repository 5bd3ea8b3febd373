"""The one rule of which files, folders and keys are skipped by their names.

Folders, buckets, the function, the audit and training all ask here. Pure: it reads names and the
first bytes that it is given, never a disk or a network.

    what                                    names
    HIDDEN          hidden, AppleDouble     .x  ._x
    SYSTEM          NAS, system, program    @eaDir  $RECYCLE.BIN  x.photoslibrary/resources
    NOT_DOWNLOADED  in a cloud drive only   .x.jpg.icloud  x.jpg.nextcloud
    MARKER          a folder in a bucket    x/  x_$folder$
    LINK            link to a folder read anyway (found by `walk`, not by its name)
    OTHER           not named as a photo    notes.txt

`OTHER` does not decide alone: code that has the content checks that too.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

RAW_SUFFIXES: Final = frozenset(
    ".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .fff .iiq .k25 .kdc .mef .mos .mrw .nef .nrw .orf .pef"
    " .raf .raw .rw2 .rwl .sr2 .srf .srw .x3f".split()
)
"""RAW photos. They are read, and fail with a message that says what to do, so none is missed."""

SUFFIXES: Final = RAW_SUFFIXES | frozenset(
    ".jpg .jpeg .jpe .jfif .png .apng .webp .gif .bmp .tif .tiff .avif .heic .heif .hif".split()
)
"""Suffixes of photos, in lower case."""

SNIFFED_BYTES: Final = 32
"""Bytes at a file's start that `begins_like_a_photo` needs."""

_SYSTEM_FOLDERS: Final = frozenset(
    name.casefold()
    for name in (
        # Synology, QNAP, Netgear, NetApp
        *("@eaDir", "@tmp", "#recycle", "#snapshot", "~snapshot"),
        *("@Recycle", "@Recently-Snapshot", "@__thumb"),
        # Windows, Linux, and what macOS leaves in zip files and on shares
        *("$RECYCLE.BIN", "RECYCLER", "System Volume Information", "lost+found"),
        *("__MACOSX", "Network Trash Folder", "Temporary Items"),
    )
)
_PREVIEW_FOLDERS: Final = (".lrdata", ".lrcat-data")
"""Ends of the names of folders in which Lightroom keeps previews."""
_LIBRARIES: Final = (
    *(".photoslibrary", ".photolibrary", ".migratedphotolibrary", "iphoto library"),
    *(".aplibrary", ".cocatalog"),
)
"""Ends of names of libraries (Photos, iPhoto, Aperture, Capture One), with copies of each photo."""
_LIBRARY_PHOTOS: Final = frozenset({"originals", "masters"})
"""The folders of a library that hold each photo once, as it was taken."""

_PLACEHOLDERS: Final = frozenset(
    ".icloud .nextcloud .owncloud .opencloud .cloud .rsls .crdownload .part".split()
)
"""Suffixes of iCloud, Nextcloud, ownCloud, OpenCloud, odrive, Resilio and unfinished downloads."""

_HADOOP_MARKER: Final = "_$folder$"

_MAGIC: Final = (
    *(b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF87a", b"GIF89a"),
    *(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),  # TIFF, BigTIFF
    *(b"FUJIFILMCCD-RAW", b"IIRO", b"IIU\0", b"FOVb"),  # RAW files that are not TIFF
)
_DIB_HEADERS: Final = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
"""Sizes of the header that follows `BM` and 12 bytes in a bitmap."""
HEIC_BRANDS: Final = frozenset(b"heic heix heim heis hevc hevx hevm hevs mif1 msf1".split())
AVIF_BRANDS: Final = frozenset({b"avif", b"avis"})
_BRANDS: Final = HEIC_BRANDS | AVIF_BRANDS | {b"crx "}


class Kind(StrEnum):
    """Why something is skipped. The value is stable, for programs; `text` is for people."""

    HIDDEN = "hidden"
    SYSTEM = "system"
    NOT_DOWNLOADED = "not-downloaded"
    MARKER = "folder-marker"
    LINK = "linked-folder"
    OTHER = "not-an-image"

    @property
    def text(self) -> str:
        """A few words for a summary."""
        return _TEXTS[self]


_TEXTS: Final = {
    Kind.HIDDEN: "hidden",
    Kind.SYSTEM: "kept by a system or a photo program",
    Kind.NOT_DOWNLOADED: "in a cloud drive, not downloaded",
    Kind.MARKER: "folder markers",
    Kind.LINK: "linked folders that overlap others",
    Kind.OTHER: "not images",
}


@dataclass(frozen=True, slots=True)
class Skip:
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

    @property
    def others(self) -> int:
        """Number of all that was skipped, of every kind."""
        return self.counts.total()

    def add(self, skip: Skip) -> None:
        """Count it. A bucket lists the keys of one folder in a row: only the first counts."""
        if skip == self._last:
            return
        self._last = skip
        self.counts[skip.kind] += 1
        if skip.kind is Kind.NOT_DOWNLOADED and len(self.not_downloaded) < self.SHOWN:
            self.not_downloaded.append(skip.place)


def by_path(path: str) -> Skip | None:
    """Tell whether a file or key is skipped, by its folders and its name.

    `path` is separated by `/` and begins below the folder that a person named: anyone who asks for
    `photos/@eaDir/` means it. A marker ends with `/`.
    """
    *folders, name = path.split("/")
    parent = ""
    for index, folder in enumerate(folders):
        if kind := of_folder(folder, parent):
            return Skip(kind, "/".join(folders[: index + 1]))
        parent = folder
    kind = of_file(name) if name else Kind.MARKER
    return Skip(kind, path) if kind else None


def of_folder(name: str, parent: str = "") -> Kind | None:
    """Tell whether a folder is skipped with all that is in it; `parent` is the folder around it."""
    lower = name.casefold()
    if name.startswith(".") and name not in {".", ".."}:  # keys may hold these two
        return Kind.HIDDEN
    if lower in _SYSTEM_FOLDERS or lower.endswith(_PREVIEW_FOLDERS):
        return Kind.SYSTEM
    if parent.casefold().endswith(_LIBRARIES) and lower not in _LIBRARY_PHOTOS:
        return Kind.SYSTEM
    return None


def of_file(name: str) -> Kind | None:
    """Tell whether a file is skipped, by its name alone."""
    stem, suffix = os.path.splitext(name)
    if suffix.lower() in _PLACEHOLDERS and _suffix(stem) in SUFFIXES:
        return Kind.NOT_DOWNLOADED
    if name.startswith("."):
        return Kind.HIDDEN
    if name.endswith(_HADOOP_MARKER):
        return Kind.MARKER
    # Names without a suffix are common in buckets and caches.
    return Kind.OTHER if suffix and suffix.lower() not in SUFFIXES else None


def begins_like_a_photo(start: bytes) -> bool:
    """Tell from the first `SNIFFED_BYTES` of a file whether a photo may follow."""
    if not any(byte < 9 for byte in start):
        return False  # text may begin with a magic number, but only a photo has bytes below 9
    return (
        start.startswith(_MAGIC)
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


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()
