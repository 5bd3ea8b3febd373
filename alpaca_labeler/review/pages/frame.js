// @ts-check
// What stands around the photos: filters, progress, messages, the end of the list.

/** @typedef {import("./server.js").List} List */

const MESSAGE = 8000; // milliseconds
const SIZE = 140; // pixels, of a tile

export const FILTERS = ["search", "label", "show"];

/** @param {string} id @returns {any} */
export const element = (id) => document.getElementById(id);
/** @param {number} value */
export const number = (value) => value.toLocaleString("en");
/** @param {number} count */
export const photos = (count) => `${number(count)} photo${count === 1 ? "" : "s"}`;
/** @param {string} does @returns {any} */
export const button = (does) => element("bar").querySelector(`[data-does=${does}]`);

/** The filters that are on. @param {Record<string, string>} query */
export const filtered = (query) => FILTERS.filter((name) => query[name]);

/** The key of each class besides its number: its initial, if that is nothing else. @param {string[]} classes */
export function initials(classes) {
  const found = classes.map((name) => name[0].toLowerCase());
  const clear = found[0] !== found[1] && found.every((key) => /[a-z]/.test(key) && !"rxz".includes(key));
  return clear ? found : ["1", "2"];
}

/** Show what there is to choose from, and what was chosen. @param {List} list @param {Record<string, string>} query */
export function begin(list, query) {
  document.title = `${list.name} - review`;
  element("name").textContent = list.name;
  element("help-file").textContent =
    `Each decision is written at once to ${list.name}, as ${list.annotator}'s.`;
  element("help-classes").textContent = `${list.classes[1]}, ${list.classes[0]}`;
  const keys = initials(list.classes);
  ["no", "yes"].forEach((does, index) => {
    button(does).title = list.classes[index];
    button(does).querySelector(".what").textContent = list.classes[index];
    button(does).querySelector("kbd").textContent = keys[index];
  });
  element("label").replaceChildren(new Option("any", ""),
    ...list.classes.map((name, index) => new Option(name, String(index))));
  for (const name of FILTERS) {
    if (element(name) !== document.activeElement) element(name).value = query[name];
  }
}

/** Say what is shown. @param {Record<string, string>} query @param {number} count of photos */
export function shown(query, count) {
  const on = filtered(query);
  element("shown").textContent = [photos(count), ...on.map((name) =>
    element(name).selectedOptions?.[0]?.text ?? query[name])].join(" · ");
  element("clear").hidden = !on.length;
  element("random").hidden = query.show === "random";
}

/**
 * Show what was done and, on a list's last page, what comes next.
 * @param {List} state @param {number[]} left place of each photo that is not decided
 * @param {number} count of photos @param {number} page @param {number} pages
 */
export function summary(state, left, count, page, pages) {
  const checking = element("show").value === "random" && state.check;
  element("progress").textContent = checking || state.progress;
  element("pages").hidden = pages < 2;
  element("page").textContent = `Page ${number(page + 1)} of ${number(pages)}`;
  element("previous").disabled = page === 0;
  element("next").disabled = page === pages - 1;
  element("summary").hidden = page < pages - 1;
  element("end-title").textContent = !count ? "No photos match these filters"
    : left.length ? `${photos(left.length)} above ${left.length === 1 ? "is" : "are"} not decided`
      : count === 1 ? "The photo here is decided" : `All ${photos(count)} here are decided`;
  element("end-left").textContent = [state.progress, state.check].filter(Boolean).join("; ");
  element("to-left").hidden = !left.length;
}

/** Offer what can be done where the page is. @param {import("./grid.js").Grid} grid */
export function offer(grid) {
  const left = grid.rest.length;
  const none = !grid.targets.some((place) => !grid.isBroken(place));
  for (const does of ["no", "yes"]) button(does).disabled = none;
  button("rest").disabled = !left;
  button("rest").firstElementChild.textContent =
    grid.isLarge ? "This is right" : `The rest is right${left ? ` (${left})` : ""}`;
  button("open").disabled = !grid.tiles[grid.active];
  button("open").firstElementChild.textContent = grid.isLarge ? "All" : "Large";
  const many = grid.selected.size;
  element("selected").textContent = many > 1 ? `${number(many)} selected` : "";
}

/** @type {Record<string, number>} */
const timers = {};
/** Do something after a rest. @param {string} name @param {number} rest @param {() => void} does */
export function later(name, rest, does) {
  clearTimeout(timers[name]);
  timers[name] = setTimeout(does, rest);
}

/** Say something for a moment. @param {string} text */
export function say(text) {
  element("message").textContent = element("message").title = text;
  later("message", MESSAGE, () => element("message").textContent = "");
}

/** Make tiles larger or smaller, and remember it: a cookie, because the port is another each time. @param {number} [by] steps */
export function resize(by = 0) {
  const field = element("size");
  field.value = Number(field.value) + by * Number(field.step);
  element("grid").style.setProperty("--tile", `${field.value}px`);
  document.cookie = `tile=${field.value}; path=/; max-age=31536000; samesite=strict`;
}

/** Take the size of tiles that was chosen last. */
export function remember() {
  element("size").value = /\btile=(\d+)/.exec(document.cookie)?.[1] ?? SIZE;
  resize();
}

/** How many photos a key moves by; the end is far. @param {string} key @param {number} columns */
export function distance(key, columns) {
  const tall = element("grid").firstElementChild?.clientHeight || 1;
  const screen = Math.max(1, Math.floor(element("main").clientHeight / tall)) * columns;
  return {
    ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns,
    PageUp: -screen, PageDown: screen, Home: -Infinity, End: Infinity,
  }[key];
}
