"""Answers of a running gateway as MLflow traces. Real processes."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from town import Town


def test_answers_are_traces_by_the_time_the_gateway_ended(town: Town) -> None:
    file = town.root / "modelyard.yml"
    file.write_text(file.read_text() + "serve: {traces: 1.0}\n")
    release = town.release("you said: ")
    town.point(release)
    with town.gateway(traces=True, record={"fold_every": 3600.0}) as gateway:
        gateway.until_ready(release)
        good, bad = (gateway.ask(question).headers["x-request-id"] for question in ("hello", "bug"))
    log = (town.root / "gateway.log").read_text()
    assert "traced" not in log and "into tables" not in log
    with closing(sqlite3.connect(town.layout.mlflow_db)) as base:  # as MLflow keeps it: importing that takes seconds
        query = (
            "SELECT value, status FROM trace_tags JOIN trace_info USING (request_id) WHERE key = 'modelyard.request'"
        )
        assert dict(base.execute(query)) == {good: "OK", bad: "ERROR"}
        releases = base.execute("SELECT DISTINCT value FROM trace_tags WHERE key = 'modelyard.release'").fetchall()
    assert (release,) in releases
