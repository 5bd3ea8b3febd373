// @ts-check
// The photos of one page as tiles: which are selected, which one the keys are about, which are in view.

import { CHANGED, CONFIRMED, FAILED, LEFT, photo, reason } from "./server.js";

/** @typedef {import("./server.js").Tile} Tile */
/** @typedef {"none" | "only" | "extend" | "toggle"} How what becomes of the selection */

const SEEN = 0.9; // share of a tile that is in view

/** Make an element. @param {string} kind @param {string} [style] @param {string} [text] */
export function make(kind, style = "", text = "") {
  const made = document.createElement(kind);
  made.className = style;
  made.textContent = text;
  return made;
}

/** What a photo is, by shape and colour, and what it was. @param {Tile} tile */
export function label(tile) {
  if (tile.status === FAILED) return [make("b", "failed", "could not be labelled")];
  const shape = (/** @type {number} */ of) => make("span", `shape class${of}`);
  return [...(tile.was ? [shape(tile.wasClass), make("span", "", "→")] : []), shape(tile.class),
    make("b", "", tile.label)];
}

/** How sure the model is. @param {Tile} tile */
export const percent = ({ confidence }) =>
  confidence === null ? "" : `${(100 * confidence).toFixed(1)} %`;

/** What else there is to know, in words. @param {Tile} tile */
export function notes(tile) {
  const by = tile.who && ` by ${tile.who}`;
  if (tile.status === CHANGED) return `changed from ${tile.was || "no label"}${by}`;
  if (tile.status === CONFIRMED) return `confirmed${by}`;
  return tile.status === LEFT && tile.review ? "needs review" : "";
}

export class Grid {
  /** @type {Tile[]} */ tiles = [];
  /** @type {Set<number>} places on the page */ selected = new Set();
  /** Place of the photo that the keys are about; as many as there are photos is the end. */
  active = 0;
  #anchor = 0;
  /** @type {Set<number>} */ #seen = new Set();
  #generation = 0;
  #root;
  #scroller;
  #tell;
  #watch;

  /**
   * @param {HTMLElement} root @param {HTMLElement} scroller
   * @param {{moved(): void, open(): void, failed(error: unknown): void}} tell
   */
  constructor(root, scroller, tell) {
    this.#root = root;
    this.#scroller = scroller;
    this.#tell = tell;
    this.#watch = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        const place = this.#place(target);
        if (isIntersecting) this.#seen.add(place);
        else this.#seen.delete(place);
      }
      tell.moved();
    }, { root: scroller, threshold: SEEN });
    root.addEventListener("pointerdown", (event) => this.#press(event));
    root.addEventListener("click", (event) => {
      const place = this.#place(event.target);
      if (place >= 0 && /** @type {any} */ (event).pointerType === "touch") this.go(place, "toggle");
    });
    root.addEventListener("dblclick", (event) => {
      if (this.#place(event.target) < 0) return;
      this.go(this.#place(event.target));
      tell.open();
    });
    root.addEventListener("error", (event) => this.#broken(event.target), true);
    root.addEventListener("load", () => tell.moved(), true);
  }

  /** @param {Tile[]} tiles @param {number} generation */
  show(tiles, generation) {
    this.tiles = tiles;
    this.#generation = generation;
    this.selected.clear();
    this.#seen.clear();
    this.#watch.disconnect();
    this.#root.replaceChildren(...tiles.map((tile, place) => this.#made(tile, place)));
    for (const child of this.#root.children) this.#watch.observe(child);
    this.#scroller.scrollTop = 0;
  }

  /** Show what is new of a photo. @param {Tile} tile */
  update(tile) {
    const place = this.tiles.findIndex(({ id }) => id === tile.id);
    if (place < 0) return;
    const shown = this.tiles[place].content;
    this.tiles[place] = tile;
    if (tile.content !== shown) this.#image(place).src = photo(this.#generation, tile, "tile");
    this.#say(this.#root.children[place], tile);
  }

  /** Whether there is nothing to see of a photo. @param {number} place */
  isBroken(place) {
    return this.#root.children[place].classList.contains("broken");
  }

  /** Places of the photos that keys and buttons are about. */
  get targets() {
    if (this.selected.size) return [...this.selected].sort((a, b) => a - b);
    return this.active < this.tiles.length ? [this.active] : [];
  }

  /** Places in view that are not decided and not selected. */
  get rest() {
    return [...this.#seen].sort((a, b) => a - b).filter((place) =>
      this.tiles[place]?.status === LEFT && !this.selected.has(place) && !this.isBroken(place) &&
      !this.#root.children[place].classList.contains("pending") && this.#image(place).complete);
  }

  /** Place of the last photo in view. */
  get lastSeen() {
    return Math.max(this.active, ...this.#seen);
  }

  get columns() {
    return getComputedStyle(this.#root).gridTemplateColumns.split(" ").length;
  }

  /** Make a photo the active one, in sight. @param {number} place @param {How} [how] */
  go(place, how = "none") {
    this.active = Math.max(0, Math.min(place, this.tiles.length));
    if (how === "none" || how === "only") this.selected.clear();
    if (how === "only") this.selected.add(this.active);
    if (how === "extend") {
      const [from, to] = [this.#anchor, this.active].sort((a, b) => a - b);
      this.selected = new Set([...this.tiles.keys()].slice(from, to + 1));
    } else {
      this.#anchor = this.active;
    }
    if (how === "toggle" && !this.selected.delete(this.active)) this.selected.add(this.active);
    this.#root.children[this.active]?.scrollIntoView({ block: "nearest" });
    this.#mark();
  }

  selectAll() {
    this.selected = new Set(this.tiles.keys());
    this.#mark();
  }

  selectNone() {
    this.selected.clear();
    this.#mark();
  }

  /** Bring a photo to the top. @param {number} place */
  turn(place) {
    this.#root.children[place]?.scrollIntoView({ block: "start" });
  }

  /** Have photos look as if they were being written. @param {number[]} places @param {boolean} is */
  pending(places, is) {
    for (const place of places) this.#root.children[place]?.classList.toggle("pending", is);
  }

  #mark() {
    const { activeElement } = document;
    [...this.#root.children].forEach((child, place) => {
      child.setAttribute("aria-selected", String(this.selected.has(place)));
      child.classList.toggle("active", place === this.active);
    });
    const active = this.#root.children[this.active];
    if (active) this.#root.setAttribute("aria-activedescendant", active.id);
    else this.#root.removeAttribute("aria-activedescendant");
    if (activeElement === document.body) this.#root.focus({ preventScroll: true });
    this.#tell.moved();
  }

  /** @param {number} place */
  #image(place) {
    return /** @type {HTMLImageElement} */ (this.#root.children[place].querySelector("img"));
  }

  /** @param {EventTarget?} target */
  #place(target) {
    const tile = target instanceof Element ? target.closest(".tile") : null;
    return tile ? [...this.#root.children].indexOf(tile) : -1;
  }

  /** @param {Tile} tile @param {number} place */
  #made(tile, place) {
    const made = make("div", "tile");
    made.id = `photo-${place}`;
    made.setAttribute("role", "option");
    const mat = make("div", "mat");
    const image = /** @type {HTMLImageElement} */ (make("img"));
    Object.assign(image, { loading: "lazy", decoding: "async", draggable: false, alt: "" });
    image.src = photo(this.#generation, tile, "tile");
    mat.append(image, make("p", "reason"), make("span", "check"));
    made.append(mat, make("p", "says"), make("p", "name", tile.name));
    this.#say(made, tile);
    return made;
  }

  /** @param {Element} made @param {Tile} tile */
  #say(made, tile) {
    const [check, says] = [".check", ".says"].map(
      (each) => /** @type {HTMLElement} */ (made.querySelector(each)));
    const decided = tile.status === CHANGED || tile.status === CONFIRMED;
    const note = notes(tile);
    made.setAttribute("title", `${tile.folder}${tile.name}${note && `: ${note}`}`);
    made.classList.toggle("decided", decided);
    check.textContent = decided ? "✓" : "";
    says.replaceChildren(...label(tile), make("span", "unseen", note),
      ...(tile.review && tile.status === LEFT ? [make("span", "flag", "?")] : []),
      ...(decided ? [] : [make("span", "sure", percent(tile))]));
  }

  /** @param {EventTarget?} image */
  async #broken(image) {
    if (!(image instanceof HTMLImageElement)) return;
    const made = image.closest(".tile");
    const place = this.#place(made);
    if (!made || place < 0) return;
    made.classList.add("broken");
    this.#tell.moved();
    const says = /** @type {HTMLElement} */ (made.querySelector(".reason"));
    try {
      says.textContent = this.tiles[place].reason || await reason(image.src);
    } catch (error) {
      this.#tell.failed(error);
    }
  }

  /** A press selects: one photo, or all up to where it goes. @param {PointerEvent} event */
  #press(event) {
    if (event.button !== 0) return;
    const place = this.#place(event.target);
    const more = event.ctrlKey || event.metaKey;
    this.#root.focus({ preventScroll: true });
    if (event.pointerType === "touch") return; // it may scroll: a click is a tap
    event.preventDefault();
    if (place >= 0) this.go(place, event.shiftKey ? "extend" : more ? "toggle" : "only");
    else if (!more) this.selectNone();
    if (place >= 0 && !more) this.#drag();
  }

  /** Select up to where the pointer is, until it is lifted. */
  #drag() {
    const done = new AbortController();
    const options = { signal: done.signal };
    addEventListener("pointermove", ({ target }) => {
      const place = this.#place(target);
      if (place >= 0 && place !== this.active) this.go(place, "extend");
    }, options);
    for (const end of ["pointerup", "pointercancel"]) addEventListener(end, () => done.abort(), options);
  }
}
