"use strict";

// What the server sends as markup it has made of escaped text; what it sends as text stays text.

const KEY = "promptcache-key";
const PAUSE = 2000; // milliseconds; longer where the server takes long
const here = (id) => document.getElementById(id);
const shown = new Map();
let timer = 0;
let asking = false;

class Refused extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

async function fetched(address, body) {
  const key = sessionStorage.getItem(KEY);
  const options = { cache: "no-store", credentials: "omit", headers: {} };
  if (key) options.headers.Authorization = `Bearer ${key}`;
  if (body) Object.assign(options, { method: "POST", body: JSON.stringify(body) });
  let response;
  try {
    response = await fetch(address, options);
  } catch {
    throw new Refused(0, "The server does not answer.");
  }
  if (response.ok) return response;
  const said = await response.json().catch(() => ({}));
  throw new Refused(response.status, said.error?.message ?? `The server said ${response.status}.`);
}

async function markup(address) {
  const text = await (await fetched(address)).text();
  const made = new DOMParser().parseFromString(text, "text/html").body;
  for (const time of made.querySelectorAll("time")) {
    time.textContent = new Date(time.dateTime).toLocaleTimeString();
  }
  return made;
}

function say(sentence) {
  if (here("said").textContent !== sentence) here("said").textContent = sentence;
}

function lock() {
  const had = sessionStorage.getItem(KEY);
  sessionStorage.removeItem(KEY);
  // Whoever gives the next key is to see nothing of what this one showed.
  for (const name of [...shown.keys(), "requests", "answer"]) here(name).replaceChildren();
  shown.clear();
  here("page").hidden = true;
  here("unlock").hidden = false;
  say(had ? "This key is not known here." : "This server asks for an API key.");
}

async function refresh() {
  clearTimeout(timer);
  const began = performance.now();
  try {
    const fresh = await markup(`page/parts/overview?by=${here("by").value}`);
    for (const part of fresh.querySelectorAll("[data-part]")) update(part);
    here("unlock").hidden = true;
    here("page").hidden = false;
    here("forget").hidden = !sessionStorage.getItem(KEY);
    say("");
  } catch (error) {
    if (error.status === 401) return lock();
    say(error.message);
  }
  const pause = Math.max(PAUSE, 20 * (performance.now() - began));
  clearTimeout(timer);
  if (here("live").checked && !document.hidden) timer = setTimeout(refresh, pause);
}

function update(part) {
  const name = part.dataset.part;
  if (name === "requests") return merge(here(name), [...part.children]);
  if (shown.get(name) === part.innerHTML) return;
  shown.set(name, part.innerHTML);
  here(name).replaceChildren(...part.childNodes);
}

// What is unfolded stays, and so does the focus: known requests are left as they are.
function merge(list, fresh) {
  const names = new Set(fresh.map((item) => item.id));
  for (const item of [...list.children]) {
    if (!names.has(item.id) && !item.querySelector("details").open) item.remove();
  }
  for (const item of fresh.reverse()) if (!here(item.id)) list.prepend(item);
}

async function unfold(details) {
  const place = details.querySelector(":scope > .trace");
  if (!place || !details.open || place.hasChildNodes()) return;
  try {
    place.replaceChildren(...(await markup(`page/requests/${place.dataset.of}`)).childNodes);
  } catch (error) {
    place.textContent = error.message;
  }
}

function goTo() {
  const item = here(location.hash.slice(1));
  if (!item?.matches("#requests > li")) return;
  item.querySelector("details").open = true;
  item.querySelector("summary").focus();
}

const text = (said) => ({ type: "text", text: said });
const module = (said) => ({ ...text(said), cache_control: { type: "ephemeral" } });

function request() {
  const prompt = here("prompt").value;
  const body = { max_tokens: here("most").valueAsNumber };
  if (here("reuse").value.trim()) body.reuse = here("reuse").value.trim();
  if (here("kind").value === "pml") return ["v1/pml", { ...body, prompt }];
  if (here("kind").value === "text") return ["v1/completions", { ...body, prompt }];
  const documents = here("documents").value.split(/^---$/m).map((said) => said.trim());
  const blocks = documents.filter(Boolean).flatMap((said) => [module(said), text("\n\n")]);
  const content = [...blocks, text(prompt)];
  return ["v1/chat/completions", { ...body, messages: [{ role: "user", content }] }];
}

async function ask() {
  if (asking) return;
  asking = true;
  here("answer").textContent = "Asking …";
  try {
    const response = await fetched(...request());
    const said = await response.json();
    const choice = said.choices?.[0];
    const answer = said.text ?? choice.text ?? choice.message.content ?? "";
    await refresh();
    const item = here(`request-${response.headers.get("x-request-id")}`);
    if (item) item.querySelector("details").open = true;
    here("answer").textContent = answer || "(an answer without text)";
  } catch (error) {
    here("answer").textContent = `Not answered: ${error.message}`;
    if (error.status === 401) lock();
    else await refresh();
  } finally {
    asking = false;
  }
}

function on(id, event, listener, capture = false) {
  here(id).addEventListener(event, listener, capture);
}

on("unlock", "submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, here("key").value.trim());
  here("key").value = "";
  refresh();
});
on("forget", "click", () => {
  sessionStorage.removeItem(KEY);
  location.reload();
});
on("ask", "submit", (event) => {
  event.preventDefault();
  ask();
});
on("kind", "change", () => {
  document.querySelector(".documents").hidden = here("kind").value !== "chat";
});
on("by", "change", refresh);
on("live", "change", refresh);
on("requests", "toggle", (event) => unfold(event.target), true);
document.addEventListener("visibilitychange", () => document.hidden || refresh());
addEventListener("hashchange", goTo);
refresh().then(goTo);
