// @ts-check
// The photos of one page as tiles: which are selected, which one the keys are about, which were seen.

import { CHANGED, CONFIRMED, LEFT, photo, reason } from "./server.js";

/** @typedef {import("./server.js").Tile} Tile */
/** @typedef {"none" | "only" | "extend" | "toggle"} How what becomes of the selection */

const GLANCE = 300; // milliseconds that photos must have been in view, in place, to have been seen

/** Make an element. @param {string} kind @param {string} [style] @param {string} [text] */
function make(kind, style = "", text = "") {
  const made = document.createElement(kind);
  made.className = style;
  made.textContent = text;
  return made;
}

/** What a photo is, by shape and colour, and what it was. @param {Tile} tile */
function label(tile) {
  const shape = (/** @type {number} */ of) => make("span", `shape class${of}`);
  return [...(tile.was ? [shape(1 - tile.class), make("span", "", "→")] : []), shape(tile.class),
    make("b", "", tile.label)];
}

/** What else there is to know, in words. @param {Tile} tile */
function notes(tile) {
  const by = tile.who && ` by ${tile.who}`;
  if (tile.status === CHANGED) return `changed from ${tile.was}${by}`;
  if (tile.status === CONFIRMED) return `confirmed${by}`;
  return tile.review ? "needs review" : "";
}

export class Grid {
  /** @type {Tile[]} */ tiles = [];
  /** @type {Set<number>} places on the page */ selected = new Set();
  /** Place of the photo that the keys are about; as many as there are photos is the end. */
  active = 0;
  #anchor = 0;
  /** When the photos were last moved under the eye. */ #moved = 0;
  #timer = 0;
  #generation = 0;
  #root;
  #scroller;
  #tell;

  /**
   * @param {HTMLElement} root @param {HTMLElement} scroller
   * @param {{moved(): void, open(): void, failed(error: unknown): void}} tell
   */
  constructor(root, scroller, tell) {
    this.#root = root;
    this.#scroller = scroller;
    this.#tell = tell;
    const stir = () => this.#stir();
    scroller.addEventListener("scroll", stir);
    new ResizeObserver(stir).observe(scroller);
    root.addEventListener("load", ({ target }) => {
      if (this.inView.includes(this.#place(target))) stir();
    }, true);
    root.addEventListener("error", (event) => this.#broken(event.target), true);
    root.addEventListener("pointerdown", (event) => this.#press(event));
    root.addEventListener("click", (event) => {
      const place = this.#place(event.target);
      if (place >= 0 && /** @type {any} */ (event).pointerType === "touch") this.go(place, "toggle");
    });
    root.addEventListener("dblclick", (event) => {
      const place = this.#place(event.target);
      if (place < 0) return;
      if (this.isLarge) {
        open(photo(this.#generation, this.tiles[place], "full"), "_blank", "noopener");
        return;
      }
      this.go(place);
      tell.open();
    });
  }

  /** @param {Tile[]} tiles @param {number} generation */
  show(tiles, generation) {
    this.tiles = tiles;
    this.#generation = generation;
    this.selected.clear();
    this.#root.replaceChildren(...tiles.map((tile, place) => this.#made(tile, place)));
    this.#scroller.scrollTop = 0;
    this.#stir();
  }

  /** Show what is new of a photo. @param {Tile} tile */
  update(tile) {
    const place = this.tiles.findIndex(({ id }) => id === tile.id);
    if (place < 0) return;
    const shown = this.tiles[place].content;
    this.tiles[place] = tile;
    if (tile.content !== shown) this.#image(place).src = this.#address(tile);
    this.#say(this.#root.children[place], tile);
  }

  /** Whether one photo fills the view. */
  get isLarge() {
    return document.body.classList.contains("large");
  }

  /** Show one photo at a time, or many. */
  enlarge() {
    document.body.classList.toggle("large");
    this.tiles.forEach((tile, place) => {
      this.#image(place).src = this.#address(tile);
    });
    this.go(this.active);
    this.#stir();
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

  /** Places of the photos that are whole in view. */
  get inView() {
    const { top, bottom } = this.#scroller.getBoundingClientRect();
    return [...this.#root.children].flatMap((child, place) => {
      const box = child.getBoundingClientRect();
      return box.top >= top - 1 && box.bottom <= bottom + 1 ? [place] : [];
    });
  }

  /** Places in view of what is not decided and can be seen. */
  get left() {
    return this.inView.filter((place) => this.tiles[place]?.status === LEFT && !this.isBroken(place) &&
      !this.#root.children[place].classList.contains("pending"));
  }

  /** Of those, the ones that somebody has had the time to see, and has not selected. */
  get rest() {
    if (performance.now() - this.#moved < GLANCE) return [];
    return this.left.filter((place) => !this.selected.has(place) && this.#image(place).complete);
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
    if (how === "toggle" && this.active < this.tiles.length && !this.selected.delete(this.active)) {
      this.selected.add(this.active);
    }
    this.#scroll("nearest");
    this.#mark();
  }

  /** Bring the active photo to the top. */
  turn() {
    this.#scroll("start");
  }

  selectAll() {
    this.selected = new Set(this.tiles.keys());
    this.#mark();
  }

  selectNone() {
    this.selected.clear();
    this.#mark();
  }

  /** Have photos look as if they were being written. @param {number[]} places @param {boolean} is */
  pending(places, is) {
    for (const place of places) this.#root.children[place]?.classList.toggle("pending", is);
  }

  /** @param {"nearest" | "start"} block */
  #scroll(block) {
    const before = this.#scroller.scrollTop;
    this.#root.children[this.active]?.scrollIntoView({ block });
    // Its event comes with the next frame, and a key may come before.
    if (this.#scroller.scrollTop !== before) this.#stir();
  }

  /** Something else is in view: from now on it takes a glance to have seen it. */
  #stir() {
    this.#moved = performance.now();
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#tell.moved(), GLANCE + 10);
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

  /** @param {Tile} tile */
  #address(tile) {
    return photo(this.#generation, tile, this.isLarge ? "large" : "tile");
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
    image.src = this.#address(tile);
    mat.append(image, make("p", "reason"), make("span", "check"));
    const below = make("p", "below");
    below.append(make("span", "name", tile.name), make("span", "sure"));
    made.append(mat, make("p", "says"), below);
    this.#say(made, tile);
    return made;
  }

  /** @param {Element} made @param {Tile} tile */
  #say(made, tile) {
    const [check, says, sure] = [".check", ".says", ".sure"].map(
      (each) => /** @type {HTMLElement} */ (made.querySelector(each)));
    const note = notes(tile);
    const left = tile.status === LEFT;
    made.setAttribute("title",
      `${tile.folder}${tile.name}: ${tile.label}${note && `, ${note}`}; labelled by ${tile.model}`);
    made.classList.toggle("decided", !left);
    check.textContent = left ? "" : "✓";
    sure.textContent = left && tile.confidence !== null ? `${(100 * tile.confidence).toFixed(1)} %` : "";
    says.replaceChildren(...label(tile), make("span", "unseen", note),
      ...(left && tile.review ? [make("span", "flag", "?")] : []));
  }

  /** @param {EventTarget?} image */
  async #broken(image) {
    if (!(image instanceof HTMLImageElement)) return;
    const made = image.closest(".tile");
    if (!made) return;
    made.classList.add("broken");
    this.#tell.moved();
    try {
      /** @type {HTMLElement} */ (made.querySelector(".reason")).textContent = await reason(image.src);
    } catch (error) {
      this.#tell.failed(error);
    }
  }

  /** A press selects: one photo, or all up to it. @param {PointerEvent} event */
  #press(event) {
    if (event.button !== 0) return;
    const place = this.#place(event.target);
    const more = event.ctrlKey || event.metaKey;
    this.#root.focus({ preventScroll: true });
    if (event.pointerType === "touch") return; // it may scroll: a click is a tap
    event.preventDefault();
    if (place >= 0) this.go(place, event.shiftKey ? "extend" : more ? "toggle" : "only");
    else if (!more) this.selectNone();
  }
}
