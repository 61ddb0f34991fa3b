"""Starting and ending: addresses, ports, tokens, locks."""

from __future__ import annotations

import os
import signal
import socket
import stat
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from town import Town, eventually, start

from modelyard.adapters.ledger_endpoints import SqliteEndpoints
from modelyard.adapters.ledger_sqlite import SqliteLedger
from modelyard.adapters.rollouts_sqlite import SqliteRollouts
from modelyard.adapters.tokens_sqlite import SqliteTokens
from modelyard.errors import Busy, Damaged, RefusedByPolicy, StorageError, UserError
from modelyard.gateway import live
from modelyard.gateway.folding import Folding
from modelyard.gateway.server import ServeConfig, serve
from modelyard.serving.record import Record
from modelyard.serving.route import alive, ask_gateway

TOKEN = "a-token-of-the-test"
HELLO = {"messages": [{"role": "user", "content": "hello"}]}


def config(town: Town, **options: object) -> ServeConfig:
    ledger, rollouts = lambda: SqliteLedger(town.layout.ledger), lambda: SqliteRollouts(town.layout.ledger)
    return ServeConfig("town", town.layout, ledger, rollouts, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_an_address_others_can_reach_needs_a_token(town: Town, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODELYARD_TOKEN", raising=False)
    with pytest.raises((RefusedByPolicy, UserError), match=r"set a token first|no address|cannot listen"):
        serve(config(town, host=host, port=0))
    assert alive(town.layout) is None


def test_a_port_that_is_taken_is_one_clear_line(town: Town) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Busy, match=rf"port {port} on 127.0.0.1 is taken: choose another with --port"):
            serve(config(town, port=port))


@pytest.mark.parametrize("host", ["no such host", "192.0.2.1", "x" * 300])
def test_an_address_that_is_not_ours(town: Town, host: str) -> None:
    with pytest.raises(UserError):
        serve(config(town, host=host, port=0, token=TOKEN))


@pytest.mark.parametrize("token", ["two words", "caf\u00e9", "line\nbreak"])
def test_a_token_that_no_header_can_carry(town: Town, token: str) -> None:
    with pytest.raises(UserError, match="the token may hold"):
        serve(config(town, token=token, port=0))


@pytest.mark.parametrize("broken", [SqliteRollouts, SqliteEndpoints, SqliteTokens])
def test_a_step_of_the_end_that_fails_keeps_none_of_the_others_from_it(town: Town, broken: type[Any]) -> None:
    town.point(town.release("one: "))

    def opened(kind: type[Any]) -> Any:
        def close(self: Any) -> None:
            kind.close(self)
            raise StorageError("it does not close")

        return (type(kind.__name__, (kind,), {"close": close}) if kind is broken else kind)(town.layout.ledger)

    stop = threading.Event()
    openers = {
        "rollouts": lambda: opened(SqliteRollouts),
        "endpoints": lambda: opened(SqliteEndpoints),
        "tokens": lambda: opened(SqliteTokens),
    }
    with pytest.raises(StorageError, match="it does not close"):
        serve(
            replace(
                config(town, port=0, record={"fold_every": None}, stop=stop, on_ready=lambda url: stop.set()),
                **openers,  # type: ignore[arg-type]
            )
        )
    Record.open(town.layout.record).close()  # nobody has it any more
    assert not [pid for pid in Path("/proc").glob("[0-9]*") if _of(pid, town) and pid.name != str(os.getpid())]


def _of(pid: Path, town: Town) -> bool:
    try:
        return str(town.root).encode() in (pid / "cmdline").read_bytes()
    except OSError:
        return False


def test_work_beside_the_requests_that_fails_is_said_and_goes_on(
    town: Town, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    town.point(town.release("one: "))
    stop, sweeps, folds = threading.Event(), 0, 0

    def sweep(record: Record) -> None:
        nonlocal sweeps
        sweeps += 1
        if sweeps < 4:
            raise ZeroDivisionError("sweeping")

    async def fold(folding: Folding) -> None:
        nonlocal folds
        folds += 1
        if sweeps >= 4 and folds >= 4:
            stop.set()
        raise ZeroDivisionError("folding")

    monkeypatch.setattr(Record, "sweep", sweep)
    monkeypatch.setattr(Folding, "fold", fold)
    monkeypatch.setattr(live, "TIDY_SECONDS", 0.01)
    with pytest.raises(ZeroDivisionError):  # the last fold, at the end
        serve(config(town, port=0, record={"fold_every": 0.01}, stop=stop))
    said = [record.getMessage() for record in caplog.records]
    assert said.count("the record cannot be looked through") == said.count("the record cannot be put into tables") == 1


def test_one_gateway_a_target(town: Town) -> None:
    with town.gateway() as gateway:
        with pytest.raises(Busy, match=f"process {gateway.process.pid} at {gateway.url} serves target test"):
            serve(config(town, port=0))
        assert stat.S_IMODE(town.layout.serve_info.stat().st_mode) == 0o600
    assert alive(town.layout) is None
    assert not town.layout.serve_info.exists()


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_in_order_and_takes_its_workers_with_it(town: Town, sig: signal.Signals) -> None:
    town.point(town.release("a"), previous=town.release("b"))
    with town.gateway() as gateway:
        gateway.until_ready()
        eventually(lambda: len(gateway.workers()) == 2, "both workers")
        workers = gateway.workers()
        asked: list[httpx.Response] = []
        asking = threading.Thread(target=lambda: asked.append(gateway.ask("slow 40")))
        asking.start()
        eventually(lambda: gateway.http.get("/ready").status_code == 200, "an answer")
        gateway.process.send_signal(sig)
        assert gateway.process.wait(30) == 0
        asking.join()
        assert asked[0].status_code == 200  # what was under way was answered
        for pid in workers:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)


def test_a_killed_gateway_leaves_no_worker_and_the_next_one_starts(town: Town) -> None:
    town.point(town.release("a"))
    with town.gateway() as gateway:
        gateway.until_ready()
        (worker,) = gateway.workers()
        gateway.process.kill()
        gateway.process.wait()
        eventually(lambda: not _runs(worker), "the worker to end")
    with town.gateway() as gateway:
        gateway.until_ready()


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_with_a_token_everything_but_health_needs_it(town: Town) -> None:
    town.point(town.release("you said: "))
    with town.gateway(env={"MODELYARD_TOKEN": TOKEN}, host="0.0.0.0") as gateway:
        gateway.until_ready()
        routes = ["/v1/models", "/version", "/ping", "/pages/a.pdf/1.png", "/nothing"]
        for headers in (
            {},
            {"authorization": "Bearer wrong"},
            {"authorization": TOKEN},
            {"authorization": "Bearer x y"},
        ):
            for path in routes:
                reply = gateway.http.get(path, headers=headers)
                assert reply.status_code == 401 and reply.headers["www-authenticate"] == "Bearer"
                assert TOKEN not in reply.text
            assert (
                gateway.http.post("/invocations", json=HELLO, headers=headers).json()["error_code"] == "UNAUTHENTICATED"
            )
            assert gateway.http.post("/v1/chat/completions", json=HELLO, headers=headers).status_code == 401
        assert gateway.http.get("/health").status_code == 200
        assert gateway.http.get("/").status_code == 200  # the page holds nothing; it asks for the token
        good = {"authorization": f"Bearer {TOKEN}", "host": "models.example", "origin": "https://models.example"}
        assert gateway.http.get("/v1/models", headers=good).status_code == 200
        assert gateway.http.post("/v1/chat/completions", json=HELLO, headers=good).status_code == 200
        # The user's own processes need no token: a secret of this start is in a file that only the user can read.
        assert ask_gateway(gateway.info, HELLO)["answer"] == "you said: hello"
    assert TOKEN not in (town.root / "gateway.log").read_text()


def test_why_it_is_not_ready_is_for_those_who_may_come_in(town: Town) -> None:
    with town.gateway(token=TOKEN) as gateway:
        assert gateway.http.get("/ready").json()["reason"] is None
        reply = gateway.http.get("/ready", headers={"authorization": f"Bearer {TOKEN}"})
        assert reply.status_code == 503 and "modelyard run" in reply.json()["reason"]


def test_nothing_deployed_is_said_everywhere(town: Town) -> None:
    with town.gateway() as gateway:
        ready = gateway.http.get("/ready")
        assert ready.status_code == 503 and ready.json()["release"] is None
        reply = gateway.ask("hello")
        assert reply.status_code == 503 and reply.headers["retry-after"] == "1"
        assert "nothing is deployed as town yet" in reply.json()["error"]["message"]
        assert gateway.http.get("/health").status_code == 200
        assert gateway.http.get("/").status_code == 200


def test_it_says_when_it_listens_and_when_it_is_ready_and_stops_when_told(town: Town) -> None:
    town.point(town.release("a"))
    said: list[str] = []
    stop = threading.Event()
    options = {
        "on_listening": lambda url: said.append(f"listening {url}"),
        "on_ready": lambda url: said.append("ready"),
    }
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(serve(config(town, port=0, stop=stop, **options))))
    thread.start()
    eventually(lambda: "ready" in said, "ready")
    url = said[0].removeprefix("listening ")
    assert httpx.get(f"{url}/ready", trust_env=False).json()["ready"]
    stop.set()
    thread.join(30)
    assert codes == [0]


def test_what_keeps_it_from_starting_is_raised_and_nothing_is_left(town: Town) -> None:
    town.ledger.close()
    for path in town.layout.state.iterdir():
        path.unlink()
    town.layout.ledger.write_text("no ledger at all, but long enough to be read as one" * 50)
    with pytest.raises(Damaged):
        serve(config(town, port=0))
    town.layout.ledger.unlink()
    town.layout.serve_info.mkdir()  # where it says where it is
    with pytest.raises(StorageError):
        serve(config(town, port=0))
    assert alive(town.layout) is None


def test_the_command_ends_with_one_line_and_the_errors_code(town: Town) -> None:
    process = start(town.root, {"host": "0.0.0.0", "port": 0})
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2 and err.count("\n") == 1 and "MODELYARD_TOKEN" in err
