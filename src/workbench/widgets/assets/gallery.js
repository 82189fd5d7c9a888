// The gallery. The kernel holds filters, order, selection and labels; here stand only the tiles that can be seen, and
// the rows and pictures around them. At most one question for rows and one for pictures is on its way: the next one is
// made up of what is seen when the last was answered, so what was scrolled past is never asked for.

const GALLERY_SIZES = [["small", 72], ["medium", 112], ["large", 176]];
const GALLERY_LINES = 4;
const GALLERY_LINE = 15;
const GALLERY_FRAME = 12; // padding and border of a tile, both sides
const GALLERY_KEPT = 600; // pictures
const GALLERY_ROWS_KEPT = 3000;
const GALLERY_TALLEST = 8e6; // pixels; browsers draw nothing right in much taller elements

class GalleryView {
  constructor(session) {
    this.session = session;
    this.model = session.model;
    this.spec = this.model.get("_spec");
    this.state = this.model.get("_state");
    this.rows = new Map(); // place → {item, marked}
    this.pictures = new Map(); // size, id → {url, blurred, reason}
    this.tiles = new Map(); // place → element
    this.here = 0;
    this.anchor = 0;
    this.size = GALLERY_SIZES[1][1];
    this.seenColumns = new Set(this.spec.columns.slice(0, GALLERY_LINES - 1).map((_, number) => number));
    this.fetching = { rows: false, pictures: false };
    this.closed = false;
    this.orders = new Orders(session, () => this.onState());
    this.build();
    const changed = () => this.onState();
    this.model.on("change:_state", changed);
    session.stops.push(() => this.model.off("change:_state", changed));
    session.stops.push(() => this.drop());
    this.observer = new ResizeObserver(() => this.layOut());
    this.observer.observe(this.scroll);
    session.stops.push(() => this.observer.disconnect());
    this.onState();
  }

  // Building

  build() {
    const { spec } = this;
    const { root, status } = this.session;
    const quiet = (event) => event.stopPropagation();
    this.query = make("input", {
      type: "search", class: "wb-gallery-query", placeholder: "in ids and texts", oninput: () => this.sendView(), onkeydown: quiet,
    });
    this.sort = make("select", { class: "wb-gallery-sort", onchange: () => this.sendView(), onkeydown: quiet },
      make("option", { value: "" }, "as they came"), make("option", { value: "id" }, "image_id"),
      ...spec.columns.map(({ name }, number) => make("option", { value: number }, name)));
    this.elsewhere = make("option", { value: "elsewhere", hidden: true }); // a column that Python alone knows
    this.sort.append(this.elsewhere);
    this.up = true;
    this.direction = make("button", {
      type: "button", class: "wb-gallery-direction", onclick: () => { this.up = !this.up; this.showDirection(); this.sendView(); },
    });
    const sizes = make("select", { class: "wb-gallery-size", onkeydown: quiet, onchange: () => this.resize(Number(sizes.value)) },
      ...GALLERY_SIZES.map(([name, size]) => make("option", { value: size, selected: size === this.size }, name)));
    this.filters = spec.columns.map((column, number) => this.buildFilter(column, number));
    const panel = this.buildPanel();
    this.sheet = make("div", { class: "wb-gallery-sheet", role: "presentation" });
    this.scroll = make("div", {
      class: "wb-gallery-scroll", role: "listbox", tabindex: 0, "aria-multiselectable": "true", "aria-label": spec.title,
      onkeydown: (event) => this.onKey(event), onclick: (event) => this.onClick(event),
      ondblclick: (event) => this.onDouble(event), onscroll: () => this.draw(),
    }, this.sheet);
    this.empty = make("p", { class: "wb-soft", hidden: true });
    this.count = make("span", { class: "wb-gallery-count" });
    const button = (name, words, act) => make("button", { type: "button", class: `wb-gallery-${name}`, onclick: act }, words);
    this.all = button("all", "Select all shown", () => this.select({ how: "shown" }));
    this.inverted = button("invert", "Invert", () => this.select({ how: "invert" }));
    this.none = button("none", "Select none", () => this.select({ how: "none" }));
    this.large = button("enlarge", "Enlarge", () => this.enlarge());
    this.choice = make("select", { class: "wb-gallery-label", onkeydown: quiet },
      make("option", { value: "keep" }, "keep the label"), ...spec.labels.map((name, number) => make("option", { value: number }, name)),
      make("option", { value: "none" }, "no label"));
    this.said = make("input", {
      class: "wb-gallery-said", placeholder: "keep the note", maxlength: spec.most_note,
      onkeydown: (event) => { if (event.key === "Enter") this.label(); quiet(event); },
    });
    this.apply = button("apply", "Label selected", () => this.label());
    this.unnote = button("unnote", "Remove notes", () => this.removeNotes());
    this.undo = button("undo", "Undo", () => this.stepBack());
    this.redo = button("redo", "Redo", () => this.stepOn());
    this.path = make("input", { class: "wb-gallery-path", value: spec.out, onkeydown: quiet });
    this.exportSelected = button("export", "Export selected", () => this.export("selected"));
    this.exportShown = button("export-shown", "Export all shown", () => this.export("shown"));
    this.written = make("p", { class: "wb-gallery-written" });
    const bar = (...parts) => make("div", { class: "wb-row wb-gallery-bar" }, ...parts);
    root.append(
      make("header", { class: "wb-row" }, make("h3", {}, make("bdi", {}, spec.title)),
        spec.note ? make("span", { class: "wb-mark wb-split wb-gallery-note" }, make("bdi", {}, spec.note)) : null),
      bar(make("label", {}, "Find", this.query), make("label", {}, "Sort", this.sort), this.direction, make("label", {}, "Pictures", sizes)),
      panel,
      bar(this.count, this.all, this.inverted, this.none, this.large),
      this.scroll, this.empty,
      bar(make("label", {}, "Label", this.choice), make("label", {}, "Note", this.said), this.apply, this.unnote, this.undo, this.redo),
      bar(make("label", {}, "File", this.path), this.exportSelected, this.exportShown),
      this.written,
      make("p", { class: "wb-soft wb-gallery-keys" },
        "Click selects, Ctrl-click or Space one more, Shift up to here; arrows move, Ctrl-A all shown, Enter or double click enlarges, Ctrl-Z takes a label back."),
      status);
    this.showDirection();
  }

  buildPanel() {
    const left = this.spec.columns_left_out;
    const shown = make("fieldset", { class: "wb-gallery-columns" }, make("legend", {}, "Shown under pictures"),
      ...this.spec.columns.map(({ name }, number) => {
        const box = make("input", {
          type: "checkbox", checked: this.seenColumns.has(number), onkeydown: (event) => event.stopPropagation(),
          onchange: () => { this.seenColumns[box.checked ? "add" : "delete"](number); this.redrawAll(); },
        });
        return make("label", {}, box, make("bdi", {}, name));
      }));
    return make("details", { class: "wb-gallery-panel", onkeydown: (event) => event.stopPropagation() },
      make("summary", { "data-lm-suppress-shortcuts": "true" }, "Filters and columns"),
      make("div", { class: "wb-gallery-filters" }, ...this.filters.map(({ element }) => element), shown),
      left ? make("p", { class: "wb-soft" }, `${left.toLocaleString("en")} further columns are in exports and Python alone.`) : null);
  }

  /** The controls of one column: {element, read(view), show(state)}; columns of texts are found by the query alone. */
  buildFilter(column, number) {
    const { name, kind, choices, low, high } = column;
    const quiet = (event) => event.stopPropagation();
    const legend = make("legend", {}, make("bdi", {}, name));
    if (kind === "choice") {
      const boxes = choices.map(([value, count]) => {
        const box = make("input", { type: "checkbox", onchange: () => this.sendView(), onkeydown: quiet });
        return { value, box, label: make("label", {}, box, make("bdi", {}, value || "(no value)"), make("span", { class: "wb-soft" }, count.toLocaleString("en"))) };
      });
      return {
        element: make("fieldset", { "data-column": number }, legend, ...boxes.map(({ label }) => label)),
        read: (view) => { view.choices.push([name, boxes.filter(({ box }) => box.checked).map(({ value }) => value)]); },
        show: (state) => {
          const picked = new Set(state.choices.find(([own]) => own === name)?.[1]);
          boxes.forEach(({ value, box }) => { box.checked = picked.has(value); });
        },
      };
    }
    if (kind === "number") {
      const input = (words, hint) => make("input", {
        type: "number", step: "any", placeholder: hint === null ? "" : Number(hint.toPrecision(4)), "aria-label": `${name}: ${words}`,
        oninput: () => this.sendView(), onkeydown: quiet,
      });
      const least = input("least", low);
      const most = input("most", high);
      const typed = (field) => (field.value === "" ? null : Number(field.value));
      return {
        element: make("fieldset", { "data-column": number }, legend, make("div", { class: "wb-row" }, least, "to", most)),
        read: (view) => {
          const pair = [typed(least), typed(most)];
          const wrong = (pair[0] !== null && pair[1] !== null && pair[0] > pair[1]) || least.validity.badInput || most.validity.badInput;
          [least, most].forEach((field) => field.setAttribute("aria-invalid", String(wrong)));
          if (wrong) view.wrong = true;
          view.ranges.push([name, pair]);
        },
        show: (state) => {
          const pair = state.ranges.find(([own]) => own === name)?.[1] || [null, null];
          [least, most].forEach((field, place) => {
            field.value = pair[place] === null ? "" : String(pair[place]);
            field.setAttribute("aria-invalid", "false");
          });
        },
      };
    }
    return {
      element: make("p", { class: "wb-soft" }, make("bdi", {}, name), ": use Find"),
      read: () => {},
      show: () => {},
    };
  }

  // State

  onState() {
    const before = this.state;
    this.state = this.model.get("_state");
    const { state } = this;
    if (before.view !== state.view) {
      this.rows.clear();
      this.here = 0;
      this.anchor = 0;
      this.scroll.scrollTop = 0;
    }
    if (!this.orders.waiting && !this.session.root.querySelector(".wb-gallery-panel")?.contains(document.activeElement)) this.showView();
    const number = (count) => count.toLocaleString("en");
    const hidden = state.hidden ? ` (${number(state.hidden)} of them not shown)` : "";
    this.count.textContent = `${number(state.shown)} of ${number(state.rows)} shown · ${number(state.selected)} selected${hidden} · ${number(state.labelled)} labelled`;
    [this.all, this.inverted, this.exportShown, this.large].forEach((button) => allow(button, state.shown > 0));
    [this.none, this.apply, this.unnote, this.exportSelected].forEach((button) => allow(button, state.selected > 0));
    allow(this.undo, state.can_undo);
    allow(this.redo, state.can_redo);
    this.scroll.hidden = !state.shown;
    this.empty.hidden = Boolean(state.shown);
    this.empty.textContent = state.rows ? "No row passes the filters." : "There are no rows.";
    const { written } = state;
    this.written.replaceChildren(...(written
      ? [make("b", {}, `✓ ${number(written.images)} rows (${written.which}) in `), make("code", {}, written.path)] : []));
    this.layOut();
  }

  /** Controls as the kernel has it; not while somebody is using them. */
  showView() {
    const { state } = this;
    if (document.activeElement !== this.query) this.query.value = state.query;
    const by = state.sorted_by;
    const column = by ? this.spec.columns.findIndex(({ name }) => name === by[0]) : -1;
    this.elsewhere.hidden = !by || by[0] === "image_id" || column >= 0;
    this.elsewhere.textContent = this.elsewhere.hidden ? "" : by[0];
    this.sort.value = !by ? "" : by[0] === "image_id" ? "id" : column >= 0 ? String(column) : "elsewhere";
    if (by) [, this.up] = by;
    this.showDirection();
    this.filters.forEach(({ show }) => show(state));
  }

  showDirection() {
    this.direction.textContent = this.up ? "↑ rising" : "↓ falling";
    this.direction.setAttribute("aria-label", `Order: ${this.up ? "rising" : "falling"}`);
  }

  sendView() {
    const view = { query: this.query.value, choices: [], ranges: [] };
    this.filters.forEach(({ read }) => read(view));
    if (view.wrong) {
      this.session.say("A range is not valid: the least is above the most, or no number.");
      return;
    }
    const { value } = this.sort;
    const name = value === "id" ? "image_id" : value === "elsewhere" ? this.state.sorted_by[0] : this.spec.columns[Number(value)]?.name;
    const by = value === "" ? null : [name, this.up];
    const content = { query: view.query, choices: view.choices, ranges: view.ranges, sorted_by: by };
    this.orders.latest("view", "view", content).catch(() => {}); // the error stands in the widget
  }

  /** Asks the kernel for one thing after the other; says how it went. */
  act(name, content = {}, words = "") {
    return this.orders.ask(name, content).then(
      (answer) => {
        this.session.say(typeof words === "function" ? words(answer.content) : words);
        return answer;
      },
      () => this.session.say(""), // the error stands in the widget
    );
  }

  select(content) {
    const words = () => `${this.model.get("_state").selected.toLocaleString("en")} selected.`;
    return this.act("select", { ...content, view: this.state.view }, words);
  }

  label() {
    if (!this.state.selected) return;
    const { value } = this.choice;
    const label = value === "keep" ? null : value === "none" ? "" : this.spec.labels[Number(value)];
    const note = this.said.value === "" ? null : this.said.value;
    if (label === null && note === null) {
      this.session.say("Choose a label or write a note first.");
      return;
    }
    this.act("label", { label, note }, ({ changed }) => `${changed.toLocaleString("en")} rows changed.`);
  }

  removeNotes() {
    if (this.state.selected) this.act("label", { label: null, note: "" }, "Notes removed.");
  }

  stepBack() {
    if (this.state.can_undo) this.act("undo", {}, "Taken back.");
  }

  stepOn() {
    if (this.state.can_redo) this.act("redo", {}, "Done again.");
  }

  export(which) {
    if (!(which === "shown" ? this.state.shown : this.state.selected)) return;
    this.act("export", { which, path: this.path.value.trim(), view: this.state.view }, ({ path }) => `${path}: written.`);
  }

  // Laying out: a place stands in line place / perLine; very many lines are scrolled in larger steps

  layOut() {
    const width = this.scroll.clientWidth;
    if (!width) return;
    const lines = Math.min(GALLERY_LINES, 1 + this.seenColumns.size);
    this.tileWidth = this.size + GALLERY_FRAME;
    this.tileHeight = this.size + GALLERY_FRAME + lines * GALLERY_LINE;
    this.perLine = Math.max(1, Math.floor(width / (this.tileWidth + 4)));
    this.step = width / this.perLine;
    this.lineHeight = this.tileHeight + 4;
    this.whole = Math.ceil(this.state.shown / this.perLine) * this.lineHeight;
    this.sheet.style.height = `${Math.min(this.whole, GALLERY_TALLEST)}px`;
    this.draw();
  }

  /** How far down the whole sheet what is seen begins, in pixels. */
  get top() {
    const height = Math.min(this.whole, GALLERY_TALLEST);
    if (height === this.whole) return this.scroll.scrollTop;
    const free = height - this.scroll.clientHeight;
    return (this.scroll.scrollTop / Math.max(1, free)) * (this.whole - this.scroll.clientHeight);
  }

  set top(wanted) {
    const height = Math.min(this.whole, GALLERY_TALLEST);
    const free = this.whole - this.scroll.clientHeight;
    this.scroll.scrollTop = height === this.whole ? wanted : (wanted / Math.max(1, free)) * (height - this.scroll.clientHeight);
  }

  /** The places that are seen, and one line above and below. */
  range() {
    const first = Math.max(0, Math.floor(this.top / this.lineHeight) - 1) * this.perLine;
    const lines = Math.ceil(this.scroll.clientHeight / this.lineHeight) + 3;
    return [first, Math.min(this.state.shown, first + lines * this.perLine)];
  }

  draw() {
    if (!this.perLine || !this.scroll.clientWidth) return;
    const [first, last] = this.range();
    const shift = this.scroll.scrollTop - this.top;
    for (const [place, tile] of this.tiles) {
      if (place < first || place >= last) {
        tile.remove();
        this.tiles.delete(place);
      }
    }
    for (let place = first; place < last; place += 1) {
      let tile = this.tiles.get(place);
      if (!tile) {
        tile = this.buildTile(place);
        this.tiles.set(place, tile);
        this.sheet.append(tile);
      }
      const x = (place % this.perLine) * this.step;
      const y = Math.floor(place / this.perLine) * this.lineHeight + shift;
      tile.style.transform = `translate(${x}px, ${y}px)`;
      tile.style.width = `${this.tileWidth}px`;
      tile.style.height = `${this.tileHeight}px`;
      this.fill(tile, place);
    }
    const active = this.tiles.get(this.here);
    if (active) this.scroll.setAttribute("aria-activedescendant", active.id);
    else this.scroll.removeAttribute("aria-activedescendant");
    this.fetchRows();
    this.fetchPictures();
  }

  redrawAll() {
    for (const tile of this.tiles.values()) tile.remove();
    this.tiles.clear();
    this.layOut();
  }

  resize(size) {
    const { here } = this;
    this.size = size;
    this.redrawAll();
    this.move(here);
  }

  buildTile(place) {
    GalleryView.made = (GalleryView.made || 0) + 1;
    return make("div", { class: "wb-gallery-tile", role: "option", id: `wb-gallery-tile-${GalleryView.made}`, "data-place": place });
  }

  /** What a tile shows, made anew only where it changed. */
  fill(tile, place) {
    tile.classList.toggle("wb-gallery-here", place === this.here);
    const row = this.rows.get(place);
    const picture = row ? this.pictures.get(this.key(row.item.id)) : undefined;
    if (tile.row === row && tile.picture === picture && tile.of === this.state.shown && tile.firstChild) return;
    tile.row = row;
    tile.picture = picture;
    tile.of = this.state.shown;
    tile.setAttribute("aria-setsize", this.state.shown);
    tile.setAttribute("aria-posinset", place + 1);
    tile.setAttribute("aria-selected", String(Boolean(row?.item.selected)));
    const frame = make("div", { class: "wb-gallery-picture", style: `width:${this.size}px;height:${this.size}px` });
    if (!row) {
      tile.replaceChildren(frame);
      return;
    }
    const { id, cells, selected, label, note } = row.item;
    if (picture?.url) {
      // The same element again where the picture stayed: a new one would flash at every click.
      if (tile.image?.getAttribute("src") !== picture.url) tile.image = make("img", { src: picture.url, alt: "", draggable: "false" });
      frame.append(tile.image);
    }
    if (picture?.reason) frame.append(make("span", { class: "wb-picture-reason" }, picture.reason));
    if (picture?.blurred) frame.append(make("span", { class: "wb-picture-blurred" }, "blurred"));
    if (selected) frame.append(make("span", { class: "wb-gallery-tick" }, "✓"));
    if (label || note) frame.append(make("span", { class: "wb-gallery-mark" }, make("bdi", {}, `${label}${note ? " ✎" : ""}`)));
    const named = this.spec.columns.map(({ name }, number) => ({ name, text: cells[number], seen: this.seenColumns.has(number) }));
    const lines = named.filter(({ seen }) => seen).slice(0, GALLERY_LINES - 1);
    tile.title = [id, ...named.map(({ name, text }) => `${name}: ${text || "(no value)"}`), label && `label: ${label}`, note && `note: ${note}`]
      .filter(Boolean).join("\n");
    const said = [id, ...lines.map(({ name, text }) => `${name} ${text || "no value"}`), label, note, picture?.reason].filter(Boolean);
    tile.setAttribute("aria-label", said.join(", "));
    const cell = (name, text) => make("div", { class: "wb-gallery-cell" }, name ? `${name} ` : "", make("bdi", {}, text || "–"));
    tile.replaceChildren(frame, cell("", id), ...lines.map(({ name, text }) => cell(name, text)));
  }

  // Fetching

  async fetchRows() {
    if (this.fetching.rows || this.closed) return;
    const [first, last] = this.range();
    const missing = (place) => this.rows.get(place)?.marked !== this.state.marked;
    let start = first;
    while (start < last && !missing(start)) start += 1;
    if (start >= last) return;
    let end = Math.min(last, start + MOST_PICTURES);
    while (!missing(end - 1)) end -= 1;
    this.fetching.rows = true;
    let fine = false;
    try {
      const { content } = await this.session.ask("rows", { start, count: end - start });
      if (content.view === this.state.view) {
        content.items.forEach((item, number) => this.rows.set(start + number, { item, marked: content.marked }));
        this.forgetRows();
      }
      fine = true;
    } catch {
      this.session.say(""); // the error stands in the widget
    } finally {
      this.fetching.rows = false;
    }
    if (fine && !this.closed) this.draw();
  }

  forgetRows() {
    if (this.rows.size <= GALLERY_ROWS_KEPT) return;
    const [first, last] = this.range();
    for (const place of this.rows.keys()) if (place < first || place >= last) this.rows.delete(place);
  }

  key(id) {
    return `${this.size} ${id}`;
  }

  async fetchPictures() {
    if (this.fetching.pictures || this.closed) return;
    const { size } = this;
    const [first, last] = this.range();
    const ids = [];
    for (let place = first; place < last && ids.length < MOST_PICTURES; place += 1) {
      const row = this.rows.get(place);
      if (row && !this.pictures.has(this.key(row.item.id))) ids.push(row.item.id);
    }
    if (!ids.length) return;
    this.fetching.pictures = true;
    let fine = false;
    try {
      const pixels = Math.min(256, Math.round(size * Math.min(2, window.devicePixelRatio || 1)));
      const { content, buffers } = await this.session.ask("pictures", { ids, size: pixels });
      if (!this.closed) {
        content.pictures.forEach(({ id, blurred, reason }, number) => {
          const url = reason ? null : URL.createObjectURL(new Blob([buffers[number]]));
          this.pictures.set(`${size} ${id}`, { url, blurred: blurred && !reason, reason });
        });
        this.forgetPictures();
      }
      fine = true;
    } catch {
      this.session.say(""); // the error stands in the widget
    } finally {
      this.fetching.pictures = false;
    }
    if (fine && !this.closed) this.draw();
  }

  /** Lets go of the pictures that were fetched first, but of none that is seen. */
  forgetPictures() {
    const [first, last] = this.range();
    const seen = new Set();
    for (let place = first; place < last; place += 1) {
      const row = this.rows.get(place);
      if (row) seen.add(this.key(row.item.id));
    }
    for (const [key, { url }] of this.pictures) {
      if (this.pictures.size <= GALLERY_KEPT) return;
      if (!seen.has(key)) {
        if (url) URL.revokeObjectURL(url);
        this.pictures.delete(key);
      }
    }
  }

  /** Another look at one picture, which was revealed. */
  forget(id) {
    for (const [, size] of GALLERY_SIZES) {
      const key = `${size} ${id}`;
      const picture = this.pictures.get(key);
      if (picture?.url) URL.revokeObjectURL(picture.url);
      this.pictures.delete(key);
    }
    this.draw();
  }

  drop() {
    this.closed = true;
    for (const { url } of this.pictures.values()) if (url) URL.revokeObjectURL(url);
    this.pictures.clear();
  }

  // Keys and clicks

  move(place) {
    this.here = Math.max(0, Math.min(this.state.shown - 1, place));
    const top = Math.floor(this.here / this.perLine) * this.lineHeight;
    if (top < this.top) this.top = top;
    else if (top + this.lineHeight > this.top + this.scroll.clientHeight) this.top = top + this.lineHeight - this.scroll.clientHeight;
    this.draw();
  }

  onKey(event) {
    const { key, shiftKey: shift } = event;
    const control = event.ctrlKey || event.metaKey;
    const page = this.perLine * Math.max(1, Math.floor(this.scroll.clientHeight / this.lineHeight));
    const moves = {
      ArrowLeft: this.here - 1, ArrowRight: this.here + 1, ArrowUp: this.here - this.perLine, ArrowDown: this.here + this.perLine,
      PageUp: this.here - page, PageDown: this.here + page, Home: 0, End: this.state.shown - 1,
    };
    const lower = key.toLowerCase();
    if (key in moves) {
      if (shift && !this.extending) this.anchor = this.here;
      this.extending = shift;
      const leaves = (key === "ArrowUp" && moves[key] < 0) || (key === "ArrowDown" && moves[key] >= this.state.shown);
      if (!leaves) this.move(moves[key]);
      if (shift) this.select({ how: "range", first: this.anchor, place: this.here });
    } else if (key === " ") {
      if (shift) this.select({ how: "range", first: this.anchor, place: this.here });
      else {
        this.anchor = this.here;
        this.select({ how: "toggle", place: this.here });
      }
    } else if (key === "Enter") this.enlarge();
    else if (control && lower === "a") this.select({ how: "shown" });
    else if (control && (lower === "y" || (lower === "z" && shift))) this.stepOn();
    else if (control && lower === "z") this.stepBack();
    else if (key === "Escape") this.select({ how: "none" });
    else {
      if (key !== "Tab") event.stopPropagation();
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }

  placeOf(event) {
    const tile = event.target.closest(".wb-gallery-tile");
    return tile ? Number(tile.dataset.place) : null;
  }

  onClick(event) {
    const place = this.placeOf(event);
    if (place === null) return;
    this.here = place;
    this.extending = false;
    this.draw();
    if (event.shiftKey) {
      this.select({ how: "range", first: this.anchor, place });
      return;
    }
    this.anchor = place;
    this.select({ how: event.ctrlKey || event.metaKey ? "toggle" : "one", place });
  }

  onDouble(event) {
    const place = this.placeOf(event);
    if (place === null) return;
    this.here = place;
    this.enlarge();
  }

  enlarge() {
    const row = this.rows.get(this.here);
    if (!row) return;
    const { id, cells, label } = row.item;
    const title = this.spec.columns.map(({ name }, number) => `${name}: ${cells[number] || "–"}`).join(" · ");
    enlargePicture(this.session, { id, title, mark: label }, () => this.forget(id));
  }
}

export default {
  render({ model, el }) {
    const session = new Session(model, el, "gallery", "Gallery of images");
    new GalleryView(session);
    return () => session.close();
  },
};
