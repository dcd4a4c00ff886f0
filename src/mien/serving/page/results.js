// The answers in the page, and the list of what got none.

import { $, h, plural } from "./dom.js";
import { box, described, faceView } from "./faces.js";
import { again, forget } from "./photos.js";
import { page } from "./state.js";

const UNREADABLE = [413, 415, 422];
export const PROBLEMS = [
  { is: (entry) => entry.error && UNREADABLE.includes(entry.status), sum: "could not be read", each: (entry) => entry.error },
  { is: (entry) => entry.error && !UNREADABLE.includes(entry.status), sum: "got no answer", each: (entry) => entry.error },
  { is: (entry) => entry.answer?.faces.length === 0, sum: "without a face that was found", each: () => "no face was found." },
];

/** List by name what of several photos could not be read, got no answer, or has no face that was found. */
function problems() {
  const groups = PROBLEMS.map((kind) => ({ ...kind, found: page.photos.toReversed().filter(kind.is) })).filter(({ found }) => found.length > 0);
  $("problems").hidden = groups.length === 0 || page.photos.length < 2;
  $("problems-title").textContent = `${groups.map(({ found, sum }) => `${found.length} ${sum}`).join(", ")}:`;
  $("problems-list").replaceChildren(...groups.flatMap(({ found, each }) => found.map((entry) => {
    const link = h("a", { href: `#${entry.view.id}`, textContent: entry.name });
    link.addEventListener("click", () => setTimeout(() => entry.view.focus()));
    return h("li", {}, link, `: ${each(entry)}`);
  })));
  $("again").hidden = !page.photos.some(PROBLEMS[1].is);
}

export function show(entry) {
  const image = h("img", { loading: "lazy", decoding: "async", src: entry.url, alt: `${entry.name}${entry.answer ? `: ${described(entry.answer.faces)}` : ""}` });
  const frame = h("div", { className: "frame" }, image);
  image.addEventListener("error", () => image.replaceWith(h("p", { className: "quiet", textContent: "Your browser cannot show this file." })));
  image.addEventListener("load", () => {
    if (!entry.answer) return;
    const boxes = entry.answer.faces.map((face, i) => box(face, i, image.naturalWidth, image.naturalHeight));
    const layer = h("div", { className: "boxes" }, ...boxes);
    layer.setAttribute("aria-hidden", "true");
    frame.append(layer);
  });
  const remove = h("button", { className: "remove", textContent: "×" });
  remove.setAttribute("aria-label", `Remove ${entry.name}`);
  remove.addEventListener("click", () => forget([entry]));
  const faces = entry.answer?.faces.length;
  const took = entry.milliseconds === undefined ? "" : ` in ${entry.milliseconds} ms`;
  const time = entry.answer ? `${faces === 0 ? "No face" : plural(faces, "face")}${took}` : "";
  const title = h("div", {}, h("h3", { textContent: entry.name }), h("p", { className: "quiet", textContent: time }),
    entry.answer?.warning ? h("p", { className: "quiet", textContent: entry.answer.warning }) : null);
  entry.view.replaceChildren(
    h("div", { className: "picture" }, frame),
    h("div", { className: "findings" }, h("header", {}, title, remove), ...body(entry)));
  count();
}

function body(entry) {
  if (entry.error) {
    const retry = h("button", { className: "button small", textContent: "Try again" });
    retry.addEventListener("click", () => again([entry]));
    return [h("div", { className: "failed" }, h("p", { textContent: entry.error }), retry)];
  }
  if (!entry.answer) return [h("p", { className: "waiting", textContent: "Looking for faces …" })];
  if (entry.answer.faces.length === 0) return [noFace()];
  return entry.answer.faces.map((face, i) => faceView(face, i, entry));
}

function noFace() {
  return h("div", { className: "none" }, h("p", { textContent: "No face was found. What helps:" }), h("ul", {},
    h("li", { textContent: "a face that looks towards the camera" }),
    h("li", { textContent: "at least 20 pixels of it, also after large photos are scaled down to 640" }),
    h("li", { textContent: "even light, nothing over the eyes or the mouth" })));
}

export function count() {
  const answered = page.photos.filter((entry) => entry.answer);
  const faces = answered.reduce((sum, entry) => sum + entry.answer.faces.length, 0);
  const all = page.photos.length;
  $("toolbar").hidden = all === 0;
  $("json").disabled = $("csv").disabled = answered.length === 0;
  $("summary").textContent = `${plural(all, "photo")}, ${plural(faces, "face")}`;
  problems();
}
