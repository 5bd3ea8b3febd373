// The large view: one photo, and all that is known of it.

import { say } from "./gallery.js";
import { get } from "./server.js";

const element = (id) => document.getElementById(id);

export class Large {
  #dialog = element("large");
  #photos;
  #shown; // "generation/row" of the photo on show
  #row;

  constructor(photos) {
    this.#photos = photos;
    element("large-close").addEventListener("click", () => this.close());
  }

  get isOpen() {
    return this.#dialog.open;
  }

  open() {
    if (this.#dialog.open) return;
    this.#dialog.showModal();
    this.#dialog.focus(); // and not what can be scrolled in it
  }

  close() {
    this.#dialog.close();
  }

  /** Show a row, or what is new of it; `next` is the row that will be asked for after it. */
  show(row, next, generation) {
    if (!this.isOpen || !row) return;
    element("large-name").textContent = row.name;
    element("large-folder").textContent = row.folder;
    const says = element("large-says");
    const [label, sure, flag] = ["b", "span", "span"].map((kind) => document.createElement(kind));
    flag.className = "flag";
    sure.className = "sure";
    say(row, { label, sure, flag });
    says.className = `says ${row.status}`;
    says.replaceChildren(label, sure, flag);
    const shown = `${generation}/${row.row}`;
    if (this.#shown !== shown) {
      this.#shown = shown;
      this.#picture(row, generation, shown);
    }
    if (this.#row !== row) {
      this.#row = row;
      this.#facts(row, generation, shown);
    }
    if (next) this.#photos.get(generation, next.row, "large").catch(() => {});
  }

  async #picture(row, generation, shown) {
    const photo = element("large-photo");
    const problem = element("large-problem");
    problem.textContent = "";
    photo.alt = row.name;
    const small = this.#photos.now(generation, row.row, "tile");
    photo.hidden = !small;
    if (small) photo.src = small;
    try {
      const url = await this.#photos.get(generation, row.row, "large");
      if (this.#shown !== shown) return;
      photo.src = url;
      photo.hidden = false;
    } catch (error) {
      if (error.name === "AbortError" || this.#shown !== shown) return;
      photo.hidden = true;
      problem.textContent = row.reason || error.message;
    }
  }

  async #facts(row, generation, shown) {
    const facts = await get("facts", { generation, row: row.row }).catch(() => []);
    if (this.#shown !== shown) return;
    const pairs = facts.flatMap(([name, value]) => {
      const term = document.createElement("dt");
      const fact = document.createElement("dd");
      term.textContent = name;
      fact.textContent = value;
      return [term, fact];
    });
    element("large-facts").replaceChildren(...pairs);
  }
}
