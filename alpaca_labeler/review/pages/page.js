// @ts-check
// The page: lists and their place in the address, decisions and their undoing, keys.

import {
  FILTERS, begin, distance, element, filtered, later, number, offer, photos, reveal, search, shown,
  summary, toast,
} from "./frame.js";
import { Grid } from "./grid.js";
import { Large, STEP } from "./large.js";
import { Gone, LEFT, Outdated, get, post } from "./server.js";

/** @typedef {import("./server.js").List} List @typedef {import("./server.js").Start} Start */
/** @typedef {import("./server.js").State} State @typedef {import("./server.js").Done} Done */

const PAGE = 240; // photos
const TYPING = 200; // milliseconds of rest that end a search text

const grid = new Grid(element("grid"), element("main"), { moved, open, failed });
const large = new Large({ closed, failed });

/** @type {List} */ let list;
/** @type {Start} */ let start;
/** @type {Uint8Array} of each photo of the list */ let status;
/** @type {Map<number, number>} id: place in the list */ let places;
/** Ends when the page is there that was asked for: keys wait for it. */
let turning = Promise.resolve();
let page = 0;
let ended = false;

// --- the address ---------------------------------------------------------------------------------

/** @type {Record<string, string>} what is asked for */
let query = asked();

function asked() {
  const given = new URLSearchParams(location.search);
  return Object.fromEntries(FILTERS.map((name) => [name, given.get(name) ?? ""]));
}

/** @param {boolean} [push] */
function address(push = false) {
  const given = new URLSearchParams(Object.entries(query).filter(([, value]) => value));
  if (page) given.set("page", String(page + 1));
  const tile = grid.tiles[grid.active];
  if (tile) given.set("photo", tile.ref);
  const text = given.size ? `?${given}` : location.pathname;
  if (push) history.pushState(null, "", text);
  else history.replaceState(null, "", text);
}

// --- lists ---------------------------------------------------------------------------------------

/** Ask for the list again, and go to a photo. @param {string} [ref] @param {number} [near] */
async function load(ref = "", near = 0) {
  try {
    const known = Object.fromEntries(Object.entries(query).filter(([, value]) => value));
    [list, start] = await Promise.all([get("list", { ...known, photo: ref }), get("start")]);
    status = Uint8Array.from(list.status, Number);
    places = new Map(list.ids.map((id, place) => [id, place]));
    begin(start, query);
    shown(query, list.ids.length);
    const place = list.at < 0 ? Math.min(near, Math.max(0, list.ids.length - 1)) : list.at;
    await go(place, "none", true);
    showChanges(list);
  } catch (error) {
    failed(error);
  }
}

/** Ask for another list. @param {Record<string, string>} wanted @param {boolean} [push] */
function change(wanted, push = true) {
  query = { ...query, ...wanted };
  page = 0;
  grid.tiles = [];
  address(push);
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
  if (place > last && list.ids.length) end();
}

function sum() {
  summary(status, page, Math.ceil(status.length / PAGE));
}

const here = () => page * PAGE + grid.active;

/** The first photo from a place on that is not decided; the place after the last if all are. @param {number} from */
function nextLeft(from) {
  const found = status.indexOf(LEFT, from);
  return found < 0 ? status.length : found;
}

/** Take all filters off. */
function clear() {
  change(Object.fromEntries(filtered(query).map((name) => [name, ""])));
  element("grid").focus();
}

function end() {
  if (large.isOpen) large.close();
  element("end").scrollIntoView({ block: "nearest" });
}

// --- what is new ---------------------------------------------------------------------------------

/** Show what has changed on the server. @param {State} state @param {Set<number>} [own] photos that this page has just decided */
async function showChanges(state, own = new Set()) {
  if (state.generation !== list.generation) return load(grid.tiles[grid.active]?.ref, here());
  list.since = state.since;
  element("bar").querySelector("[data-does=undo]").disabled = !state.undo;
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
  if (others.length) toast(`${photos(others.length)} decided in another window or by somebody else`);
  sum();
  moved();
}

async function look() {
  if (!list || ended) return;
  await next(async () => showChanges(await get("state", { since: list.since })));
}

/** Say what is wrong, where it is seen. @param {unknown} error @param {string} [ref] of the photo it is about */
function failed(error, ref = grid.tiles[grid.active]?.ref) {
  if (error instanceof Outdated) {
    return load(ref, list ? here() : 0);
  }
  ended ||= error instanceof Gone;
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
  if (missing) toast(`${photos(missing)} cannot be seen: nothing was decided there`);
  const classes = [0, 1].map((each) => seen.filter((place) =>
    (index ?? grid.tiles[place].class) === each).map((place) => grid.tiles[place].id));
  const all = classes.flat();
  if (!all.length) return;
  const before = grid.tiles;
  grid.pending(seen, true);
  next(async () => {
    try {
      const done = await send("decide", { classes });
      await showChanges(done, new Set(all));
      const problems = [...(done.refused ?? [])];
      if (done.unseen) problems.push(`${photos(done.unseen)} decided elsewhere just now: look again`);
      const what = index === undefined ? "confirmed" : start.classes[index];
      if (problems.length) toast(problems.join("; "));
      else if (all.length > 1) toast(`${photos(all.length)}: ${what}`);
    } catch (error) {
      await failed(error, before[seen[0]].ref);
      if (error instanceof Outdated) toast("The table is new, so nothing was saved just now: look again");
    } finally {
      if (before === grid.tiles) grid.pending(seen, false);
    }
  });
}

/** @param {number} index of a class */
function label(index) {
  const { targets } = grid;
  if (ended || !list) return;
  if (!targets.length) return toast("This is the end of the list");
  const many = grid.selected.size > 0;
  decide(targets, index);
  const last = page * PAGE + (targets.at(-1) ?? 0);
  grid.selectNone();
  // While something in view is left to look at, nothing moves under the eye.
  if (many && grid.rest.length) return;
  return go(many ? nextLeft(last + 1) : last + 1).catch(failed);
}

/** Confirm all in view that is not decided, and turn to what is left. */
async function rest() {
  const chosen = grid.rest;
  if (ended || large.isOpen) return;
  if (!chosen.length && !grid.selected.size) toast("Nothing in view is left to confirm");
  decide(chosen);
  const from = page * PAGE + (chosen.at(-1) ?? grid.lastSeen) + 1;
  if (grid.selected.size) return;
  const left = nextLeft(from);
  await go(left).catch(failed);
  if (left < status.length) grid.turn(left - page * PAGE);
}

/** Take back the last step and show what the photos are again. */
function undo() {
  if (ended || !list) return;
  next(async () => {
    const done = await send("undo", {});
    const back = done.ids ?? [];
    await showChanges(done, new Set(back));
    if (!back.length) return toast("There is nothing to undo");
    const place = places.get(back[0]);
    if (place !== undefined) await go(place);
    toast(`${done.text}${place === undefined ? ". It is not in this list" : ""}`);
  });
}

// --- moving --------------------------------------------------------------------------------------

/** What follows from where we are. */
function moved() {
  if (!list) return;
  offer(grid, ended);
  const tile = grid.tiles[grid.active];
  if (large.isOpen && tile) {
    large.show(tile, grid.tiles[grid.active + 1],
      `${number(here() + 1)} of ${number(list.ids.length)}`, list.generation);
  }
  later("address", 300, address);
}

function step(/** @type {number} */ by) {
  const place = Math.max(0, here() + by);
  return go(large.isOpen ? Math.min(place, list.ids.length - 1) : place).catch(failed);
}

function open() {
  if (!grid.tiles[grid.active] || large.isOpen) return;
  large.open();
  element("large-bar").append(element("bar"));
  moved();
}

function closed() {
  document.querySelector("footer")?.append(element("bar"));
  element("grid").focus({ preventScroll: true });
}

/** Go where a key leads. @param {string} key @param {KeyboardEvent} event */
function travel(key, event) {
  const by = /** @type {number} */ (distance(key, grid.columns));
  const last = list.ids.length - 1;
  const from = here();
  if (event.shiftKey && !large.isOpen) {
    const place = Math.max(0, Math.min(grid.active + by, grid.tiles.length - 1));
    return grid.go(place, "extend");
  }
  if (large.isOpen) return step(Math.abs(by) === 1 ? by : Math.sign(by));
  // Only a step to the right leads behind the last photo.
  const place = by === 1 ? from + 1 : Math.min(from + by, Math.max(last, from));
  return go(Math.max(0, Math.min(place, last + 1))).catch(failed);
}

/** @type {Record<string, () => unknown>} what buttons do, by `data-does` */
const DOES = {
  no: () => label(0), yes: () => label(1), rest, undo, open,
  back: () => step(-1), on: () => step(1), close: () => large.close(),
  previous: () => turnPage(-1), next: () => turnPage(1), left: () => go(nextLeft(0)),
  help: () => element("help").showModal(), clear,
  filters: () => reveal(!element("filters").classList.contains("open")),
};
/** @type {Record<string, () => unknown>} */
const KEYS = {
  a: DOES.yes, n: DOES.no, r: rest, z: undo,
  x: () => grid.go(grid.active, "toggle"), "/": search, "?": DOES.help,
  "[": DOES.previous, "]": DOES.next, Enter: DOES.open, " ": DOES.open,
  Escape: () => grid.selectNone(),
};
/** @type {Record<string, () => unknown>} */
const LARGE_KEYS = {
  ...KEYS, "+": () => large.zoom(), "=": () => large.zoom(), "-": () => large.zoom(1 / STEP),
  0: () => large.fit(),
  Enter: DOES.close, " ": DOES.close, Escape: DOES.close,
};

function turnPage(/** @type {number} */ by) {
  const place = (page + by) * PAGE;
  if (!large.isOpen && place >= 0 && place < list.ids.length) return go(place);
}

/** Do what was asked for, on the page that was asked for. @param {() => unknown} does */
const act = (does) => turning.then(does).catch(failed);

document.addEventListener("keydown", (event) => {
  const target = /** @type {HTMLElement} */ (event.target);
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (!list || event.altKey || element("help").open) return;
  if (target.matches("input, select")) {
    if (key === "Escape" || (key === "Enter" && target.matches("input"))) {
      event.preventDefault();
      element("grid").focus();
    }
    return;
  }
  if (target.matches("button, summary") && (key === "Enter" || key === " ")) return;
  if (target.matches("aside") && /^(Arrow(Up|Down)|Page|Home|End)/.test(key)) return;
  /** @type {(() => unknown) | undefined} */
  let does = (large.isOpen ? LARGE_KEYS : KEYS)[key];
  if (event.ctrlKey || event.metaKey) {
    does = { z: undo, a: large.isOpen ? undefined : () => grid.selectAll() }[key];
  } else if (distance(key, grid.columns) !== undefined) {
    does = () => travel(key, event);
  }
  if (!does) return;
  event.preventDefault();
  // A key that is held down goes on moving and zooming, but decides once: nobody has looked at what
  // follows.
  if (event.repeat && distance(key, grid.columns) === undefined && !"+=-".includes(key)) return;
  act(does);
});
document.addEventListener("click", (event) => {
  const button = /** @type {Element} */ (event.target).closest("[data-does]");
  if (!list || !(button instanceof HTMLElement)) return;
  act(DOES[button.dataset.does ?? ""]);
  if (button.closest("main, .notice")) element("grid").focus();
});
element("search").addEventListener("input", () => later("search", TYPING, () =>
  change({ search: element("search").value }, false)));
for (const name of FILTERS) {
  if (name === "search") continue;
  element(name).addEventListener("change", (/** @type {any} */ { target }) => {
    change({ [name]: target.value });
    element("grid").focus(); // the keys are about the photos again
  });
}
element("filters").addEventListener("submit", (/** @type {Event} */ event) => event.preventDefault());
addEventListener("focus", look);
addEventListener("popstate", () => {
  large.close();
  query = asked();
  turning = arrive();
});

/** Show what the address asks for. */
async function arrive() {
  const given = new URLSearchParams(location.search);
  await load(given.get("photo") ?? "", (Number(given.get("page") ?? 1) - 1) * PAGE);
}

arrive().then(() => element("grid").focus());
