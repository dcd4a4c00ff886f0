// Photos on their way: added, sent, answered, asked about again, removed.

import { ask, failure, post } from "./client.js";
import { $, h, say } from "./dom.js";
import { described } from "./faces.js";
import { count, show } from "./results.js";
import { page } from "./state.js";

const TOGETHER = 2; // the service has two workers
const BATCH = 4; // photos of one request where many wait: more would make others wait long

export function add(files) {
  const added = [...files].map((file) => {
    const entry = { file, name: file.name || "pasted picture", url: URL.createObjectURL(file), answer: null, error: null };
    page.run += 1;
    entry.view = h("li", { className: "result", id: `photo-${(page.number = (page.number ?? 0) + 1)}`, tabIndex: -1 });
    return entry;
  });
  for (const entry of added) {
    page.photos.unshift(entry);
    page.waiting.push(entry);
    $("results").prepend(entry.view);
    show(entry);
  }
  $("drop").classList.toggle("compact", page.photos.length > 0);
  count();
  work();
}

/** Send what waits: photo by photo where few wait, else some at a time. */
function work() {
  while (page.busy < TOGETHER && page.waiting.length > 0) {
    page.busy += 1;
    const some = next();
    (some.length === 1 ? look(some[0]) : lookAtMany(some)).finally(() => {
      page.busy -= 1;
      progress();
      work();
    });
  }
}

/** The photos of the next request: as many as a batch may hold in number and bytes. */
function next() {
  const room = (page.info?.limits.batch_mib ?? 0) * 2 ** 20 * 0.9;
  const most = Math.min(BATCH, page.info?.limits.batch_photos ?? 1, Math.ceil(page.waiting.length / TOGETHER));
  const some = [page.waiting.shift()];
  let bytes = some[0].file.size;
  while (some.length < most && bytes + page.waiting[0].file.size < room && !tooLarge(some[0]) && !tooLarge(page.waiting[0])) {
    bytes += page.waiting[0].file.size;
    some.push(page.waiting.shift());
  }
  return some;
}

/** Why a file is not even sent. */
function tooLarge({ file }) {
  const most = (page.info?.limits.photo_mib ?? Infinity) * 2 ** 20;
  return file.size > most && `This file has ${Math.ceil(file.size / 2 ** 20)} MiB, at most ${most / 2 ** 20} are read. Choose a smaller one.`;
}

async function look(entry) {
  const started = performance.now();
  try {
    const large = tooLarge(entry);
    if (large) throw failure(large, 413);
    settle(entry, await ask("predict", entry.file, entry.name), Math.round(performance.now() - started));
  } catch (error) {
    fail(entry, error);
  }
  if (page.run === 1) say(`${entry.name}: ${entry.error ?? described(entry.answer.faces)}`);
}

async function lookAtMany(some) {
  try {
    const { photos, model } = await post("predict_batch", "images", some);
    some.forEach((entry, i) => {
      const { error, ...answer } = photos[i];
      if (error) fail(entry, failure(error, 422));
      else settle(entry, { ...answer, model });
    });
  } catch (error) {
    for (const entry of some) fail(entry, error);
  }
}

function settle(entry, answer, milliseconds) {
  Object.assign(entry, { answer, milliseconds, error: null });
  if (page.photos.includes(entry)) show(entry);
}

function fail(entry, error) {
  Object.assign(entry, { error: error.message, status: error.status ?? 0 });
  if (page.photos.includes(entry)) show(entry);
}

/** Ask once more about photos that got no answer. */
export function again(entries) {
  page.run += entries.length;
  for (const entry of entries) {
    entry.error = null;
    show(entry);
    page.waiting.push(entry);
  }
  progress();
  work();
}

/** How far the photos that were added together are. */
function progress() {
  const left = page.photos.filter((entry) => !entry.answer && !entry.error).length;
  const done = Math.max(0, page.run - left);
  $("progress").hidden = left === 0 || page.run < 2;
  $("progress-bar").max = page.run;
  $("progress-bar").value = done;
  $("progress-text").textContent = `${done} of ${page.run} photos`;
  if (left > 0 && page.run > 1) say(`${done} of ${page.run} photos answered.`);
  if (left > 0 || page.run === 0) return;
  if (page.run > 1) say(`Done. ${$("summary").textContent}. ${$("problems").hidden ? "" : $("problems-title").textContent}`);
  page.run = 0;
}

export function forget(entries) {
  for (const entry of entries) {
    URL.revokeObjectURL(entry.url);
    entry.view.remove();
  }
  page.photos = page.photos.filter((entry) => !entries.includes(entry));
  page.waiting = page.waiting.filter((entry) => !entries.includes(entry));
  page.run -= entries.filter((entry) => !entry.answer && !entry.error).length;
  progress();
  $("drop").classList.toggle("compact", page.photos.length > 0);
  count();
  $("files").focus();
}
