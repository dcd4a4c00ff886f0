// The webcam: one frame after the other is answered.

import { ask } from "./client.js";
import { $, h, say } from "./dom.js";
import { box, described, faceView } from "./faces.js";

const FRAME_SIDE = 640; // faces are looked for at this size anyway
export const camera = { stream: null, times: [], spoken: "" };

export async function start() {
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

export function halt(message = "The webcam is off. Frames go to this service one at a time and are forgotten.") {
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
