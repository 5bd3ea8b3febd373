// @ts-check
// The server's answers. Addresses are relative: the page's own holds the token.

/**
 * @typedef {{id: number, ref: string, name: string, folder: string, label: string, class: number,
 *   was: string, wasClass: number, who: string, confidence: number?,
 *   review: boolean, model: string, content: string, reason: string, status: number}} Tile
 * @typedef {{generation: number, since: number, changed: [number, number][], undo: boolean}} State
 * @typedef {{value: string, text: string, photos: number, decided: number}} Choice
 * @typedef {State & {ids: number[], status: string, at: number}} List
 * @typedef {{name: string, annotator: string, classes: string[], labels: Choice[],
 *   folders: Choice[]}} Start
 * @typedef {State & {unseen?: number, refused?: string[], ids?: number[], text?: string}} Done
 */

/** What a photo's status may be; 3 is one that could not be labelled. */
export const LEFT = 0, CONFIRMED = 1, CHANGED = 2, FAILED = 3;

/** The manifest that was asked about has been read again. */
export class Outdated extends Error {}

/** The server does not answer. */
export class Gone extends Error {}

/** @param {string} path @param {RequestInit} [options] @returns {Promise<any>} */
async function answer(path, options) {
  let found;
  try {
    found = await fetch(path, options);
  } catch {
    throw new Gone("The review has ended. Start it again to go on; what was saved is saved.");
  }
  const body = await found.json().catch(() => ({ error: `answer ${found.status}` }));
  if (found.status === 409) throw new Outdated();
  if (!found.ok) throw new Error(body.error);
  return body;
}

/** @param {string} path @param {Record<string, any>} [asked] */
export const get = (path, asked = {}) => answer(`${path}?${new URLSearchParams(asked)}`);

/** @param {string} path @param {Record<string, any>} [body] */
export const post = (path, body = {}) => answer(path, {
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(body),
});

/**
 * The address of a photo, which is another one if its content is.
 * @param {number} generation @param {{id: number, content: string}} of @param {string} size
 */
export const photo = (generation, { id, content }, size) =>
  `photo?generation=${generation}&id=${id}&content=${encodeURIComponent(content)}&size=${size}`;

/** Why a photo cannot be shown. @param {string} address @returns {Promise<string>} */
export const reason = async (address) => (await answer(address)).error;
