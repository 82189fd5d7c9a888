// The rejection explorer. What is drawn while the working point is dragged comes from points that were sent once, each of
// them exact; bounds, what unknown images are told as, and pictures come from the kernel a moment later.

const EXPLORER_DASHES = [[], [7, 3], [2, 2], [7, 3, 2, 3], [2, 5]];

/** One signal's columns, as views of the bytes that hold them all. */
function unpackSignal(buffer, { signal, start, count, most, never }, sources, bins, hasTold) {
  let at = 4 * start;
  const take = (Type, length) => {
    const column = new Type(buffer, at, length);
    at += 4 * length;
    return column;
  };
  const takeAll = (many, Type, length) => Array.from({ length: many }, () => take(Type, length));
  const sum = (columns, Type, length) => {
    const whole = new Type(length);
    for (const column of columns) column.forEach((value, place) => { whole[place] += value; });
    return whole;
  };
  const thresholds = take(Float32Array, count);
  const rejected = take(Int32Array, count);
  const accepted = takeAll(sources, Int32Array, count);
  const told = takeAll(hasTold ? sources : 0, Int32Array, count);
  const bars = takeAll(1 + sources, Uint32Array, bins);
  return {
    signal, most, never, thresholds, rejected, accepted, told, bars,
    allAccepted: sum(accepted, Int32Array, count), allTold: sum(told, Int32Array, count), allBars: sum(bars.slice(1), Uint32Array, bins),
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
    this.hasTold = this.model.get("_state").unknown_told !== null;
    this.signals = new Map(signals.map((place) => [place.signal, unpackSignal(buffer, place, sources.length, bins, this.hasTold)]));
    this.unknown = unknown.reduce((sum, count) => sum + count, 0);
    this.focus = sources.length > 1 ? -1 : 0; // −1: the unknown images of every source
    this.cell = null;
    this.orders = new Orders(session, () => this.onState());
    this.layers = new Layers();
    this.dragging = false;
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
    this.signal = this.state.signal;
    if (!this.orders.waiting && !this.dragging) this.threshold = this.state.threshold;
  }

  get curve() {
    return this.signals.get(this.signal);
  }

  nameOf(source) {
    return source < 0 ? "every source" : this.spec.names[source];
  }

  /** The place of the point nearest to a threshold, of two the one that rejects less; −1 where there are none. */
  nearest(limit) {
    return nearestPlace(this.curve.thresholds, limit, this.signal === "entropy" ? -1 : 1);
  }

  get isExact() {
    const { threshold, signal } = this.state;
    if (signal !== this.signal || (threshold === null) !== (this.threshold === null)) return false;
    return threshold === null || Math.fround(threshold) === Math.fround(this.threshold);
  }

  /** {rejected, accepted, told} at the threshold: what the kernel said of it, or a point of the curve; else null. */
  get point() {
    const { state } = this;
    if (this.isExact) return { rejected: state.known_rejected, accepted: state.unknown_accepted, told: state.unknown_told };
    if (this.threshold === null) return null;
    const { thresholds, rejected, accepted, told } = this.curve;
    const place = this.nearest(Math.fround(this.threshold));
    if (place < 0 || thresholds[place] !== Math.fround(this.threshold)) return null;
    const at = (columns) => columns.map((own) => own[place]);
    return { rejected: rejected[place], accepted: at(accepted), told: this.hasTold ? at(told) : null };
  }

  /** Of counts by source that of the source looked at, as a share of its unknown images. */
  shareLookedAt(counts) {
    return countOf(counts, this.focus) / this.wholeOf(this.focus);
  }

  wholeOf(source) {
    return source < 0 ? this.unknown : this.spec.unknown[source];
  }

  // Moving

  /** Moves the threshold at once here, and then in the kernel. */
  move(limit, keep) {
    this.threshold = limit;
    const done = () => keep && this.refreshPictures();
    this.orders.latest("move", this.signal, { threshold: limit, signal: this.signal, keep }, keep).then(done, done);
    this.showMoved();
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
    const asked = this.orders.ask(name, content);
    this.showFigures();
    try {
      const { content: told } = await asked;
      this.refreshPictures();
      if (told.reason) this.session.say(`Nothing was moved: ${told.reason}.`);
      else this.announce();
    } catch {
      // the error stands in the widget
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
      make("span", { class: "wb-mark wb-split", title: spec.measured_on }, `△ ${spec.measured_on}`),
      make("span", { class: "wb-soft" }, `${spec.images.toLocaleString("en")} images${left}`),
      make("span", { class: "wb-space" }), this.undoButton, this.redoButton));
    root.append(make("div", { class: "wb-explorer-body" }, this.buildLarge(button), this.buildFigures()));
    root.append(this.buildTold(), this.buildPictures(), status, listKeys([
      ["← →", "one point looser, stricter (with Shift: ten)"], ["Home End", "loosest, strictest point"], ["z y", "undo, redo"],
      ["p", "propose for the goals"], ["o", "reject nothing"], ["s", "next signal"],
    ]));
    onLetters(root, {
      z: ({ shiftKey }) => this.act(shiftKey ? "redo" : "undo"), y: () => this.act("redo"), p: () => this.act("propose"),
      o: () => this.off(), s: () => this.nextSignal(),
    });
  }

  buildLarge(button) {
    this.picks = new Map([...this.signals.keys()].map((signal) => [signal,
      button(signal, "Look at this signal, at no more known images rejected than now (s: next)", () => this.choose(signal), "signal")]));
    this.input = makeField(this.session, { class: "wb-explorer-threshold", "aria-label": "Threshold of the signal" }, {
      parse: (text) => this.parse(text), show: () => this.showThreshold(),
      take: (limit) => {
        this.move(limit, true);
        this.announce();
      },
    });
    this.offButton = button("Reject nothing", "Nothing is rejected by the signal (o)", () => this.off(), "off");
    const walk = (text, by, words) => make("button", {
      type: "button", class: `wb-explorer-${by < 0 ? "looser" : "stricter"}`, "aria-label": words, title: words, onclick: () => this.step(by),
    }, text);
    const slider = (name, label, draw, drag) => makeSlider(this.session, { class: `wb-explorer-${name}`, "aria-label": label }, draw, {
      drag, grab: () => { this.dragging = true; }, step: (by) => this.step(by), toEnd: (last) => this.toEnd(last),
      drop: () => {
        this.dragging = false;
        this.announce();
      },
      cancel: () => {
        this.dragging = false;
        this.move(this.threshold, true);
      },
    });
    this.curveSheet = slider("curve", "Working point: unknown images accepted against known images rejected",
      (context, width, height) => this.drawCurve(context, width, height), (event, keep) => this.dragCurve(event, keep));
    this.histogramSheet = slider("histogram", "Working point on the signal",
      (context, width, height) => this.drawHistogram(context, width, height), (event, keep) => this.dragHistogram(event, keep));
    this.legend = make("div", { class: "wb-row wb-soft wb-explorer-legend" });
    return make("div", { class: "wb-explorer-large" },
      make("div", { class: "wb-row", role: "group", "aria-label": "Signal" }, make("span", { class: "wb-soft" }, "Reject by"), ...this.picks.values()),
      make("div", { class: "wb-row" }, walk("−", -1, "One point looser"), this.input, walk("+", 1, "One point stricter"),
        button("Propose for goals", "What drafting chooses for the goals by this signal (p)", () => this.act("propose"), "propose"), this.offButton, this.ruleWords),
      this.curveSheet.canvas, this.histogramSheet.canvas, this.legend);
  }

  /** One row for the known images, and for each source one of those accepted and, with goals, one of those told. */
  buildFigures() {
    this.rows = new Map();
    this.sourceButtons = new Map();
    const row = (name, head, words) => {
      const cell = (kind, classes) => make("td", { class: classes, "data-figure": `${kind} ${name}` });
      const cells = {
        count: cell("count", "wb-number"), share: cell("share", "wb-number"), upper: cell("upper", "wb-number wb-soft wb-explorer-exact"),
        verdict: cell("verdict", null),
      };
      this.rows.set(name, cells);
      return make("tr", {}, head, make("td", { class: "wb-soft" }, words), cells.count, cells.share, cells.upper, cells.verdict);
    };
    const rowsOf = (source) => {
      const pick = make("button", {
        type: "button", class: "wb-explorer-source", title: `Look at ${this.nameOf(source)}`, onclick: () => this.lookAt(source),
      }, make("bdi", {}, this.nameOf(source)));
      this.sourceButtons.set(source, pick);
      const head = make("th", { scope: "rowgroup", rowspan: this.hasTold ? 2 : 1 }, pick);
      const rows = [row(`accepted ${source}`, head, "accepted")];
      if (this.hasTold) rows.push(row(`told ${source}`, null, "told"));
      return make("tbody", {}, ...rows);
    };
    const head = make("thead", {}, make("tr", {}, ...["", "", "images", "share", `≤ (${percent(this.spec.confidence, 0)})`, this.spec.goals ? "goal" : ""].map((text, place) =>
      make("th", { scope: "col", class: place > 1 ? "wb-number wb-soft" : null }, text))));
    const sources = this.spec.sources.map((_, source) => source);
    if (sources.length > 1) sources.unshift(-1);
    const told = this.hasTold ? " Told (a category): accepted, and a tier fires, as drafted without a rule; this is what the goals limit." : "";
    this.figures = make("aside", { class: "wb-explorer-figures", "aria-label": "What the rule does" },
      make("div", { class: "wb-explorer-scroll" }, make("table", {}, head,
        make("tbody", {}, row("known", make("th", { scope: "row" }, "known images"), "rejected")), ...sources.map(rowsOf))),
      make("p", { class: "wb-soft" }, `Accepted: not rejected; a tier may still not fire.${told} “≤”: a one-sided exact bound, each row by itself.`));
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
    const strip = (name, label) => makeStrip(this.session, `wb-explorer-${name}`, label, "No pictures.");
    this.acceptedStrip = strip("accepted", "Just accepted: the nearest to the working point");
    this.rejectedStrip = strip("rejected", "Just rejected: the nearest to the working point");
    return make("div", { class: "wb-two" }, this.acceptedStrip.part, this.rejectedStrip.part);
  }

  // Pointers

  dragCurve(event, keep) {
    const { thresholds, rejected, accepted, allAccepted } = this.curve;
    const counts = this.focus < 0 ? allAccepted : accepted[this.focus];
    const x = (place) => this.plot.x(rejected[place] / this.spec.known);
    const y = (place) => this.plot.y(counts[place] / this.wholeOf(this.focus));
    const found = nearestPoint(thresholds.length, x, y, event);
    if (found >= 0) this.dragTo(thresholds[found], keep);
  }

  dragHistogram(event, keep) {
    const place = this.nearest(this.plot.valueAt(event.offsetX));
    if (place >= 0) this.dragTo(this.curve.thresholds[place], keep);
  }

  dragTo(limit, keep) {
    if (keep || this.threshold === null || Math.fround(this.threshold) !== limit) this.move(limit, keep);
  }

  /** The threshold that a text says, null for none; throws what is wrong with it. */
  parse(text) {
    if (text === "" || text === "none") return null;
    const value = Math.fround(Number(text));
    if (!(Number.isFinite(value) && value >= 0 && value <= Math.fround(this.curve.most))) {
      throw new Error(`${text}: a threshold of ${this.signal} is a number between 0 and ${shortest(this.curve.most)}`);
    }
    return value;
  }

  // Showing

  onState() {
    this.takeState();
    this.showState();
    this.drawAll();
    if (!this.orders.waiting && this.pictured !== this.pictureKey) this.refreshPictures();
  }

  /** Of what the pictures are. */
  get pictureKey() {
    return `${this.signal} ${this.threshold}`;
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
    showField(this.input, threshold === null ? "none" : shortest(threshold));
    allow(this.offButton, threshold !== null);
    this.ruleWords.textContent = this.isExact ? this.state.rule : `${this.signal} ${this.signal === "entropy" ? ">" : "<"} ${shortest(threshold ?? 0)} …`;
    const { point } = this;
    const words = `${threshold === null ? "nothing rejected by the signal" : `${this.signal} at ${shortest(threshold)}`}` +
      (point ? `: known rejected ${percent(point.rejected / this.spec.known)}, unknown of ${this.nameOf(this.focus)} accepted ${percent(this.shareLookedAt(point.accepted))}` : "");
    for (const { canvas } of [this.curveSheet, this.histogramSheet]) {
      canvas.setAttribute("aria-valuemax", shortest(this.curve.most));
      canvas.setAttribute("aria-valuenow", shortest(threshold ?? (this.signal === "entropy" ? this.curve.most : 0)));
      canvas.setAttribute("aria-valuetext", words);
    }
  }

  announce() {
    this.showThreshold();
    this.session.say(this.curveSheet.canvas.getAttribute("aria-valuetext"));
  }

  showFigures() {
    const { point, spec, state } = this;
    const exact = this.isExact && !this.orders.waiting;
    this.figures.classList.toggle("wb-explorer-stale", !exact);
    const fill = (name, count, whole, upper, goal) => {
      const cells = this.rows.get(name);
      const share = count / whole;
      cells.count.textContent = count === null ? "…" : `${count.toLocaleString("en")} of ${whole.toLocaleString("en")}`;
      cells.share.textContent = count === null ? "…" : percent(share);
      cells.upper.textContent = upper === undefined ? "" : exact ? percent(upper) : "…";
      const judged = goal !== null && goal !== undefined && count !== null;
      cells.verdict.textContent = judged ? `${share <= goal ? "✓" : "✕"} ≤ ${percent(goal)}` : "";
    };
    const goals = spec.goals || {};
    fill("known", point ? point.rejected : null, spec.known, state.upper[0], goals.known_rejected);
    for (const [source, pick] of this.sourceButtons) {
      pick.setAttribute("aria-pressed", String(source === this.focus));
      const of = (counts) => (point ? countOf(counts, source) : null);
      fill(`accepted ${source}`, of(point?.accepted), this.wholeOf(source), source < 0 ? undefined : state.upper[1 + source]);
      if (this.hasTold) fill(`told ${source}`, of(point?.told), this.wholeOf(source), state.told_upper[source], source < 0 ? null : goals.unknown_accepted);
    }
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
      make("span", {}, "━ accepted, ┄ other sources"), ...(this.hasTold ? [make("span", {}, "╍ □ told a category")] : []), make("span", {}, "◆ working point"));
    if (this.curve.never[0] + never) {
      this.legend.append(make("span", {}, `${this.curve.never[0].toLocaleString("en")} known and ${never.toLocaleString("en")} unknown images are below every threshold`));
    }
  }

  openCell(source, category) {
    this.cell = { source, category };
    this.refreshPictures();
  }

  refreshPictures() {
    this.pictured = this.pictureKey;
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
    this.curveSheet.repaint();
    this.histogramSheet.repaint();
    this.showLegend();
  }

  drawCurve(context, width, height) {
    const [left, right, top, bottom] = [44, width - 12, 10, height - 34];
    this.plot = { ...this.plot, x: (share) => left + (right - left) * share, y: (share) => bottom - (bottom - top) * share };
    this.layers.draw("curve", this.look, context, width, height, (own) => this.drawLines(own, [left, right, top, bottom]));
    const { point } = this;
    if (!point) return;
    const { colours } = this.session;
    const [x, y] = [this.plot.x(point.rejected / this.spec.known), this.plot.y(this.shareLookedAt(point.accepted))];
    if (point.told) drawMark(context, "square", x, this.plot.y(this.shareLookedAt(point.told)), 4.5, colours, false);
    context.strokeStyle = colours.second;
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(left, y);
    context.lineTo(x, y);
    context.lineTo(x, bottom);
    context.stroke();
    drawMark(context, "diamond", x, y, 6.5, colours, true);
  }

  /** Of what the layers are. */
  get look() {
    return `${this.signal}·${this.focus}·${this.session.dark}`;
  }

  drawLines(context, frame) {
    const { colours } = this.session;
    const { plot, spec } = this;
    drawUnitSquare(context, colours, frame, "known images rejected", "unknown images");
    const { known_rejected: mostRejected = null, unknown_accepted: mostTold = null } = spec.goals || {};
    if (mostRejected !== null) drawGoal(context, colours, frame, { x: plot.x(mostRejected), words: "goal: rejected at most" });
    if (mostTold !== null) drawGoal(context, colours, frame, { y: plot.y(mostTold), words: "goal: told a category at most" });
    const { accepted, allAccepted, told, allTold } = this.curve;
    accepted.forEach((counts, source) => {
      if (source === this.focus) return;
      context.strokeStyle = colours.soft;
      context.lineWidth = 1;
      context.setLineDash(EXPLORER_DASHES[1 + (source % (EXPLORER_DASHES.length - 1))]);
      this.trace(context, counts, source);
    });
    if (this.hasTold) {
      context.strokeStyle = colours.second;
      context.lineWidth = 1.6;
      context.setLineDash([6, 4]);
      this.trace(context, this.focus < 0 ? allTold : told[this.focus], this.focus);
    }
    context.setLineDash([]);
    context.strokeStyle = colours.first;
    context.lineWidth = 2.2;
    this.trace(context, this.focus < 0 ? allAccepted : accepted[this.focus], this.focus);
  }

  trace(context, counts, source) {
    const { rejected } = this.curve;
    const whole = this.wholeOf(source);
    traceStairs(context, rejected.length, (place) => [this.plot.x(rejected[place] / this.spec.known), this.plot.y(counts[place] / whole)]);
    context.stroke();
  }

  drawHistogram(context, width, height) {
    const [left, right, top, bottom] = [44, width - 12, 8, height - 32];
    const { most } = this.curve;
    this.plot = {
      ...this.plot,
      valueX: (value) => left + ((right - left) * value) / most,
      valueAt: (x) => most * Math.min(1, Math.max(0, (x - left) / (right - left))),
    };
    const { colours } = this.session;
    this.layers.draw("histogram", this.look, context, width, height, (own) => {
      const { bars, allBars } = this.curve;
      const fills = [colours.first, hatch(own, colours.soft, "lines")];
      drawBars(own, colours, [left, right, top, bottom], [bars[0], this.focus < 0 ? allBars : bars[1 + this.focus]], fills, most);
      own.fillText(this.signal === "entropy" ? "entropy in nats" : this.signal, right, bottom + 28);
    });
    if (this.threshold === null) return;
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
    context.strokeStyle = colours.ground;
    context.lineWidth = 3;
    context.strokeText(low ? "◂ rejected" : "rejected ▸", x + (low ? -12 : 12), top + 10);
    context.fillText(low ? "◂ rejected" : "rejected ▸", x + (low ? -12 : 12), top + 10);
    drawMark(context, "diamond", x, top + 8, 6.5, colours, true);
  }

}

/** Of counts by source the one of a source, of −1 their sum. */
function countOf(counts, source) {
  return source < 0 ? counts.reduce((sum, count) => sum + count, 0) : counts[source];
}

export default {
  render({ model, el }) {
    const session = new Session(model, el, "explorer", "Rejection explorer");
    new Explorer(session);
    return () => session.close();
  },
};
