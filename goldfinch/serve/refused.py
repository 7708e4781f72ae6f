"""What a request is refused with: a status of HTTP, and an error object in the form of the OpenAI API."""

from __future__ import annotations

from typing import Any

import gfcache

from goldfinch import errors


class Refused(Exception):
    """A request that is not answered.

    Args:
        status: of HTTP.
        message: for people.
        code: for programs.
        param: the field that it is about, or None.
        hint: what to do, or None.
    """

    def __init__(
        self, status: int, message: str, *, code: str, param: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param, self.hint = status, message, code, param, hint

    def body(self) -> dict[str, Any]:
        """The object of the reply."""
        kind = {401: "authentication_error", 503: "server_error", 500: "server_error"}
        message = self.message if self.hint is None else f"{self.message} ({self.hint})"
        return {
            "error": {
                "message": message,
                "type": kind.get(self.status, "invalid_request_error"),
                "param": self.param,
                "code": self.code,
            }
        }


# First match wins: special cases before their roots.
_STATUSES: tuple[tuple[type[BaseException], int, str], ...] = (
    (errors.ModelNotFound, 404, "model_not_found"),
    (FileNotFoundError, 404, "cache_not_found"),
    (gfcache.ParentMissing, 404, "cache_not_found"),
    (errors.CacheMismatch, 409, "cache_mismatch"),
    (gfcache.ParentChanged, 409, "cache_mismatch"),
    (errors.QuestionTooLong, 413, "question_too_long"),
    (errors.ContextTooLong, 413, "context_length_exceeded"),
    (errors.InputRefused, 413, "document_refused"),
    (errors.ModelDamaged, 422, "model_damaged"),
    (errors.NotItsDocument, 422, "cache_damaged"),
    (errors.NotText, 422, "not_text"),
    (errors.DeviceError, 503, "no_memory"),
    (gfcache.NoRoom, 503, "no_room"),
    (gfcache.CacheWriteError, 503, "not_written"),
    (gfcache.CacheLocked, 503, "busy"),
    (gfcache.CacheFormatError, 422, "cache_damaged"),
    (MemoryError, 503, "no_memory"),
    (errors.GoldFinchError, 400, "invalid_request"),
    (OSError, 503, "system"),
)


def refused(error: Exception) -> Refused:
    """What an error is told as; that of a fault of ours tells nothing of it."""
    if isinstance(error, Refused):
        return error
    for kind, status, code in _STATUSES:
        if isinstance(error, kind):
            return Refused(status, str(error), code=code, hint=getattr(error, "hint", None))
    return Refused(500, "something went wrong here, and is said where gf serve runs", code="internal_error")
