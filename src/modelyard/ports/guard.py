"""The guard port: what may keep a request from the model, or an answer from the caller."""

from __future__ import annotations

from typing import Protocol

from modelyard.ports.workload import Request, Response


class Guard(Protocol):
    """One rule, wrapped around the predictor, so that it holds however a release is served."""

    name: str

    def request(self, request: Request) -> str | None:
        """Why this request may not reach the model; None lets it through."""
        ...

    def response(self, request: Request, response: Response) -> str | None:
        """Why this answer may not reach the caller; None lets it through."""
        ...
