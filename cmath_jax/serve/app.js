// What is written, and how it is asked; answer.js shows what comes back.

import { $, placeOf, settings, show } from "./answer.js";

const { raw, limits } = settings;
const takesAudio = raw.includes("a");

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

// The rules of `from_lines` in data/sources/transcripts.py.
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
  const spoken = rows().map((row, i) => ({
    row, line: i + 1, speaker: part(row, "speaker").value.trim(), text: part(row, "text").value.trim(),
    file: takesAudio ? part(row, "audio").files[0] : undefined,
  })).filter((one) => one.speaker || one.text || one.file);
  if (!spoken.length) throw Object.assign(new Error("Write a line first."), { row: rows()[0] });
  for (const one of spoken) {
    if (!one.speaker) throw Object.assign(new Error(`Line ${one.line} has no speaker.`), one);
    if (!one.text && !one.file) throw Object.assign(new Error(`Line ${one.line} has no words.`), one);
  }
  nameFiles(spoken.filter((one) => one.file));
  return spoken;
}

// As they are called where they were chosen, so that the server speaks of them by these names; but no two alike.
function nameFiles(recorded) {
  const taken = new Set();
  for (const one of recorded) {
    one.name = one.file.name;
    for (let count = 2; taken.has(one.name.normalize()); count++) one.name = `${one.file.name} (${count})`;
    taken.add(one.name.normalize());
  }
}

function utteranceOf(one) {
  const utterance = { speaker: one.speaker };
  if (one.text) utterance.text = one.text;
  if (one.file) utterance.audio = one.name;
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
  for (const one of spoken) if (one.file) form.append("files", one.file, one.name);
  form.append("conversation", JSON.stringify({ utterances }));
  return fetch("api/predict-with-audio", { method: "POST", body: form });
}

async function answered(response, spoken) {
  let answer;
  try {
    answer = await response.json();
  } catch {
    throw new Error(`The server answered ${response.status} and nothing that can be read.`);
  }
  if (response.ok) return answer.conversations[0].predictions;
  const one = spoken[answer.utterance];
  const reason = answer.reason || answer.error;
  throw Object.assign(new Error(one ? `Not done. ${placeOf(one, answer.file)} ${reason}` : `Not done: ${reason}`), one);
}

function complain(error) {
  const { row } = error;
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
  try {
    const spoken = written();
    $("status").textContent = "Reading the conversation …";
    let response;
    try {
      response = await ask(spoken);
    } catch {
      throw new Error("The server cannot be reached.");
    }
    show(spoken, await answered(response, spoken));
  } catch (error) {
    complain(error);
  } finally {
    asking = false;
    $("predict").removeAttribute("aria-disabled");
  }
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
$("curl").textContent = `curl ${location.origin}${location.pathname}api/predict -H 'Content-Type: application/json' -d '
  {"conversations": [{"utterances": [
    {"speaker": "Ann", "text": "You came!"},
    {"speaker": "Bob", "text": "Of course I did."}]}]}'`;
fillWith(parsed(settings.example));
