"""A sample of the answers in MLflow: once each, as they were recorded, and tables do not wait for them."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.adapters.tables_memory import MemoryTables
from modelyard.errors import Unavailable
from modelyard.fold import main
from modelyard.lifecycle.fold import fold
from modelyard.lifecycle.traces import MOST, Tracing, sampled
from modelyard.ports.traces import Trace
from modelyard.serving.record import Accepted, Finished, Record, request_id

AT_NS = 1_772_409_599_123_456_789
ASKED = {"messages": [{"role": "user", "content": "caf\u00e9?"}]}


class Kept:
    """Traces in a list."""

    def __init__(self) -> None:
        self.traces: list[Trace] = []

    def write(self, traces: Iterable[Trace]) -> int:
        before = len(self.traces)
        self.traces += traces
        return len(self.traces) - before


def played(folder: Path, count: int, response: bytes = b'{"answer": "yes"}', status: int = 200) -> list[str]:
    """A record of so many answers, as a gateway leaves it that ended in order."""
    record, ids = Record.open(folder), [request_id() for _ in range(count)]

    async def story() -> None:
        for one in ids:
            asked = json.dumps(ASKED).encode()
            about = {"unit": "a talk", "requester": "0a1b2c3d4e", "arm": "challenger", "probability": 0.05}
            await record.accepted(Accepted(one, "site", "f" * 64, "openai", AT_NS, request=asked, **about))
            usage, signals = {"prompt_tokens": 7, "completion_tokens": 3}, {"abstained": 1.0}
            error = "ModelFailed" if status >= 500 else None
            ended = Finished(one, status, 12.5, error, usage, signals=signals, response=response)
            await record.finished(ended)
        await record.turn()

    asyncio.run(story())
    record.close()
    return ids


@given(request=st.uuids(version=4).map(lambda u: u.hex), low=st.floats(0, 1), high=st.floats(0, 1))
def test_a_larger_sample_holds_the_smaller(request: str, low: float, high: float) -> None:
    low, high = sorted((low, high))
    assert sampled(request, low) <= sampled(request, high)
    assert sampled(request, 1.0) and not sampled(request, 0.0)


def test_a_trace_is_what_was_recorded(tmp_path: Path) -> None:
    kept = Kept()
    (one,) = played(tmp_path, 1)
    fold(tmp_path, MemoryTables(), committed=Tracing(kept, 1.0))
    (trace,) = kept.traces
    assert trace.request == one and trace.inputs == ASKED and trace.outputs == {"answer": "yes"}
    assert trace.began_ns == AT_NS // 1000 * 1000 and trace.duration_ms == 12.5 and trace.status == 200
    assert trace.usage == {"prompt_tokens": 7, "completion_tokens": 3}
    assert trace.attributes["signals.abstained"] == 1.0 and trace.attributes["arm"] == "challenger"
    assert (trace.unit, trace.requester, trace.error) == ("a talk", "0a1b2c3d4e", None)


def test_each_answer_is_traced_once_and_only_those_of_the_sample(tmp_path: Path) -> None:
    tables, kept = MemoryTables(), Kept()
    tracing = Tracing(kept, 0.3)
    ids = [*played(tmp_path, 40), *played(tmp_path, 40)]
    for _ in range(3):
        fold(tmp_path, tables, committed=tracing)
    assert sorted(trace.request for trace in kept.traces) == sorted(one for one in ids if sampled(one, 0.3))
    assert tracing.written == len(kept.traces)


def test_a_flood_is_traced_in_part(tmp_path: Path) -> None:
    kept = Kept()
    played(tmp_path, MOST + 20, response=b"not json")
    fold(tmp_path, MemoryTables(), committed=Tracing(kept, 1.0))
    assert len(kept.traces) == MOST and kept.traces[0].outputs == "not json"


def test_tables_do_not_wait_for_traces(tmp_path: Path) -> None:
    class Gone:
        def write(self, traces: Iterable[Trace]) -> int:
            raise Unavailable("nobody answers")

    tables, tracing = MemoryTables(), Tracing(Gone(), 1.0)
    played(tmp_path, 3)
    fold(tmp_path, tables, committed=tracing)
    assert tracing.trouble == "nobody answers" and tables.read("inference").num_rows == 3


@pytest.fixture
def collector() -> Iterator[tuple[str, list[bytes]]]:
    """An OpenTelemetry collector: where it is, and what it was sent."""
    sent: list[bytes] = []

    class Taking(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            sent.append(gzip.decompress(body) if self.headers["content-encoding"] == "gzip" else body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Taking) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1/traces", sent
        server.shutdown()


def test_the_process_that_folds_writes_them_to_mlflow_and_over_otlp(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    collector: tuple[str, list[bytes]],
) -> None:
    import mlflow

    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    url, sent = collector
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf")
    (tmp_path / "modelyard.yml").write_text("name: site\nworkload: echo\nserve: {traces: 1.0}\n")
    (good,) = played(tmp_path / "record", 1)
    (bad,) = played(tmp_path / "record", 1, status=500)
    where = ["--record", str(tmp_path / "record"), "--tables", str(tmp_path / "tables")]
    before = mlflow.get_tracking_uri()
    mlflow.tracing.reset()
    try:
        assert main([*where, "--project", str(tmp_path)]) == 0
        assert "modelyard:" not in capsys.readouterr().err
        experiment = mlflow.get_experiment_by_name("site")
        assert experiment is not None
        found = mlflow.search_traces(locations=[experiment.experiment_id], return_type="list")
    finally:
        mlflow.tracing.reset()
        mlflow.set_tracking_uri(before)
    traces = {trace.info.tags["modelyard.request"]: trace for trace in found}
    assert set(traces) == {good, bad}
    info, (span,) = traces[good].info, traces[good].data.spans
    assert info.state == "OK" and traces[bad].info.state == "ERROR"
    assert info.request_time == AT_NS // 1_000_000 and info.execution_duration in (12, 13)
    assert span.inputs == ASKED and span.outputs == {"answer": "yes"} and span.attributes["arm"] == "challenger"
    assert info.token_usage == {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10}
    assert info.trace_metadata["mlflow.trace.session"] == "a talk"
    assert all(one.encode() in b"".join(sent) for one in (good, bad))
