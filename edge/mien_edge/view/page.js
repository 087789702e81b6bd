"use strict";

// Texts are in texts.js, the picture in picture.js, the chart in history.js.

// --- constants and state -------------------------------------------------------------------------

const NO_LABEL = "none";
const LABEL_SETS = { fer2013: "FER2013", ferplus: "FER+", ferplus8: "FER+" };
const SVG_NAMESPACE = "http://www.w3.org/2000/svg";
const LANGUAGES = ["en", "zh-TW"];
const HISTORY_INTERVAL = 15000; // milliseconds
const PICTURE_RETRY = 2000; // milliseconds
const STREAM_RETRY = 10000;

let language = firstLanguage();
let spanName = "hour"; // of the history that is shown
let service = null; // /api/live: null while the device does not answer
let isAnswered = false; // whether the device has answered at all
let isRunOver = false; // a run by hand, beside which the page was, has ended
let history = null; // /api/history: null until the first answer
let card = null; // /api/model: null until the first answer
let cardModel = ""; // the model whose card was asked for
let pictureRequested = false;
let pictureStream = null; // the AbortController of the open stream
let pictureState = ""; // of the open stream: "", "waiting", "shown" or "refused"
let announcement = "";
let modelLabels = ""; // of the running model, as it was last

// --- text and numbers ----------------------------------------------------------------------------

// Of the link (?lang=zh-TW), else of an earlier choice, else the browser's.
function firstLanguage() {
  const linked = new URLSearchParams(location.search).get("lang");
  const chosen = [linked, localStorage.getItem("language")].find((name) => LANGUAGES.includes(name));
  const browsers = navigator.language.startsWith("zh") ? "zh-TW" : "en";
  return chosen ?? browsers;
}

function text(key) {
  return TEXTS[key]?.[language] ?? key;
}

// A label; one that the page has no word for is shown by its own name.
function labelText(label) {
  return Object.hasOwn(LABEL_TEXTS, label) ? LABEL_TEXTS[label][language] : label;
}

// What a device, a log or a card says, in the page's language where the table has it.
function createSentence(sentence) {
  const own = language === "en" ? sentence : translate(sentence);
  const isEnglish = own === sentence;
  return createElement("span", isEnglish ? { lang: "en" } : {}, own);
}

function formatShare(share) {
  return share.toLocaleString(language, { style: "percent", maximumFractionDigits: 0 });
}

function formatTime(seconds) {
  const format = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
  return new Date(seconds * 1000).toLocaleTimeString(language, format);
}

function formatDateTime(seconds) {
  const format = { dateStyle: "short", timeStyle: "short", hourCycle: "h23" };
  return new Date(seconds * 1000).toLocaleString(language, format);
}

function formatFace(face) {
  return `${text("face")} ${face.track}: `;
}

function formatVerdict(face) {
  return face.label ? labelText(face.label) : text(face.quality);
}

// --- elements ------------------------------------------------------------------------------------

function byId(id) {
  return document.getElementById(id);
}

function setAttributes(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    element.setAttribute(name, value);
  }
}

function createElement(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  setAttributes(element, attributes);
  element.append(...children);
  return element;
}

function createSvg(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG_NAMESPACE, name);
  setAttributes(element, attributes);
  element.append(...children);
  return element;
}

function createRow(cells) {
  return createElement("tr", {}, ...cells);
}

function createRowHeader(content) {
  return createElement("th", { scope: "row" }, content);
}

function createColumnHeader(content, attributes = {}) {
  return createElement("th", { scope: "col", ...attributes }, content);
}

function createNumberCell(content) {
  return createElement("td", { class: "number" }, content);
}

function createTableHead(cells) {
  return createElement("thead", {}, createRow(cells));
}

function createBar(share, label) {
  const background = createSvg("rect", { width: 100, height: 10, class: "track" });
  const foreground = createLabelRect(label, { width: 100 * share, height: 10 });
  const attributes = {
    viewBox: "0 0 100 10",
    preserveAspectRatio: "none",
    "aria-hidden": "true",
  };
  return createSvg("svg", attributes, background, foreground);
}

// A rectangle in the colour of a label: that of page.css, which knows light and dark, or that which
// the device gives labels of other models.
function createLabelRect(label, attributes) {
  const rectangle = createSvg("rect", { ...attributes, "data-label": label });
  rectangle.style.fill = `var(${colourName(label)}, ${givenColour(label)})`;
  return rectangle;
}

function colourName(label) {
  return `--label-${label}`;
}

function givenColour(label) {
  const colours = { ...service?.colours, ...history?.colours };
  return Object.hasOwn(colours, label) ? colours[label] : `var(${colourName(NO_LABEL)})`;
}

// The same colour for a canvas.
function colourOf(label) {
  const style = getComputedStyle(document.documentElement);
  const named = (name) => style.getPropertyValue(colourName(name)).trim();
  const given = givenColour(label);
  return named(label) || (given.startsWith("#") ? given : named(NO_LABEL));
}

function setContent(id, ...children) {
  byId(id).replaceChildren(...children);
}

// --- language ------------------------------------------------------------------------------------

function setLanguage(name) {
  language = name;
  localStorage.setItem("language", name);
  document.documentElement.lang = name;
  for (const element of document.querySelectorAll("[data-text]")) {
    element.textContent = text(element.dataset.text);
  }
  for (const button of languageButtons()) {
    button.setAttribute("aria-pressed", button.dataset.language === name);
  }
  announcement = "";
  showStatus();
  showHistory();
  showCard();
  showPicture();
}

function languageButtons() {
  return document.querySelectorAll("[data-language]");
}

// --- status: pill, problems, faces, health -------------------------------------------------------

function isRunning() {
  return service !== null && service.runs;
}

function showStatus() {
  const problems = currentProblems();
  const severity = problems.length && !isRunOver ? "bad" : "good";
  byId("state").className = `pill ${severity}`;
  byId("state").textContent = text(stateKey(problems));
  showProblems(problems);
  byId("device").textContent = isRunning() ? service.source : "";
  showFaces(isRunning() ? service.faces : []);
  showHealth(isRunning() ? healthRows() : []);
}

function currentProblems() {
  if (service !== null) {
    return service.problems;
  }
  return isAnswered && !isRunOver ? [text("unreachableProblem")] : [];
}

function stateKey(problems) {
  if (isRunOver) {
    return "over";
  }
  if (service === null) {
    return isAnswered ? "unreachable" : "starting";
  }
  if (problems.length) {
    return "trouble";
  }
  if (!service.runs) {
    return "starting";
  }
  if (["paused", "starting", "ended"].includes(service.camera)) {
    return service.camera;
  }
  return service.idle ? "idle" : "running";
}

function showProblems(problems) {
  const list = byId("problems");
  list.hidden = !problems.length;
  const isNew = list.dataset.problems !== problems.join("\n") + language;
  if (isNew) {
    // An alert is spoken at each change of its content.
    list.dataset.problems = problems.join("\n") + language;
    list.replaceChildren(...problems.map(createProblemItem));
  }
}

function createProblemItem(problem) {
  return createElement("li", {}, createSentence(problem));
}

function showFaces(faces) {
  if (!isRunning() || service.camera === "starting") {
    setContent("faces"); // nobody has looked yet
  } else if (faces.length) {
    announce(faces.map((face) => formatFace(face) + formatVerdict(face)).join(", "));
    setContent("faces", ...faces.map(createFaceItem));
  } else {
    const reason = text(isRunning() && service.minutes_only ? "minutesOnly" : "nobody");
    announce(reason);
    setContent("faces", createElement("li", {}, reason));
  }
}

function announce(sentence) {
  // A screen reader speaks it; so it is replaced only where it changes.
  if (sentence !== announcement) {
    announcement = sentence;
    byId("announcement").textContent = sentence;
  }
}

function createFaceItem(face) {
  const isLabelled = face.label && face.confidence !== null;
  const confidence = isLabelled ? ` ${formatShare(face.confidence)}` : "";
  const item = createElement(
    "li",
    { "data-track": face.track },
    formatFace(face),
    createElement("strong", {}, formatVerdict(face)),
    createElement("span", { class: "confidence" }, confidence),
  );
  if (face.scores) {
    const labels = scoredLabels(face.scores);
    const cells = labels.flatMap((label) => createScoreCells(label, face.scores[label]));
    item.append(createElement("div", { class: "bars" }, ...cells));
  }
  return item;
}

// The labels of a face's scores in the order of its model, which JSON's keys do not keep.
function scoredLabels(scores) {
  const labels = Object.keys(scores);
  const ordered = (service?.labels ?? []).filter((label) => labels.includes(label));
  return ordered.length === labels.length ? ordered : labels;
}

function createScoreCells(label, score) {
  return [
    createElement("span", {}, labelText(label)),
    createBar(score, label),
    createElement("span", {}, formatShare(score)),
  ];
}

function showHealth(rows) {
  const elements = rows.flatMap(([key, value]) => [
    createElement("dt", {}, text(key)),
    createElement("dd", {}, value),
  ]);
  setContent("health", ...elements);
}

function healthRows() {
  const rows = [
    ["camera", text(service.camera)],
    ["frames", formatRate(service)],
    ["milliseconds", formatStages(service.milliseconds)],
    ["temperature", formatTemperature(service.temperature)],
    ["limits", formatLimits(service.limits)],
    ["memory", `${service.rss} MB`],
    ["writes", formatWrites(service.written_per_day)],
    ["since", formatDateTime(service.started)],
  ];
  if (service.publisher?.broker) {
    rows.push(["broker", formatPublisher(service.publisher)]);
  }
  return rows;
}

function formatRate({ fps, target_fps: target }) {
  return target === undefined ? `${fps}` : `${fps} ${text("of")} ${target}`;
}

function formatStages(milliseconds) {
  const stages = Object.entries(milliseconds);
  return stages.map(([name, value]) => `${text(name)} ${value}`).join(", ");
}

function formatTemperature(celsius) {
  return celsius === null ? text("notReported") : `${celsius} °C`;
}

function formatLimits(limits) {
  if (limits === null) {
    return text("notReported");
  }
  return limits.map(text).join(", ") || text("noLimits");
}

function formatWrites(megabytes) {
  return megabytes === null ? text("writesPending") : `${megabytes} MB`;
}

function formatPublisher(publisher) {
  const state = publisher.connected ? text("connected") : publisher.problem;
  return `${publisher.broker}: ${state}, ${publisher.waiting} ${text("waiting")}`;
}

// --- the model's card ----------------------------------------------------------------------------

function showCard() {
  if (card === null) {
    return;
  }
  const name = createElement("strong", {}, `${card.name}-${card.version}`);
  const more = `${text("intendedUse")}, ${text("limitations")}`;
  const details = createElement(
    "details",
    {},
    createElement("summary", {}, more),
    createElement("h3", {}, text("intendedUse")),
    createCardList(card.intended),
    createElement("h3", {}, text("limitations")),
    createCardList(card.limits),
  );
  setContent(
    "model",
    name,
    ` ${formatAccuracy()}`,
    ...createUnreliable(),
    createElement("h3", {}, text("outOfScopeUse")),
    createCardList(card.forbidden),
    details,
  );
}

function createUnreliable() {
  if (card.unreliable.length === 0) {
    return [];
  }
  const separator = language === "en" ? ", " : "、";
  const names = card.unreliable.map(labelText).join(separator);
  const sentence = text("unreliable").replace("{1}", names);
  return [createElement("p", {}, sentence)];
}

function formatAccuracy() {
  if (card.accuracy === undefined) {
    return "";
  }
  const percent = (100 * card.accuracy).toFixed(1);
  const labels = LABEL_SETS[card.judged_by] ?? card.judged_by;
  const sentence = text(card.test === "PublicTest" ? "right" : "rightOnOwn");
  return sentence.replace("{1}", `${percent} %`).replace("{2}", labels);
}

function createCardList(sentences) {
  const items = sentences.map((sentence) => createElement("li", {}, createSentence(sentence)));
  return createElement("ul", {}, ...items);
}

// --- the picture ---------------------------------------------------------------------------------

function showPicture() {
  const isAllowed = service === null || service.picture;
  const isLookedAt = !document.hidden || (service !== null && service.beside);
  const isStreamed = pictureRequested && isAllowed && isRunning() && isLookedAt;
  if (isStreamed && pictureStream === null) {
    openPictures();
  }
  if (!isStreamed && !isRunOver && pictureStream !== null) {
    pictureStream.abort();
  }
  const picture = byId("picture");
  const isKept = isRunOver && pictureState === "shown"; // the last one stays
  picture.hidden = pictureState !== "shown" || !(isStreamed || isKept);
  picture.setAttribute("aria-label", text("pictureOf"));
  const reason = byId("no-picture");
  reason.hidden = !picture.hidden;
  reason.textContent = text(whyNoPicture());
  const toggle = byId("toggle");
  toggle.hidden = !isAllowed;
  toggle.setAttribute("aria-pressed", pictureRequested);
  toggle.textContent = text(pictureRequested ? "hide" : "show");
}

// The key of the sentence that stands where the picture would be.
function whyNoPicture() {
  if (service === null) {
    return whyNoAnswer();
  }
  if (!service.picture) {
    return "noPictureForbidden";
  }
  if (!service.runs) {
    return service.beside ? "waitingStart" : "noPictureStopped";
  }
  const byCamera = { paused: "noPicturePaused", lost: "noPictureLost" }[service.camera];
  if (byCamera) {
    return byCamera;
  }
  if (!pictureRequested) {
    return "noPictureNotAsked";
  }
  if (pictureState === "refused") {
    return "noPictureRefused";
  }
  return service.camera === "starting" ? "waitingFirst" : "waitingNext";
}

function whyNoAnswer() {
  if (isRunOver) {
    return "noPictureRunOver";
  }
  return isAnswered ? "noPictureUnreachable" : "waitingAnswer";
}

// Show the pictures of one stream; open another one after a while if it is still wanted.
async function openPictures() {
  const stream = new AbortController();
  pictureStream = stream;
  pictureState = "waiting";
  const state = await readPictures(stream.signal, onPicture).then(
    () => "waiting",
    (problem) => (problem instanceof PictureRefused ? "refused" : "waiting"),
  );
  if (isRunOver) {
    return; // the last picture stays
  }
  pictureState = state;
  setTimeout(onPicturesEnd, stream.signal.aborted ? 0 : PICTURE_RETRY);
  showPicture();
}

async function onPicture(jpeg, faces) {
  await drawPicture(byId("picture"), jpeg, faces);
  if (pictureState !== "shown") {
    pictureState = "shown";
    showPicture();
  }
}

function onPicturesEnd() {
  pictureStream = null;
  showPicture();
}

function onToggle() {
  pictureRequested = !pictureRequested;
  showPicture();
}

// --- the device's answers ------------------------------------------------------------------------

async function fetchJson(path) {
  try {
    const response = await fetch(path);
    return response.ok ? await response.json() : null;
  } catch {
    return null;
  }
}

async function refreshHistory() {
  const asked = spanName;
  const answer = await fetchJson(`/api/history?span=${asked}`);
  if (answer !== null && asked === spanName) {
    history = answer;
    showHistory();
    showStatus(); // in the same colours
  }
}

function onSpan(event) {
  spanName = event.currentTarget.dataset.span;
  showSpanButtons();
  refreshHistory();
}

async function refreshCard() {
  card = await fetchJson("/api/model");
  showCard();
}

function onStatus(event) {
  service = JSON.parse(event.data);
  if (service.beside && !isAnswered) {
    pictureRequested = true; // who started the run with --view wants to see it
  }
  isAnswered = true;
  isRunOver = false;
  showStatus();
  showPicture();
  if (isRunning() && service.model !== cardModel) {
    cardModel = service.model;
    refreshCard();
  }
  if (isRunning() && service.labels.join() !== modelLabels) {
    modelLabels = service.labels.join();
    refreshHistory(); // which has their colours and their rows
  }
}

function openStream() {
  const stream = new EventSource("/api/live");
  stream.addEventListener("message", onStatus);
  stream.addEventListener("error", onStatusError);
}

function onStatusError(event) {
  if (event.target.readyState === EventSource.CLOSED) {
    setTimeout(openStream, STREAM_RETRY); // refused; a stream that broke is opened by the browser
  }
  isRunOver = isRunOver || (service !== null && service.beside);
  service = null;
  showStatus();
  showPicture();
}

function start() {
  for (const button of languageButtons()) {
    button.addEventListener("click", () => setLanguage(button.dataset.language));
  }
  byId("toggle").addEventListener("click", onToggle);
  for (const button of spanButtons()) {
    button.addEventListener("click", onSpan);
  }
  new ResizeObserver(showHistory).observe(byId("timeline").parentElement);
  document.addEventListener("visibilitychange", showPicture);
  openStream();
  setLanguage(language);
  refreshHistory();
  setInterval(refreshHistory, HISTORY_INTERVAL);
}

start();
