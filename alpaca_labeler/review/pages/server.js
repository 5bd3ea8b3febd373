// @ts-check
// The server's answers. Addresses are relative: the page's own holds the token.

/**
 * @typedef {{id: number, ref: string, name: string, folder: string, label: string, class: number,
 *   was: string, who: string, confidence: number?, review: boolean, model: string,
 *   content: string, status: number}} Tile
 * @typedef {{generation: number, since: number, changed: [number, number][],
 *   progress: string, check: string}} State
 * @typedef {State & {ids: number[], status: string, at: number, name: string, annotator: string,
 *   classes: string[]}} List
 * @typedef {State & {unseen?: number, refused?: string[], ids?: number[]}} Done
 */

/** What a photo's status may be. */
export const LEFT = 0, CONFIRMED = 1, CHANGED = 2;

/** The manifest that was asked about has been read again. */
export class Outdated extends Error {}

/** @param {string} path @param {RequestInit} [options] @returns {Promise<any>} */
async function answer(path, options) {
  let found;
  try {
    found = await fetch(path, options);
  } catch {
    throw new Error("The review has ended. Start it again to go on; what was saved is saved.");
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
