"""What can go wrong in storage, as one small family of errors, and how boto3's become them.

boto3 raises more than its own classes: an endpoint that redirects, a prompt without a terminal or
a header that cannot be sent end in Python's errors. They are Transient unless they are known, so
that they never become a verdict about a photo.
"""

from __future__ import annotations

import os
import re
from typing import Any, Final
from urllib.parse import urlsplit

from alpaca_labeler.errors import LabelerError


class StorageError(LabelerError):
    """Reading or writing failed. The message names the object."""


class NotFound(StorageError):
    """No such object, version, bucket or file."""


class Denied(StorageError):
    """No permission, no credentials or a wrong setup: for the operator to repair."""


class TooLarge(StorageError):
    """The object holds more bytes than the caller allows."""


class Unavailable(StorageError):
    """Archived, encrypted, only for readers who pay, or no file: another try will not help."""


class Conflict(StorageError):
    """A conditional write found that the object had changed."""


class Transient(StorageError):
    """A fault that passes: throttling, a timeout, a 5xx answer, a broken connection."""


NOT_S3: Final = (
    "the answer came not from S3 but from a web page or another server; set AWS_ENDPOINT_URL to "
    "the S3 endpoint (not the console), and check whether a proxy or a login page is in between"
)
_CHECK: Final = "check AWS_ENDPOINT_URL, AWS_PROFILE, the AWS_ keys and ~/.aws/config"
_KEY_IS_LOST: Final = frozenset(
    f"KMS.{kind}Exception" for kind in "Disabled InvalidKeyUsage KMSInvalidState NotFound".split()
)
_NOT_FOR_US: Final = ("server side encryption", "requester pays")
"""Parts of S3's messages (of SSE-C, and of a bucket whose readers pay): their codes, InvalidRequest
and AccessDenied, mean other things too."""
_BAD_TOKEN: Final = frozenset({"ExpiredToken", "InvalidToken", "TokenRefreshRequired"})  # 400
_SECRET: Final = re.compile(r"Authorization|Credential=|Signature=|Security-Token|Invalid header")
"""Marks of a message that quotes a request's headers, and with them a key or a signature."""


def translate(uri: str, error: Exception) -> StorageError:  # noqa: PLR0911 - one per kind
    """Return our error for any exception out of a boto3 call about `uri`."""
    from botocore import exceptions as boto
    from botocore.parsers import ResponseParserError

    if isinstance(error, StorageError):  # of `refuse_redirect`
        return type(error)(f"{uri}: {error}")
    if isinstance(error, boto.ClientError):
        return _translate_answer(uri, error)
    if isinstance(error, boto.SSOError | boto.TokenRetrievalError):
        return Denied(f"{uri}: no valid AWS sign-in ({_said(error)}); run `aws sso login`")
    if type(error).__name__.startswith("Login"):  # older versions have none of these
        return Denied(f"{uri}: no valid AWS sign-in ({_said(error)}); run `aws login`")
    no_keys = boto.CredentialRetrievalError | boto.NoCredentialsError | boto.ProfileNotFound
    if isinstance(error, no_keys | boto.PartialCredentialsError | boto.MissingDependencyException):
        return Denied(f"{uri}: no usable AWS credentials ({_said(error)}); see `aws configure`")
    if isinstance(error, EOFError):
        return Denied(
            f"{uri}: AWS asks for an MFA code and there is no terminal to type it; use a profile "
            "without MFA, or set the keys of a session in the environment"
        )
    if isinstance(error, boto.ParamValidationError):
        return NotFound(f"{uri}: not a name that S3 allows")
    if isinstance(error, ResponseParserError) or type(error) is ValueError:
        return Transient(f"{uri}: {NOT_S3}")
    if isinstance(error, boto.BotoCoreError | OSError) and not _SECRET.search(str(error)):
        return Transient(f"{uri}: {_said(error)}")
    # Nobody knows what is in the message, which may quote a header with its secrets.
    return Transient(f"{uri}: the request failed in the AWS library ({_kind(error)}); {_CHECK}")


def setup_error(uri: str, error: Exception) -> StorageError:
    """Return our error for an exception from making the client: the operator has to repair it."""
    if isinstance(ours := translate(uri, error), Denied):
        return ours
    said = f": {_said(error)}" if type(error) is ValueError else f" ({_kind(error)})"
    return Denied(f"{uri}: AWS is not set up correctly{said}; {_CHECK}")


def refuse_redirect(response: Any = None, **_: Any) -> None:
    """Raise `Denied` for a redirect that is not S3's: botocore follows it until Python gives up.

    A handler for botocore's `needs-retry.s3`. S3's own redirects name the region of the bucket.
    """
    if response is None or response[0].status_code not in {301, 302, 307, 308}:
        return
    answer, parsed = response
    code = str(parsed.get("Error", {}).get("Code", ""))
    if code.isdigit() and "x-amz-bucket-region" not in answer.headers:
        to = urlsplit(answer.headers.get("location", ""))
        where = f"{to.scheme}://{to.netloc.rpartition('@')[2]}" if to.netloc else "another address"
        raise Denied(
            f"the endpoint redirects to {where}; set AWS_ENDPOINT_URL to the S3 endpoint itself"
        )


def answer_of(error: StorageError) -> tuple[int, dict[str, str]]:
    """Return the HTTP status and the headers, in lower case, of the answer behind an error.

    (0, {}) if there was none.
    """
    response = getattr(error.__cause__, "response", None) or {}  # a time-out's is None
    about = response.get("ResponseMetadata", {})
    return about.get("HTTPStatusCode", 0), about.get("HTTPHeaders", {})


def is_page(answer: Any) -> bool:
    """Tell whether an answer's headers are those of a web page or of another kind of server."""
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return any(kind in headers.get("content-type", "") for kind in ("html", "json"))


def pays() -> bool:
    """Tell whether our account pays for reading (GDAL and others read this variable, too)."""
    return os.environ.get("AWS_REQUEST_PAYER") == "requester"


def _translate_answer(uri: str, error: Any) -> StorageError:  # noqa: PLR0911 - one per kind
    code: str = error.response["Error"]["Code"]
    message: str = error.response["Error"].get("Message") or ""
    reason = f"{code}: {message.rstrip('.')}" if message else code
    status: int = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in {"NoSuchKey", "NoSuchVersion", "NoSuchBucket", "404", "NotFound"}:
        return NotFound(f"{uri}: there is no such object ({code})")
    if code in {"PreconditionFailed", "412"} or status == 412:
        return Conflict(f"{uri}: it is not in the expected state")
    if code == "InvalidObjectState":
        return Unavailable(f"{uri}: archived; restore it first")
    if code in _KEY_IS_LOST or any(part in message.lower() for part in _NOT_FOR_US):
        return Unavailable(f"{uri}: S3 refuses to return it ({reason})")
    # Status 400 means both our own mistakes and S3's RequestTimeout, so an unknown code is tried
    # again.
    if status in {401, 403} or code in _BAD_TOKEN:
        payer = "" if pays() else "; if its readers pay, set AWS_REQUEST_PAYER=requester"
        return Denied(f"{uri}: access denied ({reason}){payer if code == 'AccessDenied' else ''}")
    if status in {301, 307, 501}:
        return Denied(f"{uri}: not available from this endpoint or region ({reason})")
    # botocore reports whatever it cannot parse as a 500, without one of S3's codes; a gateway may
    # have sent it for a while.
    return Transient(f"{uri}: {NOT_S3 if is_page(error.response) or code == '500' else reason}")


def _said(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _kind(error: BaseException) -> str:
    """Name the error and the one behind it."""
    inner = error.__cause__ or error.__context__
    return type(error).__name__ + (f", {type(inner).__name__}" if inner else "")
