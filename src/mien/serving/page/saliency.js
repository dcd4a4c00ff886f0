// What the answer for a face depends on.

import { ask } from "./client.js";
import { h, percent, say } from "./dom.js";

export async function explain(entry, index, view, button) {
  const waiting = h("p", { className: "waiting", textContent: "Hiding parts of the face, one after another …" });
  view.append(waiting);
  button.disabled = true;
  try {
    entry.explanation ??= ask("explain", entry.file, entry.name);
    const answer = await entry.explanation;
    const face = answer.faces[index];
    if (!face) throw new Error(`Only the ${answer.faces.length} largest faces of a photo are explained.`);
    view.append(await explanation(face, answer.note));
    say(`What the answer ${face.emotion} depends on is shown.`);
    button.remove();
  } catch (error) {
    entry.explanation = null;
    button.disabled = false;
    view.append(h("p", { className: "failed", textContent: error.message }));
  } finally {
    waiting.remove();
  }
}

async function explanation(face, note) {
  const canvas = h("canvas", { width: 192, height: 192 });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `The face as the model saw it; highlighted is what ${face.emotion} depends on`);
  await paint(canvas, face);
  const { before, without_salient: without, without_others: others } = face.hidden;
  const sentence = `Hide the highlighted fifth of the face and ${face.emotion} goes from ${percent(before)} to ${percent(without)}; ` +
    `hide the least highlighted fifth instead and it is ${percent(others)}.`;
  const ends = h("p", {}, h("span", { textContent: "against" }), h("span", { textContent: "for" }));
  return h("div", { className: "explained" },
    h("div", {}, canvas, h("div", { className: "scale" }, h("i"), ends)),
    h("p", { textContent: sentence }), h("p", { className: "quiet", textContent: note }));
}

/** The gray face with the map over it: orange speaks for the emotion, blue against it. */
async function paint(canvas, face) {
  const picture = new Image();
  picture.src = face.seen;
  await picture.decode();
  const side = face.saliency.length;
  const heat = new OffscreenCanvas(side, side);
  const pixels = new ImageData(side, side);
  face.saliency.flat().forEach((value, i) => {
    const [r, g, b] = value > 0 ? [213, 94, 0] : [0, 114, 178];
    pixels.data.set([r, g, b, Math.min(1, Math.abs(value)) * 205], i * 4);
  });
  heat.getContext("2d").putImageData(pixels, 0, 0);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  context.drawImage(heat, 0, 0, canvas.width, canvas.height);
}
