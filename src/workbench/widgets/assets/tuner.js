// The threshold tuner. What is drawn while a threshold is dragged comes from points that were sent once, each of them
// exact; everything else (intervals, what is mistaken and missed, load, cost) comes from the kernel a moment later.

const SHAPES = ["circle", "diamond", "square", "up", "down"];
const SYMBOLS = { circle: "●", diamond: "◆", square: "■", up: "▲", down: "▼" };

/** The shortest decimal that is the same binary32. */
function shortest(value) {
  const single = Math.fround(value);
  for (let digits = 1; digits <= 9; digits += 1) {
    const text = Number(single.toPrecision(digits));
    if (Math.fround(text) === single) return String(text);
  }
  return String(single);
}

/** The place of the value nearest to `wanted` among rising ones; −1 where there are none. */
function nearestPlace(rising, wanted) {
  let low = 0;
  let high = rising.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (rising[middle] < wanted) low = middle + 1;
    else high = middle;
  }
  if (low === rising.length) return low - 1;
  return low > 0 && wanted - rising[low - 1] < rising[low] - wanted ? low - 1 : low;
}

/** A curve's columns, as views of the bytes that hold them all. */
function unpackCurve(buffer, place, bins) {
  const { start, count, positives } = place;
  const column = (Type, number) => new Type(buffer, 4 * (start + number * count), count);
  return {
    thresholds: column(Float32Array, 0),
    right: column(Int32Array, 1),
    wrong: column(Int32Array, 2),
    precision: column(Float32Array, 3),
    recall: column(Float32Array, 4),
    histogram: new Uint32Array(buffer, 4 * (start + 5 * count), 3 * bins),
    positives,
    complete: place.complete,
  };
}

class Tuner {
  constructor(session) {
    this.session = session;
    this.model = session.model;
    this.spec = this.model.get("_spec");
    const bytes = this.model.get("_points");
    const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
    this.curves = this.spec.curves.map((place) => unpackCurve(buffer, place, this.spec.bins));
    this.others = this.spec.other_curves.map((place) => unpackCurve(buffer, place, this.spec.bins));
    this.tiersOf = new Map(this.spec.categories.map((name) => [name, []]));
    this.spec.tiers.forEach((tier, number) => this.tiersOf.get(tier.category).push(number));
    this.named = this.spec.categories.filter((name) => this.tiersOf.get(name).length);
    this.queue = [];
    this.busy = false;
    this.acting = 0;
    this.takeState();
    this.build();
    const changed = () => this.onState();
    this.model.on("change:_state", changed);
    session.stops.push(() => this.model.off("change:_state", changed));
    session.redraw = () => this.drawAll();
    this.showCategory();
    this.showState();
    this.refreshPictures();
  }

  // What holds

  takeState() {
    this.state = this.model.get("_state");
    const moving = new Set(this.queue.map((move) => move.tier));
    if (this.dragging !== undefined) moving.add(this.dragging);
    const before = this.thresholds;
    this.thresholds = this.state.thresholds.map((limit, number) => (moving.has(number) ? before[number] : limit));
    if (this.tier === undefined || !moving.size) this.tier = this.state.looked_at;
  }

  get category() {
    return this.spec.tiers[this.tier].category;
  }

  curveOf(number) {
    return this.curves[this.spec.tiers[number].curve];
  }

  /** The place on its curve of a tier's threshold, where it is one of the points; else −1. */
  placeOf(number) {
    const limit = this.thresholds[number];
    if (limit === null) return -1;
    const { thresholds } = this.curveOf(number);
    const place = nearestPlace(thresholds, Math.fround(limit));
    return place >= 0 && thresholds[place] === Math.fround(limit) ? place : -1;
  }

  /** {recall, precision, right, wrong} at a tier's threshold: from its curve, or what the kernel said last. */
  pointOf(number) {
    const limit = this.thresholds[number];
    if (limit === null) return null;
    const curve = this.curveOf(number);
    const place = this.placeOf(number);
    if (place >= 0) {
      return {
        recall: curve.recall[place],
        precision: curve.precision[place],
        right: curve.right[place],
        wrong: curve.wrong[place],
      };
    }
    const exact = this.exactOf(number);
    if (!exact) return null;
    const precision = (exact.in_production ?? exact.precision)[0];
    return { recall: exact.recall[0], precision, right: exact.true_positives, wrong: exact.false_positives };
  }

  /** What the kernel said of a tier, if it said it of the threshold that stands now. */
  exactOf(number) {
    const exact = this.state.points[number];
    const limit = this.thresholds[number];
    if (!exact || limit === null) return null;
    return Math.fround(exact.threshold) === Math.fround(limit) ? exact : null;
  }

  // Moving

  /** Moves a threshold at once here, and then in the kernel; moves of one drag that nobody has seen yet are dropped. */
  move(number, limit, keep) {
    this.thresholds[number] = limit;
    const last = this.queue[this.queue.length - 1];
    if (last && last.tier === number && !last.keep && !last.sent) this.queue.pop();
    this.queue.push({ tier: number, threshold: limit, keep, sent: false });
    this.figures.classList.add("wb-tuner-stale"); // also the load, which every tier moves
    this.pump();
    this.drawMoved();
  }

  pump() {
    if (this.busy || !this.queue.length) return;
    this.busy = true;
    const [move] = this.queue;
    move.sent = true;
    const done = () => {
      this.queue.shift();
      this.busy = false;
      if (this.queue.length) this.pump();
      else this.onState();
      if (move.keep) this.refreshPictures();
    };
    this.session.ask("move", { tier: move.tier, threshold: move.threshold, keep: move.keep }).then(done, done);
  }

  step(by) {
    const { thresholds } = this.curveOf(this.tier);
    if (!thresholds.length) return;
    const limit = this.thresholds[this.tier];
    const place = limit === null ? thresholds.length : nearestPlace(thresholds, Math.fround(limit));
    const next = Math.min(thresholds.length - 1, Math.max(0, place + by));
    this.move(this.tier, thresholds[next], true);
    this.announce();
  }

  toEnd(last) {
    const { thresholds } = this.curveOf(this.tier);
    if (thresholds.length) this.move(this.tier, thresholds[last ? thresholds.length - 1 : 0], true);
    this.announce();
  }

  async act(name, content = {}) {
    this.acting += 1;
    this.figures.classList.add("wb-tuner-stale");
    try {
      const { content: told } = await this.session.ask(name, content);
      this.refreshPictures();
      if (told.reason) this.session.say(`Nothing was moved: ${told.reason}.`);
      else this.announce();
      return told;
    } catch {
      return null; // the error stands in the widget
    } finally {
      this.acting -= 1;
      this.showFigures();
    }
  }

  neverFire() {
    if (this.thresholds[this.tier] !== null) this.move(this.tier, null, true);
  }

  propose() {
    const wanted = this.goalInput.value.trim().replace(",", ".");
    const { at_least: stated } = this.spec.tiers[this.tier];
    const asked = wanted === "" ? stated : Number(wanted) / 100;
    const own = Math.abs(asked - stated) < 1e-9;
    this.act("propose", { tier: this.tier, at_least: own ? null : asked });
  }

  select(number) {
    if (number === this.tier) return;
    const changed = this.spec.tiers[number].category !== this.category;
    this.tier = number;
    if (changed) this.showCategory();
    this.goalInput.value = "";
    this.showState();
    this.drawLarge();
    this.act("select", { tier: number });
  }

  neighbour(by) {
    const place = this.named.indexOf(this.category) + by;
    if (place < 0 || place >= this.named.length) return;
    this.select(this.tiersOf.get(this.named[place])[0]);
    this.small.get(this.category).button.scrollIntoView({ block: "nearest" });
  }

  nextTier() {
    const own = this.tiersOf.get(this.category);
    this.select(own[(own.indexOf(this.tier) + 1) % own.length]);
  }

  // Building

  build() {
    const { root, status } = this.session;
    const { spec } = this;
    const button = (text, title, onclick, name) =>
      make("button", { type: "button", title, onclick, class: `wb-tuner-${name}` }, text);
    this.undoButton = button("↶ Undo", "Take back the last step (z)", () => this.act("undo"), "undo");
    this.redoButton = button("↷ Redo", "Do it again (y)", () => this.act("redo"), "redo");
    const all = button("Propose all", "Every tier back to where drafting puts it", () => this.act("propose_all"), "all");
    const head = make("header", { class: "wb-row wb-tuner-head" },
      make("h3", {}, spec.title),
      make("span", { class: "wb-mark wb-tuner-split", title: spec.measured_on }, `△ ${spec.measured_on}`),
      make("span", { class: "wb-soft" }, `${spec.images.toLocaleString("en")} images · ${spec.rejection}`),
      make("span", { class: "wb-tuner-space" }), this.undoButton, this.redoButton, all);
    root.append(head, make("div", { class: "wb-tuner-body" }, this.buildMany(), this.buildLarge(), this.buildFigures()));
    root.append(this.buildPictures(), this.buildDraft(), status, this.buildKeys());
    root.addEventListener("keydown", (event) => this.onKey(event));
  }

  buildMany() {
    this.small = new Map();
    const list = make("div", { class: "wb-tuner-list", role: "group", "aria-label": "Categories" });
    const seen = new IntersectionObserver((entries) => {
      for (const { isIntersecting, target } of entries) {
        const small = this.small.get(this.named[Number(target.dataset.place)]);
        small.visible = isIntersecting;
        if (isIntersecting) small.sheet.repaint();
      }
    });
    this.session.stops.push(() => seen.disconnect());
    this.named.forEach((name, place) => {
      const words = make("span", { class: "wb-tuner-words" });
      const small = { words, visible: false };
      small.sheet = new Sheet(this.session, { "aria-hidden": "true" }, (context, width, height) => {
        if (small.visible) this.drawSmall(context, width, height, name);
      });
      small.button = make("button", {
        type: "button", class: "wb-tuner-small", "data-place": place, title: name,
        onclick: () => this.select(this.tiersOf.get(name)[0]),
      }, make("bdi", { class: "wb-tuner-name" }, name), small.sheet.canvas, words);
      this.small.set(name, small);
      list.append(small.button);
      seen.observe(small.button);
    });
    const find = make("input", {
      type: "search", placeholder: `Find in ${this.named.length} categories`, "aria-label": "Find a category",
      class: "wb-tuner-find",
      oninput: () => {
        const wanted = find.value.toLowerCase();
        for (const [name, { button }] of this.small) button.hidden = !name.toLowerCase().includes(wanted);
      },
    });
    return make("nav", { class: "wb-tuner-many", "aria-label": "Small multiples" }, find, list);
  }

  buildLarge() {
    const slider = (name, label, draw, drag) => {
      const sheet = new Sheet(this.session, {
        class: `wb-tuner-${name}`, role: "slider", tabindex: 0, "aria-label": label, "aria-valuemin": 0,
        "aria-valuemax": 1,
      }, draw);
      const { canvas } = sheet;
      canvas.addEventListener("pointerdown", (event) => {
        if (event.button !== 0) return;
        canvas.setPointerCapture(event.pointerId);
        canvas.focus({ preventScroll: true });
        this.grab(name, event);
        drag(event, false);
      });
      canvas.addEventListener("pointermove", (event) => {
        if (this.dragging !== undefined) drag(event, false);
      });
      const drop = (event) => {
        if (this.dragging === undefined) return;
        drag(event, true);
        this.dragging = undefined;
        this.announce();
      };
      canvas.addEventListener("pointerup", drop);
      canvas.addEventListener("pointercancel", () => {
        if (this.dragging === undefined) return;
        this.move(this.dragging, this.thresholds[this.dragging], true);
        this.dragging = undefined;
      });
      canvas.addEventListener("keydown", (event) => this.onSliderKey(event));
      return sheet;
    };
    this.curveSheet = slider("curve", "Threshold on the precision–recall curve",
      (context, width, height) => this.drawCurve(context, width, height), (event, keep) => this.dragCurve(event, keep));
    this.histogramSheet = slider("histogram", "Threshold on the scores",
      (context, width, height) => this.drawHistogram(context, width, height),
      (event, keep) => this.dragHistogram(event, keep));
    this.title = make("h4", { class: "wb-tuner-title" });
    this.tierRows = make("div", { class: "wb-tuner-tiers", role: "group", "aria-label": "Tiers" });
    this.goalInput = make("input", {
      class: "wb-tuner-goal", inputmode: "decimal", size: 5, "aria-label": "Propose for at least so many percent",
      onkeydown: (event) => {
        if (event.key === "Enter") this.propose();
      },
    });
    const propose = make("button", {
      type: "button", class: "wb-tuner-propose", title: "Where tune reaches the goal (p)", onclick: () => this.propose(),
    }, "Propose for goal");
    this.never = make("button", {
      type: "button", class: "wb-tuner-never", title: "This tier shall not fire; nothing is promised for it (o)",
      onclick: () => this.neverFire(),
    }, "Never fire");
    this.legend = make("div", { class: "wb-row wb-soft wb-tuner-legend" });
    return make("div", { class: "wb-tuner-large" }, this.title, this.tierRows,
      make("div", { class: "wb-row" }, propose, make("label", { class: "wb-soft" }, "≥ ", this.goalInput, " %"), this.never),
      this.curveSheet.canvas, this.histogramSheet.canvas, this.legend);
  }

  buildFigures() {
    this.figures = make("aside", { class: "wb-tuner-figures", "aria-label": "What the thresholds do" });
    return this.figures;
  }

  buildPictures() {
    const strip = (name, label) => {
      const place = make("div", { class: `wb-tuner-${name}` });
      const part = make("section", { "aria-label": label }, make("h5", {}, label), place);
      return [part, new PictureStrip(this.session, place, { size: 84, empty: "No pictures." })];
    };
    const [above, aboveStrip] = strip("above", "At or above the threshold: mistakes first, then the nearest");
    const [below, belowStrip] = strip("below", "Below the threshold: mistakes first, then the nearest");
    this.aboveStrip = aboveStrip;
    this.belowStrip = belowStrip;
    return make("div", { class: "wb-tuner-pictures" }, above, below);
  }

  buildDraft() {
    const path = make("input", {
      value: this.spec.out, size: 34, "aria-label": "Write the draft to", class: "wb-tuner-path", spellcheck: "false",
    });
    const told = make("span", { class: "wb-soft wb-tuner-written", role: "status" });
    const write = async () => {
      told.textContent = "Writing …";
      const found = await this.act("write", { path: path.value });
      told.textContent = found ? `${found.path}: written, ${found.moved} of ${found.tiers} thresholds moved. ` +
        "Nothing is promised yet; release tests it on certify." : "Not written.";
    };
    return make("div", { class: "wb-row wb-tuner-draft" },
      make("button", { type: "button", class: "wb-tuner-write", onclick: write }, "Write draft"), path, told);
  }

  buildKeys() {
    const keys = [["← →", "one score lower, higher (with Shift: ten)"], ["Home End", "lowest, highest score"],
      ["z y", "undo, redo"], ["p", "propose for the goal"], ["o", "never fire"], ["t", "next tier"],
      ["b n", "previous, next category"]];
    const rows = keys.map(([key, words]) => make("tr", {}, make("th", { scope: "row" }, make("kbd", {}, key)), make("td", {}, words)));
    return make("details", { class: "wb-soft wb-tuner-keys" }, make("summary", {}, "Keys"), make("table", {}, ...rows));
  }

  // Keys and pointers

  onKey(event) {
    const typing = event.target.closest("input, select, textarea, dialog");
    const control = event.ctrlKey || event.metaKey;
    const actions = {
      z: () => this.act(event.shiftKey ? "redo" : "undo"), y: () => this.act("redo"), p: () => this.propose(),
      o: () => this.neverFire(), t: () => this.nextTier(), n: () => this.neighbour(1), b: () => this.neighbour(-1),
    };
    const key = event.key.toLowerCase();
    const known = control ? key === "z" || key === "y" : key in actions;
    if (typing || event.altKey || !known) return;
    event.preventDefault();
    event.stopPropagation();
    actions[key]();
  }

  onSliderKey(event) {
    const far = event.shiftKey ? 10 : 1;
    const actions = {
      ArrowLeft: () => this.step(-far), ArrowDown: () => this.step(-far), ArrowRight: () => this.step(far),
      ArrowUp: () => this.step(far), PageDown: () => this.step(-10), PageUp: () => this.step(10),
      Home: () => this.toEnd(false), End: () => this.toEnd(true),
    };
    if (!(event.key in actions) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    actions[event.key]();
  }

  /** Begins a drag: of the tier whose mark is under the pointer, else of the one that is looked at. */
  grab(name, event) {
    const { offsetX: x, offsetY: y } = event;
    const near = this.tiersOf.get(this.category).filter((number) => {
      const point = this.pointOf(number);
      if (!point) return false;
      if (name === "histogram") return Math.abs(this.plot.scoreX(this.thresholds[number]) - x) < 8;
      return Math.hypot(this.plot.x(point.recall) - x, this.plot.y(point.precision) - y) < 12;
    });
    if (near.length && !near.includes(this.tier)) this.select(near[0]);
    this.dragging = this.tier;
  }

  dragCurve(event, keep) {
    const { thresholds, recall, precision } = this.curveOf(this.dragging);
    let found = -1;
    let least = Infinity;
    for (let place = 0; place < thresholds.length; place += 1) {
      const away = (this.plot.x(recall[place]) - event.offsetX) ** 2 + (this.plot.y(precision[place]) - event.offsetY) ** 2;
      if (away < least) {
        least = away;
        found = place;
      }
    }
    if (found >= 0) this.dragTo(thresholds[found], keep);
  }

  dragHistogram(event, keep) {
    const { thresholds } = this.curveOf(this.dragging);
    const place = nearestPlace(thresholds, this.plot.scoreAt(event.offsetX));
    if (place >= 0) this.dragTo(thresholds[place], keep);
  }

  dragTo(limit, keep) {
    const now = this.thresholds[this.dragging];
    if (keep || now === null || Math.fround(now) !== limit) this.move(this.dragging, limit, keep);
  }

  // Showing

  onState() {
    const before = this.tier;
    this.takeState();
    if (this.spec.tiers[before].category !== this.category) this.showCategory();
    this.showState();
    this.drawAll();
  }

  showCategory() {
    this.title.replaceChildren(make("bdi", {}, this.category));
    for (const [name, { button }] of this.small) button.setAttribute("aria-pressed", String(name === this.category));
    this.layers = {};
    this.inputs = new Map();
    const rows = this.tiersOf.get(this.category).map((number, place) => {
      const tier = this.spec.tiers[number];
      const shape = SHAPES[place % SHAPES.length];
      const pick = make("button", {
        type: "button", class: "wb-tuner-tier", onclick: () => this.select(number),
        title: `${tier.kind} action, fires where ${tier.scope === "assigned" ? "the category scores highest" : "its score is high enough"}`,
      }, `${SYMBOLS[shape]} `, make("bdi", {}, tier.action));
      const input = make("input", {
        class: "wb-tuner-threshold", inputmode: "decimal", size: 10, "aria-label": `Threshold of ${tier.action}`,
        oninput: () => { input.dataset.typing = ""; }, onfocus: () => this.select(number),
        onchange: () => this.typed(number, input),
        onkeydown: (event) => {
          if (event.key !== "Escape" && event.key !== "Enter") return;
          if (event.key === "Enter") this.typed(number, input);
          else delete input.dataset.typing;
          this.showThresholds();
          event.stopPropagation();
        },
      });
      const walk = (text, by, words) => make("button", {
        type: "button", class: `wb-tuner-${by < 0 ? "lower" : "higher"}`, "aria-label": `${words} of ${tier.action}`, onclick: () => {
          this.select(number);
          this.step(by);
        },
      }, text);
      const told = make("span", { class: "wb-tuner-told" });
      this.inputs.set(number, { pick, input, told });
      return make("div", { class: "wb-row wb-tuner-row" }, pick, walk("−", -1, "One score lower, threshold"), input,
        walk("+", 1, "One score higher, threshold"),
        make("span", { class: "wb-soft" }, `goal: ${tier.metric} ≥ ${percent(tier.at_least)}`), told);
    });
    const held = this.tierRows.contains(document.activeElement);
    this.tierRows.replaceChildren(...rows);
    if (held) this.inputs.get(this.tier).pick.focus({ preventScroll: true });
    this.showLegend();
  }

  showLegend() {
    const { unknown, against, approach } = this.spec;
    const entries = [["▇", this.category], ["▨", "other categories"], ["░", unknown]];
    if (against) entries.push(["—", approach], ["┄", against]);
    this.legend.replaceChildren(...entries.map(([sign, words]) => make("span", {}, `${sign} `, make("bdi", {}, words))));
    for (const { threshold, at_least: least, confidence } of this.certificates()) {
      this.legend.append(make("span", { class: "wb-tuner-certified" },
        `▦ certified: from ${shortest(threshold)} up at least ${percent(least)}, at ${percent(confidence, 2)}`));
    }
  }

  typed(number, input) {
    if (!("typing" in input.dataset)) return;
    const text = input.value.trim().replace(",", ".");
    if (text === "" || text === "never") {
      delete input.dataset.typing;
      this.move(number, null, true);
      return;
    }
    const value = Number(text);
    const { floor } = this.spec.tiers[number];
    if (!Number.isFinite(value) || Math.fround(value) < Math.fround(floor) || value > 1) {
      input.setAttribute("aria-invalid", "true");
      this.session.showError(`${text}: a threshold is a number between ${shortest(floor)} and 1`);
      return;
    }
    delete input.dataset.typing;
    this.session.showError("");
    this.move(number, Math.fround(value), true);
    this.announce();
  }

  showState() {
    allow(this.undoButton, this.state.undo);
    allow(this.redoButton, this.state.redo);
    this.showThresholds();
    this.showFigures();
  }

  showThresholds() {
    for (const [number, { pick, input, told }] of this.inputs) {
      const limit = this.thresholds[number];
      pick.setAttribute("aria-pressed", String(number === this.tier));
      if (!("typing" in input.dataset)) { // what is being typed stands until it is taken, mended or given up
        input.value = limit === null ? "never" : shortest(limit);
        input.removeAttribute("aria-invalid");
      }
      told.textContent = this.verdictOf(number);
    }
    const tier = this.spec.tiers[this.tier];
    this.goalInput.placeholder = (100 * tier.at_least).toPrecision(4).replace(/\.?0+$/, "");
    allow(this.never, this.thresholds[this.tier] !== null);
    const limit = this.thresholds[this.tier];
    const point = this.pointOf(this.tier);
    const words = point ? `${tier.action} at ${shortest(limit)}: precision ${percent(point.precision)}, recall ${percent(point.recall)}`
      : `${tier.action} never fires`;
    for (const { canvas } of [this.curveSheet, this.histogramSheet]) {
      canvas.setAttribute("aria-valuenow", limit === null ? "1" : shortest(limit));
      canvas.setAttribute("aria-valuetext", words);
    }
  }

  verdictOf(number) {
    const tier = this.spec.tiers[number];
    const point = this.pointOf(number);
    if (this.thresholds[number] === null) return `✕ never fires${tier.why_not ? `: ${tier.why_not}` : ""}`;
    if (!point) return "";
    const reached = tier.metric === "precision" ? point.precision : point.recall;
    const higher = this.higherThan(number);
    const note = higher ? ` · above ${higher}: release will lower it` : "";
    return (reached >= tier.at_least - 1e-7 ? "✓ reached on tune" : "✕ below the goal on tune") + note;
  }

  /** The action of a higher tier of the category that has a lower threshold, if there is one. */
  higherThan(number) {
    const own = this.tiersOf.get(this.category);
    const above = own.slice(own.indexOf(number) + 1).find((other) =>
      this.thresholds[other] !== null && this.thresholds[number] !== null && this.thresholds[other] < this.thresholds[number]);
    return above === undefined ? "" : this.spec.tiers[above].action;
  }

  announce() {
    this.session.say(this.curveSheet.canvas.getAttribute("aria-valuetext"));
  }

  showFigures() {
    const { spec, tier: number } = this;
    const tier = spec.tiers[number];
    const exact = this.exactOf(number);
    const point = this.pointOf(number);
    const rows = [];
    const row = (label, name, text, beside, words) => rows.push(make("tr", {}, make("th", { scope: "row" }, label),
      make("td", { class: "wb-number", "data-figure": name }, text),
      make("td", { class: "wb-soft wb-number", "data-figure": `${name}_interval` }, beside ?? (exact || !words ? "" : "…"))));
    const between = (rate) => (rate ? interval(rate[1], rate[2]) : undefined);
    if (spec.in_production) {
      row("Precision in production", "in_production", percent(point?.precision), between(exact?.in_production), true);
      row("Precision as counted", "precision", exact ? percent(exact.precision[0]) : point ? percent(point.right / (point.right + point.wrong)) : "n/a",
        between(exact?.precision), true);
    } else {
      row("Precision", "precision", percent(point?.precision), between(exact?.precision), true);
    }
    row("Recall", "recall", percent(point?.recall), between(exact?.recall), true);
    row("of those answered", "recall_answered", exact ? percent(exact.recall_answered) : point ? "…" : "n/a", "");
    const count = (value) => (value === undefined || value === null ? "–" : value.toLocaleString("en"));
    row("Fires on", "fired", count(point ? point.right + point.wrong : 0), "images");
    row("True positives", "true_positives", count(point ? point.right : 0), "");
    row("False positives", "false_positives", count(point ? point.wrong : 0), "");
    row("False negatives", "false_negatives", count(this.curveOf(number).positives - (point ? point.right : 0)), `of ${count(this.curveOf(number).positives)}`);
    const parts = [make("h4", {}, make("bdi", {}, tier.category), " · ", make("bdi", {}, tier.action)),
      make("table", { class: "wb-tuner-table" }, make("tbody", {}, ...rows))];
    if (exact) {
      parts.push(this.listed("False positives show", "mistaken", exact.mistaken, exact.mistaken_more));
      parts.push(this.listed("Missed because", "missed", exact.missed, exact.missed_more));
    }
    parts.push(...this.loadParts());
    this.figures.classList.toggle("wb-tuner-stale", this.queue.length > 0 || this.acting > 0 || (Boolean(point) && !exact));
    this.figures.replaceChildren(...parts);
  }

  listed(label, name, found, more) {
    if (!found.length) return null;
    const most = Math.max(...found.map(([, count]) => count));
    const rows = found.map(([words, count]) => make("tr", {}, make("td", { class: "wb-number" }, count.toLocaleString("en")),
      make("td", {}, make("span", { class: "wb-tuner-bar", style: `width:${Math.max(2, (60 * count) / most)}px` })),
      make("td", {}, make("bdi", {}, words))));
    if (more) rows.push(make("tr", {}, make("td"), make("td"), make("td", { class: "wb-soft" }, `and ${more} more`)));
    return make("section", { "data-figure": name }, make("h5", {}, label), make("table", {}, make("tbody", {}, ...rows)));
  }

  loadParts() {
    const { load } = this.state;
    const { per_day: day } = this.spec;
    const times = (share) => (day === null ? "" : `${Math.round(share * day).toLocaleString("en")} a day`);
    const rows = load.actions.map(([name, [share, low, high], count]) => make("tr", {},
      make("th", { scope: "row" }, make("bdi", {}, name)),
      make("td", { class: "wb-number", "data-figure": `share ${name}`, title: `${count.toLocaleString("en")} of ${load.images.toLocaleString("en")}` }, percent(share)),
      make("td", { class: "wb-soft wb-number" }, interval(low, high)), make("td", { class: "wb-soft" }, times(share))));
    const [human, low, high] = load.human;
    rows.push(make("tr", { class: "wb-tuner-human" }, make("th", { scope: "row" }, "seen by people"),
      make("td", { class: "wb-number", "data-figure": "human" }, percent(human)),
      make("td", { class: "wb-soft wb-number" }, interval(low, high)), make("td", { class: "wb-soft" }, times(human))));
    const parts = [make("h5", {}, `What becomes of images (${load.basis})`), make("table", {}, make("tbody", {}, ...rows))];
    if (load.cost !== null) {
      parts.push(make("p", {}, "Expected cost of an image: ", make("b", { "data-figure": "cost" }, load.cost.toPrecision(4))));
    }
    return parts;
  }

  refreshPictures() {
    clearTimeout(this.pictureTimer);
    this.pictureTimer = setTimeout(async () => {
      const { tier } = this;
      try {
        const { content } = await this.session.ask("near", { tier });
        if (tier !== this.tier) return;
        this.aboveStrip.show(content.above);
        this.belowStrip.show(content.below);
      } catch {
        // the error stands in the widget
      }
    }, 120);
  }

  // Drawing

  drawAll() {
    if (!this.curveSheet) return;
    this.layers = {};
    this.drawLarge();
    for (const small of this.small.values()) small.sheet.repaint();
  }

  drawLarge() {
    this.curveSheet.repaint();
    this.histogramSheet.repaint();
  }

  /** What a moved threshold changes: two marks, its small multiple, the figures. */
  drawMoved() {
    this.drawLarge();
    this.small.get(this.category).sheet.repaint();
    this.showThresholds();
    this.showFigures();
  }

  /** What does not move is drawn once and kept as a picture. */
  layer(name, context, width, height, draw) {
    const key = `${width}×${height}·${context.canvas.width}·${this.tier}·${this.session.dark}`;
    if (this.layers[name]?.key !== key) {
      const canvas = document.createElement("canvas");
      canvas.width = context.canvas.width;
      canvas.height = context.canvas.height;
      const own = canvas.getContext("2d");
      own.scale(canvas.width / width, canvas.height / height);
      draw(own);
      this.layers[name] = { key, canvas };
    }
    context.drawImage(this.layers[name].canvas, 0, 0, width, height);
  }

  drawCurve(context, width, height) {
    const [left, right, top, bottom] = [44, width - 12, 10, height - 34];
    this.plot = {
      ...this.plot,
      x: (recall) => left + (right - left) * recall,
      y: (precision) => bottom - (bottom - top) * precision,
    };
    this.layer("curve", context, width, height, (own) => this.drawAxes(own, [left, right, top, bottom]));
    const { colours } = this.session;
    this.tiersOf.get(this.category).forEach((number, place) => {
      const point = this.pointOf(number);
      if (!point || Number.isNaN(point.precision) || Number.isNaN(point.recall) || point.precision === null) return;
      const [x, y] = [this.plot.x(point.recall), this.plot.y(point.precision)];
      const exact = this.exactOf(number);
      context.strokeStyle = colours.second;
      if (exact && number === this.tier) {
        const rate = exact.in_production ?? exact.precision;
        context.lineWidth = 1.2;
        context.beginPath();
        context.moveTo(x, this.plot.y(rate[1]));
        context.lineTo(x, this.plot.y(rate[2]));
        context.moveTo(this.plot.x(exact.recall[1]), y);
        context.lineTo(this.plot.x(exact.recall[2]), y);
        context.stroke();
      }
      drawShape(context, SHAPES[place % SHAPES.length], x, y, number === this.tier ? 7 : 5, colours, number === this.tier);
    });
  }

  drawAxes(context, [left, right, top, bottom]) {
    const { colours } = this.session;
    const { plot } = this;
    context.font = "11px system-ui, sans-serif";
    context.lineWidth = 1;
    for (const tick of [0, 0.25, 0.5, 0.75, 1]) {
      context.strokeStyle = colours.line;
      context.beginPath();
      context.moveTo(plot.x(tick), top);
      context.lineTo(plot.x(tick), bottom);
      context.moveTo(left, plot.y(tick));
      context.lineTo(right, plot.y(tick));
      context.stroke();
      context.fillStyle = colours.soft;
      context.textAlign = "center";
      context.fillText(String(tick), plot.x(tick), bottom + 14);
      context.textAlign = "right";
      context.fillText(String(tick), left - 6, plot.y(tick) + 4);
    }
    context.textAlign = "right";
    context.fillText("recall", right, bottom + 28);
    context.save();
    context.translate(11, top);
    context.rotate(-Math.PI / 2);
    context.fillText(this.spec.in_production ? "precision in production" : "precision", 0, 0);
    context.restore();
    this.drawRegions(context, left);
    this.drawGoal(context, [left, right, top, bottom]);
    const drawn = new Set();
    const own = this.tiersOf.get(this.category);
    for (const number of [...own].sort((a, b) => (a === this.tier) - (b === this.tier))) {
      const place = this.spec.tiers[number].curve;
      const main = place === this.spec.tiers[this.tier].curve;
      if (drawn.has(place)) continue;
      drawn.add(place);
      context.strokeStyle = main ? colours.first : colours.soft;
      context.lineWidth = main ? 2 : 1;
      traceSteps(context, this.curves[place], plot.x, plot.y);
    }
    const other = this.others[this.spec.tiers[this.tier].curve];
    if (other) {
      context.setLineDash([6, 4]);
      context.strokeStyle = colours.second;
      context.lineWidth = 1.6;
      traceSteps(context, other, plot.x, plot.y);
      context.setLineDash([]);
    }
  }

  drawGoal(context, [left, right, top, bottom]) {
    const { metric, at_least: least } = this.spec.tiers[this.tier];
    const { colours } = this.session;
    context.strokeStyle = colours.soft;
    context.fillStyle = colours.soft;
    context.setLineDash([3, 3]);
    context.beginPath();
    if (metric === "precision") {
      context.moveTo(left, this.plot.y(least));
      context.lineTo(right, this.plot.y(least));
    } else {
      context.moveTo(this.plot.x(least), top);
      context.lineTo(this.plot.x(least), bottom);
    }
    context.stroke();
    context.setLineDash([]);
    context.textAlign = metric === "precision" ? "left" : "right";
    if (metric === "precision") context.fillText("goal", left + 4, this.plot.y(least) - 4);
    else context.fillText("goal", this.plot.x(least) - 4, bottom - 6);
  }

  certificates() {
    return this.spec.certified.filter(({ tier }) => this.spec.tiers[tier].category === this.category);
  }

  /** What is certified: a hatched floor at the promised precision, up to the recall that its threshold reaches here. */
  drawRegions(context, left) {
    const { colours } = this.session;
    for (const { at_least: least, recall } of this.certificates()) {
      const width = this.plot.x(recall ?? 0) - left;
      const top = this.plot.y(least);
      context.fillStyle = hatch(context, colours.soft, "lines");
      context.fillRect(left, top, width, this.plot.y(Math.max(0, least - 0.08)) - top);
      context.strokeStyle = colours.ink;
      context.beginPath();
      context.moveTo(left, top);
      context.lineTo(left + width, top);
      context.stroke();
    }
  }

  drawHistogram(context, width, height) {
    const [left, right, top, bottom] = [44, width - 12, 8, height - 20];
    this.plot = {
      ...this.plot,
      scoreX: (score) => left + (right - left) * score,
      scoreAt: (x) => Math.min(1, Math.max(0, (x - left) / (right - left))),
    };
    this.layer("histogram", context, width, height, (own) => this.drawBars(own, [left, right, top, bottom]));
    const { colours } = this.session;
    this.tiersOf.get(this.category).forEach((number, place) => {
      const limit = this.thresholds[number];
      if (limit === null) return;
      const x = this.plot.scoreX(limit);
      context.strokeStyle = colours.second;
      context.lineWidth = number === this.tier ? 2.5 : 1.2;
      context.beginPath();
      context.moveTo(x, top);
      context.lineTo(x, bottom);
      context.stroke();
      drawShape(context, SHAPES[place % SHAPES.length], x, top + 5, number === this.tier ? 6 : 4, colours, number === this.tier);
    });
  }

  drawBars(context, [left, right, top, bottom]) {
    const { colours } = this.session;
    const { bins } = this.spec;
    const { histogram } = this.curveOf(this.tier);
    let most = 1;
    for (let bin = 0; bin < bins; bin += 1) most = Math.max(most, histogram[bin] + histogram[bins + bin] + histogram[2 * bins + bin]);
    const y = (count) => bottom - ((bottom - top) * Math.log1p(count)) / Math.log1p(most);
    const fills = [colours.first, hatch(context, colours.soft, "lines"), hatch(context, colours.soft, "dots")];
    const wide = (right - left) / bins;
    context.strokeStyle = colours.soft;
    context.lineWidth = 0.6;
    for (let bin = 0; bin < bins; bin += 1) {
      let below = 0;
      for (let kind = 0; kind < 3; kind += 1) {
        const count = histogram[kind * bins + bin];
        if (!count) continue;
        const [low, high] = [y(below), y(below + count)];
        context.fillStyle = fills[kind];
        context.fillRect(left + bin * wide, high, wide - 1, low - high);
        if (kind) context.strokeRect(left + bin * wide, high, wide - 1, low - high);
        below += count;
      }
    }
    context.fillStyle = colours.soft;
    context.font = "11px system-ui, sans-serif";
    for (const tick of [0, 0.25, 0.5, 0.75, 1]) {
      context.textAlign = tick === 1 ? "right" : tick === 0 ? "left" : "center";
      context.fillText(String(tick), this.plot.scoreX(tick), bottom + 14);
    }
    context.textAlign = "right";
    context.fillText(most.toLocaleString("en"), left - 6, top + 9);
    context.fillText("0", left - 6, bottom);
  }

  drawSmall(context, width, height, name) {
    const { colours } = this.session;
    const [left, right, top, bottom] = [2, width - 4, 4, height - 2];
    const x = (recall) => left + (right - left) * recall;
    const y = (precision) => bottom - (bottom - top) * precision;
    context.strokeStyle = colours.line;
    context.lineWidth = 1;
    context.strokeRect(left, top, right - left, bottom - top);
    const own = this.tiersOf.get(name);
    const last = own[own.length - 1];
    context.strokeStyle = colours.first;
    context.lineWidth = 1.4;
    traceSteps(context, this.curveOf(last), x, y, 160);
    own.forEach((number, place) => {
      const point = this.pointOf(number);
      if (point && point.precision !== null && !Number.isNaN(point.precision)) {
        drawShape(context, SHAPES[place % SHAPES.length], x(point.recall), y(point.precision), 3.5, colours, true);
      }
    });
    const point = this.pointOf(last);
    this.small.get(name).words.textContent = point
      ? `≥ ${Number(this.thresholds[last]).toPrecision(3)} · ${percent(point.precision, 0)} · ${percent(point.recall, 0)}`
      : "never fires";
  }
}

/** The curve as stairs (nothing between two points is interpolated), through at most `most` of its points. */
function traceSteps(context, curve, x, y, most = Infinity) {
  const { recall, precision } = curve;
  const many = recall.length;
  const stride = Math.max(1, Math.ceil(many / most));
  context.beginPath();
  let before = null;
  for (let place = 0; place < many; place += place + stride < many || place === many - 1 ? stride : many - 1 - place) {
    if (Number.isNaN(precision[place]) || Number.isNaN(recall[place])) continue;
    const [px, py] = [x(recall[place]), y(precision[place])];
    if (before === null) context.moveTo(px, py);
    else {
      context.lineTo(px, before);
      context.lineTo(px, py);
    }
    before = py;
  }
  if (before !== null) context.lineTo(x(0), before);
  context.stroke();
}

function drawShape(context, shape, x, y, size, colours, filled) {
  const corners = {
    diamond: [[0, -1.25], [1.25, 0], [0, 1.25], [-1.25, 0]], square: [[-1, -1], [1, -1], [1, 1], [-1, 1]],
    up: [[0, -1.2], [1.1, 0.9], [-1.1, 0.9]], down: [[0, 1.2], [1.1, -0.9], [-1.1, -0.9]],
  };
  context.beginPath();
  if (shape === "circle") context.arc(x, y, size, 0, 2 * Math.PI);
  else corners[shape].forEach(([dx, dy], place) => context[place ? "lineTo" : "moveTo"](x + dx * size, y + dy * size));
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

export default {
  render({ model, el }) {
    const session = new Session(model, el, "tuner", "Threshold tuner");
    new Tuner(session);
    return () => session.close();
  },
};
