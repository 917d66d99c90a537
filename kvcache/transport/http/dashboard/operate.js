// Operations: a secret for this page alone, and the dialogs that ask twice. Never here: what an operation does (the node).

import { byId, make, say } from "./draw.js";

let secret = "";
let cluster = "";
let nodes = [];

export const authorization = () => (secret ? { Authorization: `Bearer ${secret}` } : {});

const OPERATIONS = [
  { name: "flush", title: "Flush", what: "Every key of the whole cluster is forgotten, at once.", confirm: "cluster", args: () => ({ confirm: true }) },
  { name: "purge", title: "Purge", what: "Every key under the prefix is forgotten, at once.", confirm: "cluster", fields: [{ name: "prefix", label: "Prefix" }] },
  { name: "drain", title: "Drain", what: "The node hands everything over to the others and leaves.", confirm: "node", fields: [{ name: "id", label: "Node", node: true }] },
  { name: "remove", title: "Remove", what: "A node that is dead is taken out; the others make new copies of what it held.", confirm: "node", fields: [{ name: "id", label: "Node", node: true }] },
  { name: "reweight", title: "Reweight", what: "The node holds another share of the keys from now on.", confirm: "node", fields: [{ name: "id", label: "Node", node: true }, { name: "weight", label: "Weight", number: true }] },
  { name: "replicas", title: "Copies", what: "Each key is kept in another number of copies.", confirm: "cluster", fields: [{ name: "count", label: "Copies of each key", number: true }] },
  { name: "repair", title: "Repair", what: "All copies are compared, and what differs is copied. This may take a while.", confirm: "cluster" },
  { name: "throttle", title: "Throttle the move", what: "Each receiver pulls at most so many records a second; 0 is no limit.", confirm: "cluster", fields: [{ name: "rate", label: "Records a second", number: true }] },
  { name: "cancel", title: "Cancel the move", what: "The running move is given up; everything stays where it is.", confirm: "cluster" },
];

export function know(overview) {
  cluster = overview.cluster;
  nodes = overview.nodes.map((node) => node.id);
}

export async function askSecret(why) {
  const dialog = byId("ask-secret");
  say(byId("secret-why"), why);
  byId("secret").value = "";
  if (dialog.open) dialog.close("cancel");
  dialog.returnValue = "cancel";
  dialog.showModal();
  await new Promise((done) => dialog.addEventListener("close", done, { once: true }));
  const given = dialog.returnValue === "ok";
  if (given) secret = byId("secret").value.trim();
  byId("secret").value = "";
  return given;
}

export function unlock() {
  byId("locked").hidden = true;
  const place = byId("operations");
  place.hidden = false;
  place.replaceChildren(...OPERATIONS.map((operation) => {
    const button = make("button", "", `${operation.title}…`);
    button.type = "button";
    button.addEventListener("click", () => open(operation));
    return button;
  }));
  place.firstElementChild.focus();
}

function field({ name, label, node, number }) {
  const box = make("label", "", label);
  const input = make(node ? "select" : "input");
  input.name = name;
  if (node) input.append(...nodes.map((id) => make("option", "", id)));
  if (number) Object.assign(input, { type: "number", min: 0, step: 1, required: true });
  box.append(input);
  return box;
}

function open(operation) {
  const dialog = byId("ask-operation");
  const fields = byId("operation-fields");
  const [typed, ok] = [byId("operation-name"), byId("operation-ok")];
  say(byId("operation-title"), operation.title);
  say(byId("operation-what"), operation.what);
  say(ok, operation.title);
  fields.replaceChildren(...(operation.fields || []).map(field));
  const chosen = fields.querySelector("select");
  const wanted = () => (operation.confirm === "node" && chosen ? chosen.value : cluster);
  const look = () => {
    say(byId("operation-type"), `Type ${wanted()} to confirm`);
    ok.disabled = typed.value !== wanted();
  };
  typed.value = "";
  typed.oninput = look;
  fields.oninput = look;
  outcome("", "");
  look();
  byId("operation-cancel").onclick = () => dialog.close();
  byId("operation-form").onsubmit = (event) => {
    event.preventDefault();
    if (!ok.disabled) carryOut(operation, fields, ok, typed);
  };
  dialog.showModal();
}

function outcome(text, tone) {
  const place = byId("operation-outcome");
  say(place, text);
  place.dataset.tone = tone;
}

async function carryOut(operation, fields, ok, typed) {
  const given = operation.args ? operation.args() : {};
  for (const input of fields.querySelectorAll("input, select")) {
    given[input.name] = input.type === "number" ? Number(input.value) : input.value;
  }
  ok.disabled = true;
  outcome("Under way…", "");
  try {
    const answer = await fetch(`/v1/admin/${operation.name}`, {
      method: "POST",
      headers: { "Content-Type": "application/json", ...authorization() },
      body: JSON.stringify(given),
    });
    const told = await answer.json();
    if (answer.ok) outcome(`Done. ${JSON.stringify(told)}`, "good");
    else outcome(`${told.error}: ${told.message}`, "bad");
  } catch (error) {
    outcome(`The node did not answer: ${error.message}`, "bad");
  }
  typed.value = "";
}
