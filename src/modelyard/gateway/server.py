"""`modelyard serve`: lock the target, bind, supervise, answer, drain."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import gc
import math
import os
import secrets
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import uvicorn
import uvloop

from modelyard.clock import SystemClock
from modelyard.errors import Busy, RefusedByPolicy, Unavailable, UserError
from modelyard.gateway.app import build
from modelyard.gateway.auth import Caller, Door, is_loopback
from modelyard.gateway.body import Bodies
from modelyard.gateway.console import Back, Console, Powers, Watched
from modelyard.gateway.control import Control
from modelyard.gateway.control_desk import Desk
from modelyard.gateway.edge import Edge
from modelyard.gateway.invocations import Scoring
from modelyard.gateway.keyring import Keyring
from modelyard.gateway.live import Live, Stores
from modelyard.gateway.rollouts import Runner
from modelyard.gateway.served import ServedEndpoint
from modelyard.ports.endpoints import Endpoints
from modelyard.ports.ledger import Ledger
from modelyard.ports.rollouts import Rollouts
from modelyard.ports.tokens import Tokens
from modelyard.project.layout import Layout
from modelyard.project.load import Loaded
from modelyard.project.model import Recording
from modelyard.serving.estate import Estate
from modelyard.serving.process import Command, Limits, worker_command
from modelyard.serving.route import GatewayInfo, holding, publish
from modelyard.serving.supervise import Fleet

TOKEN_VARIABLE = "MODELYARD_TOKEN"
_LAST_WORDS_SECONDS = 5.0
"""For what is ended when draining is over: its clients are told."""
KEEP_ALIVE_SECONDS = 75
"""Longer than clients and proxies keep an idle connection: the one that closes first should be the one that asks."""


def _quiet(url: str) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class ServeConfig:
    """What a gateway serves, and where.

    `port` 0 is any free one. `token` is the secret itself; where it is None the environment's MODELYARD_TOKEN counts.
    `groups` are those of who has the token. `timeout` in seconds bounds a request. `on_listening(url)` is called once
    connections are taken, `on_ready(url)` once the first answer could be given. `stop`, when set, ends it, as SIGTERM
    does. `command` starts workers. `tokens` opens those of the target: with one that is live, or with `token`, other
    addresses than loopback may be served. `metrics` is who may read /metrics: operate, query, or open. `limits` are
    those of the workers. After SIGTERM /ready says no, for `notice` seconds before connections are refused too.
    `record` is the project file's section of that name; what is not in it is as there. `endpoints` opens those of the
    target beside this one; without it there is no control plane. `admit_unproven` is the gate's policy.
    `prices` are of a million of each count of usage.
    `back` is how the operations page rolls back; without it, it does not.
    """

    endpoint: str
    layout: Layout
    ledger: Callable[[], Ledger]
    rollouts: Callable[[], Rollouts]
    host: str = "127.0.0.1"
    port: int = 8080
    token: str | None = field(default=None, repr=False)
    groups: Sequence[str] = ()
    timeout: float = 60.0
    on_listening: Callable[[str], None] = _quiet
    on_ready: Callable[[str], None] = _quiet
    stop: threading.Event | None = None
    command: Command | None = None
    tokens: Callable[[], Tokens] | None = None
    bodies: Bodies = field(default_factory=Bodies)
    metrics: str = "operate"
    traces: bool = False
    prices: Mapping[str, float] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    notice: float = 0.0
    record: Mapping[str, Any] = field(default_factory=dict)
    endpoints: Callable[[], Endpoints] | None = None
    admit_unproven: bool = False
    back: Back | None = None


def configured(loaded: Loaded, *, host: str | None = None, port: int | None = None, **more: Any) -> ServeConfig:
    """What a project's file says of serving. `host` and `port` go before what stands there; `more` are the other fields
    of a ServeConfig. Raises ProjectError for a token that is not where the file says."""
    section = loaded.config.serve
    return ServeConfig(
        endpoint=loaded.config.name,
        layout=loaded.layout,
        host=host if host is not None else section.host,
        port=port if port is not None else section.port,
        token=section.token.reveal(loaded.root) if section.token is not None else None,
        groups=section.groups,
        timeout=section.timeout,
        bodies=Bodies(section.max_chat_body, section.max_body, section.max_depth, section.max_bodies),
        metrics=section.metrics,
        traces=section.traces > 0,
        prices=section.prices,
        limits=Limits(
            workers=section.workers,
            threads=section.threads,
            queue=section.queue,
            memory=section.memory_limit,
            drain=section.drain,
        ),
        notice=section.notice,
        record=section.record.model_dump(),
        admit_unproven=loaded.config.gate.admit_unproven,
        **more,
    )


def serve(config: ServeConfig) -> int:
    """Serve until SIGINT, SIGTERM or `config.stop`; 0 when it ended in order.

    Raises RefusedByPolicy for an address other than loopback without a token, Busy when another gateway serves the
    target or the port is taken, UserError for an address that cannot be used, StorageError.
    """
    token = config.token or os.environ.get(TOKEN_VARIABLE) or None
    if token is not None and (not token.isascii() or not token.isprintable() or " " in token):
        raise UserError("the token may hold printable ASCII characters without spaces only")
    if config.groups and token is None:
        raise RefusedByPolicy(
            f"serve.groups are those of who has the token, and there is none: set it ({TOKEN_VARIABLE}, or serve.token "
            "in modelyard.yml)"
        )
    with holding(config.layout), contextlib.closing(_bind(config.host, config.port)) as sock:
        host, port = sock.getsockname()[:2]
        url = f"http://{_shown(config.host, host)}:{port}"
        info = GatewayInfo(uuid.uuid4().hex, url, os.getpid(), secrets.token_urlsafe(32))
        # What is asked for on this machine without a token is asked for without groups.
        fixed = {info.secret: Caller("local")}
        if token is not None:
            fixed[token] = Caller("serve", groups=frozenset(config.groups))
        open_to_others = not is_loopback(host)
        keyring = Keyring(fixed, token is not None or open_to_others, config.tokens, SystemClock())
        try:
            if open_to_others and token is None and not keyring.live:
                raise RefusedByPolicy(
                    f"{config.host} can be reached from other machines: set a token first (`modelyard token create`, "
                    f"{TOKEN_VARIABLE}, or serve.token in modelyard.yml), or serve on 127.0.0.1"
                )
            if hasattr(socket, "TCP_USER_TIMEOUT"):  # who takes nothing of a reply for so long is cut off; Linux
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, math.ceil(config.timeout * 1000))
            sock.listen(512)
            with _signals_ignored_afterwards():
                _run(_main(config, sock, info, keyring))
        finally:
            keyring.close()
    return 0


def _run(work: Coroutine[None, None, None]) -> None:
    # A sixth less CPU for a scoring request: what is written in one go leaves in one go (benchmarks/tabular.py).
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError):
        raise UserError(f"{host!r} is no address of this machine") from None
    sock = socket.socket(family, kind, proto)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(address)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise Busy(
                f"port {port} on {host} is taken: choose another with --port, or any free one with --port 0"
            ) from None
        if error.errno == errno.EACCES:
            raise UserError(f"port {port} is not for ordinary users: choose one over 1023 with --port") from None
        raise UserError(f"cannot listen on {host}: {error.strerror}") from None
    return sock


def _shown(asked: str, bound: str) -> str:
    """The host of a URL that reaches what is bound, from this machine."""
    if bound in ("0.0.0.0", "::"):
        return "127.0.0.1"
    if asked.lower() == "localhost":
        return "localhost"
    return f"[{bound}]" if ":" in bound else bound


async def _main(config: ServeConfig, sock: socket.socket, info: GatewayInfo, keyring: Keyring) -> None:
    layout = config.layout
    recording = Recording.model_validate(dict(config.record))
    discreet = recording.redaction != "none"
    command = config.command or worker_command(
        sys.executable, layout.releases, layout.root, layout.target, config.limits, discreet=discreet
    )
    fleet = Fleet(config.endpoint, info.gateway_id, config.ledger, command, config.limits)
    traced = (layout.root, layout.target) if config.traces else None
    stores = Stores(config.ledger, config.rollouts, layout.record, layout.trials, layout.tables, traced)
    live = Live(fleet, info.gateway_id, stores, recording, config.timeout, SystemClock(), config.prices)
    runners = {config.endpoint: live.runner}
    control = _control(config, info, live, command, runners)
    console = Console(
        lambda: [
            Watched(e, runners.get(e.name)) for e in (control.estate if control is not None else (live.endpoint,))
        ],
        Powers(config.ledger, config.back, (layout.root, layout.target)),
    )
    app = build(live.endpoint, keyring, config.bodies, config.metrics, control, console)
    shortcut = Scoring(live.endpoint, Door(keyring, config.metrics), config.bodies)
    server = _Server(
        fleet,
        control.estate if control is not None else None,
        config.notice,
        uvicorn.Config(
            app,
            http=functools.partial(Edge, shortcut),  # type: ignore[arg-type]
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=math.ceil(config.limits.drain + _LAST_WORDS_SECONDS),
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            h11_max_incomplete_event_size=64 << 10,
        ),
    )
    async with contextlib.AsyncExitStack() as ending:  # from the last to the first, also where one of them fails
        ending.push_async_callback(live.stop)
        if control is not None:
            ending.push_async_callback(control.stop)
        ending.push_async_callback(keyring.stop)
        ending.push_async_callback(console.close)
        await live.start()
        if control is not None:
            await control.start()
        keyring.start()
        _tend_garbage()
        telling = asyncio.create_task(_tell(config, server, fleet, info))
        telling.add_done_callback(lambda _: setattr(server, "should_exit", True))
        await server.serve(sockets=[sock])
        telling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await telling  # where telling failed (a full disk, say), serving ended because of it


def _tend_garbage() -> None:
    """What is there by now stays, and a request leaves next to nothing that refers to itself."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _control(
    config: ServeConfig, info: GatewayInfo, live: Live, command: Command, runners: dict[str, Runner]
) -> Control | None:
    endpoints = config.endpoints
    if endpoints is None:
        return None
    clock = SystemClock()

    def desk() -> Desk:
        admit, target = config.admit_unproven, config.layout.target
        return Desk(config.endpoint, config.ledger, endpoints, clock, admit_unproven=admit, target=target)

    def begin(name: str) -> ServedEndpoint:
        served = live.another(Fleet(name, info.gateway_id, config.ledger, command, config.limits))
        runners[name] = served.runner
        return served

    return Control(live.endpoint, desk, begin, clock)


class _Server(uvicorn.Server):
    """Says first that it is leaving, then takes no connection any more, then ends what would not end by itself."""

    def __init__(self, fleet: Fleet, estate: Estate | None, notice: float, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._fleet, self._estate, self._notice = fleet, estate, notice
        self._leaving: float | None = None

    def leave(self) -> None:
        """Begin to end. May be called in a signal handler, and again."""
        self._fleet.leave()
        if self._estate is not None:
            self._estate.leave()
        if self._leaving is None:
            self._leaving = time.monotonic()
        if time.monotonic() >= self._leaving + self._notice:
            self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._leaving is None:
            self.leave()
        else:  # asked again: it does not wait for anybody to notice
            super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        if self._leaving is not None:
            self.leave()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        stopping = Unavailable("the server is being stopped: try again")
        loop = asyncio.get_running_loop()
        ending = loop.call_later(self._fleet.limits.drain, self._end_all, stopping)
        try:
            await super().shutdown(sockets)
        finally:
            ending.cancel()

    def _end_all(self, error: Unavailable) -> None:
        self._fleet.end_all(error)
        if self._estate is not None:
            self._estate.end_all(error)


async def _tell(config: ServeConfig, server: _Server, fleet: Fleet, info: GatewayInfo) -> None:
    """Say that it listens, then that it is ready; then look out for `stop`."""
    while not server.started:
        await asyncio.sleep(0.005)
    publish(config.layout, info)
    config.on_listening(info.url)
    told = False
    while True:
        if not told and fleet.ready() is not None:
            told = True
            config.on_ready(info.url)
        if config.stop is not None and config.stop.is_set():
            server.leave()
        await asyncio.sleep(0.2 if told else 0.05)


@contextlib.contextmanager
def _signals_ignored_afterwards() -> Iterator[None]:
    """uvicorn drains on SIGINT and SIGTERM and then raises the signal again; by then all is in order, and ending by it
    would skip what is left to clear up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handled = {sig: signal.signal(sig, lambda *_: None) for sig in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for sig, handler in handled.items():
            signal.signal(sig, handler)
