// The threshold tuner. What is drawn while a threshold is dragged comes from points that were sent once, each of them
// exact; everything else (intervals, what is mistaken and missed, load, cost) comes from the kernel a moment later.

const SHAPES = ["circle", "diamond", "square", "up", "down"];
const SYMBOLS = { circle: "●", diamond: "◆", square: "■", up: "▲", down: "▼" };

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
    this.orders = new Orders(session, () => this.onState());
    this.layers = new Layers();
    this.takeState();
    this.build();
    const changed = () => this.onState();
    this.model.on("change:_state", changed);
    session.stops.push(() => this.model.off("change:_state", changed));
    session.stops.push(() => clearTimeout(this.pictureTimer));
    session.redraw = () => this.drawAll();
    this.showCategory();
    this.showState();
    this.refreshPictures();
  }

  // What holds

  takeState() {
    this.state = this.model.get("_state");
    const before = this.thresholds;
    const isMoving = (number) => number === this.dragging || this.orders.has("move", number);
    this.thresholds = this.state.thresholds.map((limit, number) => (isMoving(number) ? before[number] : limit));
    if (this.tier === undefined || !(this.orders.waiting || this.dragging !== undefined)) this.tier = this.state.looked_at;
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

  /** Moves a threshold at once here, and then in the kernel. */
  move(number, limit, keep) {
    this.thresholds[number] = limit;
    this.figures.classList.add("wb-tuner-stale"); // also the load, which every tier moves
    const done = () => keep && this.refreshPictures();
    this.orders.latest("move", number, { tier: number, threshold: limit, keep }, keep).then(done, done);
    this.drawMoved();
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
    this.figures.classList.add("wb-tuner-stale");
    try {
      const { content: told } = await this.orders.ask(name, content);
      this.refreshPictures();
      if (told.reason) this.session.say(`Nothing was moved: ${told.reason}.`);
      else this.announce();
      return told;
    } catch {
      return null; // the error stands in the widget
    }
  }

  neverFire() {
    if (this.thresholds[this.tier] !== null) this.move(this.tier, null, true);
  }

  propose() {
    const wanted = this.goalInput.value.replace("%", "").trim().replace(",", ".");
    const { at_least: stated } = this.spec.tiers[this.tier];
    const asked = wanted === "" ? stated : Number(wanted) / 100;
    if (!(asked > 0 && asked < 1)) {
      this.session.showError(`${this.goalInput.value}: what a tier must reach lies between 0 and 100 %`);
      return;
    }
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
    const head = make("header", { class: "wb-row" },
      make("h3", {}, spec.title),
      make("span", { class: "wb-mark wb-split", title: spec.measured_on }, `△ ${spec.measured_on}`),
      make("span", { class: "wb-soft" }, `${spec.images.toLocaleString("en")} images · ${spec.rejection}`),
      make("span", { class: "wb-space" }), this.undoButton, this.redoButton, all);
    root.append(head, make("div", { class: "wb-tuner-body" }, this.buildMany(), this.buildLarge(), this.buildFigures()));
    root.append(this.buildPictures(), this.buildDraft(), status, listKeys([
      ["← →", "one score lower, higher (with Shift: ten)"], ["Home End", "lowest, highest score"], ["z y", "undo, redo"],
      ["p", "propose for the goal"], ["o", "never fire"], ["t", "next tier"], ["b n", "previous, next category"],
    ]));
    onLetters(root, {
      z: ({ shiftKey }) => this.act(shiftKey ? "redo" : "undo"), y: () => this.act("redo"), p: () => this.propose(),
      o: () => this.neverFire(), t: () => this.nextTier(), n: () => this.neighbour(1), b: () => this.neighbour(-1),
    });
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
    const slider = (name, label, draw, drag) => makeSlider(
      this.session, { class: `wb-tuner-${name}`, "aria-label": label, "aria-valuemax": 1 }, draw, {
        drag, grab: (event) => this.grab(name, event), step: (by) => this.step(by), toEnd: (last) => this.toEnd(last),
        drop: () => {
          this.dragging = undefined;
          this.announce();
        },
        cancel: () => {
          const { dragging } = this;
          this.dragging = undefined;
          this.move(dragging, this.thresholds[dragging], true);
        },
      });
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
    const strip = (name, label) => makeStrip(this.session, `wb-tuner-${name}`, label, "No pictures.");
    this.aboveStrip = strip("above", "At or above the threshold: mistakes first, then the nearest");
    this.belowStrip = strip("below", "Below the threshold: mistakes first, then the nearest");
    return make("div", { class: "wb-two" }, this.aboveStrip.part, this.belowStrip.part);
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

  // Pointers

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
    const found = nearestPoint(thresholds.length, (place) => this.plot.x(recall[place]), (place) => this.plot.y(precision[place]), event);
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
    if (!this.orders.waiting && this.pictured !== this.pictureKey) this.refreshPictures();
  }

  /** Of what the pictures are. */
  get pictureKey() {
    return `${this.tier} ${this.thresholds[this.tier]}`;
  }

  showCategory() {
    this.title.replaceChildren(make("bdi", {}, this.category));
    for (const [name, { button }] of this.small) button.setAttribute("aria-pressed", String(name === this.category));
    this.inputs = new Map();
    const rows = this.tiersOf.get(this.category).map((number, place) => {
      const tier = this.spec.tiers[number];
      const shape = SHAPES[place % SHAPES.length];
      const pick = make("button", {
        type: "button", class: "wb-tuner-tier", onclick: () => this.select(number),
        title: `${tier.kind} action, fires where ${tier.scope === "assigned" ? "the category scores highest" : "its score is high enough"}`,
      }, `${SYMBOLS[shape]} `, make("bdi", {}, tier.action));
      const input = makeField(this.session, {
        class: "wb-tuner-threshold", "aria-label": `Threshold of ${tier.action}`, onfocus: () => this.select(number),
      }, {
        parse: (text) => this.parse(number, text), show: () => this.showThresholds(),
        take: (limit) => {
          this.move(number, limit, true);
          this.announce();
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
    const { complete, count } = this.spec.curves[this.spec.tiers[this.tier].curve];
    if (!complete) {
      this.legend.append(make("span", {}, `dragging and keys step through ${count.toLocaleString("en")} scores of many; any other is typed`));
    }
    for (const { threshold, at_least: least, confidence } of this.certificates()) {
      this.legend.append(make("span", { class: "wb-tuner-certified" },
        `▦ certified: from ${shortest(threshold)} up at least ${percent(least)}, at ${percent(confidence, 2)}`));
    }
  }

  /** The threshold that a text says, null for never; throws what is wrong with it. */
  parse(number, text) {
    if (text === "" || text === "never") return null;
    const value = Number(text);
    const { floor } = this.spec.tiers[number];
    if (!Number.isFinite(value) || Math.fround(value) < Math.fround(floor) || value > 1) {
      throw new Error(`${text}: a threshold is a number between ${shortest(floor)} and 1`);
    }
    return Math.fround(value);
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
      showField(input, limit === null ? "never" : shortest(limit));
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
    this.figures.classList.toggle("wb-tuner-stale", this.orders.waiting || (Boolean(point) && !exact));
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
      make("td", { class: "wb-soft wb-number" }, interval(low, high)), make("td", { class: "wb-soft wb-tuner-daily" }, times(share))));
    const [human, low, high] = load.human;
    rows.push(make("tr", { class: "wb-tuner-human" }, make("th", { scope: "row" }, "seen by people"),
      make("td", { class: "wb-number", "data-figure": "human" }, percent(human)),
      make("td", { class: "wb-soft wb-number" }, interval(low, high)), make("td", { class: "wb-soft wb-tuner-daily" }, times(human))));
    const parts = [make("h5", {}, `What becomes of images (${load.basis})`), make("table", {}, make("tbody", {}, ...rows))];
    if (load.cost !== null) {
      parts.push(make("p", {}, "Expected cost of an image: ", make("b", { "data-figure": "cost" }, load.cost.toPrecision(4))));
    }
    return parts;
  }

  refreshPictures() {
    this.pictured = this.pictureKey;
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

  drawCurve(context, width, height) {
    const [left, right, top, bottom] = [44, width - 12, 10, height - 34];
    this.plot = {
      ...this.plot,
      x: (recall) => left + (right - left) * recall,
      y: (precision) => bottom - (bottom - top) * precision,
    };
    this.layers.draw("curve", this.look, context, width, height, (own) => this.drawLines(own, [left, right, top, bottom]));
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
      drawMark(context, SHAPES[place % SHAPES.length], x, y, number === this.tier ? 7 : 5, colours, number === this.tier);
    });
  }

  /** Of what the layers are. */
  get look() {
    return `${this.tier}·${this.session.dark}`;
  }

  drawLines(context, frame) {
    const { colours } = this.session;
    const { plot } = this;
    const [left] = frame;
    drawUnitSquare(context, colours, frame, "recall", this.spec.in_production ? "precision in production" : "precision");
    this.drawRegions(context, left);
    const { metric, at_least: least } = this.spec.tiers[this.tier];
    drawGoal(context, colours, frame, { words: "goal", ...(metric === "precision" ? { y: plot.y(least) } : { x: plot.x(least) }) });
    const drawn = new Set();
    const own = this.tiersOf.get(this.category);
    for (const number of [...own].sort((a, b) => (a === this.tier) - (b === this.tier))) {
      const place = this.spec.tiers[number].curve;
      const main = place === this.spec.tiers[this.tier].curve;
      if (drawn.has(place)) continue;
      drawn.add(place);
      context.strokeStyle = main ? colours.first : colours.soft;
      context.lineWidth = main ? 2 : 1;
      traceCurve(context, this.curves[place], plot.x, plot.y);
    }
    const other = this.others[this.spec.tiers[this.tier].curve];
    if (other) {
      context.setLineDash([6, 4]);
      context.strokeStyle = colours.second;
      context.lineWidth = 1.6;
      traceCurve(context, other, plot.x, plot.y);
      context.setLineDash([]);
    }
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
    const { colours } = this.session;
    this.layers.draw("histogram", this.look, context, width, height, (own) => {
      const { histogram } = this.curveOf(this.tier);
      const { bins } = this.spec;
      const sides = [0, 1, 2].map((kind) => histogram.subarray(kind * bins, (kind + 1) * bins));
      const fills = [colours.first, hatch(own, colours.soft, "lines"), hatch(own, colours.soft, "dots")];
      drawBars(own, colours, [left, right, top, bottom], sides, fills);
    });
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
      drawMark(context, SHAPES[place % SHAPES.length], x, top + 5, number === this.tier ? 6 : 4, colours, number === this.tier);
    });
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
    traceCurve(context, this.curveOf(last), x, y, 160);
    own.forEach((number, place) => {
      const point = this.pointOf(number);
      if (point && point.precision !== null && !Number.isNaN(point.precision)) {
        drawMark(context, SHAPES[place % SHAPES.length], x(point.recall), y(point.precision), 3.5, colours, true);
      }
    });
    const point = this.pointOf(last);
    this.small.get(name).words.textContent = point
      ? `≥ ${Number(this.thresholds[last]).toPrecision(3)} · ${percent(point.precision, 0)} · ${percent(point.recall, 0)}`
      : "never fires";
  }
}

/** A curve from recall to precision, and on to recall 0. */
function traceCurve(context, { recall, precision }, x, y, most) {
  const last = traceStairs(context, recall.length, (place) => [x(recall[place]), y(precision[place])], most);
  if (last !== null) context.lineTo(x(0), last);
  context.stroke();
}

export default {
  render({ model, el }) {
    const session = new Session(model, el, "tuner", "Threshold tuner");
    new Tuner(session);
    return () => session.close();
  },
};
