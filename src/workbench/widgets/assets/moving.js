// How a threshold is moved: dragged on a canvas, stepped with keys, typed; and what is drawn along the way.

/** The shortest decimal that is the same binary32. */
function shortest(value) {
  const single = Math.fround(value);
  for (let digits = 1; digits <= 9; digits += 1) {
    const text = Number(single.toPrecision(digits));
    if (Math.fround(text) === single) return String(text);
  }
  return String(single);
}

/** The place of the value nearest to `wanted` among rising ones (falling ones: sign −1), else −1; of two the first. */
function nearestPlace(values, wanted, sign = 1) {
  let low = 0;
  let high = values.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sign * values[middle] < sign * wanted) low = middle + 1;
    else high = middle;
  }
  if (low === values.length) return low - 1;
  return low > 0 && Math.abs(wanted - values[low - 1]) < Math.abs(values[low] - wanted) ? low - 1 : low;
}

/** The place of the point (x(place), y(place)) nearest to where the pointer is, else −1. */
function nearestPoint(many, x, y, { offsetX, offsetY }) {
  let found = -1;
  let least = Infinity;
  for (let place = 0; place < many; place += 1) {
    const away = (x(place) - offsetX) ** 2 + (y(place) - offsetY) ** 2;
    if (away < least) {
      least = away;
      found = place;
    }
  }
  return found;
}

/** A canvas to drag on. `on` has grab(event), drag(event, keep), drop(), cancel(), step(by), toEnd(last). */
function makeSlider(session, attributes, draw, on) {
  const sheet = new Sheet(session, { role: "slider", tabindex: 0, "aria-valuemin": 0, ...attributes }, draw);
  const { canvas } = sheet;
  let held = false;
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    canvas.focus({ preventScroll: true });
    held = true;
    on.grab(event);
    on.drag(event, false);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (held) on.drag(event, false);
  });
  canvas.addEventListener("pointerup", (event) => {
    if (!held) return;
    held = false;
    on.drag(event, true);
    on.drop();
  });
  canvas.addEventListener("pointercancel", () => {
    if (!held) return;
    held = false;
    on.cancel();
  });
  canvas.addEventListener("keydown", (event) => {
    const far = event.shiftKey ? 10 : 1;
    const steps = { ArrowLeft: -far, ArrowDown: -far, ArrowRight: far, ArrowUp: far, PageDown: -10, PageUp: 10 };
    const ends = { Home: false, End: true };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in steps) on.step(steps[event.key]);
    else if (event.key in ends) on.toEnd(ends[event.key]);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  return sheet;
}

/** Where a threshold is typed. `parse(text)` gives the value or throws what is wrong; `show()` writes what holds. */
function makeField(session, attributes, { parse, take, show }) {
  const taken = () => {
    if (!("typing" in input.dataset)) return;
    let value;
    try {
      value = parse(input.value.trim().replace(",", "."));
    } catch ({ message }) {
      input.setAttribute("aria-invalid", "true");
      session.showError(message);
      return;
    }
    delete input.dataset.typing;
    session.showError("");
    take(value);
  };
  const input = make("input", {
    inputmode: "decimal", size: 11, ...attributes, onchange: taken,
    oninput: () => { input.dataset.typing = ""; },
    onkeydown: (event) => {
      if (event.key !== "Escape" && event.key !== "Enter") return;
      event.preventDefault();
      event.stopPropagation();
      if (event.key === "Enter") taken();
      else {
        delete input.dataset.typing;
        session.showError("");
      }
      show();
    },
  });
  return input;
}

/** Shows a value in a field; what is being typed stands until it is taken, mended or given up. */
function showField(input, text) {
  if ("typing" in input.dataset) return;
  input.value = text;
  input.removeAttribute("aria-invalid");
}

/** Calls the action of a letter, of z and y also with Ctrl; never while somebody types. */
function onLetters(root, actions) {
  root.addEventListener("keydown", (event) => {
    const control = event.ctrlKey || event.metaKey;
    const key = event.key.toLowerCase();
    const known = control ? key === "z" || key === "y" : key in actions;
    if (event.target.closest("input, select, textarea, dialog") || event.altKey || !known) return;
    event.preventDefault();
    event.stopPropagation();
    actions[key](event);
  });
}

/** The keys of a widget, folded away: [key, what it does]. */
function listKeys(keys) {
  const rows = keys.map(([key, words]) => make("tr", {}, make("th", { scope: "row" }, make("kbd", {}, key)), make("td", {}, words)));
  return make("details", { class: "wb-soft wb-keys" }, make("summary", {}, "Keys"), make("table", {}, ...rows));
}

// Drawing

const TICKS = [0, 0.25, 0.5, 0.75, 1];
const TICK_FONT = "11px system-ui, sans-serif";

/** What does not move is drawn once and kept as a picture. */
class Layers {
  constructor() {
    this.kept = new Map();
  }

  draw(name, of, context, width, height, draw) {
    const key = `${width}×${height}·${context.canvas.width}·${of}`;
    if (this.kept.get(name)?.key !== key) {
      const canvas = document.createElement("canvas");
      canvas.width = context.canvas.width;
      canvas.height = context.canvas.height;
      const own = canvas.getContext("2d");
      own.scale(canvas.width / width, canvas.height / height);
      draw(own);
      this.kept.set(name, { key, canvas });
    }
    context.drawImage(this.kept.get(name).canvas, 0, 0, width, height);
  }
}

/** The unit square in a frame [left, right, top, bottom]: lines and numbers of quarters, and what the axes are. */
function drawUnitSquare(context, colours, [left, right, top, bottom], xLabel, yLabel) {
  context.font = TICK_FONT;
  context.lineWidth = 1;
  for (const tick of TICKS) {
    const [x, y] = [left + (right - left) * tick, bottom - (bottom - top) * tick];
    context.strokeStyle = colours.line;
    context.beginPath();
    context.moveTo(x, top);
    context.lineTo(x, bottom);
    context.moveTo(left, y);
    context.lineTo(right, y);
    context.stroke();
    context.fillStyle = colours.soft;
    context.textAlign = "center";
    context.fillText(String(tick), x, bottom + 14);
    context.textAlign = "right";
    context.fillText(String(tick), left - 6, y + 4);
  }
  context.fillText(xLabel, right, bottom + 28);
  context.save();
  context.translate(11, top);
  context.rotate(-Math.PI / 2);
  context.fillText(yLabel, 0, 0);
  context.restore();
}

/** Counts of several sides on top of each other, on a logarithmic scale; ticks up to `end`. */
function drawBars(context, colours, [left, right, top, bottom], sides, fills, end = 1) {
  const bins = sides[0].length;
  let most = 1;
  for (let bin = 0; bin < bins; bin += 1) most = Math.max(most, sides.reduce((sum, side) => sum + side[bin], 0));
  const y = (count) => bottom - ((bottom - top) * Math.log1p(count)) / Math.log1p(most);
  const wide = (right - left) / bins;
  context.strokeStyle = colours.soft;
  context.lineWidth = 0.6;
  for (let bin = 0; bin < bins; bin += 1) {
    let below = 0;
    sides.forEach((side, kind) => {
      if (!side[bin]) return;
      const [low, high] = [y(below), y(below + side[bin])];
      context.fillStyle = fills[kind];
      context.fillRect(left + bin * wide, high, wide - 1, low - high);
      if (kind) context.strokeRect(left + bin * wide, high, wide - 1, low - high);
      below += side[bin];
    });
  }
  context.fillStyle = colours.soft;
  context.font = TICK_FONT;
  for (const tick of TICKS) {
    context.textAlign = tick === 1 ? "right" : tick === 0 ? "left" : "center";
    context.fillText(String(Number((tick * end).toPrecision(3))), left + (right - left) * tick, bottom + 14);
  }
  context.textAlign = "right";
  context.fillText(most.toLocaleString("en"), left - 6, top + 9);
  context.fillText("0", left - 6, bottom);
}

/**
 * A curve as stairs (nothing between two points is interpolated) through at most `most` of `many` points.
 * `at(place)` gives [x, y]; a point that is NaN is left out. Gives the last y, null if there was none.
 */
function traceStairs(context, many, at, most = Infinity) {
  const stride = Math.max(1, Math.ceil(many / most));
  context.beginPath();
  let before = null;
  const go = (place) => {
    const [x, y] = at(place);
    if (Number.isNaN(x) || Number.isNaN(y)) return;
    if (before === null) context.moveTo(x, y);
    else {
      context.lineTo(x, before);
      context.lineTo(x, y);
    }
    before = y;
  };
  for (let place = 0; place < many - 1; place += stride) go(place);
  if (many) go(many - 1);
  return before;
}

const MARKS = {
  diamond: [[0, -1.25], [1.25, 0], [0, 1.25], [-1.25, 0]], square: [[-1, -1], [1, -1], [1, 1], [-1, 1]],
  up: [[0, -1.2], [1.1, 0.9], [-1.1, 0.9]], down: [[0, 1.2], [1.1, -0.9], [-1.1, -0.9]],
};

/** A mark that is told by its shape as well. */
function drawMark(context, shape, x, y, size, colours, filled) {
  context.beginPath();
  if (shape === "circle") context.arc(x, y, size, 0, 2 * Math.PI);
  else MARKS[shape].forEach(([dx, dy], place) => context[place ? "lineTo" : "moveTo"](x + dx * size, y + dy * size));
  context.closePath();
  context.fillStyle = filled ? colours.second : colours.ground;
  context.fill();
  context.strokeStyle = filled ? colours.ground : colours.second;
  context.lineWidth = 1.5;
  context.stroke();
}

const HATCHES = new Map();

/** A pattern that tells without colour: "lines" or "dots". */
function hatch(context, colour, kind) {
  const key = `${colour} ${kind}`;
  if (!HATCHES.has(key)) {
    const tile = document.createElement("canvas");
    tile.width = 6;
    tile.height = 6;
    const own = tile.getContext("2d");
    own.strokeStyle = colour;
    own.fillStyle = colour;
    if (kind === "dots") own.fillRect(2, 2, 2, 2);
    else {
      own.beginPath();
      for (const at of [-6, 0, 6]) {
        own.moveTo(at, 6);
        own.lineTo(at + 6, 0);
      }
      own.stroke();
    }
    HATCHES.set(key, tile);
  }
  return context.createPattern(HATCHES.get(key), "repeat");
}

/** A dashed line at a goal: across at `y`, or down at `x`, with its words. */
function drawGoal(context, colours, [left, right, top, bottom], { x, y, words }) {
  context.strokeStyle = colours.soft;
  context.fillStyle = colours.soft;
  context.font = TICK_FONT;
  context.setLineDash([3, 3]);
  context.beginPath();
  if (y !== undefined) {
    context.moveTo(left, y);
    context.lineTo(right, y);
  } else {
    context.moveTo(x, top);
    context.lineTo(x, bottom);
  }
  context.stroke();
  context.setLineDash([]);
  context.textAlign = "right";
  if (y !== undefined) context.fillText(words, right - 4, y - 4);
  else {
    context.textAlign = x < (left + right) / 2 ? "left" : "right";
    context.fillText(words, x + (x < (left + right) / 2 ? 4 : -4), top + 10);
  }
}
