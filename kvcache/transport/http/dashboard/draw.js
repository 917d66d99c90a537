// Drawing and writing: numbers for people, the ring, sparklines. Pure of state; nothing here asks the node for anything.
// Text from outside only ever becomes text (textContent): no markup is built from strings.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function make(name, classes = "", text = "") {
  const element = document.createElement(name);
  if (classes) element.className = classes;
  if (text) element.textContent = text;
  return element;
}

function shape(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const one = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

export function count(number) {
  if (number === null || number === undefined) return "–";
  if (number >= 1e9) return `${one.format(number / 1e9)} G`;
  if (number >= 1e6) return `${one.format(number / 1e6)} M`;
  if (number >= 1e4) return `${one.format(number / 1e3)} k`;
  return number > 0 && number < 10 && number % 1 ? one.format(number) : whole.format(number);
}

export function bytes(number) {
  for (const [unit, size] of [["TiB", 2 ** 40], ["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10]]) {
    if (number >= size) return `${one.format(number / size)} ${unit}`;
  }
  return `${whole.format(number)} B`;
}

export function percent(part) {
  return part === null ? "–" : (part * 100).toFixed(1);
}

export function seconds(value) {
  if (value === null || value === undefined) return ["–", ""];
  if (value >= 1) return [one.format(value), "s"];
  return value >= 1e-3 ? [one.format(value * 1e3), "ms"] : [one.format(value * 1e6), "µs"];
}

export const colour = (at) => `var(--n${at % 8})`;

const BANDS = [[100, 80], [76, 66], [62, 54]];

function arc(outer, inner, from, to, slots) {
  const point = (radius, slot) => {
    const angle = (slot / slots) * 2 * Math.PI - Math.PI / 2;
    return `${(radius * Math.cos(angle)).toFixed(2)} ${(radius * Math.sin(angle)).toFixed(2)}`;
  };
  if (to - from === slots) return arc(outer, inner, 0, slots / 2, slots) + arc(outer, inner, slots / 2, slots, slots);
  const large = to - from > slots / 2 ? 1 : 0;
  return `M${point(outer, from)}A${outer} ${outer} 0 ${large} 1 ${point(outer, to)}`
    + `L${point(inner, to)}A${inner} ${inner} 0 ${large} 0 ${point(inner, from)}Z`;
}

export function ring(svg, bands, nodes) {
  const paths = bands.flatMap((slots, copy) => {
    const pieces = new Map();
    for (let from = 0; from < slots.length;) {
      let to = from + 1;
      while (to < slots.length && slots[to] === slots[from]) to += 1;
      pieces.set(slots[from], (pieces.get(slots[from]) || "") + arc(...BANDS[copy], from, to, slots.length));
      from = to;
    }
    return [...pieces].map(([at, d]) => {
      const path = shape("path", { d, "data-at": at });
      if (at < 0) path.setAttribute("class", "nobody");
      else path.style.fill = colour(at);
      return path;
    });
  });
  const total = shape("text", { y: 2, id: "ring-total" });
  const small = shape("text", { y: 14, class: "small", id: "ring-small" });
  svg.replaceChildren(...paths, total, small);
  const all = nodes.reduce((sum, node) => sum + node.primaries, 0) || 1;
  const parts = nodes.map((node) => `${node.id} ${percent(node.primaries / all)} %`);
  svg.setAttribute("aria-label", `Ring of partitions. First owners: ${parts.join(", ")}`);
}

export function mark(svg, gone, picked) {
  svg.classList.toggle("picking", picked !== null);
  for (const path of svg.querySelectorAll("path")) {
    const at = Number(path.dataset.at);
    path.classList.toggle("gone", gone.has(at));
    path.classList.toggle("picked", at === picked);
  }
}

export function spark(place, values, fixed) {
  let svg = place.firstElementChild;
  if (!svg) {
    svg = shape("svg", { viewBox: "0 0 100 32", preserveAspectRatio: "none", "aria-hidden": "true" });
    svg.append(shape("path", { class: "under" }), shape("path", {}));
    place.append(svg);
  }
  const known = values.filter((value) => value !== null);
  if (known.length < 2) return;
  const top = fixed ?? Math.max(...known, 1e-9) * 1.15;
  const step = 100 / (values.length - 1);
  const points = values.map((value, at) => (value === null ? null : [at * step, 31 - (29 * Math.min(value, top)) / top]))
    .filter((point) => point !== null);
  const line = points.map(([x, y]) => `${x.toFixed(2)} ${y.toFixed(2)}`).join("L");
  svg.firstElementChild.setAttribute("d", `M${points[0][0].toFixed(2)} 32L${line}L${points.at(-1)[0].toFixed(2)} 32Z`);
  svg.lastElementChild.setAttribute("d", `M${line}`);
}
