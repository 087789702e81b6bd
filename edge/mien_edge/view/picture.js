"use strict";

// The live picture: a stream of JPEGs, each with what was read in it, drawn in the language and the
// size of whoever looks. Uses place.js.

const TITLE_FONT = "600 14px system-ui, sans-serif";
const BAR_FONT = "12px system-ui, sans-serif";
const TITLE_HEIGHT = 22; // all sizes are CSS pixels of the page
const PAD = 6;
const GAP = 3; // between a face and its panel
const BAR_ROW = 16;
const BAR_LENGTH = 60;
const PANEL_GROUND = "rgba(15, 15, 14, .72)";
const PANEL_INK = "#fff";
const DARK_INK = "#000";
const LIGHT_INK = "#fff";
const END_OF_HEADERS = [13, 10, 13, 10];

class PictureRefused extends Error {}

// Call `onPicture(jpeg, faces)` for each picture of the stream, a Blob and a list of faces, until
// the stream ends. Throws PictureRefused where there is none, and other errors when it breaks.
async function readPictures(signal, onPicture) {
  const response = await fetch(`/picture?${Date.now()}`, { signal });
  if (!response.ok) {
    throw new PictureRefused(response.status);
  }
  const reader = response.body.getReader();
  let bytes = new Uint8Array(0);
  for (;;) {
    const { done, value } = await reader.read();
    if (done) {
      return;
    }
    bytes = joined(bytes, value);
    for (let part = takePart(bytes); part; part = takePart(bytes)) {
      bytes = part.rest;
      await onPicture(new Blob([part.jpeg], { type: "image/jpeg" }), part.faces);
    }
  }
}

function joined(first, second) {
  const bytes = new Uint8Array(first.length + second.length);
  bytes.set(first);
  bytes.set(second, first.length);
  return bytes;
}

// The first part of a multipart stream, and what comes after it; null while it is not whole.
function takePart(bytes) {
  const start = bytes.findIndex((_, index) => END_OF_HEADERS.every((b, i) => bytes[index + i] === b));
  if (start < 0) {
    return null;
  }
  const headers = new TextDecoder().decode(bytes.subarray(0, start));
  const length = Number(/^Content-Length: (\d+)/m.exec(headers)[1]);
  const body = start + END_OF_HEADERS.length;
  const end = body + length + 2; // a line break follows
  if (bytes.length < end) {
    return null;
  }
  const faces = JSON.parse(/^Faces: (.*)$/m.exec(headers)[1]);
  return { jpeg: bytes.slice(body, body + length), faces, rest: bytes.slice(end) };
}

// Draw a picture and its faces on a canvas that is as large as its parent allows.
async function drawPicture(canvas, jpeg, faces) {
  const bitmap = await createImageBitmap(jpeg);
  const stage = canvas.parentElement;
  stage.style.aspectRatio = `${Math.max(bitmap.width / bitmap.height, 3 / 4)}`;
  canvas.hidden = false;
  const scale = Math.min(stage.clientWidth / bitmap.width, stage.clientHeight / bitmap.height);
  const width = Math.round(bitmap.width * scale);
  const height = Math.round(bitmap.height * scale);
  canvas.width = Math.round(width * devicePixelRatio);
  canvas.height = Math.round(height * devicePixelRatio);
  const context = canvas.getContext("2d");
  context.scale(devicePixelRatio, devicePixelRatio);
  context.drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  drawFaces(context, faces, width, height);
}

function drawFaces(context, faces, width, height) {
  const boxes = faces.map((face) => scaledBox(face.box, width, height));
  const panels = faces.map((face) => createPanels(context, face));
  const places = placePanels(boxes, panels, { width, height }, GAP);
  faces.forEach((face, index) => drawBox(context, boxes[index], faceColour(face)));
  faces.forEach((face, index) => {
    const { choice, box } = places[index];
    drawPanel(context, box, panels[index][choice], face);
  });
}

function scaledBox([x, y, boxWidth, boxHeight], width, height) {
  return { x: x * width, y: y * height, width: boxWidth * width, height: boxHeight * height };
}

function faceColour(face) {
  return colourOf(face.label || NO_LABEL);
}

// The ink that is easier to read on a colour, '#rrggbb': by its relative luminance (WCAG 2.2).
function inkOn(colour) {
  const channels = [1, 3, 5].map((start) => parseInt(colour.slice(start, start + 2), 16) / 255);
  const linear = channels.map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
  const luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  return luminance < 0.179 ? LIGHT_INK : DARK_INK;
}

function drawBox(context, box, colour) {
  context.strokeStyle = colour;
  context.lineWidth = 2;
  context.strokeRect(box.x, box.y, box.width, box.height);
}

// --- panels --------------------------------------------------------------------------------------
// A panel is { width, height, title, hasBars }.

// The panels that a face may have, from the richest to the poorest: title and bars, title, number.
// What is left out stands beside the picture, in the list of faces.
function createPanels(context, face) {
  const titled = createTitle(context, formatTitle(face));
  const numbered = createTitle(context, `${face.track}`);
  if (!face.scores) {
    return [titled, numbered];
  }
  const labels = scoredLabels(face.scores);
  const barsWidth = namesWidth(context, labels) + BAR_LENGTH + 3 * PAD;
  const barsHeight = BAR_ROW * labels.length + 2 * PAD;
  const width = Math.max(titled.width, barsWidth);
  const height = titled.height + barsHeight;
  return [{ ...titled, width, height, hasBars: true }, titled, numbered];
}

function createTitle(context, words) {
  const width = textWidth(context, TITLE_FONT, words) + 2 * PAD;
  return { width, height: TITLE_HEIGHT, title: words, hasBars: false };
}

function formatTitle(face) {
  const confidence = face.label && face.confidence !== null ? formatShare(face.confidence) : "";
  return `${face.track} ${formatVerdict(face)} ${confidence}`.trim();
}

function textWidth(context, font, words) {
  context.font = font;
  return Math.ceil(context.measureText(words).width);
}

function namesWidth(context, labels) {
  return Math.max(...labels.map((label) => textWidth(context, BAR_FONT, labelText(label))));
}

function drawPanel(context, box, panel, face) {
  context.textBaseline = "middle";
  const colour = faceColour(face);
  context.fillStyle = colour;
  context.fillRect(box.x, box.y, box.width, TITLE_HEIGHT);
  context.fillStyle = inkOn(colour);
  context.font = TITLE_FONT;
  context.fillText(panel.title, box.x + PAD, box.y + TITLE_HEIGHT / 2);
  if (panel.hasBars) {
    context.fillStyle = PANEL_GROUND;
    context.fillRect(box.x, box.y + TITLE_HEIGHT, box.width, box.height - TITLE_HEIGHT);
    const labels = scoredLabels(face.scores);
    const left = box.x + namesWidth(context, labels) + 2 * PAD;
    labels.forEach((label, row) => {
      const top = box.y + TITLE_HEIGHT + PAD + row * BAR_ROW;
      drawName(context, box.x + PAD, top, label);
      drawBar(context, left, top, label, face.scores[label]);
    });
  }
}

function drawName(context, left, top, label) {
  context.font = BAR_FONT;
  context.fillStyle = PANEL_INK;
  context.fillText(labelText(label), left, top + BAR_ROW / 2);
}

function drawBar(context, left, top, label, score) {
  const length = Math.max(BAR_LENGTH * score, 1);
  context.fillStyle = colourOf(label);
  context.fillRect(left, top + 3, length, BAR_ROW - 6);
}
