// The page of Mien: photos and webcam frames go to the service beside it, answers are drawn here.

import { failure, headers } from "./client.js";
import { $, percent, say } from "./dom.js";
import { asCsv, asJson, save } from "./downloads.js";
import { add, again, forget } from "./photos.js";
import { PROBLEMS } from "./results.js";
import { page } from "./state.js";
import { camera, halt, start } from "./webcam.js";

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

document.addEventListener("key-wanted", wantKey);
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
