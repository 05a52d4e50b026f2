// The answer: the course of each speaker, and every line with its emotion, its probabilities and its warnings.

// Whatever people have written reaches the page as text (textContent), never as HTML.
export const settings = JSON.parse(document.getElementById("settings").textContent);
const { classes, modalities, colours } = settings;
const SVG = "http://www.w3.org/2000/svg";
const OPEN = 3; // speakers whose courses are shown at once; those of more are folded, so that the lines come first
export const $ = (id) => document.getElementById(id);
const percent = (share) => `${Math.round(100 * share)} %`;

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function drawn(name, attributes = {}, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

// One line of the conversation: its number on the page, who speaks, what is said.
let latest = null;

export function show(spoken, predictions) {
  latest = { spoken, predictions };
  const disagree = predictions.some((one) => percent(one.uncertainty) !== percent(0)); // else every line says 0 %
  $("said").replaceChildren(...predictions.map((prediction, i) => resultOf(spoken[i], prediction, disagree)));
  const speakers = new Set(spoken.map((one) => one.speaker)).size;
  $("course-title").textContent = speakers === 1 ? "The course of the conversation" : `The course of each of ${speakers} speakers`;
  $("course").open = speakers <= OPEN;
  $("result").hidden = false;
  drawCourses();
  $("legend").textContent = legend(disagree);
  $("status").textContent = summary(predictions);
  const { top } = $("read-title").getBoundingClientRect();
  if (top < 0 || top > 0.4 * window.innerHeight) $("read-title").scrollIntoView();
}

function summary(predictions) {
  const named = classes.map((name) => [name, predictions.filter((one) => one.label === name).length]);
  const counts = named.filter(([, count]) => count).map(([name, count]) => `${count} ${name}`).join(", ");
  const warned = predictions.filter((one) => one.warnings.length).length;
  const more = warned ? ` There ${warned === 1 ? "is a warning at 1 line" : `are warnings at ${warned} lines`}.` : "";
  return `${predictions.length} ${predictions.length === 1 ? "line" : "lines"}: ${counts}.${more}`;
}

function legend(disagree) {
  return "Doubt: how evenly the probabilities are spread, 0 % where one emotion has all, 100 % where all are equal."
    + (disagree ? " Draws that disagree: how many random draws from the model's picture of the line get another emotion; few may, though the doubt is large." : "")
    + (Object.keys(modalities).length > 1 ? " Listened to: the mean weights of its gates." : "");
}

// The place of an error or a warning: the line, and the file as it was chosen.
export const placeOf = (one, file) => (file ? `Line ${one.line}, ${file},` : `Line ${one.line}:`);

function resultOf(one, prediction, disagree) {
  const words = element("div", {},
    element("p", { class: "who" }, `${one.line} · ${one.speaker}`),
    element("p", one.text ? { class: "said", dir: "auto" } : { class: "said silent" }, one.text || "a recording without words"),
    verdictOf(prediction, disagree));
  if (prediction.warnings.length) {
    words.append(element("ul", { class: "warnings", "aria-label": "Warnings" },
      ...prediction.warnings.map((text) => element("li", {}, warningOf(one, text)))));
  }
  return element("li", { class: "result" }, words, sharesOf(prediction));
}

// One about a recording begins with its name.
function warningOf(one, text) {
  return one.name && text.startsWith(one.name) ? `Line ${one.line}, ${text}` : `Line ${one.line}: ${text}`;
}

function verdictOf(prediction, disagree) {
  const emotion = element("span", { class: "emotion" }, prediction.label);
  emotion.style.setProperty("--hue", colours[prediction.label]);
  const verdict = element("p", { class: "verdict" }, emotion,
    element("small", {}, `doubt ${percent(prediction.entropy)}`));
  if (disagree) verdict.append(element("small", {}, `draws that disagree: ${percent(prediction.uncertainty)}`));
  const weights = meanGates(prediction.gates);
  if (weights.length) verdict.append(weightsOf(weights));
  const missing = [...prediction.missing].map((letter) => modalities[letter] || letter);
  if (missing.length) verdict.append(element("small", {}, `without ${missing.join(" and ")}`));
  return verdict;
}

// [letter, mean weight over the centres that weigh it], the heaviest first.
function meanGates(gates) {
  const sums = new Map();
  for (const weights of Object.values(gates)) {
    for (const [letter, weight] of Object.entries(weights)) {
      const [sum, count] = sums.get(letter) || [0, 0];
      sums.set(letter, [sum + weight, count + 1]);
    }
  }
  const means = [...sums].map(([letter, [sum, count]]) => [letter, sum / count]).filter(([, mean]) => mean > 0);
  return means.sort((a, b) => b[1] - a[1]);
}

function weightsOf(weights) {
  const bar = element("span", { class: "weights", "aria-hidden": "true" });
  for (const [letter, weight] of weights) {
    const piece = element("span");
    piece.style.setProperty("--hue", settings.modality_colours[letter]);
    piece.style.setProperty("--share", weight);
    bar.append(piece);
  }
  const total = weights.reduce((sum, [, weight]) => sum + weight, 0) || 1;
  const words = weights.map(([letter, weight]) => `${modalities[letter] || letter} ${percent(weight / total)}`).join(", ");
  return element("small", {}, bar, `listened to ${words}`);
}

function sharesOf(prediction) {
  const list = element("dl", { class: "shares", "aria-label": "Probabilities" });
  for (const name of classes) {
    const share = prediction.probabilities[name];
    const bar = element("span", { class: "bar", "aria-hidden": "true" });
    bar.style.setProperty("--hue", colours[name]);
    bar.style.setProperty("--share", `${100 * share}%`);
    list.append(element("div", name === prediction.label ? { class: "top" } : {},
      element("dt", {}, name), element("dd", {}, bar), element("dd", { class: "number" }, percent(share))));
  }
  return list;
}

// --- The course of each speaker: a panel each, emotions by lines of the conversation

const CELL = 17, TOP = 4, AXIS = 22, NARROWEST = 15, WIDEST = 46;

function drawCourses() {
  if (!latest) return;
  const { spoken, predictions } = latest;
  const left = 12 + Math.max(...classes.map((name) => name.length)) * 7;
  const room = $("courses").clientWidth - left - 6;
  const column = Math.min(WIDEST, Math.max(NARROWEST, room / predictions.length));
  const speakers = [...new Set(spoken.map((one) => one.speaker))];
  $("courses").replaceChildren(...speakers.map((speaker) => {
    const own = predictions.flatMap((_, i) => (spoken[i].speaker === speaker ? [i] : []));
    return element("div", {}, element("p", { class: "speaker" }, speaker), panel(speaker, own, latest, left, column));
  }));
}

function panel(speaker, own, { spoken, predictions }, left, column) {
  const width = left + column * predictions.length + 6;
  const height = TOP + CELL * classes.length + AXIS;
  const alt = own.map((i) => `line ${spoken[i].line} ${predictions[i].label} ${percent(predictions[i].probabilities[predictions[i].label])}`);
  const svg = drawn("svg", { role: "img", "aria-label": `${speaker}: ${alt.join(", ")}`, width, height, viewBox: `0 0 ${width} ${height}` });
  const x = (i) => left + column * (i + 0.5);
  const y = (name) => TOP + CELL * (classes.indexOf(name) + 0.5);
  for (const name of classes) {
    svg.append(drawn("text", { x: left - 8, y: y(name) + 4, "text-anchor": "end" }, name));
    svg.append(drawn("line", { x1: left, x2: width - 6, y1: y(name), y2: y(name), stroke: "var(--line)" }));
  }
  for (const i of own) {
    for (const name of classes) {
      const share = predictions[i].probabilities[name];
      svg.append(drawn("rect", {
        x: x(i) - column / 2 + 1, y: y(name) - CELL / 2 + 1, width: column - 2, height: CELL - 2, rx: 3,
        fill: colours[name], "fill-opacity": share.toFixed(3),
      }));
    }
  }
  const points = own.map((i) => `${x(i).toFixed(1)},${y(predictions[i].label)}`).join(" ");
  svg.append(drawn("polyline", { points, fill: "none", stroke: "var(--ink)", "stroke-width": 1.6, "stroke-linejoin": "round" }));
  for (const i of own) {
    svg.append(drawn("circle", {
      cx: x(i), cy: y(predictions[i].label), r: 5, fill: colours[predictions[i].label], stroke: "var(--ink)", "stroke-width": 1.6,
    }));
  }
  const every = Math.ceil(22 / column);
  for (let i = 0; i < predictions.length; i += every) {
    svg.append(drawn("text", { x: x(i), y: height - 6, "text-anchor": "middle", class: "axis" }, String(spoken[i].line)));
  }
  return svg;
}

new ResizeObserver(drawCourses).observe($("courses"));
