// The gallery: of a list of any length, only the lines in sight (and a few around them) exist.
//
// It holds the keyboard's focus itself and names the active photo (aria-activedescendant), so that
// focus is never on something that scrolling takes away. The active photo's line always exists.

import { Outdated, get } from "./server.js";

const PAGE = 100; // rows asked for at a time
const PAGES_KEPT = 30;
const AROUND = 2; // lines above and below those in sight
const CALM = 90; // milliseconds between two looks at what is missing, while it scrolls
const TILE = 196; // least width in pixels where there is room
const PHONE_TILE = 150;
const GAP = 16;
const CAPTION = 54;
const HIGHEST = 15_000_000; // pixels; browsers lose count somewhere above

export class Gallery {
  #element;
  #sizer = document.createElement("div");
  #photos;
  #tell;
  #view = 0;
  #generation = 0;
  #count = 0;
  #columns = 1;
  #height = 1;
  #lines = new Map(); // number of a line: its element
  #spare = [];
  #pages = new Map(); // number of a page: its rows
  #asked = new Map(); // number of a page: {promise, control}
  #active = 0;
  #frame = 0;
  #timer = 0;

  /** `tell`: {active(place), open(), failed(error)}. */
  constructor(element, photos, tell) {
    this.#element = element;
    this.#photos = photos;
    this.#tell = tell;
    this.#sizer.className = "sizer";
    this.#sizer.setAttribute("role", "presentation");
    element.append(this.#sizer);
    element.addEventListener("scroll", () => this.#later(), { passive: true });
    element.addEventListener("click", (event) => this.#clicked(event));
    element.addEventListener("dblclick", (event) => clickedPlace(event) >= 0 && tell.open());
    new ResizeObserver(() => this.#measure()).observe(element);
  }

  /** Show a list from its beginning, or from `place` on. */
  show({ view, rows, generation }, place = 0) {
    for (const { control } of this.#asked.values()) control.abort();
    this.#asked.clear();
    this.#pages.clear();
    for (const line of [...this.#lines.keys()]) this.#drop(line);
    this.#view = view;
    this.#generation = generation;
    this.#count = rows;
    this.#active = Math.max(0, Math.min(place, rows - 1));
    this.#element.hidden = rows === 0;
    this.#element.scrollTop = 0;
    this.#measure();
    this.move(this.#active);
  }

  get place() {
    return this.#active;
  }

  get columns() {
    return this.#columns;
  }

  get linesInSight() {
    return Math.max(1, Math.floor(this.#element.clientHeight / this.#height));
  }

  get count() {
    return this.#count;
  }

  get generation() {
    return this.#generation;
  }

  /** The row at a place, if it is here. */
  at(place) {
    return this.#pages.get(Math.floor(place / PAGE))?.[place % PAGE];
  }

  /** The row at a place, asked for where it is not here. */
  async fetch(place) {
    if (place < 0 || place >= this.#count) return undefined;
    if (!this.at(place)) await this.#ask(Math.floor(place / PAGE));
    return this.at(place);
  }

  /** Make the photo at a place the active one, and bring it into sight. */
  move(place) {
    if (this.#count === 0) return;
    this.#active = Math.max(0, Math.min(place, this.#count - 1));
    const top = Math.floor(this.#active / this.#columns) * this.#height;
    const { scrollTop, clientHeight } = this.#element;
    if (top < scrollTop) this.#element.scrollTop = top;
    else if (top + this.#height + GAP > scrollTop + clientHeight) {
      this.#element.scrollTop = top + this.#height + GAP - clientHeight;
    }
    this.#draw();
    this.#tell.active(this.#active);
  }

  /** Show what is new of a row, wherever it stands. */
  update(row) {
    for (const [number, page] of this.#pages) {
      const index = page.findIndex((each) => each.row === row.row);
      if (index < 0) continue;
      page[index] = row;
      this.#refill(number * PAGE + index);
    }
  }

  /** Mark a photo whose decision is on its way, and take the mark away. */
  pend(rowNumber, pending) {
    for (const [number, page] of this.#pages) {
      const index = page.findIndex((each) => each.row === rowNumber);
      if (index < 0) continue;
      page[index] = { ...page[index], pending };
      this.#refill(number * PAGE + index);
    }
  }

  /** Ask for all rows again. */
  refresh() {
    this.#pages.clear();
    this.#look();
  }

  #measure() {
    const style = getComputedStyle(this.#element);
    const side = Number.parseFloat(style.paddingLeft) + Number.parseFloat(style.paddingRight);
    const width = this.#element.clientWidth - side;
    const least = width < 560 ? PHONE_TILE : TILE;
    this.#columns = Math.max(2, Math.floor((width + GAP) / (least + GAP)));
    const tile = (width - GAP * (this.#columns - 1)) / this.#columns;
    this.#height = Math.round(tile * 0.75) + CAPTION + GAP;
    const lines = Math.min(
      Math.ceil(this.#count / this.#columns), Math.floor(HIGHEST / this.#height));
    this.#count = Math.min(this.#count, lines * this.#columns);
    this.#sizer.style.height = `${lines * this.#height}px`;
    this.#element.style.setProperty("--columns", this.#columns);
    this.#element.style.setProperty("--height", `${this.#height - GAP}px`);
    this.#element.setAttribute("aria-rowcount", lines);
    this.#element.setAttribute("aria-colcount", this.#columns);
    for (const line of [...this.#lines.keys()]) this.#drop(line);
    this.#draw();
  }

  #later() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#draw();
    });
  }

  #draw() {
    if (this.#count === 0) return;
    const { scrollTop, clientHeight } = this.#element;
    const last = Math.ceil(this.#count / this.#columns) - 1;
    const from = Math.max(0, Math.floor(scrollTop / this.#height) - AROUND);
    const to = Math.min(last, Math.floor((scrollTop + clientHeight) / this.#height) + AROUND);
    const active = Math.floor(this.#active / this.#columns);
    for (const line of [...this.#lines.keys()]) {
      if ((line < from || line > to) && line !== active) this.#drop(line);
    }
    for (let line = from; line <= to; line++) if (!this.#lines.has(line)) this.#add(line);
    if (!this.#lines.has(active)) this.#add(active);
    this.#mark();
    this.#timer ||= setTimeout(() => {
      this.#timer = 0;
      this.#look();
    }, this.#pages.size ? CALM : 0);
  }

  #mark() {
    const id = `tile-${this.#active}`;
    if (this.#element.getAttribute("aria-activedescendant") !== id) {
      this.#element.setAttribute("aria-activedescendant", id);
    }
    for (const old of this.#sizer.querySelectorAll('[aria-selected="true"]')) {
      if (old.id !== id) old.setAttribute("aria-selected", "false");
    }
    document.getElementById(id)?.setAttribute("aria-selected", "true");
  }

  #add(number) {
    const line = this.#spare.pop() ?? newLine();
    while (line.children.length < this.#columns) line.append(newTile());
    while (line.children.length > this.#columns) line.lastChild.remove();
    line.style.transform = `translateY(${number * this.#height}px)`;
    line.setAttribute("aria-rowindex", number + 1);
    for (let column = 0; column < this.#columns; column++) {
      const tile = line.children[column];
      const place = number * this.#columns + column;
      tile.hidden = place >= this.#count;
      tile.id = tile.hidden ? "" : `tile-${place}`;
      tile.setAttribute("aria-colindex", column + 1);
      tile.setAttribute("aria-selected", String(place === this.#active));
      if (!tile.hidden) this.#fill(tile, place);
    }
    this.#lines.set(number, line);
    this.#sizer.append(line);
  }

  #drop(number) {
    const line = this.#lines.get(number);
    this.#lines.delete(number);
    for (const tile of line.children) this.#empty(tile);
    line.remove();
    if (this.#spare.length < 20) this.#spare.push(line);
  }

  #empty(tile) {
    if (tile.asked !== undefined) {
      this.#photos.cancel(this.#generation, tile.asked, "tile");
      tile.asked = undefined;
    }
    tile.row = undefined;
    tile.parts.image.removeAttribute("src");
    tile.parts.image.hidden = true;
    tile.parts.reason.textContent = "";
  }

  #refill(place) {
    const tile = document.getElementById(`tile-${place}`);
    if (tile) this.#fill(tile, place);
  }

  #fill(tile, place) {
    const row = this.at(place);
    const { label, sure, flag, name, mark, image } = tile.parts;
    tile.className = `tile ${row ? row.pending ? "pending" : row.status : "blank"}`;
    if (row?.row !== tile.row) this.#empty(tile);
    tile.row = row?.row;
    if (!row) {
      for (const part of [label, sure, flag, name, mark]) part.textContent = "";
      return;
    }
    say(row, { label, sure, flag });
    name.textContent = row.name;
    name.title = row.folder + row.name;
    mark.textContent = { confirmed: "\u2713", changed: "\u270e" }[row.status] ?? "";
    if (image.hidden) {
      const url = this.#photos.now(this.#generation, row.row, "tile");
      if (url) this.#picture(tile, url);
    }
  }

  #picture(tile, url) {
    tile.parts.image.src = url;
    tile.parts.image.hidden = false;
  }

  // Ask for the rows and photos that are in sight and not here, and for nothing else any more.
  #look() {
    const wanted = new Set();
    for (const number of this.#lines.keys()) {
      for (let column = 0; column < this.#columns; column++) {
        const place = number * this.#columns + column;
        if (place < this.#count && !this.at(place)) wanted.add(Math.floor(place / PAGE));
      }
    }
    for (const [page, { control }] of this.#asked) if (!wanted.has(page)) control.abort();
    for (const page of wanted) this.#ask(page).catch(() => {});
    const { scrollTop, clientHeight } = this.#element;
    const middle = (scrollTop + clientHeight / 2) / this.#height - 0.5;
    const near = [...this.#lines].sort((a, b) => Math.abs(a[0] - middle) - Math.abs(b[0] - middle));
    for (const [, line] of near) for (const tile of line.children) this.#load(tile);
  }

  async #load(tile) {
    const { row } = tile;
    if (row === undefined || tile.asked !== undefined || !tile.parts.image.hidden) return;
    if (tile.parts.reason.textContent) return;
    tile.asked = row;
    try {
      const url = await this.#photos.get(this.#generation, row, "tile");
      if (tile.row === row) this.#picture(tile, url);
    } catch (error) {
      if (error.name === "AbortError") return;
      if (tile.row !== row || error instanceof Outdated) return;
      tile.parts.reason.textContent = this.at(placeOf(tile))?.reason || error.message;
    } finally {
      if (tile.asked === row) tile.asked = undefined;
    }
  }

  #ask(page) {
    const known = this.#asked.get(page);
    if (known) return known.promise;
    const control = new AbortController();
    const question = { view: this.#view, offset: page * PAGE, limit: PAGE };
    const promise = get("rows", question, control.signal).then((rows) => {
      this.#pages.set(page, rows);
      for (const old of this.#pages.keys()) {
        if (this.#pages.size <= PAGES_KEPT) break;
        if (old !== page && !this.#inSight(old)) this.#pages.delete(old);
      }
      for (let index = 0; index < rows.length; index++) this.#refill(page * PAGE + index);
      if (Math.floor(this.#active / PAGE) === page) this.#tell.active(this.#active);
      this.#later();
    });
    promise.catch((error) => error.name !== "AbortError" && this.#tell.failed(error));
    const done = promise.finally(() => {
      if (this.#asked.get(page)?.control === control) this.#asked.delete(page);
    });
    this.#asked.set(page, { promise: done, control });
    return done;
  }

  #inSight(page) {
    const first = Math.floor((page * PAGE) / this.#columns);
    const last = Math.floor((page * PAGE + PAGE) / this.#columns);
    for (let line = first; line <= last; line++) if (this.#lines.has(line)) return true;
    return false;
  }

  #clicked(event) {
    const place = clickedPlace(event);
    if (place < 0) return;
    if (place === this.#active && event.detail === 1) this.#tell.open();
    else this.move(place);
  }
}

function placeOf(tile) {
  return Number(tile.id.slice("tile-".length));
}

function clickedPlace(event) {
  const tile = event.target.closest(".tile");
  return tile?.id ? placeOf(tile) : -1;
}

/** Write what a row says into {label, sure, flag}. */
export function say(row, { label, sure, flag }) {
  const now = row.given || row.label;
  label.textContent = row.failed && !row.given ? "failed" : now;
  label.className = row.failed && !row.given ? "label failed" : "label";
  const percent = row.confidence === null ? "" : sureness(row.confidence);
  if (row.given) sure.textContent = row.status === "changed" && row.label ? `was ${row.label}` : row.by;
  else sure.textContent = row.human ? "person" : percent;
  flag.textContent = row.review && !row.given ? "review" : "";
  flag.hidden = !flag.textContent;
}

function sureness(confidence) {
  return confidence >= 0.9995 ? "> 99.9 %" : `${(100 * confidence).toFixed(1)} %`;
}

function newLine() {
  const line = document.createElement("div");
  line.className = "line";
  line.setAttribute("role", "row");
  return line;
}

function newTile() {
  const tile = document.createElement("div");
  tile.setAttribute("role", "gridcell");
  const mat = child(tile, "div", "mat");
  const image = child(mat, "img", "");
  image.alt = "";
  image.hidden = true;
  image.decoding = "async";
  image.draggable = false;
  const reason = child(mat, "p", "reason");
  const mark = child(mat, "span", "mark");
  mark.setAttribute("aria-hidden", "true");
  const says = child(tile, "p", "says");
  tile.parts = {
    image, reason, mark,
    label: child(says, "b", "label"), sure: child(says, "span", "sure"),
    flag: child(says, "span", "flag"), name: child(tile, "p", "name"),
  };
  return tile;
}

function child(parent, kind, style) {
  const made = document.createElement(kind);
  made.className = style;
  parent.append(made);
  return made;
}
