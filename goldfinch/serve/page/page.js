// Asks the server that this page came from: choose or add a document, ask, see the lines that were read.
const at = (id) => document.getElementById(id);
const [caches, file, status, login, answers, form, question, send, text] =
  ["cache", "file", "status", "login", "answers", "ask", "question", "send", "text"].map(at);
const MOST_LINES = 20000;

function say(words, bad = false) {
  status.textContent = words;
  status.classList.toggle("bad", bad);
}

async function call(path, options = {}) {
  const headers = { ...(options.body ? { "Content-Type": "application/json" } : {}) };
  const key = sessionStorage.getItem("key");
  if (key) headers.Authorization = `Bearer ${key}`;
  const reply = await fetch(path, { ...options, headers });
  if (reply.status === 401) login.hidden = false;
  if (!reply.ok) {
    const body = await reply.json().catch(() => null);
    throw new Error(body?.error?.message ?? `the server said ${reply.status}`);
  }
  return reply;
}

async function list(chosen = caches.value) {
  const { data } = await (await call("/v1/caches")).json();
  login.hidden = true;
  caches.replaceChildren(...data.map((one) => new Option(`${one.id} (${one.tokens.toLocaleString("en")} tokens)`, one.id)));
  if (data.some((one) => one.id === chosen)) caches.value = chosen;
  say(data.length ? "" : "No document is cached yet: add a text file, or drop one here.");
  send.disabled = !data.length;
  if (data.length) await show();
}

async function show() {
  text.replaceChildren();
  const name = caches.value;
  const reply = await (await call(`/v1/caches/${encodeURIComponent(name)}/text`)).json();
  if (caches.value !== name) return;
  const lines = reply.text.split("\n");
  text.replaceChildren(...lines.slice(0, MOST_LINES).map((line) => {
    const item = document.createElement("li");
    item.textContent = line;
    return item;
  }));
  if (lines.length > MOST_LINES) say(`The first ${MOST_LINES.toLocaleString("en")} lines are shown.`);
}

function mark(places) {
  for (const item of text.querySelectorAll(".read")) item.classList.remove("read", "most");
  for (const [n, place] of places.entries()) {
    for (let line = place.first_line; line <= place.last_line; line++) text.children[line - 1]?.classList.add("read");
    const best = text.children[place.line - 1];
    best?.classList.add("most");
    if (n === 0 && best) text.scrollTo({ top: best.offsetTop - text.offsetTop - text.clientHeight / 3 });
  }
}

async function* events(reply) {
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    held += value;
    const parts = held.split("\n\n");
    held = parts.pop();
    for (const part of parts) {
      const data = part.replace(/^data: /, "");
      if (data !== "[DONE]") yield JSON.parse(data);
    }
  }
}

function entry(asked) {
  const item = document.createElement("li");
  const parts = ["asked", "answer", "about"].map((name) => {
    const part = document.createElement("div");
    part.className = name;
    item.append(part);
    return part;
  });
  parts[0].textContent = asked;
  answers.append(item);
  item.scrollIntoView({ block: "nearest" });
  return parts;
}

function about(part, gf, name) {
  const words = [];
  if (gf.confidence !== null) words.push(`right in ${Math.round(gf.confidence * 100)} of 100 such cases`);
  words.push(`first word after ${Math.round(gf.first_token_ms)} ms`);
  part.textContent = words.join(", ");
  const places = gf.citations ?? [];
  if (!places.length) return mark([]);
  const best = places[0];
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = best.first_line === best.last_line ? `line ${best.line}` : `lines ${best.first_line} to ${best.last_line}`;
  button.addEventListener("click", async () => {
    if (caches.value !== name) { caches.value = name; await show(); }
    mark(places);
  });
  part.append(", ", button);
  mark(places);
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const asked = question.value.trim(), name = caches.value;
  if (!asked || !name) return;
  question.value = "";
  send.disabled = true;
  say("");
  const [, answer, facts] = entry(asked);
  try {
    const body = { cache: name, cite: true, stream: true, messages: [{ role: "user", content: asked }] };
    for await (const piece of events(await call("/v1/chat/completions", { method: "POST", body: JSON.stringify(body) }))) {
      if (piece.error) throw new Error(piece.error.message);
      answer.textContent += piece.choices[0]?.delta?.content ?? "";
      if (piece.gf) about(facts, piece.gf, name);
    }
  } catch (error) {
    answer.textContent ||= "No answer.";
    say(error.message, true);
  }
  send.disabled = false;
  question.focus();
});

async function add(chosen) {
  say(`Reading ${chosen.name} ...`);
  try {
    const body = JSON.stringify({ name: chosen.name, text: await chosen.text() });
    const made = await (await call("/v1/caches", { method: "POST", body })).json();
    await list(made.id);
    say(`${made.id}: ${made.tokens.toLocaleString("en")} tokens in ${made.bytes.toLocaleString("en")} bytes`);
  } catch (error) {
    say(error.message, true);
  }
}

file.addEventListener("change", () => file.files.length && add(file.files[0]).then(() => { file.value = ""; }));
caches.addEventListener("change", () => show().catch((error) => say(error.message, true)));
login.addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("key", at("key").value);
  list().catch((error) => say(error.message, true));
});
addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("dropping"); });
addEventListener("dragleave", () => document.body.classList.remove("dropping"));
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  if (event.dataTransfer.files.length) add(event.dataTransfer.files[0]);
});
list().catch((error) => say(error.message, true));
