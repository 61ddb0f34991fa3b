"""What one scoring request costs: CPU of all processes of a server, one row of 30 features as `dataframe_split`.

    python benchmarks/tabular.py [--rounds 8] [--requests 600] [--only NAME ...] [--rate 500]

One LightGBM model (200 trees) with a signature, saved by MLflow, behind: `modelyard serve` (gateway, worker, record on
disk); a bare Starlette application around the same library call, and one around `Booster.predict`; `mlflow models
serve`; and, where benchmarks/peers/serving.sh made their environments, MLServer (with MLflow's runtime, and with its
own for LightGBM) and BentoML. Each has one worker, and all are up at once; rounds are interleaved, four connections,
and only the server under load is counted. Figures are medians of rounds; scores are compared first. `--rate` then
sends ours that many requests a second for ten seconds and tells latencies. One JSON line.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

FEATURES = [f"f{i}" for i in range(30)]
CONNECTIONS = 4
PEERS = Path(
    os.environ.get("PEERS") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "modelyard-peers"
)

BENTO = """
import bentoml, lightgbm
import numpy as np

@bentoml.service(workers=1)
class Scores:
    def __init__(self):
        self.booster = lightgbm.Booster(model_file=FOLDER + "/model.lgb")

    @bentoml.api(route="/invocations")
    def invocations(self, dataframe_split: dict) -> dict:
        scores = self.booster.predict(np.array(dataframe_split["data"], dtype=np.float64))
        return {"predictions": scores.tolist()}
"""


@dataclass
class Server:
    """One way to serve the model: its process group, where it listens, and what it is sent."""

    name: str
    process: subprocess.Popen[bytes]
    port: int
    path: str
    health: str
    bodies: list[bytes]
    field: str = "predictions"

    def processes(self) -> list[int]:
        """It and all its descendants."""
        parents: dict[int, list[int]] = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                rest = stat.read_text().rpartition(") ")[2].split()
                parents.setdefault(int(rest[1]), []).append(int(stat.parent.name))
        found = [self.process.pid]
        for pid in found:
            found += parents.get(pid, [])
        return found

    def cpu(self) -> dict[int, float]:
        """Seconds of CPU so far, by process, itself first."""
        out = {}
        for pid in self.processes():
            with contextlib.suppress(OSError):
                out[pid] = time.clock_gettime((~pid << 3) | 2)  # what clock_getcpuclockid(3) gives
        return out

    def since(self, before: dict[int, float]) -> list[float]:
        """Seconds of CPU since then, by process."""
        return [seconds - before.get(pid, 0.0) for pid, seconds in self.cpu().items()]

    def megabytes(self) -> int:
        """Memory of its own: proportional set size of all processes."""
        total = 0
        for pid in self.processes():
            with contextlib.suppress(OSError):
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
                total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        return total // 1024

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def make_model(folder: Path) -> Path:
    """A booster of 200 trees in MLflow's format; in a process of its own, so that this one stays light."""
    code = """
import sys, warnings; warnings.simplefilter("ignore")
import lightgbm, mlflow, numpy as np, pandas as pd
from mlflow.models import infer_signature
rng = np.random.default_rng(0)
x = pd.DataFrame(rng.normal(size=(4000, 30)), columns=[f"f{i}" for i in range(30)])
y = (x.f0 + x.f1 * x.f2 + rng.normal(size=4000) > 0.5).astype(int)
booster = lightgbm.train({"objective": "binary", "num_leaves": 31, "verbose": -1}, lightgbm.Dataset(x, y), 200)
signature = infer_signature(x, booster.predict(x))
mlflow.lightgbm.save_model(booster, sys.argv[1], signature=signature, pip_requirements=["lightgbm"])
table = x[:400].assign(label=y[:400]); table.to_csv(sys.argv[2], index=False)
"""
    subprocess.run([sys.executable, "-c", code, str(folder / "model"), str(folder / "exam.csv")], check=True)
    return folder / "model"


def start(name: str, command: list[str], port: int, log: Path, **more: Any) -> Server:
    env = {
        **os.environ,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "1",
        "BENTOML_DO_NOT_TRACK": "True",
        "OMP_NUM_THREADS": "1",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    process = subprocess.Popen(
        command, stdout=log.open("wb"), stderr=subprocess.STDOUT, start_new_session=True, env=env, cwd=log.parent
    )
    return Server(name, process, port, **more)


def servers(work: Path, only: list[str]) -> Iterator[Server]:
    """Every server that is there to be measured, started."""
    model = make_model(work)
    rng = np.random.default_rng(7)
    rows = rng.normal(size=(64, 30)).tolist()
    plain = [json.dumps({"dataframe_split": {"columns": FEATURES, "data": [row]}}).encode() for row in rows]
    at = {"path": "/invocations", "health": "/health", "bodies": plain}

    def wanted(name: str) -> bool:
        return not only or name in only

    if wanted("modelyard"):
        project, port = work / "project", free_port()
        tool = [sys.executable, "-m", "modelyard"]
        subprocess.run(
            [*tool, "init", str(project), "--model", str(model), "--exam", str(work / "exam.csv")],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        subprocess.run([*tool, "run", "-C", str(project)], check=True, capture_output=True)
        command = [*tool, "serve", "-C", str(project), "--port", str(port)]
        yield start("modelyard", command, port, work / "modelyard.log", **{**at, "health": "/ready"})
    bare = Path(__file__).with_name("peers") / "bare.py"
    for name, library in (("bare", "library"), ("bare_package", "package")):
        if wanted(name):
            port = free_port()
            command = [sys.executable, str(bare), str(model), str(port), library]
            yield start(name, command, port, work / f"{name}.log", **at)
    if wanted("mlflow"):
        port = free_port()
        command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(model), "--env-manager", "local"]
        yield start("mlflow", [*command, "-p", str(port), "-w", "1"], port, work / "mlflow.log", **at)
    yield from _mlservers(work, model, rows, at, wanted)
    bento = PEERS / "bentoml" / "bin" / "bentoml"
    if wanted("bentoml") and bento.exists():
        port = free_port()
        (work / "scores.py").write_text(f"FOLDER = {str(model)!r}\n{BENTO}")
        command = [str(bento), "serve", "scores:Scores", "--port", str(port)]
        yield start("bentoml", command, port, work / "bentoml.log", **{**at, "health": "/readyz"})


def _mlservers(work: Path, model: Path, rows: list[list[float]], at: dict[str, Any], wanted: Any) -> Iterator[Server]:
    tool = PEERS / "mlserver" / "bin" / "mlserver"
    open_inference = [
        json.dumps({"inputs": [{"name": "x", "shape": [1, 30], "datatype": "FP64", "data": row}]}).encode()
        for row in rows
    ]
    kinds = {
        "mlserver": ("mlserver_mlflow.MLflowRuntime", model, at),
        "mlserver_lightgbm": (
            "mlserver_lightgbm.LightGBMModel",
            model / "model.lgb",
            {**at, "path": "/v2/models/m/infer", "bodies": open_inference, "field": "outputs"},
        ),
    }
    for name, (implementation, uri, how) in kinds.items():
        if not wanted(name) or not tool.exists():
            continue
        folder, port = work / name, free_port()
        folder.mkdir()
        # Without a pool of processes between HTTP and model, which is its cheapest way.
        about = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port(), "parallel_workers": 0}
        (folder / "settings.json").write_text(json.dumps({**about, "host": "127.0.0.1"}))
        one = {"name": "m", "implementation": implementation, "parameters": {"uri": str(uri)}}
        (folder / "model-settings.json").write_text(json.dumps(one))
        more = {**how, "health": "/v2/health/ready"}
        yield start(name, [str(tool), "start", str(folder)], port, work / f"{name}.log", **more)


class Connection:
    """One keep-alive connection that asks one thing at a time."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def __aenter__(self) -> Connection:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._writer.close()

    async def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        return await self._ask(
            b"POST %s HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
            % (path.encode(), len(body))
            + body
        )

    async def get(self, path: str) -> int:
        return (await self._ask(b"GET %s HTTP/1.1\r\nhost: localhost\r\n\r\n" % path.encode()))[0]

    async def _ask(self, request: bytes) -> tuple[int, bytes]:
        self._writer.write(request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        return int(head[9:12]), await self._reader.readexactly(length)


async def until_ready(server: Server, seconds: float = 90.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.process.poll() is None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, ValueError):
            async with Connection(server.port) as connection:
                if await connection.get(server.health) == 200:
                    return
        await asyncio.sleep(0.2)
    sys.exit(f"{server.name} did not become ready: its log is {server.name}.log")


async def scores(server: Server) -> list[float]:
    """What it answers to every body."""
    out = []
    async with Connection(server.port) as connection:
        for body in server.bodies:
            status, reply = await connection.post(server.path, body)
            if status != 200:
                sys.exit(f"{server.name} answered {status}: {reply[:300]!r}")
            found = json.loads(reply)[server.field]
            out.append(found[0]["data"][0] if server.field == "outputs" else found[0])
    return out


async def load(server: Server, requests: int) -> tuple[list[float], list[float]]:
    """CPU seconds a request of each process, and the seconds each request took."""
    took: list[float] = []

    async def ask(count: int, first: int) -> None:
        async with Connection(server.port) as connection:
            for number in range(first, first + count):
                start = time.perf_counter()
                status, _ = await connection.post(server.path, server.bodies[number % len(server.bodies)])
                took.append(time.perf_counter() - start)
                assert status == 200

    before = server.cpu()
    await asyncio.gather(*(ask(requests // CONNECTIONS, i * 7) for i in range(CONNECTIONS)))
    return [seconds / len(took) for seconds in server.since(before)], took


async def steady(server: Server, rate: int, seconds: int) -> dict[str, Any]:
    """Latencies at a rate that does not wait for answers, counted from when a request was due."""
    count, took, failed = rate * seconds, [], 0
    queue: asyncio.Queue[tuple[float, bytes] | None] = asyncio.Queue()

    async def ask() -> None:
        nonlocal failed
        async with Connection(server.port) as connection:
            while (job := await queue.get()) is not None:
                status, _ = await connection.post(server.path, job[1])
                took.append(time.perf_counter() - job[0])
                failed += status != 200

    clients = [asyncio.ensure_future(ask()) for _ in range(64)]
    begin, before = time.perf_counter() + 0.1, server.cpu()
    for number in range(count):
        due = begin + number / rate
        if (left := due - time.perf_counter()) > 0:
            await asyncio.sleep(left)
        queue.put_nowait((due, server.bodies[number % len(server.bodies)]))
    for _ in clients:
        queue.put_nowait(None)
    await asyncio.gather(*clients)
    cuts = np.quantile(np.array(took) * 1000, [0.5, 0.99])
    return {
        "rate": rate,
        "requests": count,
        "failed": failed,
        "p50_ms": round(float(cuts[0]), 2),
        "p99_ms": round(float(cuts[1]), 2),
        "cpu_us": round(sum(server.since(before)) / count * 1e6),
    }


async def measure(found: list[Server], rounds: int, requests: int, rate: int) -> dict[str, Any]:
    for server in found:
        await until_ready(server)
    answers = {server.name: await scores(server) for server in found}
    first = next(iter(answers.values()))
    for name, said in answers.items():
        if not np.allclose(said, first, rtol=1e-12, atol=0):
            sys.exit(f"{name} does not give the scores of {found[0].name}")
    costs: dict[str, list[list[float]]] = {server.name: [] for server in found}
    times: dict[str, list[float]] = {server.name: [] for server in found}
    for number in range(rounds + 1):
        for server in found if number % 2 else found[::-1]:
            cost, took = await load(server, requests)
            if number:  # the first round warms up
                costs[server.name].append(cost)
                times[server.name] += took
    middle = {name: statistics.median(map(sum, values)) * 1e6 for name, values in costs.items()}
    out: dict[str, Any] = {
        "cpu_us_per_request": {name: round(value) for name, value in middle.items()},
        "p50_ms": {name: round(statistics.median(values) * 1000, 2) for name, values in times.items()},
        "memory_mb": {server.name: server.megabytes() for server in found},
        "rounds": rounds,
        "requests_a_round": requests,
    }
    ours = middle.get("modelyard")
    if ours is not None:
        parts = zip(*costs["modelyard"], strict=False)
        out["ours_by_process_us"] = [round(statistics.median(part) * 1e6) for part in parts]
        out["times_ours"] = {name: round(value / ours, 2) for name, value in middle.items() if name != "modelyard"}
        if rate:
            out["steady"] = await steady(found[0], rate, 10)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--requests", type=int, default=600)
    parser.add_argument("--rate", type=int, default=500, help="requests a second for the latencies; 0: none")
    parser.add_argument("--only", nargs="*", default=[])
    args = parser.parse_args()
    if sys.platform != "linux":
        sys.exit("the CPU time of another process is read on Linux only")
    work, found = Path(tempfile.mkdtemp(prefix="modelyard-tabular-")), []
    try:
        for server in servers(work, args.only):
            found.append(server)
        print(json.dumps(asyncio.run(measure(found, args.rounds, args.requests, args.rate))))
    finally:
        for server in found:
            server.stop()
        if not os.environ.get("KEEP"):
            shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
