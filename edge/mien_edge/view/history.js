"use strict";

// What the log's minutes say of the last hour, day, week or four weeks: a chart with scales, a key
// with shares, tables. A span of time is { time, seconds, faces }; `seconds` are face-seconds by
// label.

const MARGIN = { left: 40, right: 8, top: 8, bottom: 22 }; // CSS pixels about the chart
const TICK_DISTANCE = 64; // between two times on the axis, at least
const DAY_MINUTES = 1440;
const TICK_MINUTES = {
  hour: [10, 20, 30],
  day: [120, 240, 360, 720],
  week: [DAY_MINUTES, 2 * DAY_MINUTES, 4 * DAY_MINUTES],
  month: [2 * DAY_MINUTES, 4 * DAY_MINUTES, 7 * DAY_MINUTES, 14 * DAY_MINUTES],
};
const TICK_FORMATS = {
  hour: { hour: "2-digit", minute: "2-digit", hourCycle: "h23" },
  day: { hour: "2-digit", minute: "2-digit", hourCycle: "h23" },
  week: { weekday: "short", day: "numeric" },
  month: { month: "short", day: "numeric" },
};

function totalSeconds(seconds) {
  return Object.values(seconds).reduce((sum, value) => sum + value, 0);
}

function secondsOf(label, seconds) {
  return Object.hasOwn(seconds, label) ? seconds[label] : 0;
}

// The labels of the running model and of the models of that time, then faces without one.
function shownLabels() {
  return [...history.labels, NO_LABEL];
}

function sumSpans(spans) {
  const sums = {};
  for (const span of spans) {
    for (const [label, value] of Object.entries(span.seconds)) {
      sums[label] = secondsOf(label, sums) + value;
    }
  }
  return sums;
}

function shareOf(label, seconds) {
  return secondsOf(label, seconds) / (totalSeconds(seconds) || 1);
}

function showHistory() {
  showSpanButtons();
  if (history === null) {
    return;
  }
  const sums = sumSpans(history.spans);
  showTimeline(sums);
  showKey(sums);
  showTable();
  showShares(sums);
  showEvents();
}

function spanButtons() {
  return document.querySelectorAll("[data-span]");
}

function showSpanButtons() {
  for (const button of spanButtons()) {
    button.setAttribute("aria-pressed", button.dataset.span === spanName);
  }
}

// --- the chart -----------------------------------------------------------------------------------

// The chart is drawn in CSS pixels, so that its letters keep their size.
function showTimeline(sums) {
  const svg = byId("timeline");
  const width = svg.clientWidth;
  const height = svg.clientHeight;
  const plot = {
    left: MARGIN.left,
    right: width - MARGIN.right,
    top: MARGIN.top,
    bottom: height - MARGIN.bottom,
    start: history.now - history.length,
    highest: niceCeiling(Math.max(0, ...history.spans.map(averageFaces))),
  };
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren(
    ...createFaceScale(plot),
    ...createTimeScale(plot),
    ...history.spans.map((span) => createStack(span, plot)),
  );
  svg.setAttribute("aria-label", history.spans.length ? describeShares(sums) : text("noHistory"));
  byId("no-history").hidden = history.spans.length > 0;
}

// Faces at a time, on average over a span.
function averageFaces(span) {
  return totalSeconds(span.seconds) / history.step;
}

// The smallest of some round numbers that is not below `value`; 1 for nothing.
function niceCeiling(value) {
  if (value <= 0) {
    return 1;
  }
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 3, 4, 6, 8, 10].map((factor) => factor * power).find((nice) => nice >= value * 0.999);
}

function xOf(time, plot) {
  return plot.left + ((time - plot.start) / history.length) * (plot.right - plot.left);
}

function yOf(faces, plot) {
  return plot.bottom - (faces / plot.highest) * (plot.bottom - plot.top);
}

function createFaceScale(plot) {
  return [0, plot.highest / 2, plot.highest].flatMap((faces) => {
    const y = yOf(faces, plot);
    const line = { x1: plot.left, x2: plot.right, y1: y, y2: y, class: "grid" };
    const label = { x: plot.left - 6, y: y + 4, class: "tick", "text-anchor": "end" };
    return [createSvg("line", line), createSvg("text", label, formatNumber(faces))];
  });
}

function formatNumber(number) {
  return number.toLocaleString(language, { maximumSignificantDigits: 2 });
}

function createTimeScale(plot) {
  return tickTimes(plot).flatMap((time) => {
    const x = xOf(time, plot);
    const line = { x1: x, x2: x, y1: plot.bottom, y2: plot.bottom + 4, class: "grid" };
    const label = { x, y: plot.bottom + 17, class: "tick", "text-anchor": "middle" };
    return [createSvg("line", line), createSvg("text", label, formatTick(time))];
  });
}

// Round times of the page's zone, as many as have room: midnights, hours, tens of minutes.
function tickTimes(plot) {
  const room = (plot.right - plot.left) / TICK_DISTANCE;
  const steps = TICK_MINUTES[history.span];
  const isRoomy = (minutes) => history.length / 60 / minutes <= room;
  const step = steps.find(isRoomy) ?? steps.at(-1);
  const times = [];
  const time = new Date(plot.start * 1000);
  time.setHours(0, 0, 0, 0);
  while (time / 1000 <= history.now) {
    const x = xOf(time / 1000, plot);
    if (x >= plot.left && x <= plot.right - TICK_DISTANCE / 3) {
      times.push(time / 1000);
    }
    time.setMinutes(time.getMinutes() + step);
  }
  return times;
}

function formatTick(seconds) {
  return new Date(seconds * 1000).toLocaleString(language, TICK_FORMATS[history.span]);
}

function createStack(span, plot) {
  const left = Math.max(xOf(span.time, plot), plot.left);
  const right = Math.min(xOf(span.time + history.step, plot), plot.right);
  const width = Math.max((right - left) * 0.95, 0);
  const stack = createSvg("g", {}, createSvg("title", {}, describeSpan(span)));
  let faces = 0;
  for (const label of shownLabels().filter((name) => secondsOf(name, span.seconds))) {
    const bottom = yOf(faces, plot);
    faces += secondsOf(label, span.seconds) / history.step;
    const y = yOf(faces, plot);
    stack.append(createLabelRect(label, { x: left, y, width, height: bottom - y }));
  }
  return stack;
}

function describeSpan(span) {
  return `${formatSpan(span)}: ${describeShares(span.seconds)}`;
}

// Begin and end of a span; the end without its date.
function formatSpan(span) {
  const format = spanName === "hour" ? formatTime : formatDateTime;
  return `${format(span.time)}–${formatTime(span.time + history.step)}`;
}

function describeShares(seconds) {
  const labels = shownLabels().filter((label) => secondsOf(label, seconds));
  const shares = labels.map((label) => `${labelText(label)} ${formatShare(shareOf(label, seconds))}`);
  return shares.join(", ");
}

// --- key and tables ------------------------------------------------------------------------------

function showKey(sums) {
  setContent("key", ...shownLabels().map((label) => createKeyItem(label, sums)));
}

function createKeyItem(label, sums) {
  const square = createLabelRect(label, { width: 10, height: 10 });
  const svg = createSvg("svg", { viewBox: "0 0 10 10" }, square);
  const share = createElement("span", { class: "share" }, formatShare(shareOf(label, sums)));
  return createElement("li", {}, svg, `${labelText(label)} `, share);
}

function showTable() {
  const caption = createElement("caption", { class: "visually-hidden" }, text("faceMinutes"));
  const labels = shownLabels().map((label) => createColumnHeader(labelText(label)));
  const head = createTableHead([createColumnHeader(text("time")), ...labels]);
  const newestFirst = history.spans.slice().reverse();
  const body = createElement("tbody", {}, ...newestFirst.map(createSpanRow));
  setContent("table", caption, head, body);
}

function createSpanRow(span) {
  const minutes = shownLabels().map((label) => formatMinutes(secondsOf(label, span.seconds)));
  return createRow([createRowHeader(formatSpan(span)), ...minutes.map(createNumberCell)]);
}

function formatMinutes(seconds) {
  return seconds ? (seconds / 60).toFixed(1) : "";
}

function showShares(sums) {
  const head = createTableHead([
    createColumnHeader(text("label")),
    createColumnHeader(text("share"), { colspan: 2 }),
    createColumnHeader(text("faceMinutes"), { class: "number" }),
  ]);
  const rows = shownLabels().map((label) => createShareRow(label, sums));
  setContent("shares", head, createElement("tbody", {}, ...rows));
}

function createShareRow(label, sums) {
  const share = shareOf(label, sums);
  return createRow([
    createRowHeader(labelText(label)),
    createElement("td", { class: "bar" }, createBar(share, label)),
    createNumberCell(formatShare(share)),
    createNumberCell(formatMinutes(secondsOf(label, sums))),
  ]);
}

// --- events --------------------------------------------------------------------------------------

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
  return createElement("li", {}, time, `${text(event.kind)}: `, createSentence(event.text));
}
