// The page: listens to /v1/events and shows what it hears. One stream, no polling; it rests while nobody looks.

import { byId, bytes, colour, count, make, mark, percent, ring, say, seconds, spark } from "./draw.js";
import { askSecret, authorization, know, unlock } from "./operate.js";

const HISTORY = 90;
const SILENCE_MS = 5000;
const REST_MS = 15000;

const history = {};
let shownRing = "";
let picked = null;
let rows = new Map();

// Listening

let aborter = null;
let resting = null;

async function listen() {
  for (let wait = 500; ; wait = Math.min(wait * 2, 5000)) {
    if (document.hidden) await new Promise((done) => { resting = done; });
    try {
      if (await hear()) wait = 250;
    } catch { /* said below: whatever broke, the figures are old now */ }
    stale("Connection lost; trying again");
    await new Promise((done) => { setTimeout(done, wait); });
  }
}

async function hear() {
  aborter = new AbortController();
  let watchdog = setTimeout(() => aborter.abort(), SILENCE_MS * 2);
  const answer = await fetch("/v1/events", { headers: authorization(), cache: "no-store", signal: aborter.signal });
  if (answer.status === 401 || answer.status === 403) {
    clearTimeout(watchdog);
    stale("A secret is asked for");
    await askSecret("This cluster asks for a secret. One of a client shows the figures; one of an admin may operate as well.");
    return true;
  }
  if (!answer.ok) throw new Error((await answer.json()).message);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let heard = false;
  for (let text = ""; ;) {
    const { value, done } = await reader.read();
    if (done) break;
    clearTimeout(watchdog);
    watchdog = setTimeout(() => aborter.abort(), SILENCE_MS);
    const messages = (text + value).split("\n\n");
    text = messages.pop();
    messages.forEach(take);
    heard = true;
  }
  clearTimeout(watchdog);
  return heard;
}

function take(message) {
  const lines = message.split("\n");
  const data = lines.filter((line) => line.startsWith("data: ")).map((line) => line.slice(6)).join("\n");
  if (lines.includes("event: overview")) show(JSON.parse(data));
  else if (lines.includes("event: failure")) stale(`The node says: ${JSON.parse(data)}`);
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) setTimeout(() => { if (document.hidden && aborter) aborter.abort(); }, REST_MS);
  else if (resting) { resting(); resting = null; }
});

function stale(text) {
  byId("main").dataset.stale = "";
  health(text, "bad");
}

function health(text, tone) {
  say(byId("health"), text);
  byId("health").dataset.tone = tone;
}

// Showing

function show(overview) {
  know(overview);
  delete byId("main").dataset.stale;
  byId("main").setAttribute("aria-busy", "false");
  document.title = `${overview.cluster} · kvcache`;
  say(byId("cluster"), overview.cluster);
  say(byId("epoch"), String(overview.epoch));
  say(byId("copies"), overview.copies === 1 ? "1 copy" : `${overview.copies} copies`);
  judge(overview);
  vitals(overview);
  drawRing(overview);
  table(overview.nodes);
  move(overview.move);
  events(overview.events);
}

function judge({ nodes, move: moving }) {
  const silent = nodes.filter((node) => !node.answers).length;
  const down = nodes.filter((node) => node.answers && node.state === "down").length;
  const odd = nodes.filter((node) => node.answers && node.state !== "up" && node.state !== "down").length;
  const many = (number, what) => `${number} ${number === 1 ? "node" : "nodes"} ${what}`;
  if (silent) health(many(silent, "unreachable"), "bad");
  else if (down) health(many(down, "down"), "bad");
  else if (odd) health(many(odd, "not up yet"), "warn");
  else if (moving) health("Moving", "warn");
  else health("Healthy", "good");
}

function sum(nodes, name) {
  const known = nodes.map((node) => node[name]).filter((value) => value !== null);
  return known.length ? known.reduce((all, value) => all + value, 0) : null;
}

function remember(name, value, fixed) {
  const values = history[name] ||= Array(HISTORY).fill(null);
  values.push(value);
  values.shift();
  spark(byId(`s-${name}`), values, fixed);
}

function vitals({ nodes, latency }) {
  const requests = sum(nodes, "requests_per_second");
  const [hits, misses] = [sum(nodes, "hits_per_second"), sum(nodes, "misses_per_second")];
  const ratio = hits !== null && hits + misses > 0 ? hits / (hits + misses) : null;
  const [used, budget] = [sum(nodes, "used_bytes"), sum(nodes, "budget_bytes")];
  const records = sum(nodes, "records");
  const evictions = sum(nodes, "evictions_per_second");
  say(byId("v-requests"), count(requests));
  say(byId("n-requests"), `${count(sum(nodes, "connections"))} connections`);
  say(byId("v-ratio"), percent(ratio));
  say(byId("n-ratio"), `${count(hits)} hits, ${count(misses)} misses /s`);
  const [value, unit] = seconds(latency.get.p99);
  say(byId("v-latency"), value);
  say(byId("u-latency"), unit);
  say(byId("n-latency"), `p50 ${seconds(latency.get.p50).join(" ")}, put p99 ${seconds(latency.put.p99).join(" ")}`);
  say(byId("v-memory"), budget ? percent(used / budget) : "–");
  say(byId("n-memory"), `${bytes(used || 0)} of ${bytes(budget || 0)}`);
  say(byId("v-records"), count(records));
  say(byId("n-records"), `copies on ${nodes.length} ${nodes.length === 1 ? "node" : "nodes"}`);
  say(byId("v-evictions"), count(evictions));
  say(byId("n-evictions"), `${count(sum(nodes, "expirations_per_second"))} expire /s`);
  remember("requests", requests);
  remember("ratio", ratio, 1);
  remember("latency", latency.get.p99);
  remember("memory", budget ? used / budget : null, 1);
  remember("records", records);
  remember("evictions", evictions);
}

function drawRing({ ring: bands, nodes }) {
  const key = JSON.stringify([bands, nodes.map((node) => node.id)]);
  if (key !== shownRing) {
    shownRing = key;
    ring(byId("ring"), bands, nodes);
  }
  say(byId("ring-total"), String(nodes.length));
  say(byId("ring-small"), nodes.length === 1 ? "node" : "nodes");
  mark(byId("ring"), new Set(nodes.flatMap((node, at) => (node.answers ? [] : [at]))), picked);
}

const TONES = { up: "good", joining: "warn", syncing: "warn", leaving: "warn", down: "bad" };

function table(nodes) {
  const fresh = new Map();
  nodes.forEach((node, at) => {
    const row = rows.get(node.id) || newRow(node.id);
    fillRow(row, node, at, nodes);
    fresh.set(node.id, row);
  });
  const order = [...fresh.keys()].join("\n");
  if (order !== [...rows.keys()].join("\n")) byId("nodes").replaceChildren(...[...fresh.values()].map((row) => row.line));
  rows = fresh;
}

function newRow(id) {
  const line = make("tr");
  line.dataset.node = id;
  line.setAttribute("role", "row"); // said aloud, for a phone's layout takes from a table what makes it one
  const row = { line };
  const cell = (label, classes = "") => {
    const place = make("td", classes);
    place.setAttribute("role", "cell");
    if (label) place.dataset.label = label;
    line.append(place);
    return place;
  };
  const who = make("div", "who");
  row.swatch = make("span", "swatch");
  row.address = make("span", "soft");
  who.append(row.swatch, make("span", "id", id), row.address);
  cell("").append(who);
  row.state = make("span", "chip");
  cell("").append(row.state);
  [row.share, row.shareBar] = barred(cell("Partitions"));
  row.records = cell("Records", "num");
  [row.memory, row.memoryBar] = barred(cell("Memory"));
  row.requests = cell("Requests/s", "num");
  row.ratio = cell("Hits", "num");
  row.lag = cell("Loop lag", "num");
  line.addEventListener("pointerenter", () => pick(row.at));
  line.addEventListener("pointerleave", () => pick(null));
  return row;
}

function barred(place) {
  const [text, bar, fill] = [make("span"), make("div", "bar"), make("i")];
  bar.append(fill);
  place.append(text, bar);
  return [text, fill];
}

function pick(at) {
  picked = at;
  mark(byId("ring"), new Set([...rows.values()].filter((row) => row.line.dataset.health === "bad").map((row) => row.at)), picked);
}

function fillRow(row, node, at, nodes) {
  row.at = at;
  row.swatch.style.background = colour(at);
  const place = [node.address, node.zone, node.controlling ? "controller" : ""].filter(Boolean).join(" · ");
  say(row.address, node.answers ? place : node.error || "no answer");
  row.address.title = row.address.textContent;
  row.line.dataset.health = node.answers && node.state !== "down" ? "good" : "bad";
  say(row.state, node.answers ? node.state : "unreachable");
  row.state.dataset.tone = node.answers ? TONES[node.state] || "warn" : "bad";
  const all = nodes.reduce((total, other) => total + other.partitions, 0) || 1;
  say(row.share, `${percent(node.partitions / all)} %`);
  row.shareBar.style.width = `${(100 * node.partitions) / Math.max(...nodes.map((other) => other.partitions), 1)}%`;
  row.shareBar.style.background = colour(at);
  say(row.records, node.answers ? count(node.records) : "–");
  const full = node.budget_bytes ? node.used_bytes / node.budget_bytes : 0;
  say(row.memory, node.answers ? `${bytes(node.used_bytes)} of ${bytes(node.budget_bytes)}` : "–");
  row.memoryBar.style.width = `${100 * Math.min(full, 1)}%`;
  row.memoryBar.classList.toggle("full", full > 0.95);
  say(row.requests, count(node.requests_per_second));
  const reads = node.hits_per_second + node.misses_per_second;
  say(row.ratio, reads > 0 ? `${percent(node.hits_per_second / reads)} %` : "–");
  say(row.lag, node.answers ? seconds(node.lag_seconds).join(" ") : "–");
}

function move(moving) {
  const bar = byId("move-bar");
  if (!moving) {
    say(byId("move-text"), "Nothing moves.");
    say(byId("move-note"), "\u00a0");
    bar.value = 0;
    return;
  }
  const done = moving.total ? 1 - moving.left / moving.total : 0;
  say(byId("move-text"), `${moving.reason || "Partitions move"}: ${moving.stage}`);
  const rate = moving.rate ? `, at most ${count(moving.rate)} records/s each` : "";
  say(byId("move-note"), `${count(moving.total - moving.left)} of ${count(moving.total)} partitions, ${count(moving.records)} records${rate}`);
  bar.value = moving.stage === "switch" ? 1 : done;
}

const ICONS = { warning: "▲", error: "✕" };
let shownEvents = "";

function events(list) {
  const key = list.map((event) => event.id).join(" ");
  if (key === shownEvents || !list.length) return;
  shownEvents = key;
  byId("events").replaceChildren(...list.map((event) => {
    const line = make("li");
    line.dataset.level = event.level;
    const time = make("time", "", new Date(event.at * 1000).toLocaleTimeString("en-GB"));
    const icon = make("span", "icon", ICONS[event.level] || "●");
    icon.setAttribute("role", "img");
    icon.setAttribute("aria-label", event.level);
    const text = make("span", "text", event.text);
    if (event.node) text.append(make("span", "from", ` ${event.node}`));
    if (event.advice) text.append(make("span", "advice", event.advice));
    line.append(time, icon, text);
    return line;
  }));
}

// Tools

const THEMES = ["auto", "light", "dark"];

function theme(name) {
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  say(byId("theme"), `Theme: ${name}`);
  try { localStorage.setItem("kvcache-theme", name); } catch { /* a browser that keeps nothing shows it until the next load */ }
}

function keptTheme() {
  try { return THEMES.includes(localStorage["kvcache-theme"]) ? localStorage["kvcache-theme"] : "auto"; } catch { return "auto"; }
}

byId("theme").addEventListener("click", () => {
  const at = THEMES.indexOf(byId("theme").textContent.slice(7));
  theme(THEMES[(at + 1) % THEMES.length]);
});
byId("unlock").addEventListener("click", async () => {
  if (await askSecret("Give a secret of the role admin. A cluster without secrets lets everybody operate: leave it empty there.")) unlock();
});
theme(keptTheme());
listen();
