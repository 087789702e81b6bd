"use strict";

// Where a face's panel goes: `mien_edge.chain.panels.place_panels` in JavaScript. A test compares
// them on the same cases.

const MAX_OWN_SHARE = 0.125; // of its own face that a panel may cover
const MAX_OWN_SHARE_FLAT = 0.25; // for a flat one
const ROUNDING = 1e-6; // of a panel's area

// Give each face's panel a place, as large as there is room for.
//
// Boxes are { x, y, width, height }. `sizes` are those of each face's panel, from the richest to the
// poorest, { width, height }; `gap` is the distance between a face and its panel. Returns a place
// for each face, { choice, box }: the index of its size, and where it lies.
function placePanels(faces, sizes, picture, gap) {
  const places = faces.map(() => null);
  const steps = Math.max(0, ...sizes.map((choices) => choices.length));
  for (let step = 1; step <= steps; step += 1) {
    faces.forEach((face, index) => {
      const choice = sizes[index].length - step;
      if (choice < 0) {
        return;
      }
      const size = sizes[index][choice];
      const neighbours = faces.filter((_, number) => number !== index);
      const others = places.filter((place, number) => place !== null && number !== index);
      const obstacles = [...neighbours, ...others.map((place) => place.box)];
      let box = freeBox(face, size, picture, gap, obstacles);
      if (box === null && step === 1) {
        box = leastCovering(face, size, picture, gap, obstacles);
      }
      if (box !== null) {
        places[index] = { choice, box };
      }
    });
  }
  return places.filter((place) => place !== null);
}

function freeBox(face, size, picture, gap, obstacles) {
  const whole = { x: 0, y: 0, ...picture };
  const outside = placesOutside(face, size, picture, gap).find(
    (box) => covered(box, [...obstacles, face]) === 0 && isInside(box, whole),
  );
  if (outside) {
    return outside;
  }
  const visible = intersection(face, whole);
  const share = isFlat(size) ? MAX_OWN_SHARE_FLAT : MAX_OWN_SHARE;
  const isSmall = (box) => areaOf(box) <= areaOf(visible) * share;
  const inside = placesInCorners(visible, size).find(
    (box) => isSmall(box) && covered(box, obstacles) === 0 && isInside(box, visible),
  );
  return inside ?? null;
}

// The places around a face: a flat panel is first tried above, a tall one at the right.
function placesOutside(face, size, picture, gap) {
  const lefts = alignments(face.x, face.width, size.width);
  const tops = alignments(face.y, face.height, size.height);
  const xs = lefts.map((x) => clamp(x, picture.width - size.width));
  const ys = tops.map((y) => clamp(y, picture.height - size.height));
  const above = xs.map((x) => ({ x, y: face.y - gap - size.height, ...size }));
  const below = xs.map((x) => ({ x, y: face.y + face.height + gap, ...size }));
  const right = ys.map((y) => ({ x: face.x + face.width + gap, y, ...size }));
  const left = ys.map((y) => ({ x: face.x - gap - size.width, y, ...size }));
  const flatOrder = [...above, ...below, ...right, ...left];
  return isFlat(size) ? flatOrder : [...right, ...left, ...below, ...above];
}

function isFlat(size) {
  return size.width > 2 * size.height;
}

// Where a panel begins that is flush with a face's begin, with its end, or centred.
function alignments(start, length, panel) {
  return [start, start + length - panel, start + (length - panel) / 2];
}

function placesInCorners(area, size) {
  const right = area.x + area.width - size.width;
  const bottom = area.y + area.height - size.height;
  return [area.y, bottom].flatMap((y) => [area.x, right].map((x) => ({ x, y, ...size })));
}

function leastCovering(face, size, picture, gap, obstacles) {
  const candidates = [
    ...placesOutside(face, size, picture, gap),
    ...placesInCorners(face, size),
  ].map((box) => ({
    x: clamp(box.x, picture.width - box.width),
    y: clamp(box.y, picture.height - box.height),
    ...size,
  }));
  const areas = candidates.map((box) => covered(box, obstacles));
  return candidates[areas.indexOf(Math.min(...areas))];
}

function isInside(box, area) {
  return areaOf(box) - areaOf(intersection(box, area)) <= ROUNDING * areaOf(box);
}

// Square pixels of the obstacles that a box covers.
function covered(box, obstacles) {
  return obstacles.reduce((sum, obstacle) => sum + areaOf(intersection(box, obstacle)), 0);
}

function intersection(first, second) {
  const x = Math.max(first.x, second.x);
  const y = Math.max(first.y, second.y);
  const right = Math.min(first.x + first.width, second.x + second.width);
  const bottom = Math.min(first.y + first.height, second.y + second.height);
  return { x, y, width: Math.max(right - x, 0), height: Math.max(bottom - y, 0) };
}

function areaOf(box) {
  return box.width * box.height;
}

// The nearest number to `value` from 0 to `high`; 0 where `high` is negative.
function clamp(value, high) {
  return Math.max(Math.min(value, high), 0);
}

if (typeof module === "object") {
  module.exports = { placePanels }; // for tests
}
