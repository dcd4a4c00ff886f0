// A face: its box over the picture, its bars, and in words.

import { h, percent } from "./dom.js";
import { explain } from "./saliency.js";

const STATUS = { uncertain: "uncertain", too_small: "too small", blurry: "blurry", low_confidence: "low confidence" };

export const confidence = (face) => face.confidence ?? face.probabilities[face.emotion];

function bars(probabilities, emotion) {
  const rows = Object.entries(probabilities).map(([name, share]) => {
    const fill = h("span", { className: "fill" });
    fill.style.width = `${share * 100}%`;
    fill.style.setProperty("--colour", `var(--${name})`);
    const track = h("span", { className: "track" }, fill);
    track.setAttribute("aria-hidden", "true");
    return h("li", { className: name === emotion ? "first" : "" },
      h("span", { textContent: name }), track, h("span", { className: "share", textContent: percent(share) }));
  });
  return h("ul", { className: "bars" }, ...rows);
}

function chip(face) {
  return face.status === "ok" ? null : h("span", { className: "chip", textContent: `? ${STATUS[face.status] ?? face.status}` });
}

/** A face's box over a picture of width × height, in percent so that it follows the layout. */
export function box(face, index, width, height, mirrored = false) {
  const [x, y, w, tall] = face.box;
  const label = h("span", { textContent: `${index + 1} ${face.emotion} ${percent(confidence(face))}` });
  const element = h("div", { className: y / height < 0.08 ? "box inside" : "box" }, label);
  const left = mirrored ? width - x - w : x;
  Object.assign(element.style, {
    left: `${(left / width) * 100}%`, top: `${(y / height) * 100}%`,
    width: `${(w / width) * 100}%`, height: `${(tall / height) * 100}%`,
  });
  return element;
}

export function faceView(face, index, entry) {
  const number = h("small", { textContent: `Face ${index + 1}, ${face.box[2]} × ${face.box[3]} px` });
  const head = h("div", { className: "face-head" },
    h("h4", {}, number, `${face.emotion} ${percent(confidence(face))}`), chip(face));
  const view = h("div", { className: "face" }, head, bars(face.probabilities, face.emotion));
  if (entry) {
    const button = h("button", { className: "button small", textContent: "Why?" });
    button.setAttribute("aria-label", `Why ${face.emotion}? Show what the answer for face ${index + 1} depends on`);
    button.addEventListener("click", () => explain(entry, index, view, button));
    head.append(button);
  }
  return view;
}

export function described(faces) {
  if (faces.length === 0) return "no face found";
  const each = faces.map((face) => `${face.emotion}${face.status === "ok" ? "" : `, ${STATUS[face.status] ?? face.status}`}`);
  return `${faces.length} ${faces.length === 1 ? "face" : "faces"}: ${each.join("; ")}`;
}
