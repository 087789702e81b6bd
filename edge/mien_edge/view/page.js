"use strict";

const TEXTS = {
  en: {
    skip: "Skip to content", live: "Live", faces: "Faces", lastHour: "The last hour", hourAgo: "an hour ago", now: "now",
    asTable: "As a table", shares: "Shares", health: "Device", model: "Model", events: "Events",
    show: "Show the picture", hide: "Hide the picture", notStored: "Pictures are not stored; they are made only while somebody looks.",
    noPicture: "The picture is not shown.", notAllowed: "The settings of this device do not allow the picture.",
    pictureOf: "The camera's picture with a box about each face", nobody: "Nobody is there.",
    well: "running", unwell: "trouble", away: "no answer", rests: "idle: nothing moves", paused: "paused",
    hour: "hour", day: "day", time: "time", label: "label", faceMinutes: "face-minutes", nothing: "Nothing in that time.",
    lost: "The page gets no answer from this device.",
    angry: "angry", disgust: "disgust", fear: "fear", happy: "happy", sad: "sad", surprise: "surprise", neutral: "neutral",
    none: "no label", uncertain: "uncertain", "too small": "too small", blurred: "blurred", "turned away": "turned away", good: "good",
    face: "Face", camera: "Camera", frames: "Frames a second", of: "of", spent: "Milliseconds a frame", heat: "Temperature", limits: "Limits",
    memory: "Memory", writes: "Written a day", since: "Running since", broker: "Broker", connected: "connected", waiting: "wait",
    notTold: "not reported here", later: "counted ten minutes after the start", no: "none", ok: "ok", starting: "starting", accuracy: "right", judged: "measured on FER2013's PublicTest by", intended: "Made for",
    forbidden: "Not for", cardLimits: "Limits", detect: "detect", track: "track", classify: "classify", smooth: "smooth",
  },
  "zh-TW": {
    skip: "跳到內容", live: "即時", faces: "臉", lastHour: "過去一小時", hourAgo: "一小時前", now: "現在",
    asTable: "以表格顯示", shares: "比例", health: "裝置", model: "模型", events: "事件",
    show: "顯示影像", hide: "隱藏影像", notStored: "影像不會被儲存，只有在有人觀看時才會產生。",
    noPicture: "影像未顯示。", notAllowed: "此裝置的設定不允許顯示影像。",
    pictureOf: "攝影機影像，每張臉都有方框", nobody: "沒有人。",
    well: "運作中", unwell: "有問題", away: "沒有回應", rests: "閒置中：沒有動靜", paused: "已暫停",
    hour: "小時", day: "天", time: "時間", label: "標籤", faceMinutes: "臉分鐘", nothing: "這段時間沒有資料。",
    lost: "此頁面得不到裝置的回應。",
    angry: "生氣", disgust: "厭惡", fear: "恐懼", happy: "快樂", sad: "悲傷", surprise: "驚訝", neutral: "平靜",
    none: "無標籤", uncertain: "不確定", "too small": "太小", blurred: "模糊", "turned away": "轉開", good: "良好",
    face: "臉", camera: "攝影機", frames: "每秒影格", of: "／", spent: "每影格毫秒", heat: "溫度", limits: "限制",
    memory: "記憶體", writes: "每日寫入", since: "開始時間", broker: "代理伺服器", connected: "已連線", waiting: "等待中",
    notTold: "此處沒有資料", later: "開始十分鐘後計算", no: "無", ok: "正常", starting: "啟動中", accuracy: "正確", judged: "於 FER2013 PublicTest 測得，依據", intended: "用途",
    forbidden: "禁止用途", cardLimits: "限制", detect: "偵測", track: "追蹤", classify: "分類", smooth: "平滑",
  },
};
const LABELS = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"];
const PARTS = [...LABELS, "none"];
const SVG = "http://www.w3.org/2000/svg";
const byId = (id) => document.getElementById(id);

let language = localStorage.getItem("language") || (navigator.language.startsWith("zh") ? "zh-TW" : "en");
let now = null, history = null, card = null, wanted = false, told = "";

const text = (key) => TEXTS[language][key] ?? key;
const percent = (share) => share.toLocaleString(language, { style: "percent", maximumFractionDigits: 0 });
const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString(language, { hour: "2-digit", minute: "2-digit" });
const moment = (seconds) => new Date(seconds * 1000).toLocaleString(language, { dateStyle: "short", timeStyle: "short" });

function made(name, options = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(options)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function drawn(name, options = {}) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(options)) element.setAttribute(key, value);
  return element;
}

function bar(share, label) {
  const svg = drawn("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" });
  svg.append(drawn("rect", { width: 100, height: 10, class: "track" }), drawn("rect", { width: 100 * share, height: 10, class: label }));
  return svg;
}

function say(id, ...children) { byId(id).replaceChildren(...children); }

function chooseLanguage(chosen) {
  language = chosen;
  localStorage.setItem("language", chosen);
  document.documentElement.lang = chosen;
  for (const element of document.querySelectorAll("[data-text]")) element.textContent = text(element.dataset.text);
  for (const button of document.querySelectorAll("[data-language]")) button.setAttribute("aria-pressed", button.dataset.language === chosen);
  say("key", ...PARTS.map((label) => {
    const svg = drawn("svg", { viewBox: "0 0 10 10" });
    svg.append(drawn("rect", { width: 10, height: 10, class: label }));
    return made("li", {}, svg, text(label));
  }));
  told = "";
  showNow(); showHistory(); showCard(); showPicture();
}

function showNow() {
  const pill = byId("state");
  const runs = now !== null && now.runs;
  const problems = now === null ? [text("lost")] : now.problems;
  pill.className = "pill " + (problems.length ? "bad" : "good");
  pill.textContent = text(now === null ? "away" : problems.length ? "unwell" : now.camera === "paused" ? "paused" : now.idle ? "rests" : "well");
  byId("problems").hidden = !problems.length;
  if (byId("problems").textContent !== problems.join("")) say("problems", ...problems.map((each) => made("li", {}, each)));
  byId("device").textContent = runs ? now.source : "";
  showFaces(runs ? now.faces : []);
  say("health", ...(runs ? healthRows() : []).flatMap(([name, value]) => [made("dt", {}, text(name)), made("dd", {}, value)]));
}

function showFaces(faces) {
  const name = (face) => text(face.label || face.quality);
  const line = faces.length ? faces.map((face) => `${text("face")} ${face.track}: ${name(face)}`).join(", ") : text("nobody");
  if (line !== told) { told = line; byId("told").textContent = line; }  // spoken only when it changes
  say("faces", ...(faces.length ? faces.map(faceItem) : [made("li", {}, text("nobody"))]));
}

function faceItem(face) {
  const sure = face.label && face.confidence !== null ? ` ${percent(face.confidence)}` : "";
  const item = made("li", { "data-track": face.track }, `${text("face")} ${face.track}: `, made("strong", {}, text(face.label || face.quality)), made("span", { class: "sure" }, sure));
  if (face.scores) {
    const rows = LABELS.flatMap((label) => [made("span", {}, text(label)), bar(face.scores[label], label), made("span", {}, percent(face.scores[label]))]);
    item.append(made("div", { class: "bars" }, ...rows));
  }
  return item;
}

function healthRows() {
  const spent = Object.entries(now.milliseconds).map(([name, value]) => `${text(name)} ${value}`).join(", ");
  const rows = [
    ["camera", text(now.camera)],
    ["frames", `${now.fps} ${text("of")} ${now.target_fps ?? "?"}`],
    ["spent", spent],
    ["heat", now.temperature === null ? text("notTold") : `${now.temperature} °C`],
    ["limits", now.limits === null ? text("notTold") : now.limits.join(", ") || text("no")],
    ["memory", `${now.rss} MB`],
    ["writes", now.written_per_day === null ? text("later") : `${now.written_per_day} MB`],
    ["since", moment(now.started)],
  ];
  if (now.publisher) rows.push(["broker", `${now.publisher.broker}: ${now.publisher.connected ? text("connected") : now.publisher.problem}, ${now.publisher.waiting} ${text("waiting")}`]);
  return rows;
}

const total = (span) => Object.values(span.seconds).reduce((sum, each) => sum + each, 0);

function summed(spans) {
  const seconds = {};
  for (const span of spans) for (const [label, value] of Object.entries(span.seconds)) seconds[label] = (seconds[label] ?? 0) + value;
  return seconds;
}

function showHistory() {
  if (history === null) return;
  const start = history.now - 3600, most = Math.max(60, ...history.hour.map(total));
  const svg = byId("timeline"), shapes = [];
  for (const span of history.hour) {
    let height = 0;
    for (const label of PARTS) {
      const part = 160 * (span.seconds[label] ?? 0) / most;
      if (part > 0) shapes.push(drawn("rect", { x: (span.time - start) / 6, width: 9.5, y: 160 - height - part, height: part, class: label }));
      height += part;
    }
  }
  svg.replaceChildren(...shapes);
  svg.setAttribute("aria-label", history.hour.length ? spoken(summed(history.hour)) : text("nothing"));
  const rows = history.hour.slice().reverse().map((span) => made("tr", {}, made("th", { scope: "row" }, clock(span.time)),
    ...PARTS.map((label) => made("td", { class: "number" }, span.seconds[label] ? (span.seconds[label] / 60).toFixed(1) : ""))));
  say("table", made("caption", { class: "unseen" }, text("faceMinutes")),
    made("thead", {}, made("tr", {}, made("th", { scope: "col" }, text("time")), ...PARTS.map((label) => made("th", { scope: "col" }, text(label))))),
    made("tbody", {}, ...rows));
  showShares(summed(history.hour), summed(history.day));
  say("events", ...(history.events.length ? history.events.map((event) => made("li", {}, made("time", { datetime: new Date(event.time * 1000).toISOString() }, moment(event.time)), `${event.kind}: ${event.text}`)) : [made("li", {}, text("nothing"))]));
}

function spoken(seconds) {
  const all = total({ seconds }) || 1;
  return PARTS.filter((label) => seconds[label]).map((label) => `${text(label)} ${percent(seconds[label] / all)}`).join(", ");
}

function showShares(hour, day) {
  const inHour = total({ seconds: hour }) || 1, inDay = total({ seconds: day }) || 1;
  const rows = PARTS.map((label) => {
    const cells = [[hour, inHour], [day, inDay]].flatMap(([seconds, all]) => {
      const share = (seconds[label] ?? 0) / all;
      return [made("td", { class: "bar" }, bar(share, label)), made("td", { class: "number" }, percent(share))];
    });
    return made("tr", {}, made("th", { scope: "row" }, text(label)), ...cells);
  });
  say("shares", made("thead", {}, made("tr", {}, made("th", { scope: "col" }, text("label")), made("th", { scope: "col", colspan: 2 }, text("hour")), made("th", { scope: "col", colspan: 2 }, text("day")))), made("tbody", {}, ...rows));
}

function showCard() {
  if (card === null) return;
  const list = (items) => made("ul", {}, ...items.map((each) => made("li", { lang: "en" }, each)));
  const judge = { fer2013: "FER2013", ferplus: "FER+" }[card.judged_by] ?? card.judged_by;
  say("model", made("strong", {}, `${card.name}-${card.version}`), ` ${(100 * card.accuracy).toFixed(1)} % ${text("accuracy")} (${text("judged")} ${judge})`,
    made("h3", {}, text("forbidden")), list(card.forbidden),
    made("details", {}, made("summary", {}, `${text("intended")}, ${text("cardLimits")}`), made("h3", {}, text("intended")), list(card.intended), made("h3", {}, text("cardLimits")), list(card.limits)));
}

function showPicture() {
  const allowed = now === null || !now.runs || now.picture, on = wanted && allowed && !document.hidden && now !== null && now.runs;
  const picture = byId("picture"), toggle = byId("toggle");
  if (on && picture.hidden) picture.src = "/picture?" + Date.now();
  if (!on && !picture.hidden) picture.removeAttribute("src");
  picture.hidden = !on;
  picture.alt = text("pictureOf");
  byId("no-picture").hidden = on;
  byId("no-picture").textContent = text(allowed ? "noPicture" : "notAllowed");
  toggle.hidden = !allowed;
  toggle.setAttribute("aria-pressed", wanted);
  toggle.textContent = text(wanted ? "hide" : "show");
}

async function fetched(path) {
  try {
    const answer = await fetch(path);
    return answer.ok ? await answer.json() : null;
  } catch { return null; }
}

async function look() {
  history = (await fetched("/api/history")) ?? history;
  showHistory();
}

let model = "";
function arrived(event) {
  now = JSON.parse(event.data);
  showNow(); showPicture();
  if (now.runs && now.model !== model) { model = now.model; fetched("/api/model").then((found) => { card = found; showCard(); }); }
}

for (const button of document.querySelectorAll("[data-language]")) button.addEventListener("click", () => chooseLanguage(button.dataset.language));
byId("toggle").addEventListener("click", () => { wanted = !wanted; showPicture(); });
byId("picture").addEventListener("error", () => { if (wanted) { byId("picture").hidden = true; setTimeout(showPicture, 2000); } });
document.addEventListener("visibilitychange", showPicture);
const stream = new EventSource("/api/live");
stream.addEventListener("message", arrived);
stream.addEventListener("error", () => { now = null; showNow(); showPicture(); });
chooseLanguage(language);
look();
setInterval(look, 15000);
