"use strict";

// --- texts ---------------------------------------------------------------------------------------
// By key. Labels, quality verdicts, camera states and stages are keys as the service writes them.

const TEXTS = {
  en: {
    skip: "Skip to content",
    live: "Live",
    faces: "Faces",
    lastHour: "The last hour",
    hourAgo: "an hour ago",
    now: "now",
    asTable: "As a table",
    shares: "Shares",
    health: "Device",
    model: "Model",
    events: "Events",
    show: "Show the picture",
    hide: "Hide the picture",
    notStored: "Pictures are not stored; they are made only while somebody looks.",
    noPicture: "The picture is not shown.",
    notAllowed: "The settings of this device do not allow the picture.",
    pictureOf: "The camera's picture with a box about each face",
    nobody: "Nobody is there.",
    minutesOnly: "No single face is shown here: this device keeps sums per minute only.",
    running: "running",
    trouble: "trouble",
    unreachable: "no answer",
    unreachableProblem: "The page gets no answer from this device.",
    idle: "idle: nothing moves",
    hour: "hour",
    day: "day",
    time: "time",
    label: "label",
    faceMinutes: "face-minutes",
    nothing: "Nothing in that time.",
    angry: "angry",
    disgust: "disgust",
    fear: "fear",
    happy: "happy",
    sad: "sad",
    surprise: "surprise",
    neutral: "neutral",
    none: "no label",
    good: "good",
    uncertain: "uncertain",
    "too small": "too small",
    blurred: "blurred",
    "turned away": "turned away",
    face: "Face",
    camera: "Camera",
    ok: "ok",
    starting: "starting",
    paused: "paused",
    lost: "lost",
    frames: "Frames a second",
    of: "of",
    milliseconds: "Milliseconds a frame",
    detect: "detect",
    track: "track",
    classify: "classify",
    smooth: "smooth",
    temperature: "Temperature",
    limits: "Limits",
    noLimits: "none",
    notReported: "not reported here",
    memory: "Memory",
    writes: "Written a day",
    writesPending: "counted ten minutes after the start",
    since: "Running since",
    broker: "Broker",
    connected: "connected",
    waiting: "wait",
    accuracy: "right",
    measuredBy: "measured on FER2013's PublicTest by",
    intendedUse: "Made for",
    outOfScopeUse: "Not for",
    limitations: "Limits",
  },
  "zh-TW": {
    skip: "跳到內容",
    live: "即時",
    faces: "臉",
    lastHour: "過去一小時",
    hourAgo: "一小時前",
    now: "現在",
    asTable: "以表格顯示",
    shares: "比例",
    health: "裝置",
    model: "模型",
    events: "事件",
    show: "顯示影像",
    hide: "隱藏影像",
    notStored: "影像不會被儲存，只有在有人觀看時才會產生。",
    noPicture: "影像未顯示。",
    notAllowed: "此裝置的設定不允許顯示影像。",
    pictureOf: "攝影機影像，每張臉都有方框",
    nobody: "沒有人。",
    minutesOnly: "這裡不顯示任何一張臉：此裝置只保留每分鐘的統計。",
    running: "運作中",
    trouble: "有問題",
    unreachable: "沒有回應",
    unreachableProblem: "此頁面得不到裝置的回應。",
    idle: "閒置中：沒有動靜",
    hour: "小時",
    day: "天",
    time: "時間",
    label: "標籤",
    faceMinutes: "臉分鐘",
    nothing: "這段時間沒有資料。",
    angry: "生氣",
    disgust: "厭惡",
    fear: "恐懼",
    happy: "快樂",
    sad: "悲傷",
    surprise: "驚訝",
    neutral: "平靜",
    none: "無標籤",
    good: "良好",
    uncertain: "不確定",
    "too small": "太小",
    blurred: "模糊",
    "turned away": "轉開",
    face: "臉",
    camera: "攝影機",
    ok: "正常",
    starting: "啟動中",
    paused: "已暫停",
    lost: "已斷線",
    frames: "每秒影格",
    of: "／",
    milliseconds: "每影格毫秒",
    detect: "偵測",
    track: "追蹤",
    classify: "分類",
    smooth: "平滑",
    temperature: "溫度",
    limits: "限制",
    noLimits: "無",
    notReported: "此處沒有資料",
    memory: "記憶體",
    writes: "每日寫入",
    writesPending: "開始十分鐘後計算",
    since: "開始時間",
    broker: "代理伺服器",
    connected: "已連線",
    waiting: "等待中",
    accuracy: "正確",
    measuredBy: "於 FER2013 PublicTest 測得，依據",
    intendedUse: "用途",
    outOfScopeUse: "禁止用途",
    limitations: "限制",
  },
};

// --- constants and state -------------------------------------------------------------------------

const LABELS = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"];
const LABELS_AND_NONE = [...LABELS, "none"];
const LABEL_SETS = { fer2013: "FER2013", ferplus: "FER+" };
const SVG_NAMESPACE = "http://www.w3.org/2000/svg";
const SECONDS_AN_HOUR = 3600;
const TIMELINE_HEIGHT = 160; // of its viewBox, whose width of 600 is an hour: 10 a minute
const BAR_WIDTH = 9.5; // of a minute's 10
const HISTORY_INTERVAL = 15000; // milliseconds
const PICTURE_RETRY = 2000; // milliseconds
const STREAM_RETRY = 10000;

const browserLanguage = navigator.language.startsWith("zh") ? "zh-TW" : "en";
let language = localStorage.getItem("language") || browserLanguage;
let service = null; // /api/live: null while the device does not answer
let history = null; // /api/history: null until the first answer
let card = null; // /api/model: null until the first answer
let cardModel = ""; // the model whose card was asked for
let pictureRequested = false;
let announcement = "";

// --- text and numbers ----------------------------------------------------------------------------

function text(key) {
  return TEXTS[language][key] ?? key;
}

function formatShare(share) {
  return share.toLocaleString(language, { style: "percent", maximumFractionDigits: 0 });
}

function formatTime(seconds) {
  const format = { hour: "2-digit", minute: "2-digit" };
  return new Date(seconds * 1000).toLocaleTimeString(language, format);
}

function formatDateTime(seconds) {
  const format = { dateStyle: "short", timeStyle: "short" };
  return new Date(seconds * 1000).toLocaleString(language, format);
}

function formatFace(face) {
  return `${text("face")} ${face.track}: `;
}

function formatVerdict(face) {
  return text(face.label || face.quality);
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

function createColumnHeader(key, attributes = {}) {
  return createElement("th", { scope: "col", ...attributes }, text(key));
}

function createNumberCell(content) {
  return createElement("td", { class: "number" }, content);
}

function createTableHead(cells) {
  return createElement("thead", {}, createRow(cells));
}

function createBar(share, label) {
  const background = createSvg("rect", { width: 100, height: 10, class: "track" });
  const foreground = createSvg("rect", { width: 100 * share, height: 10, class: label });
  const attributes = {
    viewBox: "0 0 100 10",
    preserveAspectRatio: "none",
    "aria-hidden": "true",
  };
  return createSvg("svg", attributes, background, foreground);
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
  setContent("key", ...LABELS_AND_NONE.map(createKeyItem));
  announcement = "";
  showStatus();
  showHistory();
  showCard();
  showPicture();
}

function languageButtons() {
  return document.querySelectorAll("[data-language]");
}

function createKeyItem(label) {
  const square = createSvg("rect", { width: 10, height: 10, class: label });
  const svg = createSvg("svg", { viewBox: "0 0 10 10" }, square);
  return createElement("li", {}, svg, text(label));
}

// --- status: pill, problems, faces, health -------------------------------------------------------

function isRunning() {
  return service !== null && service.runs;
}

function showStatus() {
  const problems = service === null ? [text("unreachableProblem")] : service.problems;
  const severity = problems.length ? "bad" : "good";
  byId("state").className = `pill ${severity}`;
  byId("state").textContent = text(stateKey(problems));
  showProblems(problems);
  byId("device").textContent = isRunning() ? service.source : "";
  showFaces(isRunning() ? service.faces : []);
  showHealth(isRunning() ? healthRows() : []);
}

function stateKey(problems) {
  if (service === null) {
    return "unreachable";
  }
  if (problems.length) {
    return "trouble";
  }
  if (service.camera === "paused") {
    return "paused";
  }
  return service.idle ? "idle" : "running";
}

function showProblems(problems) {
  const list = byId("problems");
  list.hidden = !problems.length;
  const isNew = list.textContent !== problems.join("");
  if (isNew) {
    // An alert is spoken at each change of its content.
    list.replaceChildren(...problems.map((problem) => createElement("li", {}, problem)));
  }
}

function showFaces(faces) {
  if (faces.length) {
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
    const cells = LABELS.flatMap((label) => createScoreCells(label, face.scores[label]));
    item.append(createElement("div", { class: "bars" }, ...cells));
  }
  return item;
}

function createScoreCells(label, score) {
  return [
    createElement("span", {}, text(label)),
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
    ["frames", `${service.fps} ${text("of")} ${service.target_fps ?? "?"}`],
    ["milliseconds", formatStages(service.milliseconds)],
    ["temperature", formatTemperature(service.temperature)],
    ["limits", formatLimits(service.limits)],
    ["memory", `${service.rss} MB`],
    ["writes", formatWrites(service.written_per_day)],
    ["since", formatDateTime(service.started)],
  ];
  if (service.publisher) {
    rows.push(["broker", formatPublisher(service.publisher)]);
  }
  return rows;
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
  return limits.join(", ") || text("noLimits");
}

function formatWrites(megabytes) {
  return megabytes === null ? text("writesPending") : `${megabytes} MB`;
}

function formatPublisher(publisher) {
  const state = publisher.connected ? text("connected") : publisher.problem;
  return `${publisher.broker}: ${state}, ${publisher.waiting} ${text("waiting")}`;
}

// --- history: timeline, table, shares, events ----------------------------------------------------
// A span of time is { time, seconds, faces }; `seconds` are face-seconds by label.

function totalSeconds(seconds) {
  return Object.values(seconds).reduce((sum, value) => sum + value, 0);
}

function sumSpans(spans) {
  const sums = {};
  for (const span of spans) {
    for (const [label, value] of Object.entries(span.seconds)) {
      sums[label] = (sums[label] ?? 0) + value;
    }
  }
  return sums;
}

function showHistory() {
  if (history === null) {
    return;
  }
  const hour = sumSpans(history.hour);
  const day = sumSpans(history.day);
  showTimeline(hour);
  showTable();
  showShares(hour, day);
  showEvents();
}

function showTimeline(hour) {
  const start = history.now - SECONDS_AN_HOUR;
  const highest = Math.max(60, ...history.hour.map((span) => totalSeconds(span.seconds)));
  const bars = history.hour.flatMap((span) => createStack(span, start, highest));
  setContent("timeline", ...bars);
  const summary = history.hour.length ? describeShares(hour) : text("nothing");
  byId("timeline").setAttribute("aria-label", summary);
}

function createStack(span, start, highest) {
  const bars = [];
  let bottom = TIMELINE_HEIGHT;
  for (const label of LABELS_AND_NONE) {
    const height = (TIMELINE_HEIGHT * (span.seconds[label] ?? 0)) / highest;
    bottom -= height;
    if (height > 0) {
      const x = (span.time - start) / 6;
      bars.push(createSvg("rect", { x, y: bottom, width: BAR_WIDTH, height, class: label }));
    }
  }
  return bars;
}

function describeShares(seconds) {
  const total = totalSeconds(seconds) || 1;
  const labels = LABELS_AND_NONE.filter((label) => seconds[label]);
  return labels.map((label) => `${text(label)} ${formatShare(seconds[label] / total)}`).join(", ");
}

function showTable() {
  const caption = createElement("caption", { class: "visually-hidden" }, text("faceMinutes"));
  const labels = LABELS_AND_NONE.map((label) => createColumnHeader(label));
  const head = createTableHead([createColumnHeader("time"), ...labels]);
  const newestFirst = history.hour.slice().reverse();
  const body = createElement("tbody", {}, ...newestFirst.map(createMinuteRow));
  setContent("table", caption, head, body);
}

function createMinuteRow(span) {
  const minutes = LABELS_AND_NONE.map((label) => formatMinutes(span.seconds[label]));
  return createRow([createRowHeader(formatTime(span.time)), ...minutes.map(createNumberCell)]);
}

function formatMinutes(seconds) {
  return seconds ? (seconds / 60).toFixed(1) : "";
}

function showShares(hour, day) {
  const head = createTableHead([
    createColumnHeader("label"),
    createColumnHeader("hour", { colspan: 2 }),
    createColumnHeader("day", { colspan: 2 }),
  ]);
  const rows = LABELS_AND_NONE.map((label) =>
    createRow([
      createRowHeader(text(label)),
      ...createShareCells(hour, label),
      ...createShareCells(day, label),
    ]),
  );
  setContent("shares", head, createElement("tbody", {}, ...rows));
}

function createShareCells(seconds, label) {
  const share = (seconds[label] ?? 0) / (totalSeconds(seconds) || 1);
  return [
    createElement("td", { class: "bar" }, createBar(share, label)),
    createNumberCell(formatShare(share)),
  ];
}

function showEvents() {
  if (history.events.length) {
    setContent("events", ...history.events.map(createEventItem));
  } else {
    setContent("events", createElement("li", {}, text("nothing")));
  }
}

function createEventItem(event) {
  const datetime = new Date(event.time * 1000).toISOString();
  const time = createElement("time", { datetime }, formatDateTime(event.time));
  return createElement("li", {}, time, `${event.kind}: ${event.text}`);
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
    formatAccuracy(),
    createElement("h3", {}, text("outOfScopeUse")),
    createCardList(card.forbidden),
    details,
  );
}

function formatAccuracy() {
  const percent = (100 * card.accuracy).toFixed(1);
  const labels = LABEL_SETS[card.judged_by] ?? card.judged_by;
  return ` ${percent} % ${text("accuracy")} (${text("measuredBy")} ${labels})`;
}

function createCardList(sentences) {
  // Cards are written in English.
  const items = sentences.map((sentence) => createElement("li", { lang: "en" }, sentence));
  return createElement("ul", {}, ...items);
}

// --- the picture ---------------------------------------------------------------------------------

function showPicture() {
  const isAllowed = !isRunning() || service.picture;
  const isShown = pictureRequested && isAllowed && isRunning() && !document.hidden;
  const picture = byId("picture");
  if (isShown && picture.hidden) {
    picture.src = `/picture?${Date.now()}`;
  }
  if (!isShown && !picture.hidden) {
    picture.removeAttribute("src");
  }
  picture.hidden = !isShown;
  picture.alt = text("pictureOf");
  byId("no-picture").hidden = isShown;
  byId("no-picture").textContent = text(isAllowed ? "noPicture" : "notAllowed");
  const toggle = byId("toggle");
  toggle.hidden = !isAllowed;
  toggle.setAttribute("aria-pressed", pictureRequested);
  toggle.textContent = text(pictureRequested ? "hide" : "show");
}

function onToggle() {
  pictureRequested = !pictureRequested;
  showPicture();
}

function onPictureError() {
  if (pictureRequested) {
    byId("picture").hidden = true;
    setTimeout(showPicture, PICTURE_RETRY);
  }
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
  history = (await fetchJson("/api/history")) ?? history;
  showHistory();
}

async function refreshCard() {
  card = await fetchJson("/api/model");
  showCard();
}

function onStatus(event) {
  service = JSON.parse(event.data);
  showStatus();
  showPicture();
  if (isRunning() && service.model !== cardModel) {
    cardModel = service.model;
    refreshCard();
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
  service = null;
  showStatus();
  showPicture();
}

function start() {
  for (const button of languageButtons()) {
    button.addEventListener("click", () => setLanguage(button.dataset.language));
  }
  byId("toggle").addEventListener("click", onToggle);
  byId("picture").addEventListener("error", onPictureError);
  document.addEventListener("visibilitychange", showPicture);
  openStream();
  setLanguage(language);
  refreshHistory();
  setInterval(refreshHistory, HISTORY_INTERVAL);
}

start();
