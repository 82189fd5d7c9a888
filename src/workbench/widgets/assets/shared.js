// What every widget's browser part uses. Parts are put one after the other into one ES module, so names are global to it.

const FOCUSABLE = new Set(["a", "button", "canvas", "details", "dialog", "input", "select", "summary", "textarea"]);

/**
 * An element with attributes, listeners ("onclick": f) and children; text is only ever text.
 *
 * JupyterLab's shortcuts match the focused element itself before they look at what stands around it, so each element
 * that can have the focus says that they shall not: no key of a widget ever reaches the notebook.
 */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  if (FOCUSABLE.has(tag) || "tabindex" in attributes) element.setAttribute("data-lm-suppress-shortcuts", "true");
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** A button that does nothing for now keeps the focus, unlike a disabled one. */
function allow(button, allowed) {
  button.setAttribute("aria-disabled", String(!allowed));
}

/** The dark or light look that the page has: JupyterLab says so on the body, elsewhere the system's wish counts. */
function isDark() {
  const lab = document.body.dataset.jpThemeLight;
  return lab === undefined ? matchMedia("(prefers-color-scheme: dark)").matches : lab === "false";
}

/** Calls `f(dark)` now and whenever the look changes; gives back what stops it. */
function onTheme(f) {
  const call = () => f(isDark());
  const observer = new MutationObserver(call);
  observer.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light"] });
  const query = matchMedia("(prefers-color-scheme: dark)");
  query.addEventListener("change", call);
  call();
  return () => {
    observer.disconnect();
    query.removeEventListener("change", call);
  };
}

/** The colours of `evaluation.figures`, for canvases; the style sheet has the same ones as variables. */
const COLOURS = {
  light: { ground: "#ffffff", ink: "#1f2328", soft: "#59636e", line: "#d8dee4", first: "#0067a3", second: "#b84a00" },
  dark: { ground: "#171c22", ink: "#e6edf3", soft: "#9fabb7", line: "#343d47", first: "#66b8ee", second: "#ff9d57" },
};

/**
 * A widget's frame: its root element, questions to the kernel, a line that is read aloud, the place where errors stand.
 */
class Session {
  constructor(model, el, name, label) {
    this.model = model;
    this.waiting = new Map();
    this.number = 0;
    this.stops = [];
    this.status = make("div", { class: "wb-status", role: "status", "aria-live": "polite" });
    this.error = make("div", { class: "wb-error", role: "alert", hidden: true });
    this.root = make("section", {
      class: `wb wb-${name}`,
      "aria-label": label,
      tabindex: -1,
    });
    this.holdFocus();
    this.root.append(this.error);
    el.append(this.root);
    const receive = (content, buffers) => this.receive(content, buffers);
    const showError = () => this.showError(model.get("_error"));
    model.on("msg:custom", receive);
    model.on("change:_error", showError);
    showError();
    this.stops.push(() => model.off("msg:custom", receive));
    this.stops.push(() => model.off("change:_error", showError));
    this.stops.push(onTheme((dark) => {
      this.dark = dark;
      this.colours = dark ? COLOURS.dark : COLOURS.light;
      this.root.classList.toggle("wb-dark", dark);
      if (this.redraw) this.redraw();
    }));
  }

  /** Asks the kernel; the promise gives {content, buffers}, or fails with the error that is then also shown. */
  ask(name, content = {}) {
    const number = ++this.number;
    return new Promise((resolve, reject) => {
      this.waiting.set(number, { resolve, reject });
      this.model.send({ ...content, ask: name, number });
    });
  }

  receive(content, buffers) {
    const waiting = this.waiting.get(content.answer);
    if (!waiting) return;
    this.waiting.delete(content.answer);
    if (content.error) waiting.reject(new Error(content.error));
    else waiting.resolve({ content, buffers });
  }

  /**
   * Where the element that had the focus goes away or is disabled, the root takes it. Otherwise the page would have it,
   * and the next key would be JupyterLab's: it could delete a cell.
   */
  holdFocus() {
    let inside = false;
    this.root.addEventListener("focusin", () => { inside = true; });
    this.root.addEventListener("focusout", ({ relatedTarget, target }) => {
      if (relatedTarget) inside = this.root.contains(relatedTarget);
      else if (target.isConnected && !target.disabled && !target.hidden) inside = false;
    });
    const observer = new MutationObserver(() => {
      const lost = document.activeElement === document.body || !document.activeElement;
      if (inside && lost && document.hasFocus()) this.root.focus({ preventScroll: true });
    });
    observer.observe(this.root, { childList: true, subtree: true, attributes: true, attributeFilter: ["disabled", "hidden"] });
    this.stops.push(() => observer.disconnect());
  }

  showError(text) {
    this.error.textContent = text;
    this.error.hidden = !text;
  }

  /** Says something to those who listen instead of looking. */
  say(text) {
    this.status.textContent = text;
  }

  /** What `render` gives back: called when the widget's view goes away. */
  close() {
    for (const stop of this.stops) stop();
    this.root.remove();
  }
}

/**
 * What the kernel is told, strictly one after the other: no draft, queue or export is written, and no step undone, before
 * what was done first has arrived.
 */
class Orders {
  /** `idle` is called whenever the kernel has done everything. */
  constructor(session, idle = () => {}) {
    Object.assign(this, { session, idle, queue: [], busy: false });
  }

  get waiting() {
    return this.queue.length > 0;
  }

  /** Whether something of this name and target is not yet done. */
  has(name, target) {
    return this.queue.some((order) => order.name === name && order.target === target);
  }

  /** The kernel's answer, when all that was ordered before is done; fails with the error that is then also shown. */
  ask(name, content = {}) {
    return this.push({ name, content, keep: true });
  }

  /** As `ask`, but gives way to a newer one of its name and target while it waits, unless it is to be kept: then null. */
  latest(name, target, content, keep = false) {
    const last = this.queue[this.queue.length - 1];
    if (last && last.name === name && last.target === target && !last.keep && !last.sent) this.queue.pop().resolve(null);
    return this.push({ name, target, content, keep });
  }

  push(order) {
    return new Promise((resolve, reject) => {
      this.queue.push({ ...order, resolve, reject, sent: false });
      this.pump();
    });
  }

  pump() {
    if (this.busy || !this.waiting) return;
    this.busy = true;
    const [order] = this.queue;
    order.sent = true;
    const done = (tell) => (told) => {
      this.queue.shift();
      this.busy = false;
      if (this.waiting) this.pump();
      else this.idle();
      tell(told);
    };
    this.session.ask(order.name, order.content).then(done(order.resolve), done(order.reject));
  }
}

/** A canvas that stays as sharp as the screen; `draw(context, width, height)` is called when its size changes. */
class Sheet {
  constructor(session, attributes, draw) {
    this.canvas = make("canvas", attributes);
    this.draw = draw;
    this.observer = new ResizeObserver(() => this.fit());
    this.observer.observe(this.canvas);
    session.stops.push(() => this.observer.disconnect());
  }

  fit() {
    const { clientWidth, clientHeight } = this.canvas;
    if (!clientWidth || !clientHeight) return;
    const scale = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(clientWidth * scale);
    this.canvas.height = Math.round(clientHeight * scale);
    this.repaint();
  }

  repaint() {
    const scale = window.devicePixelRatio || 1;
    const context = this.canvas.getContext("2d");
    context.setTransform(scale, 0, 0, scale, 0, 0);
    const width = this.canvas.width / scale;
    const height = this.canvas.height / scale;
    context.clearRect(0, 0, width, height);
    this.draw(context, width, height);
  }
}

/** As Python writes it: of two equally near decimals the even one, where toFixed takes the larger: 86.25 is 86.2. */
function fixed(value, digits) {
  const halves = 2 * value * 10 ** digits;
  const tie = Number.isInteger(value * 2 ** (digits + 1)) && halves % 2 === 1; // all of it exact, so a tie is a true one
  return (tie && halves % 4 === 1 ? (halves - 1) / 2 / 10 ** digits : value).toFixed(digits);
}

/** "95.2 %", "n/a" for what is not there. */
function percent(value, digits = 1) {
  return value === null || value === undefined || Number.isNaN(value) ? "n/a" : `${fixed(100 * value, digits)} %`;
}

/** "39.1–56.5 %". */
function interval(low, high, digits = 1) {
  return low === null || high === null ? "" : `${fixed(100 * low, digits)}–${percent(high, digits)}`;
}
