"use strict";

// Whatever people have written reaches the page as text (textContent), never as HTML.
const settings = JSON.parse(document.getElementById("settings").textContent);
const { classes, modalities, raw, limits, colours } = settings;
const takesAudio = raw.includes("a");
const SVG = "http://www.w3.org/2000/svg";
const $ = (id) => document.getElementById(id);
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

// --- The conversation as it is written

const rows = () => [...$("lines").children];
const part = (row, name) => row.querySelector(`[data-name="${name}"]`);

function addLine(speaker = "", text = "") {
  const row = $("line").content.firstElementChild.cloneNode(true);
  part(row, "speaker").value = speaker;
  part(row, "text").value = text;
  row.querySelector(".remove").addEventListener("click", () => {
    const next = row.nextElementSibling || row.previousElementSibling;
    row.remove();
    if (!next) addLine();
    number();
    part(next || rows()[0], "text").focus();
  });
  part(row, "text").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.isComposing || event.shiftKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const following = row.nextElementSibling;
    part(following || addLine(nextSpeaker()), "text").focus();
  });
  if (takesAudio) wireRecording(row);
  $("lines").append(row);
  number();
  return row;
}

function wireRecording(row) {
  const audio = part(row, "audio");
  const chosen = row.querySelector(".file");
  const tell = () => {
    chosen.hidden = !audio.files.length;
    chosen.querySelector("span").textContent = audio.files[0]?.name || "";
  };
  audio.addEventListener("change", tell);
  chosen.querySelector("button").addEventListener("click", () => {
    audio.value = "";
    tell();
    audio.focus();
  });
}

// Two who talk take turns.
function nextSpeaker() {
  const names = rows().map((row) => part(row, "speaker").value);
  return names.length > 1 ? names[names.length - 2] : "";
}

function number() {
  rows().forEach((row, i) => {
    for (const [name, title] of [["speaker", "Speaker"], ["text", "Words"], ["audio", "Recording"]]) {
      const field = part(row, name);
      if (!field) continue;
      field.id = `${name}-${i + 1}`;
      const label = row.querySelector(`label[data-for="${name}"]`);
      label.htmlFor = field.id;
      (label.querySelector("span") || label).textContent = `${title} of line ${i + 1}`;
    }
    row.querySelector(".remove").setAttribute("aria-label", `Remove line ${i + 1}`);
    row.setAttribute("aria-label", `Line ${i + 1}`);
  });
}

function fillWith(pairs) {
  $("lines").replaceChildren();
  for (const [speaker, text] of pairs) addLine(speaker, text);
}

// The rules of `from_lines` in data/transcripts.py.
function parsed(pasted) {
  const pairs = [];
  for (const [i, line] of pasted.split(/\r\n|\r|\n/).entries()) {
    if (!line.trim()) continue;
    const colon = line.indexOf(":");
    const speaker = line.slice(0, Math.max(colon, 0)).trim();
    if (speaker) pairs.push([speaker, line.slice(colon + 1).trim()]);
    else if (pairs.length) pairs.at(-1)[1] = `${pairs.at(-1)[1]} ${line.trim()}`.trim();
    else throw new Error(`Line ${i + 1} names no speaker: write it as Ann: hello`);
  }
  if (!pairs.length) throw new Error("There is nothing to use: write lines as Ann: hello");
  if (pairs.length > limits.utterances) {
    throw new Error(`${pairs.length} lines are more than the ${limits.utterances} of a conversation`);
  }
  return pairs;
}

// --- Asking

// The rows that say something, as the API wants them. Throws an error that knows the row to blame.
function written() {
  const spoken = rows().map((row) => ({
    row, speaker: part(row, "speaker").value.trim(), text: part(row, "text").value.trim(),
    file: takesAudio ? part(row, "audio").files[0] : undefined,
  })).filter((one) => one.speaker || one.text || one.file);
  if (!spoken.length) throw Object.assign(new Error("Write a line first."), { row: rows()[0] });
  for (const one of spoken) {
    const place = `Line ${rows().indexOf(one.row) + 1}`;
    if (!one.speaker) throw Object.assign(new Error(`${place} has no speaker.`), one);
    if (!one.text && !one.file) throw Object.assign(new Error(`${place} has no words.`), one);
  }
  return spoken;
}

function utteranceOf(one) {
  const utterance = { speaker: one.speaker };
  if (one.text) utterance.text = one.text;
  return utterance;
}

async function ask(spoken) {
  const utterances = spoken.map(utteranceOf);
  const recorded = spoken.some((one) => one.file);
  if (!recorded) {
    const body = JSON.stringify({ conversations: [{ utterances }] });
    return fetch("api/predict", { method: "POST", headers: { "Content-Type": "application/json" }, body });
  }
  const form = new FormData();
  spoken.forEach((one, i) => {
    if (!one.file) return;
    utterances[i].audio = `recording-${i + 1}`;
    form.append("files", one.file, utterances[i].audio);
  });
  form.append("conversation", JSON.stringify({ utterances }));
  return fetch("api/predict-with-audio", { method: "POST", body: form });
}

async function answered(response) {
  let answer;
  try {
    answer = await response.json();
  } catch {
    throw new Error(`The server answered ${response.status} and nothing that can be read.`);
  }
  if (response.ok) return answer.conversations[0].predictions;
  const place = /utterance (\d+)/.exec(answer.error);
  throw Object.assign(new Error(`Not done: ${answer.error}`), { at: place && Number(place[1]) });
}

function complain(error, spoken) {
  const row = error.row || (spoken && Number.isInteger(error.at) && spoken[error.at]?.row);
  $("error").textContent = error.message;
  $("error").hidden = false;
  $("status").textContent = "Nothing was predicted.";
  $("result").hidden = true;
  if (!row) return;
  row.classList.add("wrong");
  for (const name of ["speaker", "text"]) {
    part(row, name).setAttribute("aria-invalid", "true");
    part(row, name).setAttribute("aria-describedby", "error");
  }
  (part(row, "speaker").value.trim() ? part(row, "text") : part(row, "speaker")).focus();
}

function forgive() {
  $("error").hidden = true;
  for (const row of rows()) {
    row.classList.remove("wrong");
    for (const field of row.querySelectorAll("[aria-invalid]")) {
      field.removeAttribute("aria-invalid");
      field.removeAttribute("aria-describedby");
    }
  }
}

let asking = false;

async function submit() {
  if (asking) return;
  asking = true;
  forgive();
  $("predict").setAttribute("aria-disabled", "true");
  let spoken;
  try {
    spoken = written();
    $("status").textContent = "Reading the conversation …";
    let response;
    try {
      response = await ask(spoken);
    } catch {
      throw new Error("The server cannot be reached.");
    }
    show(spoken, await answered(response));
  } catch (error) {
    complain(error, spoken);
  } finally {
    asking = false;
    $("predict").removeAttribute("aria-disabled");
  }
}

// --- The answer

function show(spoken, predictions) {
  $("said").replaceChildren(...predictions.map((prediction, i) => resultOf(spoken[i], prediction, i)));
  latest = { spoken, predictions };
  $("result").hidden = false;
  drawCourses();
  const { top } = $("read-title").getBoundingClientRect();
  if (top < 0 || top > 0.4 * window.innerHeight) $("read-title").scrollIntoView();
  const named = classes.map((name) => [name, predictions.filter((one) => one.label === name).length]);
  const counts = named.filter(([, count]) => count).map(([name, count]) => `${count} ${name}`).join(", ");
  $("status").textContent = `${predictions.length} ${predictions.length === 1 ? "line" : "lines"}: ${counts}.`;
  $("legend").textContent = "Doubt: how evenly the probabilities are spread, from 0 % (one emotion has all) to 100 % (all are equal)."
    + " Draws that disagree: how many random draws from the model's picture of the line get another emotion; it can be 0 % where the doubt is large."
    + (Object.keys(modalities).length > 1 ? " Listened to: the weights of its gates, averaged over their centres." : "");
}

let latest = null;

function resultOf(one, prediction, i) {
  const words = element("div", {},
    element("p", { class: "who" }, `${i + 1} · ${one.speaker}`),
    element("p", one.text ? { class: "said", dir: "auto" } : { class: "said silent" }, one.text || "a recording without words"),
    verdictOf(prediction));
  return element("li", { class: "result" }, words, sharesOf(prediction));
}

function verdictOf(prediction) {
  const emotion = element("span", { class: "emotion" }, prediction.label);
  emotion.style.setProperty("--hue", colours[prediction.label]);
  const verdict = element("p", { class: "verdict" }, emotion,
    element("small", {}, `doubt ${percent(prediction.entropy)}`),
    element("small", {}, `draws that disagree: ${percent(prediction.uncertainty)}`));
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

const CELL = 17, TOP = 26, AXIS = 22, NARROWEST = 15, WIDEST = 46;

function drawCourses() {
  if (!latest) return;
  const { spoken, predictions } = latest;
  const left = 12 + Math.max(...classes.map((name) => name.length)) * 7;
  const room = $("courses").clientWidth - left - 6;
  const column = Math.min(WIDEST, Math.max(NARROWEST, room / predictions.length));
  const speakers = [...new Set(spoken.map((one) => one.speaker))];
  $("courses").replaceChildren(...speakers.map((speaker) => {
    const own = predictions.flatMap((_, i) => (spoken[i].speaker === speaker ? [i] : []));
    return panel(speaker, own, predictions, left, column);
  }));
}

function panel(speaker, own, predictions, left, column) {
  const width = left + column * predictions.length + 6;
  const height = TOP + CELL * classes.length + AXIS;
  const alt = own.map((i) => `line ${i + 1} ${predictions[i].label} ${percent(predictions[i].probabilities[predictions[i].label])}`);
  const svg = drawn("svg", { role: "img", "aria-label": `${speaker}: ${alt.join(", ")}`, width, height, viewBox: `0 0 ${width} ${height}` });
  const x = (i) => left + column * (i + 0.5);
  const y = (name) => TOP + CELL * (classes.indexOf(name) + 0.5);
  svg.append(drawn("text", { x: 0, y: 15, class: "speaker" }, speaker.length > 40 ? `${speaker.slice(0, 39)}…` : speaker));
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
    svg.append(drawn("text", { x: x(i), y: height - 6, "text-anchor": "middle", class: "axis" }, String(i + 1)));
  }
  return svg;
}

// --- Wiring

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});
$("form").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
  event.preventDefault();
  submit();
});
$("add").addEventListener("click", () => part(addLine(nextSpeaker()), "text").focus());
$("clear").addEventListener("click", () => {
  fillWith([["", ""], ["", ""]]);
  forgive();
  part(rows()[0], "speaker").focus();
});
$("example").addEventListener("click", () => {
  fillWith(parsed(settings.example));
  forgive();
});
$("use").addEventListener("click", () => {
  forgive();
  try {
    fillWith(parsed($("pasted").value));
    $("paste").open = false;
    part(rows()[0], "text").focus();
  } catch (error) {
    complain(error);
  }
});
new ResizeObserver(drawCourses).observe($("courses"));
$("curl").textContent = `curl ${location.origin}${location.pathname}api/predict -H 'Content-Type: application/json' -d '
  {"conversations": [{"utterances": [
    {"speaker": "Ann", "text": "You came!"},
    {"speaker": "Bob", "text": "Of course I did."}]}]}'`;
fillWith(parsed(settings.example));
