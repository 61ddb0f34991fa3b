// The chat page. Everything that comes from a server or a document is put in by textContent: nothing of it is ever markup.

const MOST_TURNS = 20;
const REFRESH_MS = 10_000;
const TOKEN = "modelyard-token";

const at = (id) => document.getElementById(id);
const frame = at("frame"), talk = at("talk"), log = at("log"), box = at("question");

const turns = []; // what was said: {role, content}
const serving = { endpoint: null, release: null, picture: false };
let asking = null; // the AbortController of the answer that is arriving
let opener = null; // the chip whose page is open
let pictureUrl = null;

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

// Talking to the gateway

class Refused extends Error {}

async function call(path, options = {}) {
  for (;;) {
    const token = sessionStorage.getItem(TOKEN);
    const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
    const reply = await fetch(path, { ...options, headers });
    if (reply.status === 401) {
      await login(token !== null);
      continue;
    }
    if (!reply.ok) throw new Refused(await reason(reply));
    return reply;
  }
}

async function reason(reply) {
  try {
    return (await reply.json()).error.message;
  } catch {
    return `the server answered with status ${reply.status}`;
  }
}

let loggingIn = null;

function login(again) {
  loggingIn ??= new Promise((resolve) => {
    const dialog = at("login"), why = at("login-why");
    if (again) why.textContent = "That token was not accepted.";
    why.classList.toggle("wrong", again);
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    at("login-form").onsubmit = (event) => {
      event.preventDefault();
      sessionStorage.setItem(TOKEN, at("token").value.trim());
      at("token").value = "";
      dialog.close();
      loggingIn = null;
      resolve();
    };
    dialog.showModal();
  });
  return loggingIn;
}

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
      if (event.error) throw new Refused(event.error.message);
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

async function ask(question) {
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
  let text = "", extra = null;
  try {
    const body = { messages: [...turns.slice(-MOST_TURNS), { role: "user", content: question }], stream: true };
    const headers = { "Content-Type": "application/json" };
    const options = { method: "POST", headers, body: JSON.stringify(body), signal: asking.signal };
    for await (const event of events(await call("/v1/chat/completions", options))) {
      text += event.choices[0]?.delta?.content ?? "";
      extra = event.modelyard ?? extra;
      draw(answer, text, []);
      follow();
    }
    turns.push({ role: "user", content: question }, { role: "assistant", content: text });
    settle(turn, answer, text, extra ?? { citations: [] }, performance.now() - began);
  } catch (error) {
    if (error.name === "AbortError") answer.append(make("p", "foot", "Stopped."));
    else fail(turn, answer, question, error instanceof Refused ? error.message : "The server cannot be reached.");
  } finally {
    answer.classList.remove("arriving");
    answer.removeAttribute("aria-busy");
    busy(null);
    follow();
  }
}

function settle(turn, answer, text, extra, took) {
  draw(answer, text, extra.citations ?? [], extra.release);
  answer.classList.toggle("refused", Boolean(extra.refused));
  const foot = make("p", "foot");
  if (extra.release) foot.append(make("span", "", `release ${extra.release.slice(0, 12)}`));
  foot.append(make("span", "", took < 950 ? `${Math.round(took)} ms` : `${(took / 1000).toFixed(1)} s`));
  turn.append(foot);
  if (extra.release && extra.release !== serving.release) refresh();
}

function fail(turn, answer, question, why) {
  const trouble = make("p", "trouble", why), again = make("button", "", "Try again");
  again.type = "button";
  again.addEventListener("click", () => {
    if (asking) return;
    turn.remove();
    ask(question);
  });
  trouble.append(again);
  if (answer.textContent === "") answer.replaceWith(trouble);
  else turn.append(trouble);
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
  const query = new URLSearchParams({ quote: citation.quote ?? "", ...(release ? { release } : {}) });
  try {
    const reply = await call(`/pages/${encodeURIComponent(citation.document)}/${citation.page}.png?${query}`);
    const url = URL.createObjectURL(await reply.blob());
    if (opener !== button) return URL.revokeObjectURL(url);
    if (pictureUrl) URL.revokeObjectURL(pictureUrl);
    pictureUrl = url;
    const image = make("img");
    image.alt = `Page ${citation.page} of ${citation.document}, with the quoted words marked`;
    image.src = url;
    at("sheet").replaceChildren(image);
  } catch (error) {
    const why = error instanceof Refused ? error.message : "The server cannot be reached.";
    if (opener === button) at("sheet").replaceChildren(make("p", "", `The picture of this page is not at hand: ${why}`));
  }
}

function closePage() {
  if (at("page").hidden) return;
  at("page").hidden = true;
  frame.classList.remove("beside");
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
at("fresh").addEventListener("click", () => {
  asking?.abort();
  closePage();
  turns.length = 0;
  log.replaceChildren();
  at("welcome").hidden = false;
  at("fresh").hidden = true;
  box.focus();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !at("login").open) closePage();
});

grow();
if (matchMedia("(hover: hover)").matches) box.focus(); // on a phone it would open the keyboard
await refresh();
setInterval(() => document.hidden || refresh(), REFRESH_MS);

// A question in the address is asked at once: a link may lead to an answer. With `open`, its first citation too.
const wanted = new URLSearchParams(location.search);
if (wanted.get("q")) {
  await ask(wanted.get("q"));
  if (wanted.has("open")) log.querySelector("button.chip")?.click();
}
