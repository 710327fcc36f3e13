// The page sends the image and the slider's position and shows the response. One request runs at a time; changes made
// meanwhile are sent after it.
"use strict";

const $ = id => document.getElementById(id);
let models = [], limits = {}, image = null, answer = null, running = false, stale = false;
const chosen = { found: "pruned", tokens: "block" };

const model = () => models[$("model").selectedIndex];
const percent = share => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
const figures = number => number >= 100 ? number.toFixed(0) : number.toPrecision(3);
const colour = rgb => `rgb(${rgb.join(" ")})`;

function element(kind, properties = {}, ...children) {
  const made = Object.assign(document.createElement(kind), properties);
  made.append(...children);
  return made;
}

function showError(sentence, temporary = false) {
  $("error").firstElementChild.textContent = sentence || "";
  $("error").hidden = !sentence;
  $("again").hidden = !(temporary && image);
}

// Returns the server's response, or null after showing an error.
async function ask(path, options) {
  try {
    const response = await fetch(path, options);
    const kind = response.headers.get("content-type") || "";
    if (response.ok) return kind.includes("json") ? response.json() : response.blob();
    showError(kind.includes("json") ? (await response.json()).error : `The server answered ${response.status}.`,
      response.status === 408 || response.status >= 500);
  } catch {
    showError("The server cannot be reached: is it still running?", true);
  }
  return null;
}

function take(blob) {
  if (!blob) return;
  if (blob.size > 1e6 * limits.megabytes) {
    showError(`This file has ${(blob.size / 1e6).toFixed(1)} MB; at most ${limits.megabytes} MB are accepted: make the image smaller.`);
    return;
  }
  image = blob;
  URL.revokeObjectURL($("chosen").src);
  $("chosen").src = URL.createObjectURL(blob);
  run();
}

async function run() {
  if (!image) return;
  if (running) { stale = true; return; }
  running = true;
  $("busy").hidden = false;
  do {
    stale = false;
    const query = new URLSearchParams({ model: model().name });
    if (model().slider && $("cost").dataset.own !== "yes") query.set("cost_value", $("cost").value);
    const found = await ask(`/run?${query}`, { method: "POST", body: image });
    if (found) { showError(""); answer = found; show(); }
    document.body.classList.toggle("old", !found);  // the page still shows another image or setting
  } while (stale);
  running = false;
  $("busy").hidden = true;
}

// Radio buttons that choose one of several images; arrow keys move between them.
function views(box, name, labels) {
  if (!(chosen[name] in labels)) chosen[name] = Object.keys(labels)[0];
  $(box).replaceChildren(...(Object.keys(labels).length < 2 ? [] : Object.entries(labels).map(([value, words]) =>
    element("label", {}, element("input", { type: "radio", name, value, checked: chosen[name] === value,
      onchange: () => { chosen[name] = value; showImages(); } }), words))));
}

function show() {
  const names = Object.keys(answer.models);
  views("foundviews", "found", Object.fromEntries(names.map(name => [name, name])));
  const maps = { block: "by block", depth: "depth", exits: "exits" };
  views("tokenviews", "tokens", Object.fromEntries(Object.entries(maps).filter(([name]) => name === "block" || answer.maps[name])));
  const block = $("block"), last = answer.blocks.length - 1;
  const newBlocks = $("blockbox").hidden || Number(block.max) !== last;
  $("blockbox").hidden = false;
  block.max = last;
  if (newBlocks) block.value = last;
  block.style.cssText = `width: auto; margin: 0 calc(${50 / (last + 1)}% - .5rem)`;  // centres the thumb below its bar
  $("chart").replaceChildren(...answer.blocks.map(({ shares }, i) => element("div", { onclick: () => { block.value = i; block.oninput(); } },
    ...shares.map((share, state) => {
      const part = element("i");
      part.style.cssText = `flex: 0 0 ${100 * share}%; background: ${colour(answer.states[state].colour)}`;
      return part;
    }))));
  const step = Math.ceil(answer.blocks.length / 14);  // more numbers would not fit on a phone
  $("numbers").replaceChildren(...answer.blocks.map(({ block: number }, i) => element("span", {}, i % step ? "" : `${number}`)));
  showCosts();
  showImages();
}

function showCosts() {
  const { models: found, keep, repeats } = answer, names = Object.keys(found), { pruned, dense } = found, rows = [];
  const row = (big, small, key, unit) => {
    const most = Math.max(...names.map(name => found[name][key]));
    rows.push(element("div", { className: "big" }, big, element("small", {}, small)),
      element("div", { className: "cost" }, ...names.flatMap(name => {
        const bar = element("i");
        bar.style.width = `${100 * found[name][key] / most}%`;
        return [element("span", {}, name), element("div", { className: `track ${name}` }, bar),
          element("span", {}, `${figures(found[name][key])} ${unit}`)];
      })));
  };
  row(pruned ? `${(dense.ms / pruned.ms).toFixed(2)}×` : "", pruned ? "as fast" : "time", "ms", "ms");
  row(pruned ? percent(pruned.gmacs / dense.gmacs) : "", pruned ? "of operations" : "operations", "gmacs", "GMACs");
  rows.push(element("div", { className: "big" }, percent(keep), element("small", {}, "of tokens")),
    element("span", { className: "small" }, `${pruned ? "computed, mean over the pruned blocks" : "computed"}. Time: the network with post-processing, median of ` +
      `${repeats} run${repeats > 1 ? "s" : ""}. GMACs: a multiply-add counts 1.`));
  $("costs").replaceChildren(...rows);
}

function showImages() {
  const found = answer.models[chosen.found], i = Number($("block").value), block = answer.blocks[i];
  $("found").src = found.image;
  $("found").alt = `What the ${chosen.found} model finds: ${found.words}`;
  $("words").textContent = answer.caption ? found.words : "";
  const byBlock = chosen.tokens === "block";
  $("tokens").src = byBlock ? block.image : answer.maps[chosen.tokens];
  const share = percent(block.shares[0]);
  $("tokens").alt = byBlock ? `Block ${block.block} computes ${share} of the tokens` : chosen.tokens;
  $("blockvalue").textContent = `${block.block}: ${share} computed`;
  $("block").setAttribute("aria-valuetext", `block ${block.block}, ${share} of the tokens computed`);
  for (const row of ["chart", "numbers"])
    [...$(row).children].forEach((part, number) => part.classList.toggle("on", byBlock && number === i));
  const keys = chosen.tokens === "exits" ? answer.exits : answer.states.filter(state => state.used);
  $("legend").replaceChildren(...(chosen.tokens === "depth"
    ? ["0 blocks", element("span", { className: "scale" }), `all ${answer.blocks.length} blocks computed the token`]
    : keys.map(({ words, colour: rgb }) => {
      const key = element("span", { className: "key" });
      key.style.background = colour(rgb);
      return element("span", { className: "item" }, key, words);
    })));
}

function choose() {
  const { method, task, classes, notes, slider } = model();
  $("about").textContent = `${task}, ${method ? `pruned by ${method}` : "dense"}`;
  $("classes").hidden = !classes.length;
  $("classes").firstElementChild.textContent = `Knows ${classes.length} class${classes.length > 1 ? "es" : ""}: ` +
    classes.slice(0, 5).join(", ") + (classes.length > 5 ? ", …" : "");
  $("classes").lastElementChild.textContent = classes.join(", ");
  if (!classes.length) $("about").textContent += "; the names of its classes are not known, their numbers are shown";
  $("notes").textContent = notes.map(note => `${note}.`).join(" ");
  $("notes").hidden = !notes.length;
  $("costbox").hidden = !slider;
  if (slider) {
    Object.assign($("cost"), { min: slider.low, max: slider.high, step: slider.step });
    $("costname").textContent = slider.name;
    $("costwords").textContent = `${slider.words};`;
    reset();
  }
}

function reset() {
  const { slider } = model();
  $("cost").value = slider.start ?? slider.high;
  $("cost").dataset.own = "yes";
  showCost();
}

function showCost() {
  const own = $("cost").dataset.own === "yes";
  $("costvalue").textContent = own && model().slider.start === null ? "as configured"
    : Number($("cost").value).toFixed(model().slider.step === 1 ? 0 : 2);
  $("reset").disabled = own;
}

// On a phone the slider stands beside the tokens, and what explains them below them.
const phone = matchMedia("(max-width: 640px)");
function arrange() {
  if (phone.matches) { $("tokenspane").querySelector(".stage").after($("costbox")); $("foundpane").after($("reading")); }
  else { $("notes").before($("costbox")); $("controls").append($("reading")); }
}

const dark = () => matchMedia("(prefers-color-scheme: dark)").matches;
function theme(name) {
  if (name) document.documentElement.dataset.theme = name;
}

$("file").onchange = () => { take($("file").files[0]); $("file").value = ""; };
$("example").onclick = async () => take(await ask(`/example?model=${encodeURIComponent(model().name)}`));
$("model").onchange = () => { choose(); run(); };
$("cost").oninput = () => { $("cost").dataset.own = "no"; showCost(); };
$("cost").onchange = () => run();
$("reset").onclick = () => { reset(); run(); };
$("again").onclick = () => run();
$("block").oninput = () => { chosen.tokens = "block"; show(); };
$("theme").onclick = () => {
  const now = document.documentElement.dataset.theme || (dark() ? "dark" : "light");
  const next = now === "dark" ? "light" : "dark";
  localStorage.setItem("theme", next);
  theme(next);
};
addEventListener("dragover", event => { event.preventDefault(); $("drop").classList.add("over"); });
addEventListener("dragleave", () => $("drop").classList.remove("over"));
addEventListener("drop", event => { event.preventDefault(); $("drop").classList.remove("over"); take(event.dataTransfer.files[0]); });
addEventListener("paste", event => take([...event.clipboardData.files][0]));

theme(localStorage.getItem("theme"));
phone.onchange = arrange;
arrange();
$("chosen").onload = () => { $("chosen").hidden = false; };
$("chosen").onerror = () => { $("chosen").hidden = true; };
ask("/models").then(found => {
  if (!found) return;
  ({ models, ...limits } = found);
  $("model").replaceChildren(...models.map(({ name }) => element("option", { value: name }, name)));
  choose();
});
