"""GET /metrics: what the meter counted, and what can be read of the fleet now."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from modelyard.serving.meter import Meter
from modelyard.serving.supervise import Fleet


async def metrics(request: Request) -> Response:
    """GET /metrics, in Prometheus' text format."""
    meter: Meter = request.app.state.meter
    return Response(meter.text(), headers={"content-type": Meter.content_type, "cache-control": "no-store"})


def measure(meter: Meter, fleet: Fleet) -> None:
    """Let `meter` read of the fleet what is read only when somebody asks."""
    meter.live("modelyard_ready", lambda: [((fleet.endpoint,), float(fleet.ready() is not None))])
