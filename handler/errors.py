"""The root of every error whose message is meant for a person.

A module's own errors derive from it, so that code that shows errors to people (the `alpaca`
command, a notebook) catches one class. A message says what happened, to which file, and what to do
next.

    LabelerError
    |-- StorageError and its children    handler.s3_errors
    |-- ImageError                       handler.images
    |-- ManifestError                    handler.manifest_row
    |-- BundleError                      handler.bundle
    |-- SettingsError                    handler.settings
    |-- UnknownEvent, Unfinished         handler.events
    |-- TooManyRows                      handler.pair
    |-- NoSpace                          handler.compaction
    `-- each error of training and of the application
"""


class LabelerError(Exception):
    """Something that a person can act on. The message is one or two plain sentences."""
