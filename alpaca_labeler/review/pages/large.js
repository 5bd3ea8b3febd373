// @ts-check
// The large view: one photo, to be zoomed into, and what is known of it.

import { label, make, notes, percent } from "./grid.js";
import { photo, reason } from "./server.js";

/** @typedef {import("./server.js").Tile} Tile */

const MOST = 12; // times as large as what fits
export const STEP = 1.5;

/** @param {string} id */
const element = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

export class Large {
  #dialog = /** @type {HTMLDialogElement} */ (element("large"));
  #figure = element("large-figure");
  #photo = /** @type {HTMLImageElement} */ (element("large-photo"));
  #shown = "";
  #scale = 1;
  #x = 0;
  #y = 0;
  #tell;

  /** @param {{closed(): void, failed(error: unknown): void}} tell */
  constructor(tell) {
    this.#tell = tell;
    const figure = this.#figure;
    figure.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(STEP ** (-Math.sign(event.deltaY) / 2), event);
    }, { passive: false });
    figure.addEventListener("dblclick", (event) =>
      this.#scale > 1 ? this.fit() : this.zoom(3, event));
    figure.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      figure.setPointerCapture(event.pointerId);
    });
    figure.addEventListener("pointermove", (event) => {
      if (event.buttons) this.#place(this.#x + event.movementX, this.#y + event.movementY);
    });
    this.#photo.addEventListener("error", () => this.#broken());
    this.#dialog.addEventListener("close", () => tell.closed());
    addEventListener("resize", () => this.fit());
  }

  get isOpen() {
    return this.#dialog.open;
  }

  open() {
    if (this.isOpen) return;
    this.#dialog.showModal();
    this.#dialog.focus(); // and not what can be scrolled in it
  }

  close() {
    this.#dialog.close();
  }

  /**
   * Show a photo, or what is new of it.
   * @param {Tile} tile @param {Tile | undefined} next @param {string} place @param {number} generation
   */
  show(tile, next, place, generation) {
    element("large-name").textContent = tile.name;
    element("large-place").textContent = place;
    const check = tile.who || tile.was ? [make("span", "check", "✓")] : [];
    element("large-says").replaceChildren(...check, ...label(tile), make("span", "soft", percent(tile)),
      make("span", "note", notes(tile)));
    const shown = photo(generation, tile, "large");
    if (this.#shown === shown) return;
    this.#shown = shown;
    element("large-problem").textContent = tile.reason;
    this.#photo.hidden = false;
    this.#photo.alt = tile.name;
    this.#photo.src = shown;
    element("large-about").textContent = `${tile.folder}, labelled by ${tile.model}`;
    this.fit();
    if (next) new Image().src = photo(generation, next, "large");
  }

  fit() {
    this.#scale = 1;
    this.#place(0, 0);
  }

  /** @param {number} [factor] @param {{clientX: number, clientY: number}} [at] */
  zoom(factor = STEP, at = undefined) {
    const box = this.#figure.getBoundingClientRect();
    const scale = Math.max(1, Math.min(MOST, this.#scale * factor));
    const dx = at ? at.clientX - box.left - box.width / 2 : 0;
    const dy = at ? at.clientY - box.top - box.height / 2 : 0;
    const by = scale / this.#scale;
    this.#scale = scale;
    this.#place(dx - (dx - this.#x) * by, dy - (dy - this.#y) * by);
    // What is there stays in sight until the larger one is.
    if (scale > 1 && this.#photo.src.endsWith("size=large")) {
      this.#photo.src = this.#shown.replace("size=large", "size=full");
    }
  }

  /** @param {number} x @param {number} y */
  #place(x, y) {
    const { clientWidth, clientHeight } = this.#figure;
    const room = (/** @type {number} */ side) => (side * (this.#scale - 1)) / 2;
    this.#x = Math.max(-room(clientWidth), Math.min(room(clientWidth), x));
    this.#y = Math.max(-room(clientHeight), Math.min(room(clientHeight), y));
    this.#photo.style.transform = `translate(${this.#x}px, ${this.#y}px) scale(${this.#scale})`;
    this.#figure.classList.toggle("zoomed", this.#scale > 1);
  }

  async #broken() {
    const shown = this.#shown;
    this.#photo.hidden = true;
    if (element("large-problem").textContent) return;
    try {
      const why = await reason(shown);
      if (this.#shown === shown) element("large-problem").textContent = why;
    } catch (error) {
      this.#tell.failed(error);
    }
  }
}
