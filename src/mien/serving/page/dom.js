// Elements of the page, and words.

export const $ = (id) => document.getElementById(id);
export const percent = (share) => `${Math.round(share * 100)}%`;

/** An element with properties and children; text is never read as HTML. */
export function h(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child !== null));
  return element;
}

export function say(text) {
  if ($("say").textContent !== text) $("say").textContent = text;
}

export const pause = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));
export const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;
