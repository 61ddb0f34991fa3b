// The operations page. The gateway renders what it shows, with everything in it escaped; this brings it up to date,
// sends forms with the token, and opens details in place.

import { at, call, login, make, post, Refused } from "/static/gate.js";

const REFRESH_MS = 3_000;

const panel = at("panel");
let acting = false, shown = 0;

// A document that is parsed runs no script, and the policy of this page would let none run.
const parsed = (html) => new DOMParser().parseFromString(html, "text/html");

async function refresh() {
  try {
    const html = await (await call("/ops/panel")).text();
    if (!acting && !panel.querySelector("details.act[open]")) put(parsed(html).body);
    shown = Date.now();
    at("fresh").className = "fresh";
    if (at("fresh").textContent) at("fresh").textContent = "";
  } catch (error) {
    if (error instanceof Refused && error.status === 403) {
      sessionStorage.clear();
      await login(error.message);
      return refresh();
    }
    const since = shown ? ` What is shown is of ${new Date(shown).toLocaleTimeString()}.` : "";
    const why = error instanceof Refused ? `${error.message}.` : "The gateway does not answer.";
    at("fresh").className = "fresh wrong";
    if (at("fresh").textContent !== why + since) at("fresh").textContent = why + since;
  }
}

// New contents, with what somebody opened, read or said left as it was.
function put(body) {
  const open = new Map([...panel.querySelectorAll("details[data-key]")].map((one) => [one.dataset.key, one.open]));
  const scrolled = [...panel.querySelectorAll(".scroll")].map((one) => [one.scrollLeft, one.scrollTop]);
  const focused = [...panel.querySelectorAll(FOCUSED)].indexOf(document.activeElement);
  const said = at("said")?.textContent;
  panel.replaceChildren(...body.childNodes);
  if (said) at("said").textContent = said;
  for (const one of panel.querySelectorAll("details[data-key]")) {
    if (open.has(one.dataset.key)) one.open = open.get(one.dataset.key);
  }
  panel.querySelectorAll(".scroll").forEach((one, i) => scrolled[i] && one.scrollTo(...scrolled[i]));
  if (focused >= 0) panel.querySelectorAll(FOCUSED)[focused]?.focus({ preventScroll: true });
}

const FOCUSED = "a, button, input, summary, [tabindex]";

const ACTS = {
  async rollback(form) {
    const { endpoint, generation, why } = Object.fromEntries(new FormData(form));
    const wanted = { endpoint, generation: Number(generation), why };
    const done = await (await post("/ops/api/rollback", wanted)).json();
    const where = done.serving ? "answers now" : "is being started";
    return [`Release ${done.release.slice(0, 12)} ${where}.`, ...done.warnings].join(" ");
  },
  async drill(form) {
    const { endpoint } = Object.fromEntries(new FormData(form));
    const done = await (await post("/ops/api/drill", { endpoint })).json();
    const release = done.release.slice(0, 12);
    if (done.failures.length) throw new Refused(`release ${release} did not answer: ${done.failures[0]}`);
    return (
      `A rollback to ${release} would move the pointer in ${done.pointer_ms.toFixed(1)} ms; it is warm, and answered ` +
      `${done.answered} of ${done.probes} questions. Nothing was changed.`
    );
  },
};

panel.addEventListener("submit", async (event) => {
  const act = ACTS[event.target.dataset.act];
  if (!act) return;
  event.preventDefault();
  if (acting) return;
  acting = true;
  const button = event.target.querySelector("button");
  button.disabled = true;
  say("One moment…");
  try {
    say(await act(event.target));
    const details = event.target.closest("details");
    if (details) details.open = false;
  } catch (error) {
    say(error instanceof Refused ? `Not done: ${error.message}` : "Not done: the gateway does not answer.", true);
  } finally {
    acting = false;
    button.disabled = false;
  }
  await refresh();
});

function say(words, wrong = false) {
  at("said").textContent = words;
  at("said").classList.toggle("wrong", wrong);
}

panel.addEventListener("click", async (event) => {
  const link = event.target.closest("a[data-details]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  let shown;
  try {
    const html = await (await call(`/ops/requests/${link.dataset.details}`)).text();
    shown = parsed(html).getElementById("details-of");
  } catch (error) {
    shown = make("p", "soft", error instanceof Refused ? error.message : "The gateway does not answer.");
  }
  at("details-here").replaceChildren(shown);
  at("details").showModal();
});

if (!document.getElementById("details-of")) {
  if (!panel.querySelector("section")) await refresh();
  setInterval(() => document.hidden || at("login").open || refresh(), REFRESH_MS);
}
