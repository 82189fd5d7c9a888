// The rejection explorer. What is drawn while the working point is dragged comes from points that were sent once, each of
// them exact; bounds, what unknown images are told as, and pictures come from the kernel a moment later.

const EXPLORER_DASHES = [[], [7, 3], [2, 2], [7, 3, 2, 3], [2, 5]];

/** The shortest decimal that is the same binary32. */
function shortestSingle(value) {
  const single = Math.fround(value);
  for (let digits = 1; digits <= 9; digits += 1) {
    const text = Number(single.toPrecision(digits));
    if (Math.fround(text) === single) return String(text);
  }
  return String(single);
}

/** One signal's columns, as views of the bytes that hold them all. */
function unpackSignal(buffer, { signal, start, count, most, never }, sources, bins) {
  const accepted = [];
  for (let source = 0; source < sources; source += 1) {
    accepted.push(new Int32Array(buffer, 4 * (start + (2 + source) * count), count));
  }
  const bars = [];
  for (let side = 0; side <= sources; side += 1) {
    bars.push(new Uint32Array(buffer, 4 * (start + (2 + sources) * count + side * bins), bins));
  }
  const all = new Int32Array(count);
  for (const own of accepted) own.forEach((value, place) => { all[place] += value; });
  const allBars = new Uint32Array(bins);
  for (const own of bars.slice(1)) own.forEach((value, bin) => { allBars[bin] += value; });
  return {
    signal, most, never, accepted, all, bars, allBars,
    thresholds: new Float32Array(buffer, 4 * start, count),
    rejected: new Int32Array(buffer, 4 * (start + count), count),
  };
}

class Explorer {
  constructor(session) {
    this.session = session;
    this.model = session.model;
    this.spec = this.model.get("_spec");
    const bytes = this.model.get("_points");
    const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
    const { signals, sources, bins, unknown } = this.spec;
    this.signals = new Map(signals.map((place) => [place.signal, unpackSignal(buffer, place, sources.length, bins)]));
    this.unknown = unknown.reduce((sum, count) => sum + count, 0);
    this.focus = sources.length > 1 ? -1 : 0; // −1: the unknown images of every source
    this.cell = null;
    this.queue = [];
    this.busy = false;
    this.acting = 0;
    this.dragging = false;
    this.layers = {};
    this.takeState();
    this.build();
    const changed = () => this.onState();
    this.model.on("change:_state", changed);
    session.stops.push(() => this.model.off("change:_state", changed));
    session.stops.push(() => clearTimeout(this.pictureTimer));
    session.redraw = () => this.drawAll();
    this.showState();
    this.refreshPictures();
  }

  // What holds

  takeState() {
    this.state = this.model.get("_state");
    if (this.signal !== this.state.signal) this.layers = {};
    this.signal = this.state.signal;
    if (!this.queue.length && !this.dragging) this.threshold = this.state.threshold;
  }

  get curve() {
    return this.signals.get(this.signal);
  }

  nameOf(source) {
    return source < 0 ? "every source" : this.spec.names[source];
  }

  /** The place of the point nearest to a threshold, the one that rejects least first; −1 where there are none. */
  nearest(limit) {
    const { thresholds } = this.curve;
    const sign = this.signal === "entropy" ? -1 : 1; // thresholds rise, of entropy they fall
    let low = 0;
    let high = thresholds.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (sign * thresholds[middle] < sign * limit) low = middle + 1;
      else high = middle;
    }
    if (low === thresholds.length) return low - 1;
    return low > 0 && Math.abs(limit - thresholds[low - 1]) < Math.abs(thresholds[low] - limit) ? low - 1 : low;
  }

  get isExact() {
    const { threshold, signal } = this.state;
    if (signal !== this.signal || (threshold === null) !== (this.threshold === null)) return false;
    return threshold === null || Math.fround(threshold) === Math.fround(this.threshold);
  }

  /** {rejected, accepted by source} at the threshold: what the kernel said of it, or a point of the curve; else null. */
  get point() {
    if (this.isExact) return { rejected: this.state.known_rejected, accepted: this.state.unknown_accepted };
    if (this.threshold === null) return null;
    const { thresholds, rejected, accepted } = this.curve;
    const place = this.nearest(Math.fround(this.threshold));
    if (place < 0 || thresholds[place] !== Math.fround(this.threshold)) return null;
    return { rejected: rejected[place], accepted: accepted.map((own) => own[place]) };
  }

  /** The share of accepted unknown images of a source (−1: of all). */
  acceptedShare(point, source) {
    if (source >= 0) return point.accepted[source] / this.spec.unknown[source];
    return point.accepted.reduce((sum, count) => sum + count, 0) / this.unknown;
  }

  // Moving

  /** Moves the threshold at once here, and then in the kernel; moves of one drag that nobody has seen yet are dropped. */
  move(limit, keep) {
    this.threshold = limit;
    const last = this.queue[this.queue.length - 1];
    if (last && !last.keep && !last.sent) this.queue.pop();
    this.queue.push({ threshold: limit, signal: this.signal, keep, sent: false });
    this.pump();
    this.showMoved();
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
    this.session.ask("move", { threshold: move.threshold, signal: move.signal, keep: move.keep }).then(done, done);
  }

  step(by) {
    const { thresholds } = this.curve;
    if (!thresholds.length) return;
    const place = this.threshold === null ? -1 : this.nearest(Math.fround(this.threshold));
    this.move(thresholds[Math.min(thresholds.length - 1, Math.max(0, place + by))], true);
    this.announce();
  }

  toEnd(last) {
    const { thresholds } = this.curve;
    if (thresholds.length) this.move(thresholds[last ? thresholds.length - 1 : 0], true);
    this.announce();
  }

  async act(name, content = {}) {
    this.acting += 1;
    this.showFigures();
    try {
      const { content: told } = await this.session.ask(name, content);
      this.refreshPictures();
      if (told.reason) this.session.say(`Nothing was moved: ${told.reason}.`);
      else this.announce();
    } catch {
      // the error stands in the widget
    } finally {
      this.acting -= 1;
      this.showFigures();
    }
  }

  off() {
    if (this.threshold === null) return;
    this.move(null, true);
    this.announce();
  }

  choose(signal) {
    if (signal !== this.signal) this.act("choose", { signal });
  }

  nextSignal() {
    const names = [...this.signals.keys()];
    this.choose(names[(names.indexOf(this.signal) + 1) % names.length]);
  }

  lookAt(source) {
    this.focus = source;
    this.layers = {};
    this.drawAll();
    this.showFigures();
    this.announce();
  }

  // Building

  build() {
    const { root, status } = this.session;
    const { spec } = this;
    const button = (text, title, onclick, name) =>
      make("button", { type: "button", title, onclick, class: `wb-explorer-${name}` }, text);
    this.undoButton = button("↶ Undo", "Take back the last step (z)", () => this.act("undo"), "undo");
    this.redoButton = button("↷ Redo", "Do it again (y)", () => this.act("redo"), "redo");
    this.ruleWords = make("b", { class: "wb-explorer-rule" });
    const left = spec.left_out ? ` · ${spec.left_out.toLocaleString("en")} without scores left out` : "";
    root.append(make("header", { class: "wb-row" }, make("h3", {}, make("bdi", {}, spec.title)),
      make("span", { class: "wb-mark wb-explorer-split", title: spec.measured_on }, `△ ${spec.measured_on}`),
      make("span", { class: "wb-soft" }, `${spec.images.toLocaleString("en")} images${left}`),
      make("span", { class: "wb-explorer-space" }), this.undoButton, this.redoButton));
    root.append(make("div", { class: "wb-explorer-body" }, this.buildLarge(button), this.buildFigures()));
    root.append(this.buildTold(), this.buildPictures(), status, this.buildKeys());
    root.addEventListener("keydown", (event) => this.onKey(event));
  }

  buildLarge(button) {
    this.picks = new Map([...this.signals.keys()].map((signal) => [signal,
      button(signal, "Look at this signal, at no more known images rejected than now (s: next)", () => this.choose(signal), "signal")]));
    this.input = make("input", {
      class: "wb-explorer-threshold", inputmode: "decimal", size: 11, "aria-label": "Threshold of the signal",
      oninput: () => { this.input.dataset.typing = ""; },
      onchange: () => this.typed(),
      onkeydown: (event) => {
        if (event.key !== "Escape" && event.key !== "Enter") return;
        event.preventDefault();
        event.stopPropagation();
        if (event.key === "Enter") this.typed();
        else {
          delete this.input.dataset.typing;
          this.session.showError("");
        }
        this.showThreshold();
      },
    });
    this.offButton = button("Reject nothing", "Nothing is rejected by the signal (o)", () => this.off(), "off");
    const walk = (text, by, words) => make("button", {
      type: "button", class: `wb-explorer-${by < 0 ? "looser" : "stricter"}`, "aria-label": words, title: words, onclick: () => this.step(by),
    }, text);
    this.curveSheet = this.buildSlider("curve", "Working point: unknown images accepted against known images rejected",
      (context, width, height) => this.drawCurve(context, width, height), (event, keep) => this.dragCurve(event, keep));
    this.histogramSheet = this.buildSlider("histogram", "Working point on the signal",
      (context, width, height) => this.drawHistogram(context, width, height), (event, keep) => this.dragHistogram(event, keep));
    this.legend = make("div", { class: "wb-row wb-soft wb-explorer-legend" });
    return make("div", { class: "wb-explorer-large" },
      make("div", { class: "wb-row", role: "group", "aria-label": "Signal" }, make("span", { class: "wb-soft" }, "Reject by"), ...this.picks.values()),
      make("div", { class: "wb-row" }, walk("−", -1, "One point looser"), this.input, walk("+", 1, "One point stricter"),
        button("Propose for goals", "What drafting chooses for the goals by this signal (p)", () => this.act("propose"), "propose"), this.offButton, this.ruleWords),
      this.curveSheet.canvas, this.histogramSheet.canvas, this.legend);
  }

  buildSlider(name, label, draw, drag) {
    const sheet = new Sheet(this.session, {
      class: `wb-explorer-${name}`, role: "slider", tabindex: 0, "aria-label": label, "aria-valuemin": 0,
    }, draw);
    const { canvas } = sheet;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      canvas.setPointerCapture(event.pointerId);
      canvas.focus({ preventScroll: true });
      this.dragging = true;
      drag(event, false);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (this.dragging) drag(event, false);
    });
    canvas.addEventListener("pointerup", (event) => {
      if (!this.dragging) return;
      drag(event, true);
      this.dragging = false;
      this.announce();
    });
    canvas.addEventListener("pointercancel", () => {
      if (!this.dragging) return;
      this.dragging = false;
      this.move(this.threshold, true);
    });
    canvas.addEventListener("keydown", (event) => this.onSliderKey(event));
    return sheet;
  }

  buildFigures() {
    this.rows = new Map();
    const row = (source, head) => {
      const cells = { count: make("td", { class: "wb-number" }), share: make("td", { class: "wb-number" }),
        upper: make("td", { class: "wb-number wb-soft wb-explorer-exact" }), verdict: make("td", {}) };
      cells.count.dataset.figure = `count ${source}`;
      cells.share.dataset.figure = `share ${source}`;
      cells.upper.dataset.figure = `upper ${source}`;
      this.rows.set(source, cells);
      return make("tr", {}, make("th", { scope: "row" }, head), cells.count, cells.share, cells.upper, cells.verdict);
    };
    this.sourceButtons = new Map();
    const pick = (source) => {
      const own = make("button", { type: "button", class: "wb-explorer-source", title: `Look at ${this.nameOf(source)}`, onclick: () => this.lookAt(source) },
        make("bdi", {}, this.nameOf(source)));
      this.sourceButtons.set(source, own);
      return own;
    };
    const head = (words) => make("thead", {}, make("tr", {}, ...["", "images", words, `at most (${percent(this.spec.confidence, 2)})`, ""].map((text, place) =>
      make("th", { scope: "col", class: place ? "wb-number wb-soft" : null }, text))));
    const sources = this.spec.sources.map((_, source) => row(source, pick(source)));
    if (sources.length > 1) sources.unshift(row(-1, pick(-1)));
    this.figures = make("aside", { class: "wb-explorer-figures", "aria-label": "What the rule does" },
      make("h4", {}, "Known images"), make("table", {}, head("rejected"), make("tbody", {}, row("known", "known"))),
      make("h5", {}, "Unknown images, by source"),
      make("div", { class: "wb-explorer-scroll" }, make("table", {}, head("accepted"), make("tbody", {}, ...sources))),
      make("p", { class: "wb-soft" }, "Accepted: not rejected; a tier may still not fire. “At most”: a one-sided exact bound, each row by itself."));
    return this.figures;
  }

  buildTold() {
    this.told = make("div", { class: "wb-explorer-scroll" });
    const place = make("div", {});
    this.cellTitle = make("h5", {});
    this.cellPart = make("section", { hidden: true, class: "wb-explorer-cell", "aria-label": "Pictures of a cell" }, this.cellTitle, place);
    this.cellStrip = new PictureStrip(this.session, place, { size: 84, empty: "No such image is accepted any more." });
    return make("section", { class: "wb-explorer-told", "aria-label": "Accepted unknown images" },
      make("h5", {}, "As what unknown images are accepted: source × highest category; a number shows its pictures"), this.told, this.cellPart);
  }

  buildPictures() {
    const strip = (name, label) => {
      const place = make("div", { class: `wb-explorer-${name}` });
      return [make("section", { "aria-label": label }, make("h5", {}, label), place),
        new PictureStrip(this.session, place, { size: 84, empty: "No pictures." })];
    };
    const [accepted, acceptedStrip] = strip("accepted", "Just accepted: the nearest to the working point");
    const [rejected, rejectedStrip] = strip("rejected", "Just rejected: the nearest to the working point");
    this.acceptedStrip = acceptedStrip;
    this.rejectedStrip = rejectedStrip;
    return make("div", { class: "wb-explorer-pictures" }, accepted, rejected);
  }

  buildKeys() {
    const keys = [["← →", "one point looser, stricter (with Shift: ten)"], ["Home End", "loosest, strictest point"],
      ["z y", "undo, redo"], ["p", "propose for the goals"], ["o", "reject nothing"], ["s", "next signal"]];
    const rows = keys.map(([key, words]) => make("tr", {}, make("th", { scope: "row" }, make("kbd", {}, key)), make("td", {}, words)));
    return make("details", { class: "wb-soft wb-explorer-keys" }, make("summary", {}, "Keys"), make("table", {}, ...rows));
  }

  // Keys and pointers

  onKey(event) {
    const typing = event.target.closest("input, select, textarea, dialog");
    const control = event.ctrlKey || event.metaKey;
    const actions = {
      z: () => this.act(event.shiftKey ? "redo" : "undo"), y: () => this.act("redo"), p: () => this.act("propose"),
      o: () => this.off(), s: () => this.nextSignal(),
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

  dragCurve(event, keep) {
    const { thresholds, rejected, accepted, all } = this.curve;
    const counts = this.focus < 0 ? all : accepted[this.focus];
    const whole = this.focus < 0 ? this.unknown : this.spec.unknown[this.focus];
    let found = -1;
    let least = Infinity;
    for (let place = 0; place < thresholds.length; place += 1) {
      const away = (this.plot.x(rejected[place] / this.spec.known) - event.offsetX) ** 2 + (this.plot.y(counts[place] / whole) - event.offsetY) ** 2;
      if (away < least) {
        least = away;
        found = place;
      }
    }
    if (found >= 0) this.dragTo(thresholds[found], keep);
  }

  dragHistogram(event, keep) {
    const place = this.nearest(this.plot.valueAt(event.offsetX));
    if (place >= 0) this.dragTo(this.curve.thresholds[place], keep);
  }

  dragTo(limit, keep) {
    if (keep || this.threshold === null || Math.fround(this.threshold) !== limit) this.move(limit, keep);
  }

  typed() {
    if (!("typing" in this.input.dataset)) return;
    const text = this.input.value.trim().replace(",", ".");
    const value = text === "" || text === "none" ? null : Number(text);
    if (value !== null && !(Number.isFinite(value) && Math.fround(value) >= 0 && Math.fround(value) <= Math.fround(this.curve.most))) {
      this.input.setAttribute("aria-invalid", "true");
      this.session.showError(`${text}: a threshold of ${this.signal} is a number between 0 and ${shortestSingle(this.curve.most)}`);
      return;
    }
    delete this.input.dataset.typing;
    this.session.showError("");
    this.move(value === null ? null : Math.fround(value), true);
    this.announce();
  }

  // Showing

  onState() {
    this.takeState();
    this.showState();
    this.drawAll();
  }

  showState() {
    allow(this.undoButton, this.state.undo);
    allow(this.redoButton, this.state.redo);
    for (const [signal, pick] of this.picks) pick.setAttribute("aria-pressed", String(signal === this.signal));
    this.showThreshold();
    this.showFigures();
    this.showTold();
    this.showLegend();
  }

  showMoved() {
    this.showThreshold();
    this.showFigures();
    this.curveSheet.repaint();
    this.histogramSheet.repaint();
  }

  showThreshold() {
    const { threshold } = this;
    if (!("typing" in this.input.dataset)) { // what is being typed stands until it is taken, mended or given up
      this.input.value = threshold === null ? "none" : shortestSingle(threshold);
      this.input.removeAttribute("aria-invalid");
    }
    allow(this.offButton, threshold !== null);
    this.ruleWords.textContent = this.isExact ? this.state.rule : `${this.signal} ${this.signal === "entropy" ? ">" : "<"} ${shortestSingle(threshold ?? 0)} …`;
    const { point } = this;
    const words = `${threshold === null ? "nothing rejected by the signal" : `${this.signal} at ${shortestSingle(threshold)}`}` +
      (point ? `: known rejected ${percent(point.rejected / this.spec.known)}, unknown of ${this.nameOf(this.focus)} accepted ${percent(this.acceptedShare(point, this.focus))}` : "");
    for (const { canvas } of [this.curveSheet, this.histogramSheet]) {
      canvas.setAttribute("aria-valuemax", shortestSingle(this.curve.most));
      canvas.setAttribute("aria-valuenow", shortestSingle(threshold ?? (this.signal === "entropy" ? this.curve.most : 0)));
      canvas.setAttribute("aria-valuetext", words);
    }
  }

  announce() {
    this.showThreshold();
    this.session.say(this.curveSheet.canvas.getAttribute("aria-valuetext"));
  }

  showFigures() {
    const { point, spec } = this;
    const exact = this.isExact && !this.queue.length && !this.acting;
    this.figures.classList.toggle("wb-explorer-stale", !exact);
    const fill = (name, count, whole, upper, goal) => {
      const cells = this.rows.get(name);
      const share = count / whole;
      cells.count.textContent = count === null ? "…" : `${count.toLocaleString("en")} of ${whole.toLocaleString("en")}`;
      cells.share.textContent = count === null ? "…" : percent(share);
      cells.upper.textContent = upper === undefined ? "" : exact ? percent(upper) : "…";
      const judged = goal !== null && goal !== undefined && count !== null;
      cells.verdict.textContent = judged ? `${share <= goal ? "✓" : "✕"} goal ${percent(goal)}` : "";
    };
    const goals = spec.goals || {};
    fill("known", point ? point.rejected : null, spec.known, this.state.upper[0], goals.known_rejected);
    if (this.rows.has(-1)) fill(-1, point ? point.accepted.reduce((sum, count) => sum + count, 0) : null, this.unknown);
    spec.sources.forEach((_, source) => fill(source, point ? point.accepted[source] : null, spec.unknown[source], this.state.upper[1 + source], goals.unknown_accepted));
    for (const [source, own] of this.sourceButtons) own.setAttribute("aria-pressed", String(source === this.focus));
  }

  showTold() {
    const { categories, accepted, more } = this.state;
    const key = JSON.stringify([categories, accepted]);
    if (key === this.toldKey) return;
    this.toldKey = key;
    const held = this.told.contains(document.activeElement) ? document.activeElement.dataset.cell : null;
    if (!categories.length) {
      this.told.replaceChildren(make("p", { class: "wb-soft" }, "No unknown image is accepted."));
      return;
    }
    const word = (category) => category || "several";
    const head = make("tr", {}, make("th", { scope: "col" }, ""), ...categories.map((name) => make("th", { scope: "col", class: "wb-number", title: word(name) }, make("bdi", {}, word(name)))));
    const rows = accepted.map((counts, source) => make("tr", {}, make("th", { scope: "row", title: this.nameOf(source) }, make("bdi", {}, this.nameOf(source))),
      ...counts.map((count, place) => make("td", { class: "wb-number" }, count ? make("button", {
        type: "button", "data-cell": `${source} ${place}`, "aria-label": `${count} of ${this.nameOf(source)} accepted as ${word(categories[place])}: show pictures`,
        onclick: () => this.openCell(source, categories[place]),
      }, count.toLocaleString("en")) : make("span", { class: "wb-soft" }, "·")))));
    const parts = [make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows))];
    if (more[0] || more[1]) parts.push(make("p", { class: "wb-soft" }, `and ${more[0]} more sources, ${more[1]} more categories: accepted() has them all`));
    this.told.replaceChildren(...parts);
    if (held) ([...this.told.querySelectorAll("button")].find((own) => own.dataset.cell === held) || this.session.root).focus({ preventScroll: true });
  }

  showLegend() {
    const never = this.focus < 0 ? this.curve.never.slice(1).reduce((sum, count) => sum + count, 0) : this.curve.never[1 + this.focus];
    this.legend.replaceChildren(make("span", {}, "▇ known"), make("span", {}, "▨ unknown of ", make("bdi", {}, this.nameOf(this.focus))),
      make("span", {}, "━ this source, ┄ the others"), make("span", {}, "◆ working point"));
    if (this.curve.never[0] + never) {
      this.legend.append(make("span", {}, `${this.curve.never[0].toLocaleString("en")} known and ${never.toLocaleString("en")} unknown images are below every threshold`));
    }
  }

  openCell(source, category) {
    this.cell = { source, category };
    this.refreshPictures();
  }

  refreshPictures() {
    clearTimeout(this.pictureTimer);
    this.pictureTimer = setTimeout(async () => {
      const { cell } = this;
      try {
        const { content } = await this.session.ask("near", { most: 12 });
        this.acceptedStrip.show(content.accepted);
        this.rejectedStrip.show(content.rejected);
        if (!cell) return;
        const { content: found } = await this.session.ask("cell", { source: this.spec.sources[cell.source], category: cell.category, most: 24 });
        if (cell !== this.cell) return;
        this.cellPart.hidden = false;
        this.cellTitle.replaceChildren("Unknown of ", make("bdi", {}, this.nameOf(cell.source)), " accepted as ", make("bdi", {}, cell.category || "several"), ": the most surely accepted first");
        this.cellStrip.show(found.items);
      } catch {
        // the error stands in the widget
      }
    }, 120);
  }

  // Drawing

  drawAll() {
    if (!this.curveSheet || !this.legend) return;
    this.layers = {};
    this.curveSheet.repaint();
    this.histogramSheet.repaint();
    this.showLegend();
  }

  /** What does not move is drawn once and kept as a picture. */
  layer(name, context, width, height, draw) {
    const key = `${width}×${height}·${context.canvas.width}·${this.signal}·${this.focus}·${this.session.dark}`;
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
    this.plot = { ...this.plot, x: (share) => left + (right - left) * share, y: (share) => bottom - (bottom - top) * share };
    this.layer("curve", context, width, height, (own) => this.drawLines(own, [left, right, top, bottom]));
    const { point } = this;
    if (!point) return;
    const { colours } = this.session;
    const [x, y] = [this.plot.x(point.rejected / this.spec.known), this.plot.y(this.acceptedShare(point, this.focus))];
    context.strokeStyle = colours.second;
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(left, y);
    context.lineTo(x, y);
    context.lineTo(x, bottom);
    context.stroke();
    this.drawMark(context, x, y);
  }

  drawMark(context, x, y) {
    const { colours } = this.session;
    context.beginPath();
    [[0, -8], [8, 0], [0, 8], [-8, 0]].forEach(([dx, dy], place) => context[place ? "lineTo" : "moveTo"](x + dx, y + dy));
    context.closePath();
    context.fillStyle = colours.second;
    context.fill();
    context.strokeStyle = colours.ground;
    context.lineWidth = 1.5;
    context.stroke();
  }

  drawLines(context, [left, right, top, bottom]) {
    const { colours } = this.session;
    const { plot, spec } = this;
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
    context.fillText("known images rejected", right, bottom + 28);
    context.save();
    context.translate(11, top);
    context.rotate(-Math.PI / 2);
    context.fillText("unknown images accepted", 0, 0);
    context.restore();
    this.drawGoals(context, [left, right, top, bottom]);
    const { accepted, all } = this.curve;
    accepted.forEach((counts, source) => {
      if (source === this.focus) return;
      context.strokeStyle = colours.soft;
      context.lineWidth = 1;
      context.setLineDash(EXPLORER_DASHES[1 + (source % (EXPLORER_DASHES.length - 1))]);
      this.trace(context, counts, spec.unknown[source]);
    });
    context.setLineDash([]);
    context.strokeStyle = colours.first;
    context.lineWidth = 2.2;
    this.trace(context, this.focus < 0 ? all : accepted[this.focus], this.focus < 0 ? this.unknown : spec.unknown[this.focus]);
  }

  /** A curve as stairs: nothing between two thresholds is promised. */
  trace(context, counts, whole) {
    const { rejected } = this.curve;
    context.beginPath();
    let before = null;
    rejected.forEach((count, place) => {
      const [x, y] = [this.plot.x(count / this.spec.known), this.plot.y(counts[place] / whole)];
      if (before === null) context.moveTo(x, y);
      else {
        context.lineTo(x, before);
        context.lineTo(x, y);
      }
      before = y;
    });
    context.stroke();
  }

  drawGoals(context, [left, right, top, bottom]) {
    const { unknown_accepted: accepted = null, known_rejected: rejected = null } = this.spec.goals || {};
    context.strokeStyle = this.session.colours.soft;
    context.fillStyle = this.session.colours.soft;
    context.setLineDash([3, 3]);
    context.beginPath();
    if (accepted !== null) {
      context.moveTo(left, this.plot.y(accepted));
      context.lineTo(right, this.plot.y(accepted));
    }
    if (rejected !== null) {
      context.moveTo(this.plot.x(rejected), top);
      context.lineTo(this.plot.x(rejected), bottom);
    }
    context.stroke();
    context.setLineDash([]);
    context.textAlign = "right";
    if (accepted !== null) context.fillText("goal: accepted at most", right - 4, this.plot.y(accepted) - 4);
    context.textAlign = "left";
    if (rejected !== null) context.fillText("goal: rejected at most", this.plot.x(rejected) + 4, top + 10);
  }

  drawHistogram(context, width, height) {
    const [left, right, top, bottom] = [44, width - 12, 8, height - 32];
    const { most } = this.curve;
    this.plot = {
      ...this.plot,
      valueX: (value) => left + ((right - left) * value) / most,
      valueAt: (x) => most * Math.min(1, Math.max(0, (x - left) / (right - left))),
    };
    this.layer("histogram", context, width, height, (own) => this.drawBars(own, [left, right, top, bottom]));
    if (this.threshold === null) return;
    const { colours } = this.session;
    const x = this.plot.valueX(this.threshold);
    context.strokeStyle = colours.second;
    context.lineWidth = 2.5;
    context.beginPath();
    context.moveTo(x, top);
    context.lineTo(x, bottom);
    context.stroke();
    context.font = "11px system-ui, sans-serif";
    context.fillStyle = colours.ink;
    const low = this.signal !== "entropy";
    context.textAlign = low ? "right" : "left";
    context.fillText(low ? "◂ rejected" : "rejected ▸", x + (low ? -12 : 12), top + 10);
    this.drawMark(context, x, top + 8);
  }

  drawBars(context, [left, right, top, bottom]) {
    const { colours } = this.session;
    const { bins } = this.spec;
    const { bars, allBars, most: end } = this.curve;
    const sides = [bars[0], this.focus < 0 ? allBars : bars[1 + this.focus]];
    let most = 1;
    for (let bin = 0; bin < bins; bin += 1) most = Math.max(most, sides[0][bin] + sides[1][bin]);
    const y = (count) => bottom - ((bottom - top) * Math.log1p(count)) / Math.log1p(most);
    const fills = [colours.first, explorerHatch(context, colours.soft)];
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
    context.font = "11px system-ui, sans-serif";
    for (const tick of [0, 0.25, 0.5, 0.75, 1]) {
      context.textAlign = tick === 1 ? "right" : tick === 0 ? "left" : "center";
      context.fillText(String(Number((tick * end).toPrecision(3))), this.plot.valueX(tick * end), bottom + 14);
    }
    context.textAlign = "right";
    context.fillText(this.signal === "entropy" ? "entropy in nats" : this.signal, right, bottom + 28);
    context.fillText(most.toLocaleString("en"), left - 6, top + 9);
    context.fillText("0", left - 6, bottom);
  }
}

/** Diagonal lines, which tell without colour. */
function explorerHatch(context, colour) {
  const tile = document.createElement("canvas");
  tile.width = 6;
  tile.height = 6;
  const own = tile.getContext("2d");
  own.strokeStyle = colour;
  own.beginPath();
  for (const at of [-6, 0, 6]) {
    own.moveTo(at, 6);
    own.lineTo(at + 6, 0);
  }
  own.stroke();
  return context.createPattern(tile, "repeat");
}

export default {
  render({ model, el }) {
    const session = new Session(model, el, "explorer", "Rejection explorer");
    new Explorer(session);
    return () => session.close();
  },
};
