// Pictures in rows: fetched in batches, enlarged on a click, blurred until revealed where the data set is sensitive.

const MOST_PICTURES = 60;

/** One row (or grid) of pictures; items are {id, title, mark, wrong}. With `onpick`, a click tells it the item. */
class PictureStrip {
  constructor(session, container, { size = 96, empty = "No pictures.", onpick = null } = {}) {
    this.session = session;
    this.onpick = onpick;
    this.size = size;
    this.empty = empty;
    this.urls = [];
    this.turn = 0;
    this.place = make("div", { class: "wb-pictures", style: `--wb-size:${size}px` });
    container.append(this.place);
    session.stops.push(() => this.drop());
  }

  async show(items) {
    this.turn += 1;
    const { turn } = this;
    this.items = items; // what is shown when a picture is revealed: perhaps others than now
    const tiles = items.map((item) => pictureTile(this.session, item, () => this.show(this.items), () => this.onpick));
    if (!items.length) {
      this.drop();
      this.place.replaceChildren(make("p", { class: "wb-soft" }, this.empty));
      return;
    }
    const urls = await fillTiles(this.session, tiles, this.size);
    if (turn !== this.turn) {
      urls.forEach((url) => URL.revokeObjectURL(url));
      return;
    }
    const old = this.urls;
    const held = this.place.contains(document.activeElement);
    const heldId = held ? document.activeElement.closest(".wb-picture")?.dataset.id : null;
    this.urls = urls;
    this.place.replaceChildren(...tiles.map((tile) => tile.element));
    if (held) (tiles.find((tile) => tile.item.id === heldId) || tiles[0]).frame.focus({ preventScroll: true });
    old.forEach((url) => URL.revokeObjectURL(url));
  }

  drop() {
    this.urls.forEach((url) => URL.revokeObjectURL(url));
    this.urls = [];
  }
}

/** A tile without its picture yet: what it is stands below it in words, mistakes with a border of their own as well. */
function pictureTile(session, item, again, picked = () => null) {
  const image = make("img", { alt: item.title || item.id, draggable: "false" });
  const frame = make("button", {
    type: "button", class: "wb-picture-frame", title: item.id, "aria-label": `Enlarge ${item.id}, ${item.mark || ""} ${item.title || ""}`,
    onclick: () => (picked() ? picked()(item) : enlargePicture(session, item, again)),
  }, image);
  const element = make("figure", { class: `wb-picture${item.wrong ? " wb-wrong" : ""}`, "data-id": item.id },
    frame, make("figcaption", {}, item.mark ? make("b", {}, `${item.wrong ? "✕ " : ""}${item.mark}`) : "", make("bdi", {}, item.title || "")));
  return { item, image, frame, element };
}

/** Fetches the pictures of tiles, in batches; gives the object URLs that were made. */
async function fillTiles(session, tiles, size) {
  const urls = [];
  const ratio = Math.min(2, window.devicePixelRatio || 1);
  const pixels = Math.min(256, Math.round(size * ratio));
  for (let start = 0; start < tiles.length; start += MOST_PICTURES) {
    const batch = tiles.slice(start, start + MOST_PICTURES);
    const { content, buffers } = await session.ask("pictures", { ids: batch.map(({ item }) => item.id), size: pixels });
    batch.forEach((tile, place) => {
      const url = fillTile(tile, content.pictures[place], buffers[place]);
      if (url) urls.push(url);
    });
  }
  return urls;
}

/** Puts one answered picture, or the reason why there is none, into its tile; gives the object URL that was made. */
function fillTile({ image, frame }, { blurred, reason }, buffer) {
  if (reason) {
    frame.replaceChildren(make("span", { class: "wb-picture-reason" }, reason));
    return null;
  }
  const url = URL.createObjectURL(new Blob([buffer]));
  image.src = url;
  frame.classList.toggle("wb-blurred", blurred);
  if (blurred) frame.append(make("span", { class: "wb-picture-blurred" }, "blurred"));
  return url;
}

/** One picture, large, in a dialog of the widget; Escape or a click beside it closes it, and focus goes back. */
async function enlargePicture(session, item, again) {
  const from = document.activeElement;
  const image = make("img", { alt: item.title || item.id });
  const told = make("p", { class: "wb-soft" });
  const facts = make("dl", { class: "wb-enlarged-facts" });
  const close = make("button", { type: "button", onclick: () => dialog.close() }, "Close");
  const reveal = make("button", { type: "button", hidden: true, class: "wb-reveal", title: "It is written down who reveals what" }, "Reveal");
  const dialog = make("dialog", { class: "wb-enlarged", "aria-label": item.id },
    image, make("p", {}, make("b", {}, item.mark || ""), " ", make("bdi", {}, item.title || "")), make("p", { class: "wb-soft wb-enlarged-id" }, item.id), facts, told,
    make("div", { class: "wb-row" }, close, reveal));
  let url = null;
  const load = async () => {
    const { content, buffers } = await session.ask("enlarge", { id: item.id });
    if (url) URL.revokeObjectURL(url);
    url = content.reason ? null : URL.createObjectURL(new Blob([buffers[0]]));
    image.hidden = Boolean(content.reason);
    if (url) image.src = url;
    told.textContent = content.reason || (content.blurred ? "Blurred, because the data set is marked sensitive." : "");
    reveal.hidden = !content.blurred || Boolean(content.reason);
    facts.replaceChildren(...content.facts.flatMap(([name, text]) => [make("dt", {}, name), make("dd", {}, make("bdi", {}, text))]));
  };
  reveal.addEventListener("click", async () => {
    try {
      await session.ask("reveal", { ids: [item.id] });
      await load();
      if (again) again();
      close.focus();
    } catch (error) {
      told.textContent = error.message;
    }
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  dialog.addEventListener("keydown", (event) => event.stopPropagation());
  dialog.addEventListener("close", () => {
    if (url) URL.revokeObjectURL(url);
    dialog.remove();
    const place = from && from.isConnected ? from : pictureFrame(session.root, item.id);
    (place || session.root).focus({ preventScroll: true });
  });
  session.root.append(dialog);
  dialog.showModal();
  try {
    await load();
  } catch (error) {
    told.textContent = error.message;
  }
}

/** Where a picture stands now; tiles are made anew when one is revealed. */
function pictureFrame(root, id) {
  const found = [...root.querySelectorAll(".wb-picture")].find((picture) => picture.dataset.id === id);
  return found ? found.querySelector(".wb-picture-frame") : null;
}

/** A section with a head and a strip of pictures, which has it as `part`. */
function makeStrip(session, name, label, empty) {
  const place = make("div", { class: name });
  const strip = new PictureStrip(session, place, { size: 84, empty });
  strip.part = make("section", { "aria-label": label }, make("h5", {}, label), place);
  return strip;
}
