"use strict";

const byId = (id) => document.getElementById(id);
const state = { messages: [], chosen: location.hash.slice(1), tab: "html", seen: "" };

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const whole = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

function element(tag, className, text) {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

function shortTime(iso) {
  const time = new Date(iso);
  return (time.toDateString() === new Date().toDateString() ? clock : day).format(time);
}

// The whole answer is here, so searching asks nobody.
function matches(message) {
  const wanted = byId("search").value.trim().toLowerCase();
  const fields = [message.subject, message.from, message.correlation_id, ...message.to];
  return fields.some((field) => field.toLowerCase().includes(wanted));
}

function row(message) {
  const button = document.createElement("button");
  button.type = "button";
  button.dataset.id = message.id;
  button.setAttribute("aria-current", String(message.id === state.chosen));
  const time = element("time", "", shortTime(message.received_at));
  time.dateTime = message.received_at;
  button.append(
    element("span", "who", message.to.join(", ")),
    time,
    element("span", "what", message.subject || "(no subject)"),
    element("span", "start", message.text.replace(/\s+/g, " ").slice(0, 120)),
  );
  const item = document.createElement("li");
  item.append(button);
  return item;
}

function showList() {
  const shown = state.messages.filter(matches);
  const focused = document.activeElement?.dataset?.id;
  byId("list").replaceChildren(...shown.map(row));
  if (focused) byId("list").querySelector(`[data-id="${focused}"]`)?.focus();
  const all = state.messages.length;
  byId("count").textContent = shown.length === all ? `${all} ${all === 1 ? "message" : "messages"}` : `${shown.length} of ${all}`;
  document.title = all ? `Mailbox (${all})` : "Mailbox";
}

function showTab(name) {
  for (const button of document.querySelectorAll("[data-tab]")) {
    const current = button.dataset.tab === name;
    button.setAttribute("aria-selected", String(current));
    byId(`view-${button.dataset.tab}`).hidden = !current;
  }
}

function headerRow([name, value]) {
  const line = document.createElement("tr");
  const label = element("th", "", name);
  label.scope = "row";
  line.append(label, element("td", "", value));
  return line;
}

function showMessage() {
  const message = state.messages.find(({ id }) => id === state.chosen);
  byId("message").hidden = !message;
  byId("empty").hidden = Boolean(message);
  if (!message) {
    const some = state.messages.length > 0;
    byId("empty-title").textContent = some ? "Choose a message" : "No mail yet";
    byId("empty-text").textContent = some ? "It opens here." : "Whatever the shop sends arrives here within a second.";
    state.seen = "";
    return;
  }
  if (state.seen !== message.id) {
    state.seen = message.id;
    byId("subject").textContent = message.subject || "(no subject)";
    byId("from").textContent = message.headers.From || message.from;
    byId("to").textContent = message.to.join(", ");
    byId("received").textContent = whole.format(new Date(message.received_at));
    byId("correlation").textContent = message.correlation_id || "none";
    byId("view-text").textContent = message.text || "This message has no text part.";
    byId("view-headers").tBodies[0].replaceChildren(...Object.entries(message.headers).map(headerRow));
    byId("raw").href = `/messages/${message.id}/raw`;
    byId("tab-html").disabled = !message.html;
    if (message.html) byId("view-html").src = `/messages/${message.id}/html`;
  }
  showTab(state.tab === "html" && !message.html ? "text" : state.tab);
}

function showFaults(orders) {
  const total = orders.reduce((sum, { times }) => sum + times, 0);
  byId("faults").hidden = total === 0;
  byId("faults").textContent = `${total} ${total === 1 ? "fault" : "faults"} on order`;
  byId("faults").title = orders.map(({ fault, times, to }) => `${times} × ${fault}${to ? ` to ${to}` : ""}`).join("\n");
}

async function refresh() {
  const [messages, orders] = await Promise.all(["/messages", "/faults"].map((path) => fetch(path).then((answer) => answer.json())));
  if (messages[0]?.id !== state.messages[0]?.id || messages.length !== state.messages.length) {
    state.messages = messages;
    state.chosen ||= messages[0]?.id ?? "";
    showList();
    showMessage();
  }
  showFaults(orders);
}

async function poll() {
  try {
    await refresh();
  } catch {
    byId("count").textContent = "The mailbox does not answer; trying again.";
    state.messages = [];
  }
  setTimeout(poll, 1000);
}

byId("list").addEventListener("click", ({ target }) => {
  const button = target.closest("button");
  if (!button) return;
  state.chosen = button.dataset.id;
  history.replaceState(null, "", `#${state.chosen}`);
  showList();
  showMessage();
});

byId("list").addEventListener("keydown", (event) => {
  const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
  const next = step && event.target.closest("li")?.[step]?.firstElementChild;
  if (next) {
    event.preventDefault();
    next.focus();
  }
});

document.querySelector(".tabs").addEventListener("click", ({ target }) => {
  if (!target.dataset.tab || target.disabled) return;
  state.tab = target.dataset.tab;
  showTab(state.tab);
});

byId("search").addEventListener("input", showList);

byId("clear").addEventListener("click", async () => {
  if (!confirm("Delete all messages?")) return;
  await fetch("/messages", { method: "DELETE" });
  state.chosen = "";
  await refresh();
});

showMessage();
poll();
