"""The tree of errors. Every error a user can cause is one of these, and says what is wrong, where, and what to do.

ModelyardError                exit 1   HTTP 500
├── UserError                 exit 2   HTTP 400   something the caller gave is wrong
│   ├── ProjectError          exit 2   HTTP 400   modelyard.yml
│   ├── NotFound              exit 2   HTTP 404   a release, document, decision that is not there
│   ├── RequestError          exit 2   HTTP 400   a question or body that cannot be answered
│   │   ├── RequestTooLarge   exit 2   HTTP 413
│   │   └── UnsupportedType   exit 2   HTTP 415   a body of a content type that is not read
│   ├── MissingExtra          exit 2   HTTP 500   an optional package is not installed
│   ├── Unauthorized          exit 2   HTTP 401
│   └── RefusedByPolicy       exit 2   HTTP 409   allowed by nobody's policy (mass removal, ungated promote, ...)
│       └── RequestStopped    exit 2   HTTP 400   a guard kept a request from the model
│           └── AnswerStopped exit 2   HTTP 400   a guard kept an answer from the caller
├── Judged                             HTTP 409   the gate kept a release out
│   ├── GateFailed            exit 3   HTTP 409
│   └── GateAbstained         exit 4   HTTP 409
├── Busy                      exit 6   HTTP 503   somebody else holds it: retry
│   └── RateLimited           exit 6   HTTP 429   more a minute than the token allows: retry
│       └── BudgetSpent       exit 6   HTTP 429   more a day than the token allows
├── Unavailable               exit 7   HTTP 503   a remote or a worker does not answer: retry
│   ├── DeadlineExceeded      exit 7   HTTP 504
│   └── RecordFull            exit 7   HTTP 503   what may not go unrecorded cannot be recorded now
├── ModelFailed               exit 1   HTTP 500   the model itself raised, or answered with what is no number
├── Cancelled                 exit 130 HTTP 499
│   └── Unread                exit 130 HTTP 499   the caller is there, and does not take its answer
├── StorageError              exit 8   HTTP 507   disk full, not writable
├── Damaged                   exit 9   HTTP 500   a member is missing or altered: digests do not match
└── AdapterError              exit 1   HTTP 502   a vendor's library failed in a way we have no name for
"""

from __future__ import annotations

from typing import ClassVar


class ModelyardError(Exception):
    """Base of all errors. `str(error)` is the one line a user reads.

    Attributes: `exit_code` of the command line, `status` of the HTTP answer, `retry` (may the same call succeed
    later), `code` (a stable name for programs), `retry_after` (in how many seconds it may succeed, where that is
    known).
    """

    exit_code: ClassVar[int] = 1
    status: ClassVar[int] = 500
    retry: ClassVar[bool] = False
    code: ClassVar[str] = "internal_error"
    retry_after: float | None = None


class UserError(ModelyardError):
    """Something the caller gave is wrong."""

    exit_code = 2
    status = 400
    code = "invalid_request"


class ProjectError(UserError):
    """modelyard.yml, or the folder it lies in, is wrong."""

    code = "invalid_project"


class NotFound(UserError):
    """What was named is not there."""

    status = 404
    code = "not_found"


class RequestError(UserError):
    """A request that cannot be answered: empty, not text, of the wrong shape."""


class RequestTooLarge(RequestError):
    """A request over the limit."""

    status = 413
    code = "request_too_large"


class UnsupportedType(RequestError):
    """A body of a content type that is not read."""

    status = 415
    code = "unsupported_type"


class MissingExtra(UserError):
    """An optional package is not installed; the message holds the exact `pip install` line."""

    status = 500
    code = "missing_extra"


class Unauthorized(UserError):
    """No token, or a wrong one."""

    status = 401
    code = "unauthorized"


class RefusedByPolicy(UserError):
    """The act is possible, and the policy in force does not allow it."""

    status = 409
    code = "refused_by_policy"


class RequestStopped(RefusedByPolicy):
    """A guard kept a request from the model."""

    status = 400
    code = "content_filter"


class AnswerStopped(RequestStopped):
    """A guard kept an answer from the caller."""


class Judged(ModelyardError):
    """The gate kept a release out. `outcome` is what the run came to, where it was a run."""

    status = 409
    outcome: object = None


class GateFailed(Judged):
    """The gate decided: fail."""

    exit_code = 3
    code = "gate_failed"


class GateAbstained(Judged):
    """The gate had too little evidence, and the release was not admitted."""

    exit_code = 4
    code = "gate_abstained"


class Busy(ModelyardError):
    """Somebody else holds what is needed."""

    exit_code = 6
    status = 503
    retry = True
    code = "busy"


class RateLimited(Busy):
    """A token asks for more a minute than it may; `retry_after` says when it may again."""

    status = 429
    code = "rate_limit_exceeded"

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class BudgetSpent(RateLimited):
    """A token asks for more a day than it may."""

    retry = False
    code = "insufficient_quota"


class Unavailable(ModelyardError):
    """A worker, or a remote, does not answer."""

    exit_code = 7
    status = 503
    retry = True
    code = "unavailable"


class DeadlineExceeded(Unavailable):
    """The request's time is over."""

    status = 504
    code = "deadline_exceeded"


class RecordFull(Unavailable):
    """A request cannot be recorded: its disk, or the space it may take, is full, or its log cannot be written."""

    code = "record_full"


class ModelFailed(ModelyardError):
    """The model itself raised, or answered with what is no number. Whoever asked did nothing wrong."""

    code = "model_failed"


class Cancelled(ModelyardError):
    """The caller went away, or pressed Ctrl-C."""

    exit_code = 130
    status = 499
    code = "cancelled"


class Unread(Cancelled):
    """The caller is there, and does not take its answer."""


class StorageError(ModelyardError):
    """The disk is full, or a folder cannot be written."""

    exit_code = 8
    status = 507
    code = "storage_error"


class Damaged(ModelyardError):
    """Stored bytes are missing or are not what their digest says."""

    exit_code = 9
    code = "damaged"


class AdapterError(ModelyardError):
    """A vendor's library failed in a way we have no better name for."""

    status = 502
    code = "adapter_error"
