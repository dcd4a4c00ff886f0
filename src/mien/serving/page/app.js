// The page of Mien: photos and webcam frames go to the service beside it, answers are drawn here.

const $ = (id) => document.getElementById(id);
const percent = (share) => `${Math.round(share * 100)}%`;
const page = { photos: [], busy: 0, waiting: [], info: null, run: 0, key: sessionStorage.getItem("mien-key") };
const TOGETHER = 2; // the service has two workers
const BATCH = 4; // photos of one request where many wait: more would make others wait long
const RETRIES = 6;
const FRAME_SIDE = 640; // faces are looked for at this size anyway
const STATUS = { uncertain: "uncertain", too_small: "too small", blurry: "blurry", low_confidence: "low confidence" };

/** An element with properties and children; text is never read as HTML. */
function h(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child !== null));
  return element;
}

function say(text) {
  if ($("say").textContent !== text) $("say").textContent = text;
}

const pause = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;
const headers = () => (page.key ? { authorization: `Bearer ${page.key}` } : {});

/** An Error with the status of the refusal; 0: nothing answered. */
function failure(message, status) {
  return Object.assign(new Error(message), { status });
}

const ask = (path, picture, name) => post(path, "image", [{ file: picture, name }]);

/** POST pictures; a busy service is asked again, and every failure becomes an Error with a sentence. */
async function post(path, field, pictures) {
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
    if (response.status === 401) wantKey();
    if (!response.ok) throw failure(answer.error || `The service answered with status ${response.status}.`, response.status);
    return answer;
  }
}

// ---- faces -------------------------------------------------------------------------------------------------------

const confidence = (face) => face.confidence ?? face.probabilities[face.emotion];

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
function box(face, index, width, height, mirrored = false) {
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

function faceView(face, index, entry) {
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

// ---- saliency ----------------------------------------------------------------------------------------------------

async function explain(entry, index, view, button) {
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

// ---- photos ------------------------------------------------------------------------------------------------------

function add(files) {
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
function again(entries) {
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

// ---- what got no answer ------------------------------------------------------------------------------------------

const UNREADABLE = [413, 415, 422];
const PROBLEMS = [
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

function described(faces) {
  if (faces.length === 0) return "no face found";
  const each = faces.map((face) => `${face.emotion}${face.status === "ok" ? "" : `, ${STATUS[face.status] ?? face.status}`}`);
  return `${faces.length} ${faces.length === 1 ? "face" : "faces"}: ${each.join("; ")}`;
}

function show(entry) {
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

function count() {
  const answered = page.photos.filter((entry) => entry.answer);
  const faces = answered.reduce((sum, entry) => sum + entry.answer.faces.length, 0);
  const all = page.photos.length;
  $("toolbar").hidden = all === 0;
  $("json").disabled = $("csv").disabled = answered.length === 0;
  $("summary").textContent = `${plural(all, "photo")}, ${plural(faces, "face")}`;
  problems();
}

function forget(entries) {
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

// ---- downloads ---------------------------------------------------------------------------------------------------

function save(name, type, text) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

const entries = () => page.photos.toReversed();

function asJson() {
  return `${JSON.stringify(entries().map(({ name, answer, error }) => ({ photo: name, ...(answer ?? { error }) })), null, 2)}\n`;
}

function asCsv() {
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

// ---- webcam ------------------------------------------------------------------------------------------------------

const camera = { stream: null, times: [], spoken: "" };

async function start() {
  if (!navigator.mediaDevices?.getUserMedia) return halt("This browser offers the webcam only to pages from localhost or over HTTPS.");
  try {
    camera.stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 640 }, height: { ideal: 480 } } });
  } catch (error) {
    const reasons = { NotAllowedError: "The webcam was not allowed. Allow it in the browser's address bar and start again.",
      NotFoundError: "No webcam was found. Connect one and start again." };
    return halt(reasons[error.name] ?? `The webcam cannot be used (${error.message || error.name}). Close other programs that use it.`);
  }
  $("video").srcObject = camera.stream;
  await $("video").play();
  $("stage").style.aspectRatio = `${$("video").videoWidth} / ${$("video").videoHeight}`;
  $("stage-empty").hidden = true;
  $("camera").textContent = "Stop the webcam";
  say("The webcam is on.");
  return watch(camera.stream);
}

function halt(message = "The webcam is off. Frames go to this service one at a time and are forgotten.") {
  camera.stream?.getTracks().forEach((track) => track.stop());
  Object.assign(camera, { stream: null, times: [], spoken: "" });
  $("video").srcObject = null;
  $("stage-empty").hidden = false;
  $("stage-text").textContent = message;
  $("live-boxes").replaceChildren();
  $("live-faces").replaceChildren();
  $("fps").textContent = $("latency").textContent = "–";
  $("camera").textContent = "Start the webcam";
  say(message);
}

/** Ask about one frame after the other: a new one is taken only when the last is answered. */
async function watch(stream) {
  const canvas = document.createElement("canvas");
  while (camera.stream === stream) {
    const started = performance.now();
    const frame = await grab(canvas);
    let answer;
    try {
      answer = await ask("predict", frame, "frame.jpg");
    } catch (error) {
      if (camera.stream === stream) halt(error.message);
      return;
    }
    if (camera.stream !== stream) return;
    const now = performance.now();
    camera.times = [...camera.times, now].filter((time) => now - time < 3000);
    draw(answer.faces, canvas, now - started);
    await new Promise(requestAnimationFrame);
  }
}

function grab(canvas) {
  const video = $("video");
  const scale = Math.min(1, FRAME_SIDE / Math.max(video.videoWidth, video.videoHeight));
  canvas.width = Math.round(video.videoWidth * scale);
  canvas.height = Math.round(video.videoHeight * scale);
  canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
  return new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.85));
}

function draw(faces, { width, height }, milliseconds) {
  $("live-boxes").replaceChildren(...faces.map((face, i) => box(face, i, width, height, true)));
  const times = camera.times;
  $("fps").textContent = times.length > 1 ? (((times.length - 1) * 1000) / (times.at(-1) - times[0])).toFixed(1) : "–";
  $("latency").textContent = `${Math.round(milliseconds)} ms`;
  if (faces.length > 0) $("live-faces").replaceChildren(...faces.slice(0, 3).map((face, i) => faceView(face, i, null)));
  else $("live-faces").replaceChildren(h("p", { className: "quiet", textContent: "No face in the picture." }));
  const sentence = described(faces);
  if (sentence !== camera.spoken && performance.now() - (camera.spoke ?? 0) > 3000) {
    camera.spoken = sentence;
    camera.spoke = performance.now();
    say(sentence);
  }
}

// ---- the page ----------------------------------------------------------------------------------------------------

function choose(name) {
  for (const each of ["photos", "webcam"]) {
    const tab = $(`tab-${each}`);
    tab.setAttribute("aria-selected", String(each === name));
    tab.tabIndex = each === name ? 0 : -1;
    $(each).hidden = each !== name;
  }
  if (name !== "webcam" && camera.stream) halt();
}

/** Show the form for the key, which this tab keeps until it is closed. */
function wantKey() {
  if (!$("key-form").hidden) return;
  $("key-text").textContent = page.key ? "The service does not know this key. Enter another." : "The service answers only with a key. Enter yours.";
  $("key-form").hidden = false;
  say($("key-text").textContent);
}

async function useKey(event) {
  event.preventDefault();
  page.key = $("key").value.trim();
  sessionStorage.setItem("mien-key", page.key);
  $("key").value = "";
  $("key-form").hidden = true;
  await introduce();
  if ($("key-form").hidden) again(page.photos.filter((entry) => entry.status === 401 && entry.error).toReversed());
  else $("key").focus();
}

async function introduce() {
  try {
    const response = await fetch("model_info", { headers: headers() });
    if (response.status === 401) wantKey();
    const info = await response.json();
    if (!response.ok) throw failure(info.error, response.status);
    page.info = info;
    const { model, metrics, runtime } = info;
    const accuracy = metrics.test_accuracy ? ` It named ${(metrics.test_accuracy * 100).toFixed(1)}% of ${model.data_name}'s test faces as people had labelled them; people score about 65%.` : "";
    $("model").textContent = `${model.family || "A model"}, version ${model.version}, trained on ${model.data_name || "unnamed data"}, commit ${model.git_commit.slice(0, 8) || "unknown"}, on ${runtime.backend} in ${runtime.precision}.${accuracy}`;
    $("threshold").textContent = percent(info.uncertain_below);
    $("synthetic").hidden = !model.synthetic;
  } catch {
    $("model").textContent = "The service does not say which model answers.";
  }
}

$("key-form").addEventListener("submit", useKey);
$("again").addEventListener("click", () => again(page.photos.filter(PROBLEMS[1].is).toReversed()));
$("files").addEventListener("change", (event) => { add(event.target.files); event.target.value = ""; });
$("json").addEventListener("click", () => save("mien.json", "application/json", asJson()));
$("csv").addEventListener("click", () => save("mien.csv", "text/csv", asCsv()));
$("clear").addEventListener("click", () => forget(page.photos));
$("camera").addEventListener("click", () => (camera.stream ? halt() : start()));
for (const name of ["photos", "webcam"]) {
  $(`tab-${name}`).addEventListener("click", () => choose(name));
  $(`tab-${name}`).addEventListener("keydown", (event) => {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    const other = name === "photos" ? "webcam" : "photos";
    choose(other);
    $(`tab-${other}`).focus();
  });
}
document.addEventListener("paste", (event) => {
  if (event.clipboardData.files.length === 0) return;
  choose("photos");
  add(event.clipboardData.files);
});
document.addEventListener("dragover", (event) => { event.preventDefault(); $("drop").classList.add("over"); });
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("drop").classList.remove("over"); });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  choose("photos");
  add(event.dataTransfer.files);
});
introduce();
