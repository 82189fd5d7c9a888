// What to label next. The curves are sent once and drawn here; every number comes from the kernel.

const LABEL_DASHES = [[], [7, 4], [2, 3], [8, 3, 2, 3]];
const LABEL_SHOWN = 12;

class LabelNextView {
  constructor(session) {
    this.session = session;
    this.model = session.model;
    this.spec = this.model.get("_spec");
    this.shown = 0;
    this.start = 0;
    const helped = this.spec.promises.findIndex(({ curve }) => curve.length);
    if (helped > 0) this.shown = helped;
    this.orders = new Orders(session, () => this.onState());
    this.build();
    const changed = () => this.onState();
    this.model.on("change:_state", changed);
    session.stops.push(() => this.model.off("change:_state", changed));
    session.redraw = () => this.sheet && this.sheet.repaint();
    this.onState();
  }

  build() {
    const { root, status } = this.session;
    const { spec } = this;
    this.rows = spec.promises.map((promise, number) => this.buildPromise(promise, number));
    const list = make("div", { class: "wb-label-promises", role: "group", "aria-label": "Refused promises" },
      ...this.rows.map(({ button }) => button));
    if (!this.rows.length) list.append(make("p", { class: "wb-soft" }, "No promise was refused."));
    this.slider = make("input", {
      type: "range", class: "wb-label-power", min: 100 * spec.lowest, max: 100 * spec.highest, step: 1,
      "aria-label": "Power: chance that a promise is certified, in percent",
      oninput: () => this.onSlide(), onkeydown: (event) => event.stopPropagation(),
    });
    this.powerText = make("output", { class: "wb-label-power-text" });
    this.count = make("p", { class: "wb-label-count" });
    this.told = make("div", { class: "wb-label-told" });
    this.sheet = new Sheet(this.session, { class: "wb-label-curve", role: "img" }, (...given) => this.draw(...given));
    this.button = make("button", {
      type: "button", class: "wb-label-write", onclick: () => this.write(),
    }, "Make the queue");
    this.path = make("input", {
      class: "wb-label-path", value: spec.out, "aria-label": "File to write, .csv or .jsonl",
      onkeydown: (event) => { if (event.key === "Enter") this.write(); event.stopPropagation(); },
    });
    this.written = make("p", { class: "wb-label-written" });
    this.pictures = make("div", { class: "wb-label-pictures" });
    this.strip = new PictureStrip(this.session, this.pictures, { size: 84, empty: "Nothing is queued." });
    this.back = make("button", { type: "button", class: "wb-label-back", onclick: () => this.page(-1) }, "‹ Earlier");
    this.further = make("button", { type: "button", class: "wb-label-further", onclick: () => this.page(1) }, "Later ›");
    this.where = make("span", { class: "wb-soft wb-label-where" });
    this.remarks = make("ul", { class: "wb-label-remarks wb-soft" });
    root.append(
      make("header", { class: "wb-row" }, make("h3", {}, spec.title),
        make("span", { class: "wb-mark" }, "drawn at random, never by score")),
      make("div", { class: "wb-label-body" },
        make("div", {}, make("h4", {}, "Refused promises"), list),
        make("div", { class: "wb-label-main" },
          make("div", { class: "wb-row" }, make("label", {}, "Power ", this.slider), this.powerText),
          this.count, this.sheet.canvas, this.told,
          make("div", { class: "wb-row" }, this.button, make("label", { class: "wb-soft" }, "as ", this.path)),
          this.written)),
      make("h4", {}, "First in the queue"), this.pictures,
      make("div", { class: "wb-row" }, this.back, this.further, this.where), this.remarks, status);
  }

  buildPromise(promise, number) {
    const needed = make("b", { class: "wb-label-needed" });
    const button = make("button", {
      type: "button", class: "wb-label-promise", "data-number": number, onclick: () => this.select(number),
    },
    make("span", { class: "wb-label-head" }, make("bdi", { class: "wb-label-name" }, promise.name), needed),
    make("span", { class: "wb-label-outlook" }, `${promise.curve.length ? "✓" : "✕"} ${promise.outlook}`),
    make("bdi", { class: "wb-soft wb-label-reason" }, promise.reason));
    return { button, needed };
  }

  select(number) {
    this.shown = number;
    this.showNumbers();
    this.sheet.repaint();
  }

  onSlide() {
    const power = Number(this.slider.value) / 100;
    this.power = power;
    this.powerText.textContent = percent(power, 0);
    this.sheet.repaint();
    this.orders.latest("choose", "power", { power }).catch(() => {}); // the error stands in the widget
  }

  onState() {
    this.state = this.model.get("_state");
    if (!this.orders.waiting || this.power === undefined) {
      this.power = this.state.power;
      this.slider.value = String(Math.round(100 * this.power));
    }
    this.powerText.textContent = percent(this.power, 0);
    this.showNumbers();
    this.showWritten();
    this.sheet.repaint();
    const ids = this.state.items.map(({ id }) => id).join("\n") + this.state.queue;
    if (ids !== this.ids) {
      this.ids = ids;
      this.start = 0;
      this.showPage(this.state.items);
    }
    this.remarks.replaceChildren(...this.state.remarks.map((text) => make("li", {}, text)));
  }

  showNumbers() {
    const { state } = this;
    this.rows.forEach(({ button, needed }, number) => {
      const count = state.needed[number];
      needed.textContent = count === null ? "–" : `${count.toLocaleString("en")} images`;
      button.setAttribute("aria-pressed", String(number === this.shown));
    });
    const short = state.images > state.pool
      ? ` The run holds only ${state.pool.toLocaleString("en")} that may be drawn.` : "";
    this.count.textContent =
      `${state.images.toLocaleString("en")} images give every promise that labels help a chance of ${percent(state.power, 0)}.${short}`;
    const promise = this.spec.promises[this.shown];
    if (promise) {
      const kinds = Object.entries(state.expected[this.shown]).map(([kind, count]) => `${count.toLocaleString("en")} ${kind}`);
      this.told.replaceChildren(
        make("p", {}, make("b", {}, make("bdi", {}, promise.name)), ` · counted ${promise.counted}`),
        make("p", { class: "wb-soft" }, promise.remark),
        make("p", { class: "wb-label-kinds" }, kinds.length ? `Expected among them: ${kinds.join(", ")}.` : ""));
      const count = state.needed[this.shown];
      this.sheet.canvas.setAttribute("aria-label", count === null
        ? `${promise.name}: ${promise.outlook}`
        : `Power against images for ${promise.name}: ${count} images for ${percent(state.power, 0)}`);
    }
    allow(this.button, state.queue > 0);
    this.button.textContent = state.queue ? `Make the queue (${state.queue.toLocaleString("en")} images)` : "Nothing to queue";
  }

  showWritten() {
    const { written } = this.state;
    const stale = written && written.power !== this.state.power ? " (at another power than the one chosen now)" : "";
    this.written.replaceChildren(...(written
      ? [make("b", {}, `✓ ${written.images.toLocaleString("en")} images in `), make("code", {}, written.path), `${stale}. ${written.next}`]
      : []));
  }

  async write() {
    if (!this.state.queue) return;
    try {
      const { content } = await this.orders.ask("write", { path: this.path.value.trim() });
      const { written } = this.model.get("_state");
      if (written) this.session.say(content.new ? `${written.path}: written.` : `${written.path}: holds just this queue already.`);
    } catch {
      this.session.say(""); // the error stands in the widget
    }
  }

  async page(by) {
    const start = this.start + by * LABEL_SHOWN;
    if (start < 0 || start >= this.state.queue) return;
    try {
      const { content } = await this.session.ask("more", { start, count: LABEL_SHOWN });
      this.start = start;
      this.showPage(content.items);
    } catch {
      this.session.say(""); // the error stands in the widget
    }
  }

  showPage(items) {
    this.strip.show(items);
    const last = this.start + items.length;
    this.where.textContent = items.length ? `${this.start + 1}–${last} of ${this.state.queue.toLocaleString("en")}` : "";
    allow(this.back, this.start > 0);
    allow(this.further, last < this.state.queue);
  }

  draw(context, width, height) {
    const { ink, soft, line, first, second } = this.session.colours;
    const box = { left: 44, right: width - 12, top: 10, bottom: height - 34 };
    const drawn = this.spec.promises.map((promise, number) => ({ ...promise, number })).filter(({ curve }) => curve.length);
    context.font = "11px system-ui, sans-serif";
    context.fillStyle = soft;
    if (!drawn.length) {
      context.fillText("No number of labels can be told for any promise.", box.left, height / 2);
      return;
    }
    const own = drawn.find(({ number }) => number === this.shown);
    const reach = (own ? [own] : drawn).map(({ curve }) => curve[curve.length - 1][0]);
    const most = Math.max(1, ...reach, this.state.needed[this.shown] || 0) * 1.05;
    const x = (images) => box.left + (images / most) * (box.right - box.left);
    const y = (power) => box.bottom - power * (box.bottom - box.top);
    context.lineWidth = 1;
    for (const power of [0, 0.25, 0.5, 0.75, 1]) {
      context.strokeStyle = line;
      context.beginPath();
      context.moveTo(box.left, y(power));
      context.lineTo(box.right, y(power));
      context.stroke();
      context.textAlign = "right";
      context.fillText(`${100 * power} %`, box.left - 6, y(power) + 4);
    }
    const raw = most / 5;
    const size = 10 ** Math.floor(Math.log10(raw));
    const step = Math.max(1, [1, 2, 5, 10].find((factor) => factor * size >= raw) * size);
    context.textAlign = "center";
    for (let images = 0; images <= most; images += step) context.fillText(images.toLocaleString("en"), x(images), box.bottom + 15);
    context.fillText("further labelled images, drawn at random", (box.left + box.right) / 2, height - 4);
    context.save();
    context.beginPath();
    context.rect(box.left, box.top - 4, box.right - box.left, box.bottom - box.top + 8);
    context.clip();
    drawn.forEach(({ curve, number }, place) => {
      const mine = number === this.shown;
      context.strokeStyle = mine ? first : soft;
      context.globalAlpha = mine ? 1 : 0.55;
      context.lineWidth = mine ? 2.4 : 1.1;
      context.setLineDash(mine ? [] : LABEL_DASHES[1 + (place % 3)]);
      context.beginPath();
      curve.forEach(([images, power], point) => (point ? context.lineTo(x(images), y(power)) : context.moveTo(x(images), y(power))));
      context.stroke();
    });
    context.globalAlpha = 1;
    context.setLineDash([4, 3]);
    context.strokeStyle = second;
    context.lineWidth = 1.4;
    context.beginPath();
    context.moveTo(box.left, y(this.power));
    context.lineTo(box.right, y(this.power));
    const needed = this.power === this.state.power ? this.state.needed[this.shown] : null;
    if (needed !== null && needed !== undefined) {
      context.moveTo(x(needed), y(this.power));
      context.lineTo(x(needed), box.bottom);
    }
    context.stroke();
    context.restore();
    if (needed !== null && needed !== undefined) {
      context.fillStyle = second;
      context.beginPath();
      context.arc(x(needed), y(this.power), 5, 0, 2 * Math.PI);
      context.fill();
      context.fillStyle = ink;
      const right = x(needed) > (box.left + box.right) / 2;
      context.textAlign = right ? "right" : "left";
      context.font = "600 12px system-ui, sans-serif";
      context.fillText(`${needed.toLocaleString("en")} images`, x(needed) + (right ? -9 : 9), y(this.power) + 16);
    }
  }
}

export default {
  render({ model, el }) {
    const session = new Session(model, el, "label", "What to label next");
    new LabelNextView(session);
    return () => session.close();
  },
};
