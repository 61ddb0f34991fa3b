// What both pages need: elements, the token, and talking to the gateway. Text from a server is put in by textContent.

const TOKEN = "modelyard-token";

export const at = (id) => document.getElementById(id);

export function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

export class Refused extends Error {
  constructor(message, status = 0, wait = 0) {
    super(message);
    this.status = status; // 0: the answer broke off
    this.wait = wait; // seconds until it is worth trying again
  }
}

// 128 random bits. Not randomUUID: that is there on https and on this machine only.
export function random() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export async function call(path, options = {}) {
  for (;;) {
    const token = sessionStorage.getItem(TOKEN);
    const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
    const reply = await fetch(path, { ...options, headers });
    if (reply.status === 401) {
      await login(token !== null ? "That token was not accepted." : "");
      continue;
    }
    if (!reply.ok) throw new Refused(await reason(reply), reply.status, Number(reply.headers.get("retry-after")) || 0);
    return reply;
  }
}

export function post(path, value, more = {}) {
  const headers = { "Content-Type": "application/json", ...more.headers };
  return call(path, { ...more, method: "POST", headers, body: JSON.stringify(value) });
}

async function reason(reply) {
  try {
    return (await reply.json()).error.message;
  } catch {
    return `the server answered with status ${reply.status}`;
  }
}

let loggingIn = null;

export function login(trouble) {
  loggingIn ??= new Promise((resolve) => {
    const dialog = at("login"), why = at("login-why");
    if (trouble) why.textContent = trouble;
    why.classList.toggle("wrong", Boolean(trouble));
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
