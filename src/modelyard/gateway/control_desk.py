"""The control plane's work on the ledger: endpoints created, configured, tagged, deleted, and updates brought on.

Called in threads; knows no HTTP and no worker. An update is brought on in steps, each of which finds out from the
ledger how far it came: a gateway that was killed goes on where it was.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from modelyard.clock import Clock, stamp
from modelyard.errors import Busy, NotFound, RefusedByPolicy, RequestError
from modelyard.ids import digest, is_prefix, short
from modelyard.lifecycle.canary import GATEWAY
from modelyard.lifecycle.endpoints import (
    BY_CONFIG,
    AlreadyThere,
    Entity,
    Updating,
    ai_gateway,
    cooled,
    endpoint_extras,
    endpoint_name,
    entities,
    pointers_for,
    resolved,
    served_now,
    tags,
    unknown_in,
    warming,
    why,
)
from modelyard.lifecycle.release import WARM_WITHIN, admission
from modelyard.ports.endpoints import EndpointRow, Endpoints, Served, Update
from modelyard.ports.ledger import Ledger
from modelyard.ports.records import Move, Pointers, Release


@dataclass(frozen=True)
class View:
    """An endpoint as it is now: its row, where it points, and as what it serves that."""

    row: EndpointRow
    pointers: Pointers
    served: tuple[Served, ...]
    own: bool

    @property
    def updating(self) -> bool:
        return self.row.update is not None and self.row.update.state == "running"

    @property
    def failed(self) -> Update | None:
        """The update that failed last, as long as nobody moved the endpoint since."""
        update = self.row.update
        stands = update is not None and update.state == "failed" and update.generation == self.pointers.generation
        return update if stands else None


class Desk:
    """`own` is the project's own endpoint, and the name of its registered model; `admit_unproven` and `target` are the
    policy of admission."""

    def __init__(
        self,
        own: str,
        ledger: Callable[[], Ledger],
        endpoints: Callable[[], Endpoints],
        clock: Clock,
        *,
        admit_unproven: bool = False,
        target: str = "test",
    ) -> None:
        """Raises what opening them raises."""
        self.own = own
        self._clock = clock
        self._admit_unproven, self._target = admit_unproven, target
        self._ledger, self._endpoints = ledger(), endpoints()

    def close(self) -> None:
        """Let go of the files."""
        self._ledger.close()
        self._endpoints.close()

    def edition(self) -> int:
        """Another number when endpoints may have changed."""
        return self._endpoints.edition()

    def rows(self) -> Sequence[EndpointRow]:
        """Those that are written down; the project's own is among them once it was configured here."""
        return self._endpoints.all()

    def views(self) -> list[View]:
        """All endpoints, the project's own first."""
        names = [self.own, *(row.name for row in self.rows() if row.name != self.own)]
        return [self.view(name) for name in names]

    def view(self, name: str) -> View:
        """Raises NotFound."""
        row, pointers = self._row(name), self._ledger.pointers(name)
        releases = {release: self._ledger.release(release) for release, _ in pointers.split}
        return View(row, pointers, served_now(pointers, row.served, releases, self.own), name == self.own)

    def create(self, body: Mapping[str, Any], who: str) -> None:
        """Raises RequestError, AlreadyThere, NotFound, RefusedByPolicy, GateFailed, GateAbstained."""
        name, extras = endpoint_name(body.get("name")), endpoint_extras(body)
        labels = tags(body.get("tags"))
        if name == self.own or self._endpoints.find(name) is not None:
            raise AlreadyThere(f"there is an endpoint {name!r} already")
        pointers, now = self._ledger.pointers(name), stamp(self._clock.now())
        update = self._update(name, body.get("config"), (), pointers, who)
        try:
            self._endpoints.add(EndpointRow(name, uuid.uuid4().hex, who, now, now, labels, extras, update=update))
        except RefusedByPolicy as error:
            raise AlreadyThere(str(error)) from None

    def configure(self, name: str, config: Any, who: str) -> None:
        """Begin to serve by this configuration. Raises as `create` does, and Updating where one is on its way."""
        view = self.view(name)
        if view.updating:
            raise Updating(f"a configuration of {name} is on its way already: wait until config_update says so")
        update = self._update(name, config, view.served, view.pointers, who)
        self._change(view.row, update=update)

    def tag(self, name: str, body: Mapping[str, Any]) -> EndpointRow:
        """Raises RequestError, NotFound."""
        add, drop = tags(body.get("add_tags"), "add_tags"), body.get("delete_tags")
        drop = [] if drop is None else drop
        if not isinstance(drop, list) or not all(isinstance(key, str) for key in drop):
            raise RequestError("delete_tags: a list of keys is expected")
        if unknown := unknown_in(body, ("name", "add_tags", "delete_tags")):
            raise RequestError(f"unknown {unknown}: add_tags and delete_tags are expected")
        row = self._row(name)
        kept = {key: value for key, value in row.tags if key not in drop}
        return self._change(row, tags=tuple({**kept, **dict(add)}.items()))

    def ai_gateway(self, name: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Its settings of that name, which are only given back. Raises RequestError, NotFound."""
        row = self._row(name)
        kept = ai_gateway({key: value for key, value in body.items() if key != "name"})
        self._change(row, extras={**row.extras, "ai_gateway": kept})
        return kept

    def delete(self, name: str, who: str) -> None:
        """Raises NotFound, RefusedByPolicy for the project's own."""
        if name == self.own:
            raise RefusedByPolicy(f"{name} is the project's own endpoint: it goes with the project")
        self._row(name)
        self._retried(lambda: self._point(name, Pointers(), who, BY_CONFIG + "the endpoint is deleted"))
        self._endpoints.remove(name)

    def usual_name(self, release: str) -> str:
        """What a release is called that nobody gave a name."""
        found = self._ledger.release(release)
        return f"{self.own}-{found.version or short(release)}"

    def release_of(self, name: str, entity: str) -> str:
        """The release that is served there under the name `entity`. Raises NotFound."""
        found = next((one.release for one in self.view(name).served if one.name == entity), None)
        if found is None:
            raise NotFound(f"{name} serves nothing under that name")
        return found

    # updates

    def bring_on(self, name: str, since: float, up: Mapping[str, str]) -> bool:
        """One step of the endpoint's update; whether it is over. `since` is the monotonic time at which this gateway
        took it up; `up` are the releases that it has workers of, or why it gets none ("": it has). Raises Busy, after
        which it is tried again."""
        row = self._endpoints.find(name)
        update = row.update if row is not None else None
        if row is None or update is None or update.state != "running":
            return True
        before = self._ledger.pointers(name)
        if (other := self._moved_by_another(name, update, before)) is not None:
            self._over(row, update, before.generation, f"{other.who} moved the endpoint meanwhile: {other.why}")
            return True
        to, decision = pointers_for(update.served, before), next(iter(update.admissions.values()), None)
        wanted = [one.release for one in update.served]
        missing = [release for release in wanted if release not in before.named()]
        if before.champion is None:
            self._ledger.move(name, before.generation, to, update.who, why(update.served), decision)
            return False
        if missing:
            what = BY_CONFIG + ", ".join(short(release) for release in missing) + " is warmed"
            self._ledger.move(name, before.generation, warming(before, missing), update.who, what, decision)
            return False
        if (reason := self._hindrance(wanted, since, up)) is not None:
            self._fail(row, update, before, reason)
            return True
        if not all(release in up for release in wanted):
            return False
        for release, state in update.states.items():
            # Before the move: a champion whose state is not written yet would be taken for something it is not.
            self._ledger.set_state(release, "unproven" if state == "unproven" else "passed")
        if not _alike(before, to):
            self._ledger.move(name, before.generation, to, update.who, why(update.served), decision)
        self._change(row, served=update.served, update=None)
        return True

    def _hindrance(self, wanted: Sequence[str], since: float, up: Mapping[str, str]) -> str | None:
        for release in wanted:
            if failure := up.get(release):
                return f"release {short(release)} does not start: {failure}"
        if self._clock.monotonic() - since > WARM_WITHIN:
            return f"its workers were not ready within {WARM_WITHIN:.0f} s"
        return None

    def _fail(self, row: EndpointRow, update: Update, before: Pointers, reason: str) -> None:
        back = Pointers() if update.first else cooled(before, [one.release for one in row.served])
        generation = before.generation
        if not _alike(before, back):
            what = BY_CONFIG + "its workers did not start"
            generation = self._ledger.move(row.name, generation, back, update.who, what, None).generation
        self._over(row, update, generation, reason)

    def _over(self, row: EndpointRow, update: Update, generation: int, reason: str) -> None:
        self._change(row, update=replace(update, state="failed", reason=reason, generation=generation))

    def _moved_by_another(self, name: str, update: Update, now: Pointers) -> Move | None:
        """The newest move since the update began that a person made elsewhere: it is the later word. Steps of a
        rollout are not: an update ends the rollout."""
        if now.generation == update.generation:
            return None
        moves = (m for m in self._ledger.history(name) if m.pointers.generation > update.generation)
        return next((m for m in moves if m.who != GATEWAY and not m.why.startswith(BY_CONFIG)), None)

    def _update(self, name: str, config: Any, current: Sequence[Served], pointers: Pointers, who: str) -> Update:
        asked = entities(config, self.own, current)
        releases = {entity.version: self._find(entity) for entity in asked}
        served = resolved(asked, releases)
        admissions, states = {}, {}
        known = self._let_in(name, pointers)
        for release in releases.values():
            if release.id not in known:
                decision = admission(
                    self._ledger, release, pointers, self._admit_unproven, self._target, by_person=True
                )
                admissions[release.id], states[release.id] = decision.id, decision.verdict
        first = pointers.champion is None
        now = stamp(self._clock.now())
        at = pointers.generation
        return Update(served, who, now, generation=at, first=first, admissions=admissions, states=states)

    def _let_in(self, name: str, pointers: Pointers) -> set[str]:
        """Releases that take traffic there, or were champion: they were let in, and going back needs no exam."""
        moves: Sequence[Move] = self._ledger.history(name)
        return {release for release, _ in pointers.split} | {m.pointers.champion for m in moves if m.pointers.champion}

    def _find(self, entity: Entity) -> Release:
        if entity.model.rpartition(".")[2] != self.own:
            raise NotFound(f"there is no registered model of that name here: it is {self.own}")
        if entity.version.isdecimal() and len(entity.version) <= 18:
            try:
                return self._ledger.release(f"v{int(entity.version)}")
            except NotFound:
                if not is_prefix(entity.version):
                    raise NotFound(f"{self.own} has no version {entity.version}") from None
        return self._ledger.release(entity.version)

    def _row(self, name: str) -> EndpointRow:
        row = self._endpoints.find(name)
        if row is None and name != self.own:
            raise NotFound(f"there is no endpoint {name[:80]!r} here")
        if row is not None:
            return row
        moves = self._ledger.history(name)
        who, at = (moves[-1].who, moves[-1].at) if moves else ("modelyard", stamp(self._clock.now()))
        return EndpointRow(name, digest(["endpoint", name])[:32], who, at, moves[0].at if moves else at, version=-1)

    def _change(self, row: EndpointRow, **parts: Any) -> EndpointRow:
        changed = replace(row, changed=stamp(self._clock.now()), **parts)
        if row.version < 0:  # the project's own, of which nothing was written down yet
            changed = replace(changed, version=0)
            try:
                self._endpoints.add(changed)
            except RefusedByPolicy:
                raise Busy(f"endpoint {row.name!r} changed meanwhile: look at it again") from None
            return changed
        return self._endpoints.change(changed)

    def _point(self, name: str, to: Pointers, who: str, what: str) -> None:
        before = self._ledger.pointers(name)
        if before.named():
            self._ledger.move(name, before.generation, to, who, what, None)

    def _retried(self, act: Callable[[], None]) -> None:
        for attempt in range(5):
            try:
                return act()
            except Busy:
                if attempt == 4:
                    raise


def _alike(one: Pointers, other: Pointers) -> bool:
    return replace(one, generation=0) == replace(other, generation=0)
