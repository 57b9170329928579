"""Files with revisions, and the rules for changing them (wire: relayfile §5). Pure: what happened is returned, never told."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Any

import msgspec

from syncwatch.relay.relayfile.tokens import Refusal

PREVIEW = 200


class File(msgspec.Struct, frozen=True):
    """A file as it is now. `content` is the stored string; `encoding` is `base64` for binary ones, else empty."""

    path: str
    revision: str
    content_hash: str
    content_type: str
    content: str
    encoding: str
    provider: str
    edited: str
    semantics: dict[str, Any]


class Content(msgspec.Struct, frozen=True, rename="camel"):
    """What a write brings."""

    content: str = ""
    content_type: str = ""
    encoding: str | None = None
    semantics: dict[str, Any] = {}


class Operation(msgspec.Struct, frozen=True):
    """A writeback that waits for whoever takes it to the provider."""

    id: str
    path: str
    revision: str
    action: str
    provider: str
    correlation_id: str
    status: str = "queued"


class Tree:
    """The files of one workspace."""

    def __init__(self) -> None:
        self.files: dict[str, File] = {}
        self.operations: dict[str, Operation] = {}

    def check(self, path: str, if_match: str | None) -> None:
        """Whether a change of this path may go on.

        Raises:
            Refusal: 412 without a precondition, 409 `revision_conflict`, 404.
        """
        wanted = revision_of(if_match)
        if not wanted:
            raise Refusal(412, "precondition_failed", "missing If-Match header")
        known = self.files.get(path)
        if wanted == "*" or (wanted == "0" and known is None):
            return
        if known is None:
            raise Refusal(404, "not_found", "not found")
        if known.revision != wanted:
            more = {
                "expectedRevision": wanted,
                "currentRevision": known.revision,
                "currentContentPreview": known.content[:PREVIEW],
            }
            raise Refusal(
                409, "revision_conflict", "revision conflict", more={name: text for name, text in more.items() if text}
            )

    def read(self, path: str) -> File:
        """A file.

        Raises:
            Refusal: 404.
        """
        known = self.files.get(path)
        if known is None:
            raise Refusal(404, "not_found", "not found")
        return known


def revision_of(if_match: str | None) -> str:
    """The revision in an `If-Match` header; quotes and `W/` are tolerated."""
    return (if_match or "").strip().removeprefix("W/").strip('"').strip()


def path_of(text: str) -> str:
    """A path as the server keeps it.

    Raises:
        Refusal: 400 for none at all, and for the root.
    """
    if not text.strip():
        raise Refusal(400, "bad_request", "missing path query")
    parts = [part for part in text.strip().split("/") if part]
    if not parts or ".." in parts:
        raise Refusal(400, "bad_request", "invalid input")
    return "/" + "/".join(parts)


def provider_of(path: str) -> str:
    """Whom a path belongs to: its first segment."""
    return path.strip("/").partition("/")[0].lower()


def decoded(content: Content) -> bytes:
    """The bytes that a write brings.

    Raises:
        Refusal: 400 for content that is not what its encoding says.
    """
    encoding = (content.encoding or "").lower()
    if encoding in ("", "utf-8", "utf8"):
        return content.content.encode("utf-8", "surrogatepass")
    if encoding == "base64":
        try:
            return base64.b64decode(content.content, validate=True)
        except (binascii.Error, ValueError) as problem:
            raise Refusal(400, "bad_request", "invalid input") from problem
    raise Refusal(400, "bad_request", "invalid input")


def hashed(data: bytes) -> str:
    """The content hash of an event."""
    return hashlib.sha256(data).hexdigest()
