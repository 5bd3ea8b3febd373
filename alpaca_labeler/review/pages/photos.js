// Photos by row: fetched a few at a time, given up when nobody wants them, the last ones kept.

import { photo } from "./server.js";

const AT_ONCE = 4;

export class Photos {
  #waiting = new Map(); // key: {asked, ask, give, fail}, in the order in which they are wanted
  #running = new Map(); // key: AbortController
  #kept = new Map(); // key: object URL, the one used last at the end
  #limits;

  /** `limits`: how many pictures of each size are kept. */
  constructor(limits) {
    this.#limits = limits;
  }

  /** The address of a picture that is there already. */
  now(generation, row, size) {
    const key = `${size}/${generation}/${row}`;
    const url = this.#kept.get(key);
    if (url) {
      this.#kept.delete(key);
      this.#kept.set(key, url);
    }
    return url;
  }

  /** Promise of an address; rejects with an AbortError once `cancel` is called. */
  get(generation, row, size) {
    const key = `${size}/${generation}/${row}`;
    const url = this.now(generation, row, size);
    if (url) return Promise.resolve(url);
    const known = this.#waiting.get(key) ?? this.#running.get(key);
    if (known && !known.control.signal.aborted) return known.promise;
    const asked = { key, size, question: { generation, row, size }, control: new AbortController() };
    asked.promise = new Promise((give, fail) => Object.assign(asked, { give, fail }));
    asked.promise.catch(() => {}); // whoever cancelled knows
    this.#waiting.set(key, asked);
    this.#pump();
    return asked.promise;
  }

  cancel(generation, row, size) {
    const key = `${size}/${generation}/${row}`;
    const asked = this.#waiting.get(key) ?? this.#running.get(key);
    if (!asked) return;
    this.#waiting.delete(key);
    asked.control.abort();
    asked.fail(new DOMException("not wanted", "AbortError"));
  }

  /** Forget all: the rows have other numbers now. */
  clear() {
    for (const asked of [...this.#waiting.values(), ...this.#running.values()]) {
      this.cancel(asked.question.generation, asked.question.row, asked.size);
    }
    for (const url of this.#kept.values()) URL.revokeObjectURL(url);
    this.#kept.clear();
  }

  #pump() {
    for (const [key, asked] of this.#waiting) {
      if (this.#running.size >= AT_ONCE) return;
      this.#waiting.delete(key);
      this.#running.set(key, asked);
      photo(asked.question, asked.control.signal)
        .then((blob) => asked.give(this.#keep(key, blob)), asked.fail)
        .finally(() => {
          if (this.#running.get(key) === asked) this.#running.delete(key);
          this.#pump();
        });
    }
  }

  #keep(key, blob) {
    const url = URL.createObjectURL(blob);
    this.#kept.set(key, url);
    const size = key.slice(0, key.indexOf("/"));
    const same = [...this.#kept.keys()].filter((each) => each.startsWith(size));
    for (const old of same.slice(0, Math.max(0, same.length - this.#limits[size]))) {
      URL.revokeObjectURL(this.#kept.get(old));
      this.#kept.delete(old);
    }
    return url;
  }
}
