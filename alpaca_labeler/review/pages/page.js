// @ts-check
// The page: lists and their place in the address, decisions and their undoing, keys.

import {
  FILTERS, begin, button, distance, element, filtered, initials, later, offer, photos, remember,
  resize, say, shown, summary,
} from "./frame.js";
import { Grid } from "./grid.js";
import { LEFT, Outdated, get, post } from "./server.js";

/** @typedef {import("./server.js").List} List */
/** @typedef {import("./server.js").State} State @typedef {import("./server.js").Done} Done */

const PAGE = 240; // photos
const TYPING = 200; // milliseconds of rest that end a search text

const grid = new Grid(element("grid"), element("main"), { moved, open, failed });

/** @type {List} */ let list;
/** @type {Uint8Array} of each photo of the list */ let status;
/** @type {Map<number, number>} id: place in the list */ let places;
/** Ends when the page is there that was asked for: keys wait for it. */
let turning = Promise.resolve();
let page = 0;

const asked = new URLSearchParams(location.search);
/** @type {Record<string, string>} what is asked for */
let query = Object.fromEntries(FILTERS.map((name) => [name, asked.get(name) ?? ""]));

function address() {
  const given = new URLSearchParams(Object.entries(query).filter(([, value]) => value));
  const tile = grid.tiles[grid.active];
  if (tile) given.set("photo", tile.ref);
  history.replaceState(null, "", given.size ? `?${given}` : location.pathname);
}

// --- lists ---------------------------------------------------------------------------------------

/** Ask for the list again, and go to a photo. @param {string} [ref] @param {number} [near] */
async function load(ref = "", near = 0) {
  try {
    const known = Object.fromEntries(Object.entries(query).filter(([, value]) => value));
    list = await get("list", { ...known, photo: ref });
    status = Uint8Array.from(list.status, Number);
    places = new Map(list.ids.map((id, place) => [id, place]));
    begin(list, query);
    shown(query, list.ids.length);
    const place = list.at < 0 ? Math.min(near, Math.max(0, list.ids.length - 1)) : list.at;
    await go(place, "none", true);
    showChanges(list);
  } catch (error) {
    failed(error);
  }
}

/** Ask for another list. @param {Record<string, string>} wanted */
function change(wanted) {
  query = { ...query, ...wanted };
  page = 0;
  grid.tiles = [];
  address();
  turning = load();
}

/**
 * Go to a photo of the list, on any of its pages; after the last one comes the end.
 * @param {number} place @param {import("./grid.js").How} [how] @param {boolean} [again]
 */
async function go(place, how = "none", again = false) {
  const last = Math.max(0, list.ids.length - 1);
  const wanted = Math.floor(Math.min(Math.max(0, place), last) / PAGE);
  if (again || wanted !== page) {
    page = wanted;
    const ids = list.ids.slice(page * PAGE, (page + 1) * PAGE);
    const { generation } = list;
    const tiles = ids.length ? get("tiles", { generation, ids }) : Promise.resolve([]);
    const there = tiles.then((found) => {
      grid.show(found, generation);
      grid.go(place - page * PAGE);
    });
    if (!again) turning = there.catch(() => {});
    await there;
  } else {
    grid.go(place - page * PAGE, how);
  }
  sum();
  if (place > last && list.ids.length) element("end").scrollIntoView({ block: "nearest" });
}

function sum() {
  const left = [...status.keys()].filter((place) => status[place] === LEFT);
  summary(list, left, status.length, page, Math.ceil(status.length / PAGE));
}

const here = () => page * PAGE + grid.active;

/** The first photo from a place on that is not decided; the place after the last if all are. @param {number} from */
function nextLeft(from) {
  const found = status.indexOf(LEFT, from);
  return found < 0 ? status.length : found;
}

/** Take all filters off, but for one. @param {Record<string, string>} [wanted] */
function clear(wanted = {}) {
  change({ ...Object.fromEntries(filtered(query).map((name) => [name, ""])), ...wanted });
  element("grid").focus();
}

/** Show what has changed on the server. @param {State} state @param {Set<number>} [own] photos that this page has just decided */
async function showChanges(state, own = new Set()) {
  if (state.generation !== list.generation) return load(grid.tiles[grid.active]?.ref, here());
  const { since, progress, check } = state;
  Object.assign(list, { since, progress, check });
  for (const [id, now] of state.changed) {
    const place = places.get(id);
    if (place !== undefined) status[place] = now;
  }
  const changed = new Set(state.changed.map(([id]) => id));
  const ids = grid.tiles.map(({ id }) => id).filter((id) => changed.has(id));
  if (ids.length) {
    const { generation } = list;
    for (const tile of await get("tiles", { generation, ids })) grid.update(tile);
  }
  const others = [...changed].filter((id) => !own.has(id));
  if (others.length) say(`${photos(others.length)} decided in another window or by somebody else`);
  sum();
  moved();
}

/** Say what is wrong, where it is seen. @param {unknown} error @param {string} [ref] of the photo it is about */
function failed(error, ref = grid.tiles[grid.active]?.ref) {
  if (error instanceof Outdated) {
    return load(ref, list ? here() : 0);
  }
  element("problem").textContent = error instanceof Error ? error.message : String(error);
  element("problem").hidden = false;
  moved();
}

// --- decisions -----------------------------------------------------------------------------------

let queue = Promise.resolve();

/** Do one thing after the other. @param {() => Promise<unknown>} does */
function next(does) {
  queue = queue.then(does).then(() => undefined, failed);
  return queue;
}

/** @param {string} path @param {Record<string, any>} body @returns {Promise<Done>} */
async function send(path, body) {
  const done = await post(path, { generation: list.generation, since: list.since, ...body });
  element("problem").hidden = true;
  return done;
}

/**
 * Say of photos of this page which class each is.
 * @param {number[]} chosen places @param {number} [index] of the class, if it is not each one's own
 */
function decide(chosen, index) {
  const seen = chosen.filter((place) => !grid.isBroken(place));
  const missing = chosen.length - seen.length;
  if (missing) say(`${photos(missing)} cannot be seen: nothing was decided there`);
  const classes = [0, 1].map((each) => seen.filter((place) =>
    (index ?? grid.tiles[place].class) === each).map((place) => grid.tiles[place].id));
  const all = classes.flat();
  if (!all.length) return;
  const before = grid.tiles;
  grid.pending(seen, true);
  next(async () => {
    try {
      const done = await send("decide", { classes, check: query.show === "random" });
      await showChanges(done, new Set(all));
      const problems = [...(done.refused ?? [])];
      if (done.unseen) problems.push(`${photos(done.unseen)} decided elsewhere just now: look again`);
      const what = index === undefined ? "confirmed" : list.classes[index];
      if (problems.length) say(problems.join("; "));
      else if (all.length > 1) say(`${photos(all.length)}: ${what}`);
    } catch (error) {
      await failed(error, before[seen[0]].ref);
      if (error instanceof Outdated) say("The table is new, so nothing was saved just now: look again");
    } finally {
      if (before === grid.tiles) grid.pending(seen, false);
    }
  });
}

/** @param {number} index of a class */
function label(index) {
  const { targets } = grid;
  if (!targets.length) return say("This is the end of the list");
  const last = targets[targets.length - 1];
  const again = grid.tiles[last].status !== LEFT;
  decide(targets, index);
  grid.selectNone();
  return again ? go(page * PAGE + last + 1).catch(failed) : onward(last);
}

/** Go to what is left in view, where nothing moves under the eye; else turn to what comes after. @param {number} from place on the page */
async function onward(from) {
  const { left } = grid;
  if (left.length) return grid.go(left.find((place) => place > from) ?? left[0]);
  const { inView } = grid;
  const last = Math.max(from, ...(inView.length ? inView : [grid.active]));
  const place = nextLeft(page * PAGE + last + 1);
  await go(place).catch(failed);
  if (place < status.length) grid.turn();
}

/** Confirm all that was seen whole and is not decided, and turn to what is left. */
function rest() {
  const { rest: chosen, selected } = grid;
  decide(chosen);
  if (selected.size) {
    if (!chosen.length) say("The selected photos are left here: say what they are");
    return;
  }
  if (!chosen.length && grid.left.length) return say("Look first: these have just come into view");
  return onward(-1);
}

/** Take back the last step and show what the photos are again. */
function undo() {
  next(async () => {
    const done = await send("undo", {});
    const back = done.ids ?? [];
    await showChanges(done, new Set(back));
    if (!back.length) return say("There is nothing to undo");
    const place = places.get(back[0]);
    if (place !== undefined) await go(place);
    const tile = grid.tiles.find(({ id }) => id === back[0]);
    say(back.length > 1 || !tile ? `${photos(back.length)}: as before, ${tile ? "here" : "not in this list"}`
      : `${tile.name} is ${tile.label} again`);
  });
}

// --- moving --------------------------------------------------------------------------------------

/** What follows from where we are. */
function moved() {
  if (!list) return;
  offer(grid);
  later("address", 300, address);
}

function open() {
  if (grid.tiles[grid.active]) grid.enlarge();
}

/** Go where a key leads. @param {string} key @param {KeyboardEvent} event */
function travel(key, event) {
  const by = /** @type {number} */ (distance(key, grid.columns));
  if (event.shiftKey) {
    return grid.go(Math.max(0, Math.min(grid.active + by, grid.tiles.length - 1)), "extend");
  }
  return go(Math.max(0, Math.min(here() + by, list.ids.length - 1))).catch(failed);
}

/** @type {Record<string, () => unknown>} what buttons do, by `data-does` */
const DOES = {
  no: () => label(0), yes: () => label(1), rest, undo, open,
  previous: () => turnPage(-1), next: () => turnPage(1), left: () => go(nextLeft(0)),
  help: () => element("help").showModal(), clear: () => clear(), random: () => clear({ show: "random" }),
};
/** @type {Record<string, () => unknown>} */
const KEYS = {
  1: DOES.no, 2: DOES.yes, r: rest, z: undo,
  x: () => grid.go(grid.active, "toggle"), "/": search, "?": DOES.help,
  "[": DOES.previous, "]": DOES.next, Enter: open, " ": open,
  "+": () => resize(1), "=": () => resize(1), "-": () => resize(-1),
  Escape: () => grid.isLarge ? open() : grid.selectNone(),
};

/** Begin to search: on a narrow screen the filters are closed. */
function search() {
  if (grid.isLarge) open();
  if (!element("filters").checkVisibility()) element("filters").showPopover();
  element("search").focus();
}

function turnPage(/** @type {number} */ by) {
  const place = (page + by) * PAGE;
  if (place >= 0 && place < list.ids.length) return go(place);
}

/** Do what was asked for, on the page that was asked for. @param {() => unknown} does */
const act = (does) => turning.then(does).catch(failed);

document.addEventListener("keydown", (event) => {
  const target = /** @type {HTMLElement} */ (event.target);
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (!list || event.altKey || element("help").open) return;
  if (target.matches("input, select") && (target.id !== "size" || key.startsWith("Arrow"))) {
    if (key === "Escape" || (key === "Enter" && target.matches("input"))) {
      event.preventDefault();
      element("grid").focus();
    }
    return;
  }
  if (target.matches("button, summary") && (key === "Enter" || key === " ")) return;
  /** @type {(() => unknown) | undefined} */
  let does = KEYS[key] ?? [DOES.no, DOES.yes][initials(list.classes).indexOf(key)];
  if (event.ctrlKey || event.metaKey) {
    does = { z: undo, a: () => grid.selectAll() }[key];
  } else if (distance(key, grid.columns) !== undefined) {
    does = () => travel(key, event);
  }
  if (!does) return;
  event.preventDefault();
  // A key that is held down goes on moving, but decides once: nobody has looked at what follows.
  if (event.repeat && distance(key, grid.columns) === undefined) return;
  act(does);
});
document.addEventListener("click", (event) => {
  const pressed = /** @type {Element} */ (event.target).closest("[data-does]");
  if (!list || !(pressed instanceof HTMLElement)) return;
  act(DOES[pressed.dataset.does ?? ""]);
  if (pressed.closest("main")) element("grid").focus();
});
element("search").addEventListener("input", () => later("search", TYPING, () =>
  change({ search: element("search").value })));
for (const name of FILTERS) {
  if (name === "search") continue;
  element(name).addEventListener("change", (/** @type {any} */ { target }) => {
    change({ [name]: target.value });
    element("filters").hidePopover();
    element("grid").focus(); // the keys are about the photos again
  });
}
element("filters").addEventListener("submit", (/** @type {Event} */ event) => event.preventDefault());
element("size").addEventListener("input", () => resize());
remember();
load(asked.get("photo") ?? "").then(() => element("grid").focus());
