// The page: filters, keys, progress, and what is new in other pages.

import { Decisions, bar } from "./decisions.js";
import { Gallery } from "./gallery.js";
import { Large } from "./large.js";
import { Photos } from "./photos.js";
import { Outdated, get, post } from "./server.js";

const POLL = 2000; // milliseconds
const TYPING = 200; // milliseconds of rest that end a search text
const FILTERS = ["search", "label", "kind", "people", "model", "folder", "sort"];

const element = (id) => document.getElementById(id);
const number = (value) => value.toLocaleString("en");

const photos = new Photos({ tile: 400, large: 8 });
const large = new Large(photos);
const gallery = new Gallery(element("gallery"), photos, { active, open, failed: recover });
const decisions = new Decisions({ pending, saved, failed: notSaved, undone });

let list = null; // {view, rows, generation, since, progress}
let begun = null; // what the server said at the beginning
let polling = null;

// --- lists ---------------------------------------------------------------------------------------

async function begin() {
  begun = await get("start");
  document.title = `${begun.name} - review`;
  element("name").textContent = begun.name;
  element("help-file").textContent =
    `Each decision is written at once to ${begun.corrections}, as ${begun.annotator}'s.`;
  choices("label", "any", begun.labels);
  choices("model", "any", begun.models);
  choices("folder", "any", begun.folders);
  const act = { decide, skip, undo: () => decisions.undo() };
  for (const id of ["bar", "large-bar"]) bar(element(id), begun.classes, act);
  keys();
}

function choices(id, all, found) {
  const select = element(id);
  const before = select.value;
  select.replaceChildren(new Option(all, ""));
  found.forEach(({ text, rows }, index) => {
    select.append(new Option(`${text} (${number(rows)})`, String(index + 1)));
  });
  select.values = ["", ...found.map(({ value }) => value)];
  select.value = before || "";
  select.parentElement.hidden = found.length < 2;
}

function asked() {
  const query = {};
  for (const id of FILTERS) {
    const { value, values } = element(id);
    if (values ? value : value !== "") query[id] = values ? values[Number(value)] : value;
  }
  return query;
}

async function show(place = 0) {
  try {
    list = await get("view", asked());
    gallery.show(list, place);
    element("empty").hidden = list.rows > 0;
    progress(list.progress);
    announce(`${number(list.rows)} photos`);
  } catch (error) {
    problem(error);
  }
}

async function recover(error) {
  if (!(error instanceof Outdated)) return problem(error);
  // The server has read the manifest again, for another page, or has forgotten this list.
  photos.clear();
  try {
    await begin();
  } catch (gone) {
    return problem(gone);
  }
  await show(gallery.place);
}

function progress({ changed, confirmed, left }) {
  const total = changed + confirmed + left;
  element("progress").textContent =
    `${number(changed)} changed, ${number(confirmed)} confirmed, ${number(left)} left`;
  element("done").style.width = `${total ? (100 * (total - left)) / total : 0}%`;
}

// --- what is new ---------------------------------------------------------------------------------

function poll() {
  polling ??= look().finally(() => {
    polling = null;
  });
  return polling;
}

async function look() {
  if (!list) return;
  const { view } = list;
  let news;
  try {
    news = await get("changes", { view, since: list.since });
  } catch (error) {
    return recover(error);
  }
  if (list.view !== view) return;
  list.since = news.since;
  if (news.all) gallery.refresh();
  news.rows.forEach((row) => gallery.update(row));
  progress(news.progress);
  element("stale").hidden = !news.stale;
  if (news.rows.length) active();
}

setInterval(() => document.hidden || poll(), POLL);

// --- decisions -----------------------------------------------------------------------------------

function decide(index) {
  const { place } = gallery;
  const row = gallery.at(place);
  if (!row) return;
  if (row.failed && !photos.now(gallery.generation, row.row, "tile")) {
    return announce(`${row.name} cannot be shown, so there is nothing to judge`);
  }
  problem(null);
  decisions.make(row, index, gallery.generation, place);
  announce(`${row.name}: ${begun.classes[index]}`);
  skip();
}

function skip() {
  gallery.move(gallery.place + 1);
}

async function saved() {
  await polling; // it may have been answered before the decision was
  await poll();
}

function pending(row, is) {
  gallery.pend(row, is);
}

function notSaved(error, row, place) {
  if (error instanceof Outdated) return recover(error);
  problem(new Error(`Not saved: ${row.name}. ${error.message}`));
  if (place !== undefined) gallery.move(place);
}

async function undone(decision, was) {
  if (!decision) return announce("There is nothing to undo on this page");
  announce(was ? `Taken back: ${decision.name}` : `${decision.name} was taken back already`);
  for (let place = gallery.place; place >= 0 && place > gallery.place - 1000; place--) {
    if (gallery.at(place)?.row === decision.row) return gallery.move(place);
  }
}

function active() {
  const { place } = gallery;
  const row = gallery.at(place);
  if (large.isOpen) {
    gallery.fetch(place).then((here) => {
      if (gallery.place === place) large.show(here, gallery.at(place + 1), gallery.generation);
    }, recover);
  }
  const blind = row?.failed && !photos.now(gallery.generation, row.row, "tile");
  for (const button of document.querySelectorAll(".decide")) button.disabled = Boolean(blind);
}

function open() {
  large.open();
  active();
}

// --- words ---------------------------------------------------------------------------------------

function announce(text) {
  element("status").textContent = text;
}

function problem(error) {
  element("problem").hidden = !error;
  element("problem").textContent = error ? error.message : "";
}

function keys() {
  const [no, yes] = begun.classes;
  const rows = [
    ["\u2190 \u2192 \u2191 \u2193", "move"], ["a or 1", yes], ["n or 0", no], ["s", "skip"],
    ["z", "undo"], ["Enter or space", "large view"], ["Esc", "back"], ["/", "search"],
    ["Home, End, Page", "jump"], ["?", "this list"],
  ];
  element("help-keys").replaceChildren(...rows.map(([key, does]) => {
    const line = document.createElement("tr");
    const [head, cell] = [document.createElement("th"), document.createElement("td")];
    head.scope = "row";
    const cap = document.createElement("kbd");
    cap.textContent = key;
    head.append(cap);
    cell.textContent = does;
    line.append(head, cell);
    return line;
  }));
}

// --- keys ----------------------------------------------------------------------------------------

const step = (by) => () => gallery.move(gallery.place + by());
const KEYS = {
  ArrowLeft: step(() => -1),
  ArrowRight: step(() => 1),
  ArrowUp: step(() => (large.isOpen ? -1 : -gallery.columns)),
  ArrowDown: step(() => {
    if (large.isOpen) return 1;
    return gallery.place + gallery.columns < gallery.count ? gallery.columns : 0;
  }),
  PageUp: step(() => -gallery.columns * gallery.linesInSight),
  PageDown: step(() => gallery.columns * gallery.linesInSight),
  Home: () => gallery.move(0),
  End: () => gallery.move(gallery.count - 1),
  Enter: () => (large.isOpen ? large.close() : open()),
  " ": () => (large.isOpen ? large.close() : open()),
  a: () => decide(1),
  1: () => decide(1),
  n: () => decide(0),
  0: () => decide(0),
  s: skip,
  z: () => decisions.undo(),
  "/": () => {
    large.close();
    reveal(true);
    element("search").focus();
  },
  "?": () => element("help").showModal(),
};

document.addEventListener("keydown", (event) => {
  const { target, key } = event;
  if (event.ctrlKey || event.metaKey || event.altKey || element("help").open) return;
  if (target.matches("input, select, textarea")) {
    if (key === "Escape" || (key === "Enter" && target.matches("input"))) {
      event.preventDefault();
      element("gallery").focus();
    }
    return;
  }
  if (target.matches("button") && (key === "Enter" || key === " ")) return;
  const does = KEYS[key.length === 1 ? key.toLowerCase() : key];
  if (!does || !begun) return;
  event.preventDefault();
  does();
});

// --- what else can be pressed --------------------------------------------------------------------

function reveal(open) {
  element("filters").classList.toggle("open", open);
  element("filters-open").setAttribute("aria-expanded", String(open));
}

let typing = 0;
element("search").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(show, TYPING, 0);
});
for (const id of FILTERS.slice(1)) element(id).addEventListener("change", () => show());
element("filters").addEventListener("submit", (event) => event.preventDefault());
element("filters-open").addEventListener("click", () =>
  reveal(!element("filters").classList.contains("open")));
element("help-open").addEventListener("click", () => element("help").showModal());
element("clear").addEventListener("click", () => {
  element("filters").reset();
  show().then(() => element("gallery").focus());
});
element("reload").addEventListener("click", async () => {
  try {
    await post("reload");
    await recover(new Outdated());
    element("stale").hidden = true;
  } catch (error) {
    problem(error);
  }
});
element("large").addEventListener("close", () => element("gallery").focus());

begin().then(() => show()).then(() => element("gallery").focus(), problem);
