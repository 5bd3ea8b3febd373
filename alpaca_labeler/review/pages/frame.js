// @ts-check
// What stands around the photos: filters, progress, the end of the list.

import { make } from "./grid.js";

/** @typedef {import("./server.js").Start} Start */

const TOAST = 8000; // milliseconds

export const FILTERS = ["search", "label", "show", "folder", "sort"];

/** @param {string} id @returns {any} */
export const element = (id) => document.getElementById(id);
/** @param {number} value */
export const number = (value) => value.toLocaleString("en");
/** @param {number} count */
export const photos = (count) => `${number(count)} photo${count === 1 ? "" : "s"}`;

/** The filters that are on. @param {Record<string, string>} query */
export const filtered = (query) => FILTERS.filter((name) => query[name] && name !== "sort");

/** Show what there is to choose from, and what was chosen. @param {Start} start @param {Record<string, string>} query */
export function begin(start, query) {
  document.title = `${start.name} - review`;
  element("name").textContent = start.name;
  element("help-file").textContent =
    `Each decision is written at once to ${start.name}, as ${start.annotator}'s.`;
  [element("no"), element("yes")].forEach((each, index) => {
    each.textContent = start.classes[index];
  });
  const choices = { label: start.labels, folder: start.folders };
  for (const [id, found] of Object.entries(choices)) {
    element(id).replaceChildren(new Option("any", ""), ...found.map((each) => new Option(
      `${each.text} (${id === "folder" ? `${number(each.decided)} of ` : ""}${number(each.photos)})`,
      each.value)));
    element(id).parentElement.hidden = found.length < 2 && !query[id];
  }
  for (const name of FILTERS) {
    if (element(name) !== document.activeElement) element(name).value = query[name];
  }
}

/** Say what is shown. @param {Record<string, string>} query @param {number} count of photos */
export function shown(query, count) {
  const on = filtered(query);
  element("shown").textContent = [photos(count), ...on.map((name) => {
    const field = element(name);
    const chosen = field.selectedOptions?.[0]?.text.replace(/ \([^(]*\)$/, "") ?? query[name];
    return `${field.parentElement.firstChild.data}: ${chosen}`;
  })].join(" · ");
  element("clear").hidden = !on.length;
}

/**
 * Show what was done with this list and, on its last page, what comes next.
 * @param {Uint8Array} status of each photo @param {number} page @param {number} pages
 */
export function summary(status, page, pages) {
  const counts = [0, 0, 0, 0];
  for (const each of status) counts[each] += 1;
  const [left, confirmed, changed, failures] = counts;
  const decided = confirmed + changed;
  element("progress").textContent =
    `${number(decided)} of ${number(left + decided)} decided, ${number(changed)} changed`;
  element("done").style.width = `${100 * decided / Math.max(1, left + decided)}%`;
  element("pages").hidden = pages < 2;
  element("page").textContent = `Page ${number(page + 1)} of ${number(pages)}`;
  element("previous").disabled = page === 0;
  element("next").disabled = page === pages - 1;
  element("summary").hidden = page < pages - 1;
  if (page < pages - 1) return;
  element("end-title").textContent = !status.length ? "No photos match these filters"
    : left ? "End of the list" : `All ${photos(decided)} here are decided`;
  const all = photos(left + decided);
  element("end-left").textContent = [
    status.length && `People changed ${number(changed)} and confirmed ${number(confirmed)} of ${all}.`,
    failures && `${photos(failures)} could not be labelled.`,
    left && `${photos(left)} ${left === 1 ? "is" : "are"} left above.`,
  ].filter(Boolean).join(" ");
  element("to-left").hidden = !left;
}

/** Offer what can be done where the page is. @param {import("./grid.js").Grid} grid @param {boolean} ended */
export function offer(grid, ended) {
  const left = grid.rest.length;
  const button = (/** @type {string} */ does) => element("bar").querySelector(`[data-does=${does}]`);
  const none = ended || !grid.targets.some((place) => !grid.isBroken(place));
  for (const does of ["no", "yes"]) button(does).disabled = none;
  button("rest").disabled = ended || !left;
  button("rest").firstElementChild.textContent = `The rest here is right${left ? ` (${left})` : ""}`;
  button("open").disabled = !grid.tiles[grid.active];
  if (ended) button("undo").disabled = true;
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
export function toast(text) {
  element("toast").replaceChildren(make("p", "", text));
  (document.querySelector("dialog[open]") ?? document.body).append(element("toast"));
  later("toast", TOAST, () => element("toast").replaceChildren());
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

/** Begin to search. */
export function search() {
  reveal(true);
  element("search").focus();
  element("search").select();
}

/** Show the filters on a narrow screen. @param {boolean} shown */
export function reveal(shown) {
  element("filters").classList.toggle("open", shown);
  element("filters-open").setAttribute("aria-expanded", String(shown));
}
