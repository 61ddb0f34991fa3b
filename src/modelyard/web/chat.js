// The chat page. Everything that comes from a server or a document is put in by textContent: nothing of it is ever markup.

import { at, call, make, post, random, Refused } from "/static/gate.js";

const MOST_TURNS = 20;
const MOST_PICTURES = 12;
const REFRESH_MS = 10_000;
const KEYS = "modelyard-keys";
const PASSING = new Set(["busy", "unavailable", "deadline_exceeded", "record_full"]); // codes of what passes by itself

const frame = at("frame"), talk = at("talk"), log = at("log"), box = at("question");
const narrow = matchMedia("(max-width: 59.99rem)"); // there a page covers the conversation

const turns = []; // what was said: {role, content}
const serving = { endpoint: null, release: null, picture: false };
const pictures = new Map(); // what was opened lately: citation to object URL
let conversation = random(); // all of its requests are answered by one release
let asking = null; // the AbortController of the answer that is arriving
let opener = null; // the chip whose page is open

async function* events(reply) {
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Refused("the answer broke off");
    held += value;
    const parts = held.split("\n\n");
    held = parts.pop();
    for (const part of parts) {
      if (!part.startsWith("data: ")) continue;
      const data = part.slice(6);
      if (data === "[DONE]") return;
      const event = JSON.parse(data);
      if (event.error) throw new Refused(event.error.message, PASSING.has(event.error.code) ? 503 : 0);
      yield event;
    }
  }
}

// What serves

async function refresh() {
  try {
    const [model] = (await (await call("/v1/models")).json()).data;
    serving.endpoint = model.id;
    serving.picture = model.modelyard.picture;
    at("endpoint").textContent = model.id;
    document.title = model.id;
    if (model.modelyard.release) {
      showServing(model.modelyard);
    } else {
      const ready = await (await fetch("/ready")).json();
      showDown(ready.reason ?? "nothing is served yet");
    }
  } catch (error) {
    showDown(error instanceof Refused ? error.message : "the server does not answer");
  }
}

function showServing({ release, state, version }) {
  serving.release = release;
  const parts = [make("span", "", version ? `release v${version}` : "release"), make("code", "", release.slice(0, 12))];
  if (state === "unproven") {
    const badge = make("span", "badge unproven", "unproven");
    badge.title = "This release was let in without enough evidence that it is good.";
    parts.push(badge);
  }
  say(parts);
}

function showDown(why) {
  serving.release = null;
  say([make("span", "badge down", "not ready"), make("span", "", why)]);
}

function say(parts) {
  const status = at("serving");
  // Written only when it differs: screen readers announce every change.
  if (status.textContent !== parts.map((part) => part.textContent).join("")) status.replaceChildren(...parts);
}

// A conversation

async function ask(question, key = random()) {
  at("welcome").hidden = true;
  at("fresh").hidden = false;
  const turn = make("article", "turn"), answer = make("div", "answer arriving");
  answer.setAttribute("aria-busy", "true");
  turn.append(make("p", "asked", question), answer);
  log.append(turn);
  draw(answer, "", []);
  turn.scrollIntoView({ block: "start" });
  const began = performance.now();
  busy(new AbortController());
  let text = "", extra = null, id = null;
  try {
    const body = { messages: [...turns.slice(-MOST_TURNS), { role: "user", content: question }], stream: true };
    const headers = { "X-Conversation-Id": conversation, "Idempotency-Key": key };
    const reply = await post("/v1/chat/completions", body, { headers, signal: asking.signal });
    id = reply.headers.get("x-request-id");
    for await (const event of events(reply)) {
      text += event.choices[0]?.delta?.content ?? "";
      extra = event.modelyard ?? extra;
      draw(answer, text, []);
      follow();
    }
    turns.push({ role: "user", content: question }, { role: "assistant", content: text });
    settle(turn, answer, text, extra ?? { citations: [] }, performance.now() - began, id);
  } catch (error) {
    if (error.name === "AbortError") answer.append(make("p", "foot", "Stopped."));
    else fail(turn, answer, question, key, error);
  } finally {
    answer.classList.remove("arriving");
    answer.removeAttribute("aria-busy");
    busy(null);
    follow();
  }
}

function settle(turn, answer, text, extra, took, id) {
  draw(answer, text, extra.citations ?? [], extra.release);
  answer.classList.toggle("refused", Boolean(extra.refused));
  const foot = make("div", "foot");
  if (extra.release) foot.append(make("span", "", `release ${extra.release.slice(0, 12)}`));
  foot.append(make("span", "", took < 950 ? `${Math.round(took)} ms` : `${(took / 1000).toFixed(1)} s`));
  turn.append(foot);
  if (id) opinion(turn, foot, id);
  if (extra.release && extra.release !== serving.release) refresh();
}

// A line that says what went wrong. What passes by itself is said calmly, and offered again when its time has come.
function fail(turn, answer, question, key, error) {
  const passing = error instanceof Refused && [429, 503, 504].includes(error.status);
  const why = error instanceof Refused ? error.message : "The server cannot be reached.";
  const line = make("p", passing ? "trouble wait" : "trouble", why), again = make("button", "again", "Try again");
  again.type = "button";
  again.addEventListener("click", () => {
    if (asking || again.getAttribute("aria-disabled") === "true") return;
    turn.remove();
    ask(question, key);
  });
  line.append(" ", again);
  if (answer.textContent === "") answer.replaceWith(line);
  else turn.append(line);
  if (passing) countDown(again, error.wait || 1);
}

function countDown(again, seconds) {
  again.setAttribute("aria-disabled", seconds > 0);
  again.textContent = seconds > 0 ? `Try again in ${seconds < 120 ? `${seconds} s` : `${Math.ceil(seconds / 60)} min`}` : "Try again";
  if (seconds > 0) setTimeout(() => countDown(again, seconds - 1), 1000);
}

// What somebody thinks of an answer

const THUMBS = [
  ["up", "Good answer", "M6 9v8H3V9zm0 0 3.6-6.4c1.3 0 2.2 1 1.9 2.4L11 8h4.6c1 0 1.7.9 1.5 1.9l-1.2 5.6c-.2.9-.9 1.5-1.8 1.5H6"],
  ["down", "Bad answer", "M14 11V3h3v8zm0 0-3.6 6.4c-1.3 0-2.2-1-1.9-2.4L9 12H4.4c-1 0-1.7-.9-1.5-1.9l1.2-5.6C4.3 3.6 5 3 5.9 3H14"],
];

function opinion(turn, foot, id) {
  const said = make("span", "said");
  said.setAttribute("role", "status");
  const thumbs = THUMBS.map(([value, label, path]) => {
    const button = make("button", `thumb ${value}`);
    button.type = "button";
    button.setAttribute("aria-label", label);
    button.setAttribute("aria-pressed", "false");
    button.append(drawing(path));
    button.addEventListener("click", async () => {
      if (!(await tell(id, "thumb", value, said))) return;
      for (const one of thumbs) one.setAttribute("aria-pressed", String(one === button));
    });
    return button;
  });
  const comment = make("button", "plain comment", "Comment");
  comment.type = "button";
  comment.setAttribute("aria-expanded", "false");
  comment.addEventListener("click", () => write(turn, comment, id, said));
  const group = make("span", "opinion");
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", "Your opinion of this answer");
  group.append(...thumbs, comment);
  foot.append(group, said);
}

function drawing(path) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 20 20");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
  line.setAttribute("d", path);
  svg.append(line);
  return svg;
}

async function tell(id, kind, value, said) {
  try {
    await post("/feedback", { request_id: id, kind, value });
    said.className = "said";
    said.textContent = "Noted, thank you.";
    return true;
  } catch (error) {
    said.className = "said wrong";
    said.textContent = `Not noted: ${error instanceof Refused ? error.message : "the server cannot be reached."}`;
    return false;
  }
}

function write(turn, opened, id, said) {
  const before = turn.querySelector(".remark");
  if (before) {
    before.remove();
    opened.setAttribute("aria-expanded", "false");
    return;
  }
  const form = make("form", "remark"), field = make("textarea"), send = make("button", "small", "Send");
  field.rows = 2;
  field.maxLength = 10_000;
  field.setAttribute("aria-label", "Comment on this answer");
  field.placeholder = "What is right or wrong about it?";
  send.type = "submit";
  form.append(field, send);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const words = field.value.trim();
    if (!words || !(await tell(id, "comment", words, said))) return;
    form.remove();
    opened.setAttribute("aria-expanded", "false");
    opened.focus();
  });
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
    if (event.key === "Escape") {
      event.stopPropagation();
      form.remove();
      opened.setAttribute("aria-expanded", "false");
      opened.focus();
    }
  });
  opened.setAttribute("aria-expanded", "true");
  turn.append(form);
  field.focus();
}

// A line of the text is a statement; the chips behind it are the places it stands on.
function draw(answer, text, citations, release) {
  const lines = text.split("\n").filter((line, i) => line.trim() || i === 0);
  const placed = place(lines, citations);
  answer.replaceChildren(...lines.map((line, i) => {
    const statement = make("p", "statement", line);
    for (const citation of placed[i]) statement.append(" ", chip(citation, release));
    return statement;
  }));
}

function place(lines, citations) {
  const placed = lines.map(() => []);
  const said = lines.map(words);
  for (const citation of citations) {
    const named = citation.statement;
    if (Number.isInteger(named) && placed[named]) {
      placed[named].push(citation);
      continue;
    }
    const quoted = words(citation.quote ?? "");
    const scores = said.map((own) => [...own].filter((word) => quoted.has(word)).length / (own.size || 1));
    placed[scores.lastIndexOf(Math.max(...scores))].push(citation);
  }
  return placed;
}

const words = (text) => new Set(text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? []);

function chip(citation, release) {
  const button = make(serving.picture ? "button" : "span", "chip");
  const name = citation.title || String(citation.document).split("/").pop();
  button.append(make("span", "name", name), make("span", "number", `p. ${citation.page}`));
  button.title = `${citation.document}, page ${citation.page}\n${citation.quote ?? ""}`;
  if (serving.picture) {
    button.type = "button";
    button.setAttribute("aria-label", `Open ${citation.document}, page ${citation.page}`);
    button.setAttribute("aria-expanded", "false");
    button.setAttribute("aria-controls", "page");
    button.addEventListener("click", () => openPage(citation, release, button));
  }
  return button;
}

// The cited page

async function openPage(citation, release, button) {
  opener?.setAttribute("aria-expanded", "false");
  opener = button;
  button.setAttribute("aria-expanded", "true");
  at("page-title").textContent = citation.document;
  at("page-number").textContent = `Page ${citation.page}${citation.section ? `, ${citation.section}` : ""}`;
  at("page-quote").textContent = citation.quote ?? "";
  at("page-quote").hidden = !citation.quote;
  at("sheet").replaceChildren(make("p", "", "Fetching the page…"));
  at("page").hidden = false;
  frame.classList.add("beside");
  at("page-title").focus({ preventScroll: true });
  for (const part of [at("top"), talk, at("compose")]) part.inert = narrow.matches;
  try {
    const url = await picture(citation, release);
    if (opener !== button) return;
    const image = make("img");
    image.alt = `Page ${citation.page} of ${citation.document}, with the quoted words marked`;
    image.src = url;
    at("sheet").replaceChildren(image);
  } catch (error) {
    const why = error instanceof Refused ? error.message : "The server cannot be reached.";
    if (opener === button) at("sheet").replaceChildren(make("p", "", `The picture of this page is not at hand: ${why}`));
  }
}

// Asked for in a body: what is quoted stays out of addresses, and of logs of them.
async function picture(citation, release) {
  const wanted = { document: citation.document, page: citation.page, quote: citation.quote ?? "", ...(release ? { release } : {}) };
  const key = JSON.stringify(wanted);
  if (!pictures.has(key)) {
    const blob = await (await post("/pages/picture", wanted)).blob();
    pictures.set(key, URL.createObjectURL(blob));
    if (pictures.size > MOST_PICTURES) {
      const [oldest, url] = pictures.entries().next().value;
      pictures.delete(oldest);
      URL.revokeObjectURL(url);
    }
  }
  return pictures.get(key);
}

function closePage() {
  if (at("page").hidden) return;
  at("page").hidden = true;
  frame.classList.remove("beside");
  for (const part of [at("top"), talk, at("compose")]) part.inert = false;
  opener?.setAttribute("aria-expanded", "false");
  opener?.focus();
  opener = null;
}

// The form

function busy(controller) {
  asking = controller;
  at("send").hidden = controller !== null;
  at("stop").hidden = controller === null;
}

function follow() {
  if (talk.scrollHeight - talk.scrollTop - talk.clientHeight < 160) talk.scrollTop = talk.scrollHeight;
}

function grow() {
  box.style.height = "auto";
  box.style.height = `${box.scrollHeight}px`;
  at("send").disabled = box.value.trim() === "";
}

function submit() {
  const question = box.value.trim();
  if (!question || asking) return;
  box.value = "";
  grow();
  ask(question);
}

box.addEventListener("input", grow);
box.addEventListener("keydown", (event) => {
  if (event.key === "ArrowUp" && box.value === "" && turns.length) {
    event.preventDefault();
    box.value = turns[turns.length - 2].content; // the last question, to be put otherwise
    grow();
  }
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  submit();
});
at("compose").addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});
at("stop").addEventListener("click", () => asking?.abort());
at("page-close").addEventListener("click", closePage);
at("page-larger").addEventListener("click", () => {
  const large = at("sheet").classList.toggle("large");
  at("page-larger").setAttribute("aria-pressed", String(large));
});
function begin() {
  asking?.abort();
  closePage();
  conversation = random();
  turns.length = 0;
  log.replaceChildren();
  at("welcome").hidden = false;
  at("fresh").hidden = true;
  box.focus();
}

at("fresh").addEventListener("click", begin);

// Keys. Single ones only outside of fields, and only while they are wanted.

const last = (selector) => log.querySelector(`.turn:last-child ${selector}`);
const KEYS_DO = {
  "/": () => box.focus(),
  n: begin,
  u: () => last(".thumb.up")?.click(),
  d: () => last(".thumb.down")?.click(),
  c: () => last("button.comment")?.click(),
  o: () => last("button.chip")?.click(),
  "?": () => at("help").showModal(),
};

document.addEventListener("keydown", (event) => {
  if (at("login").open || at("help").open) return;
  if (event.key === "Escape") {
    if (!at("page").hidden) closePage();
    else asking?.abort();
    return;
  }
  const typing = event.target.closest?.("input, textarea, select, [contenteditable]");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || !at("keys").checked) return;
  const act = KEYS_DO[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

at("keys").checked = localStorage.getItem(KEYS) !== "off";
at("keys").addEventListener("change", () => localStorage.setItem(KEYS, at("keys").checked ? "on" : "off"));
at("show-help").addEventListener("click", () => at("help").showModal());

grow();
if (matchMedia("(hover: hover)").matches) box.focus(); // on a phone it would open the keyboard
await refresh();
setInterval(() => document.hidden || refresh(), REFRESH_MS);

// A question behind the # of the address is asked at once: a link may lead to an answer, and no server sees it. With
// `open`, its first citation is opened too.
const wanted = new URLSearchParams(location.hash.slice(1));
if (wanted.get("q")) {
  await ask(wanted.get("q"));
  if (wanted.has("open")) last("button.chip")?.click();
}
