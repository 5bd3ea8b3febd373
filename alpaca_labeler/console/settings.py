"""`alpaca.toml`: options that people write down for a folder, as click's default map.

The folder may be a stranger's. So the file names nothing in a bucket, and what a command writes or
shows lies below the folder; only a model may lie elsewhere on this machine.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Sequence
from typing import Any, Final

import click

from alpaca_labeler import storage
from alpaca_labeler.console import Refused, printable
from alpaca_labeler.console.arguments import BUNDLE, NAME_OR_FILE, Local, Place
from alpaca_labeler.storage import files
from alpaca_labeler.table.places import Places

NAME: Final = "alpaca.toml"


def beside(context: click.Context, _: click.Parameter, manifest: str | None) -> str | None:
    """Prefer the file in the manifest's folder. The callback of an eager parameter."""
    if manifest and not storage.is_s3(manifest):
        path = os.path.normpath(os.path.join(os.path.relpath(Places(manifest).folder), NAME))
        found = defaults(path, context, context.command_path.split()[1:])
        context.default_map = context.default_map if found is None else found
    return manifest


def defaults(path: str, context: click.Context, words: Sequence[str]) -> dict[str, Any] | None:
    """Return what a file says for the command `alpaca WORDS`, by the names of parameters.

    None if there is no such file. Raises `Refused`.
    """
    if not os.path.isfile(path):
        return None
    try:
        with open(path, "rb") as file:
            table: Any = tomllib.load(file)
    except (OSError, ValueError) as error:
        raise Refused(printable(f"{path}: cannot be read ({error}); correct it")) from error
    command: Any = context.find_root().command
    for number, word in enumerate(words):
        _check(path, words[:number], table, command.commands)
        command, table = command.commands[word], table.get(word, {})
    options = {each.opts[-1][2:]: each for each in command.params if isinstance(each, click.Option)}
    _check(path, words, table, options)
    found = {}
    for key, value in table.items():
        try:
            found[str(options[key].name)] = _value(os.path.dirname(path), options[key], value)
        except (click.ClickException, storage.StorageError, ValueError) as error:
            why = str(getattr(error, "message", error)).removesuffix(".")
            at = f"{path}: [{'.'.join(words)}] {key}"
            raise Refused(printable(f"{at}: {why}. See alpaca {' '.join(words)} -h")) from error
    return found


def _check(path: str, words: Sequence[str], table: object, known: Iterable[str]) -> None:
    """Raise `Refused` for a name that a command does not know."""
    command = " ".join(("alpaca", *words))
    if not isinstance(table, dict):
        raise Refused(f"{path}: options of `{command}` stand below a line [{'.'.join(words)}]")
    for name in table.keys() - known:
        raise Refused(printable(f"{path}: {command} has no {name}; see {command} -h"))


def _value(folder: str, option: click.Option, value: Any) -> Any:
    """Return a value as click takes it, with paths from the current folder. Raises its errors."""
    if option.multiple or (option.nargs > 1 and isinstance(value, list)):
        values = value if isinstance(value, list) else [value]
        made: Any = [_one(folder, option, each) for each in values]
    else:
        made = _one(folder, option, value)
    option.type_cast_value(click.get_current_context(), made)
    return made


def _one(folder: str, option: click.Option, value: object) -> object:
    if not isinstance(value, str | int | float) or isinstance(value, bool) != option.is_flag:
        raise click.BadParameter("true or false is meant." if option.is_flag else "no such value.")
    if not isinstance(option.type, Place | Local):
        return value
    path = files.as_uri(str(value))
    if storage.is_s3(path):
        raise click.BadParameter("give an address in S3 on the command line.")
    place = os.path.join(folder, path)
    if option.type in {BUNDLE, NAME_OR_FILE}:
        return place if os.path.exists(place) else value  # the name of a built-in one
    top = os.path.realpath(folder)
    if os.path.commonpath([top, os.path.realpath(place)]) != top:
        raise click.BadParameter(f"{path} is outside the folder; give it on the command line.")
    return place
