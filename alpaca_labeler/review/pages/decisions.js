// Decisions: one after the other to the server, shown as saved once the server has read them back.

import { post } from "./server.js";

export class Decisions {
  #queue = Promise.resolve();
  #made = []; // {id, row, generation, name}: what `undo` takes back, the last at the end
  #tell;

  /** `tell`: {pending(row, is), saved(), failed(error, row, place), undone(decision, was)}. */
  constructor(tell) {
    this.#tell = tell;
  }

  /** Say that a row is of the class `index`. */
  make(row, index, generation, place) {
    this.#tell.pending(row.row, true);
    this.#next(async () => {
      try {
        const { id } = await post("correct", { generation, row: row.row, class: index });
        if (id) this.#made.push({ id, row: row.row, generation, name: row.name });
        await this.#tell.saved();
        this.#tell.pending(row.row, false);
      } catch (error) {
        this.#tell.pending(row.row, false);
        this.#tell.failed(error, row, place);
      }
    });
  }

  /** Take back the last decision of this page. */
  undo() {
    this.#next(async () => {
      const last = this.#made.at(-1);
      if (!last) return this.#tell.undone(undefined, false);
      try {
        const { undone } = await post("undo", { id: last.id });
        this.#made.pop();
        await this.#tell.saved();
        this.#tell.undone(last, undone);
      } catch (error) {
        this.#tell.failed(error, last);
      }
    });
  }

  #next(step) {
    this.#queue = this.#queue.then(step);
  }
}

/** Fill a bar with the buttons for a decision. */
export function bar(element, classes, act) {
  const button = (style, text, key, does) => {
    const made = document.createElement("button");
    made.type = "button";
    made.className = style;
    const word = document.createElement("span");
    word.textContent = text;
    const hint = document.createElement("kbd");
    hint.textContent = key;
    hint.setAttribute("aria-hidden", "true");
    made.append(word, hint);
    made.addEventListener("click", does);
    return made;
  };
  element.replaceChildren(
    button("decide no", classes[0], "n", () => act.decide(0)),
    button("quiet", "Skip", "s", act.skip),
    button("quiet", "Undo", "z", act.undo),
    button("decide yes", classes[1], "a", () => act.decide(1)),
  );
}
