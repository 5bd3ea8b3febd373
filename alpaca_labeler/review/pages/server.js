// The server's answers. Addresses are relative: the page's own holds the token.

/** The list or the manifest that was asked about is not there any more. */
export class Outdated extends Error {}

/** The server does not answer. */
export class Gone extends Error {}

async function answer(path, options) {
  let found;
  try {
    found = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Gone("The review has ended. Start it again to go on; what was saved is saved.");
  }
  if (found.ok) return found;
  const reason = await found.json().then((body) => body.error, () => "");
  if (found.status === 409) throw new Outdated(reason);
  throw new Error(reason || `answer ${found.status}`);
}

export async function get(path, asked = {}, signal = undefined) {
  return (await answer(`${path}?${new URLSearchParams(asked)}`, { signal })).json();
}

/** A JPEG; rejects with the reason where the photo cannot be shown. */
export async function photo(asked, signal) {
  const found = await answer(`photo?${new URLSearchParams(asked)}`, { signal });
  if (found.headers.get("Content-Type") === "image/jpeg") return found.blob();
  throw new Error((await found.json()).error);
}

export async function post(path, body = {}) {
  const headers = { "Content-Type": "application/json" };
  return (await answer(path, { method: "POST", headers, body: JSON.stringify(body) })).json();
}
