// Requests to the service beside the page.

import { pause } from "./dom.js";
import { page } from "./state.js";

const RETRIES = 6;

export const headers = () => (page.key ? { authorization: `Bearer ${page.key}` } : {});

/** An Error with the status of the refusal; 0: nothing answered. */
export function failure(message, status) {
  return Object.assign(new Error(message), { status });
}

export const ask = (path, picture, name) => post(path, "image", [{ file: picture, name }]);

/** POST pictures; a busy service is asked again, and every failure becomes an Error with a sentence. */
export async function post(path, field, pictures) {
  for (let attempt = 1; ; attempt += 1) {
    const form = new FormData();
    for (const { file, name } of pictures) form.append(field, file, name);
    let response;
    try {
      response = await fetch(path, { method: "POST", body: form, headers: headers() });
    } catch {
      throw failure("The service does not answer. Is it still running?", 0);
    }
    if ((response.status === 429 || response.status === 503) && attempt < RETRIES) {
      await pause(Number(response.headers.get("retry-after") || 1) * attempt);
      continue;
    }
    const answer = await response.json().catch(() => ({}));
    if (response.status === 401) document.dispatchEvent(new Event("key-wanted"));
    if (!response.ok) throw failure(answer.error || `The service answered with status ${response.status}.`, response.status);
    return answer;
  }
}
