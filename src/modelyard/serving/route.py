"""From another process to the gateway that serves a target, when one does. Standard library only, and quick."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from modelyard import errors
from modelyard.errors import Busy, DeadlineExceeded, ModelyardError, StorageError, Unavailable, UserError
from modelyard.project.layout import Layout


@dataclass(frozen=True)
class GatewayInfo:
    """A gateway that is up: its random id, where it listens, its process, and a secret of this start that lets the
    same user's own processes in without the token."""

    gateway_id: str
    url: str
    pid: int
    secret: str = field(repr=False)


def alive(layout: Layout) -> GatewayInfo | None:
    """The gateway that holds the target's lock now, if one does. What it left behind when it was killed is not
    believed."""
    try:
        lock = os.open(layout.serve_lock, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return _read(layout.serve_info)
    finally:
        os.close(lock)
    return None


@contextlib.contextmanager
def holding(layout: Layout) -> Iterator[None]:
    """Be the one gateway of this target. Raises Busy, naming who is, and StorageError."""
    try:
        layout.state.mkdir(parents=True, exist_ok=True)
        lock = os.open(layout.serve_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageError(f"{layout.serve_lock} cannot be written: {error.strerror}") from None
    try:
        try:
            # An `alive` that asks at this very moment has it for some microseconds.
            _patiently(lock)
        except OSError:
            info = _read(layout.serve_info)
            who = f"process {info.pid} at {info.url}" if info is not None else "another process"
            raise Busy(f"{who} serves target {layout.target} of this project already: stop it, or use it") from None
        try:
            layout.serve_info.unlink(missing_ok=True)  # of one that was killed
        except OSError as error:
            raise StorageError(f"{layout.serve_info} cannot be written: {error.strerror}") from None
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                layout.serve_info.unlink()
    finally:
        os.close(lock)


def publish(layout: Layout, info: GatewayInfo) -> None:
    """Say where this gateway is; readable by its user alone. Raises StorageError."""
    new = layout.serve_info.with_name(f".{layout.serve_info.name}.{os.getpid()}")
    try:
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            json.dump(asdict(info), file)
        new.replace(layout.serve_info)
    except OSError as error:
        raise StorageError(f"{layout.serve_info} cannot be written: {error.strerror}") from None


def ask_gateway(info: GatewayInfo, request: Mapping[str, Any], timeout: float = 120.0) -> dict[str, Any]:
    """The gateway's answer to a request: the release's output, `release` and `choices`.

    Raises what answering raises (RequestError, RefusedByPolicy, DeadlineExceeded, ...), and Unavailable when the
    gateway is gone or has nothing to answer with.
    """
    output: dict[str, Any] = _post(info, "/invocations", {"inputs": request}, timeout)["predictions"][0]
    return output


def search_gateway(info: GatewayInfo, query: str, k: int, timeout: float = 60.0) -> list[dict[str, Any]]:
    """What retrieval alone finds, of the release that answers now. Raises as `ask_gateway` does."""
    results: list[dict[str, Any]] = _post(info, "/search", {"query": query, "k": k}, timeout)["results"]
    return results


def probe_gateway(
    info: GatewayInfo, endpoint: str, release: str, request: Mapping[str, Any], timeout: float = 60.0
) -> float:
    """Milliseconds that a release which an endpoint keeps warm takes to answer a request, whether it gets traffic or
    not; what it does on the side goes where the exam's goes. Raises as `ask_gateway` does, NotFound for one that is not
    warm."""
    asked = {"endpoint": endpoint, "release": release, "request": request}
    return float(_post(info, "/ops/drill", asked, timeout)["milliseconds"])


def cold_at_gateway(info: GatewayInfo, release: str, timeout: float = 1.0) -> float | None:
    """Seconds that the last start of a release took which the gateway stopped for want of memory; None for any other,
    and where the gateway does not say."""
    request = urllib.request.Request(info.url + "/ready", headers={"Authorization": f"Bearer {info.secret}"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=timeout) as reply:
            said = json.load(reply)
    except urllib.error.HTTPError as error:
        with error, contextlib.suppress(OSError, ValueError):
            return _cold(json.load(error), release)  # it is not ready, and tells all the same
        return None
    except (OSError, ValueError):
        return None
    return _cold(said, release)


def _cold(said: Any, release: str) -> float | None:
    cold = said.get("cold") if isinstance(said, dict) else None
    return cold["start_seconds"] if cold is not None and cold["release"] == release else None


def rollout_at_gateway(info: GatewayInfo, endpoint: str, timeout: float = 10.0) -> dict[str, Any] | None:
    """The rollout of an endpoint that is in the gateway's mind, with what it waits for; None where there is none.
    Raises as `ask_gateway` does."""
    path = f"/ops/api/rollout?endpoint={urllib.parse.quote(endpoint, safe='')}"
    found: dict[str, Any] | None = _call(info, path, None, timeout)["rollout"]
    return found


def _post(info: GatewayInfo, path: str, body: Mapping[str, Any], timeout: float) -> Any:
    try:
        data = json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise UserError("the request holds text that is not valid Unicode (half of a surrogate pair)") from None
    return _call(info, path, data, timeout)


def _call(info: GatewayInfo, path: str, data: bytes | None, timeout: float) -> Any:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {info.secret}"}
    request = urllib.request.Request(info.url + path, data, headers)
    # No proxy: the gateway is on this machine, whatever the environment says of others.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=timeout) as reply:
            return json.load(reply)
    except urllib.error.HTTPError as error:
        _refused(error)
    except TimeoutError:
        raise DeadlineExceeded(f"the gateway at {info.url} did not answer within {timeout:.0f} s") from None
    except (OSError, ValueError) as error:
        raise Unavailable(f"the gateway at {info.url} does not answer: {error}") from None


def _refused(reply: urllib.error.HTTPError) -> NoReturn:
    with reply:
        kind, message = reply.headers.get("modelyard-error", ""), reply.reason
        with contextlib.suppress(OSError, ValueError, AttributeError):
            body = json.load(reply)
            message = body.get("message") or body["error"]["message"]
    found = getattr(errors, kind, ModelyardError)
    raise (found if isinstance(found, type) and issubclass(found, ModelyardError) else ModelyardError)(message)


def _patiently(lock: int) -> None:
    for _ in range(10):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(0.01)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _read(path: Path) -> GatewayInfo | None:
    try:
        return GatewayInfo(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
