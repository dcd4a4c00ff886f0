// The answers as JSON and CSV.

import { h } from "./dom.js";
import { confidence } from "./faces.js";
import { page } from "./state.js";

export function save(name, type, text) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

const entries = () => page.photos.toReversed();

export function asJson() {
  return `${JSON.stringify(entries().map(({ name, answer, error }) => ({ photo: name, ...(answer ?? { error }) })), null, 2)}\n`;
}

export function asCsv() {
  const emotions = page.info?.emotions ?? Object.keys(entries().flatMap((e) => e.answer?.faces ?? [])[0]?.probabilities ?? {});
  const rows = [["photo", "face", "x", "y", "width", "height", "emotion", "confidence", "status", ...emotions]];
  for (const { name, answer, error } of entries()) {
    if (!answer) rows.push([name, "", "", "", "", "", "", "", error ?? "unanswered", ...emotions.map(() => "")]);
    else if (answer.faces.length === 0) rows.push([name, "", "", "", "", "", "", "", "no_face", ...emotions.map(() => "")]);
    answer?.faces.forEach((face, i) => {
      rows.push([name, i + 1, ...face.box, face.emotion, confidence(face), face.status, ...emotions.map((e) => face.probabilities[e])]);
    });
  }
  return rows.map((row) => `${row.map(cell).join(",")}\r\n`).join("");
}

/** A cell's text; a spreadsheet would run what begins like a formula. */
function cell(value) {
  const text = typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
