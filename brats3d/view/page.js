import { Niivue, NVImage } from "./niivue.js";

const TITLES = { t1: "T1", t1ce: "T1ce", t2: "T2", flair: "FLAIR" };
const VIEWS = { // niivue's slice type, and whether it draws 3-D beside the planes
  "Planes and 3-D": [3, 1], Planes: [3, 0], Axial: [0, 0], Coronal: [1, 0], Sagittal: [2, 0], "3-D": [4, 1],
};
const SOFTWARE = /swiftshader|llvmpipe|software|basic render/i; // WebGL without a graphics card: 3-D takes seconds
const OPTIONS = {
  backColor: [0, 0, 0, 1], crosshairColor: [0.3, 0.85, 0.4, 0.8], crosshairWidth: 1, show3Dcrosshair: true,
  multiplanarLayout: 0, multiplanarPadPixels: 2, isRadiologicalConvention: true, dragAndDropEnabled: false,
  viewModeHotKey: "", clipPlaneHotKey: "", cycleClipPlaneHotKey: "", isColorbar: false, loadingText: "", logLevel: "error",
};

const $ = id => document.getElementById(id);
const main = document.querySelector("main");
const { title, regions, cases } = await (await fetch("cases.json")).json();
const shown = new Set(regions.map(region => region.id)); // the regions that are drawn
const panels = {};
let order = [], current = -1, sequence = "flair", overlay = true, volumes = new Map(), latest = 0;

/** An element with text and attributes. */
function element(tag, text = "", attributes = {}) {
  return Object.assign(Object.assign(document.createElement(tag), { textContent: text }), attributes);
}

/** A volume of the current case, which is loaded when it is first asked for. */
function volume(name) {
  if (!volumes.has(name)) volumes.set(name, load(current, name));
  return volumes.get(name);
}

async function load(number, name) {
  const response = await fetch(`cases/${number}/${name}.nii.gz`);
  if (!response.ok) throw new Error(await response.text());
  const file = new File([await response.arrayBuffer()], `${name}.nii.gz`);
  return NVImage.loadFromFile({ file, name: file.name, ignoreZeroVoxels: true });
}

/** The colours of the labels 1, 2 and 3. A voxel has the colour of the innermost region that is drawn. */
function colours() {
  const table = { R: [0], G: [0], B: [0], A: [0], I: [0], labels: [""] };
  let rgb = null;
  regions.forEach(({ id, colour }, index) => {
    if (shown.has(id)) rgb = [1, 3, 5].map(start => parseInt(colour.slice(start, start + 2), 16));
    ["R", "G", "B"].forEach((channel, i) => table[channel].push(rgb ? rgb[i] : 0));
    table.A.push(rgb ? 255 : 0);
    table.I.push(index + 1);
    table.labels.push(id);
  });
  return table;
}

/** Show the sequence and the regions of the current case in both panels. */
async function draw(place) {
  const run = ++latest, item = cases[current];
  main.setAttribute("aria-busy", "true");
  const problems = item.sequences.length ? [] : ["The images of this case were not found: pass --dataset-dir DIR."];
  const get = name => volume(name).catch(error => { problems.push(error.message); return null; });
  const wanted = item.sequences.includes(sequence) ? sequence : item.sequences.at(-1);
  const names = item.labels.length ? item.labels : ["prediction"];
  const ifAny = name => (name && [...item.sequences, ...item.labels].includes(name) ? get(name) : null);
  const [image, ...labels] = await Promise.all([wanted, ...names].map(ifAny));
  if (run !== latest) return; // the person has gone on
  names.forEach((name, i) => fill(panels[name], image, labels[i]));
  for (const [name, panel] of Object.entries(panels)) panel.figure.hidden = !names.includes(name);
  if (place) moveTo(tumourCentre(labels.find(Boolean)), names);
  window.dispatchEvent(new Event("resize"));
  $("problem").hidden = !problems.length;
  $("problem").textContent = [...new Set(problems)].join(" ");
  main.dataset.case = item.case_id;
  main.dataset.sequence = sequence;
  main.setAttribute("aria-busy", "false");
}

function fill(panel, image, label) {
  panel.label = label;
  if (label) colour(label);
  const layers = [image, label].filter(Boolean);
  panel.nv.volumes = layers.slice(0, -1);
  if (layers.length) panel.nv.addVolume(layers.at(-1)); // makes the textures of all layers
  else panel.nv.drawScene();
}

/** Draw the regions again, after a change of colours or opacity. */
function redraw() {
  for (const { nv, label } of visible()) {
    if (!label) continue;
    colour(label);
    nv.refreshLayers(label, nv.volumes.indexOf(label));
    nv.drawScene();
  }
}

function colour(label) {
  label.setColormapLabel(colours());
  label.opacity = overlay ? Number($("opacity").value) : 0;
}

const visible = () => Object.values(panels).filter(panel => !panel.figure.hidden && panel.nv.volumes.length);

/** The middle of the largest slice of the tumour, in mm; null without a tumour. */
function tumourCentre(label) {
  if (!label) return null;
  const [, width, height, depth] = label.hdr.dims, area = width * height, counts = new Array(depth).fill(0);
  for (let i = 0; i < depth * area; i++) if (label.img[i]) counts[Math.floor(i / area)]++;
  const most = Math.max(...counts), k = counts.indexOf(most);
  if (!most) return null;
  const inside = [];
  for (let i = 0; i < area; i++) if (label.img[k * area + i]) inside.push([i % width, Math.floor(i / width)]);
  const centre = [0, 1].map(axis => inside.reduce((sum, at) => sum + at[axis], 0) / most);
  const distance = at => Math.hypot(at[0] - centre[0], at[1] - centre[1]);
  const nearest = inside.reduce((best, at) => (distance(at) < distance(best) ? at : best)); // the centre may lie outside
  const voxel = [...nearest, k, 1];
  return label.hdr.affine.slice(0, 3).map(row => row.reduce((sum, value, i) => sum + value * voxel[i], 0));
}

function moveTo(mm, names) {
  for (const name of names) {
    const { nv } = panels[name];
    if (!nv.volumes.length) continue;
    nv.scene.crosshairPos = mm ? nv.mm2frac(mm) : [0.5, 0.5, 0.5];
    nv.scene.pan2Dxyzmm = [0, 0, 0, 1];
    nv.createOnLocationChange();
    nv.drawScene();
  }
}

function choose(number) {
  if (number === current || !cases[number]) return;
  current = number;
  volumes = new Map();
  const { case_id, dice, is_predicted, sequences } = cases[number];
  $("name").textContent = case_id;
  const kind = is_predicted ? "predicted Dice" : "Dice";
  const scores = Object.entries(dice).map(([region, value]) => `${region} ${value.toFixed(3)}`).join("   ");
  $("scores").textContent = scores && `${kind}  ${scores}`;
  for (const radio of $("sequences").querySelectorAll("input")) radio.disabled = !sequences.includes(radio.value);
  $("cases").querySelector("[aria-current=true]")?.setAttribute("aria-current", "false");
  const button = $("cases").querySelector(`[data-number="${number}"]`);
  button.setAttribute("aria-current", "true");
  button.scrollIntoView({ block: "nearest" });
  history.replaceState(null, "", `#${encodeURIComponent(case_id)}`);
  draw(true);
}

const step = by => choose(order[Math.min(Math.max(order.indexOf(current) + by, 0), order.length - 1)]);

function chooseSequence(name) {
  const radio = $("sequences").querySelector(`[value="${name}"]`);
  if (!radio || radio.disabled) return;
  radio.checked = true;
  sequence = name;
  draw(false);
}

function toggleRegion(id) {
  if (!shown.delete(id)) shown.add(id);
  $("regions").querySelector(`[value="${id}"]`).checked = shown.has(id);
  redraw();
}

function toggleOverlay() {
  overlay = !overlay;
  $("overlay").checked = overlay;
  redraw();
}

function setView(title) {
  const [type, render] = VIEWS[title];
  $("view").value = title;
  for (const { nv } of Object.values(panels)) {
    nv.opts.multiplanarShowRender = render;
    nv.setSliceType(type);
  }
}

function moveSlice(by) {
  for (const { nv } of visible()) nv.moveCrosshairInVox(0, 0, by);
}

/** List the cases by a score, the lowest first, or by name. */
function list() {
  const by = $("sort").value, value = item => (by === "mean" ? item.mean_dice : item.dice[by]);
  order = cases.map((_, number) => number);
  const name = (a, b) => cases[a].case_id.localeCompare(cases[b].case_id, "en", { numeric: true });
  const score = (a, b) => (value(cases[a]) ?? 2) - (value(cases[b]) ?? 2);
  order.sort(by === "name" ? name : (a, b) => score(a, b) || name(a, b));
  $("cases").replaceChildren(...order.map(number => {
    const row = element("li"), button = element("button", "", { type: "button" });
    const number_shown = by === "name" ? cases[number].mean_dice : value(cases[number]);
    button.dataset.number = number;
    button.setAttribute("aria-current", String(number === current));
    button.append(element("span", cases[number].case_id), element("data", number_shown?.toFixed(2) ?? ""));
    row.append(button);
    return row;
  }));
}

function build() {
  const scored = cases.some(item => item.mean_dice !== null);
  $("title").textContent = document.title = title;
  const options = { ...(scored ? { mean: "mean Dice", WT: "Dice of WT", TC: "Dice of TC", ET: "Dice of ET" } : {}), name: "name" };
  $("sort").append(...Object.entries(options).map(([value, text]) => element("option", text, { value })));
  $("view").append(...Object.keys(VIEWS).map(view => element("option", view)));
  const names = Object.keys(TITLES).filter(name => cases.some(item => item.sequences.includes(name)));
  if (!names.includes(sequence)) sequence = names.at(-1);
  for (const name of names) {
    const label = element("label");
    label.append(element("input", "", { type: "radio", name: "sequence", value: name, checked: name === sequence }), TITLES[name]);
    $("sequences").append(label);
  }
  for (const { id, name, colour } of regions) {
    const label = element("label", "", { title: name }), swatch = element("span", "", { className: "swatch" });
    swatch.style.background = colour;
    label.append(element("input", "", { type: "checkbox", value: id, checked: true }), swatch, id);
    $("regions").append(label);
  }
  const all = element("label");
  all.append(element("input", "", { type: "checkbox", id: "overlay", checked: true }), "Overlay");
  $("regions").append(all);
  list();
}

function listen() {
  $("cases").addEventListener("click", event => {
    const button = event.target.closest("button");
    if (button) choose(Number(button.dataset.number));
  });
  $("previous").addEventListener("click", () => step(-1));
  $("next").addEventListener("click", () => step(1));
  $("sort").addEventListener("change", list);
  $("sequences").addEventListener("change", event => chooseSequence(event.target.value));
  $("regions").addEventListener("change", ({ target }) => (target.id === "overlay" ? toggleOverlay() : toggleRegion(target.value)));
  $("opacity").addEventListener("input", redraw);
  $("view").addEventListener("change", event => setView(event.target.value));
  $("controls").addEventListener("submit", event => event.preventDefault());
  document.addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const moves = event.key.startsWith("Arrow"); // which belong to a slider or a list that has the focus
    if (event.target.matches("select") || (moves && event.target.matches("input"))) return;
    const views = Object.keys(VIEWS);
    const keys = {
      n: () => step(1), p: () => step(-1), o: toggleOverlay, w: () => toggleRegion("WT"), t: () => toggleRegion("TC"),
      e: () => toggleRegion("ET"), v: () => setView(views[(views.indexOf($("view").value) + 1) % views.length]),
      ArrowUp: () => moveSlice(1), ArrowDown: () => moveSlice(-1),
      1: () => chooseSequence("t1"), 2: () => chooseSequence("t1ce"), 3: () => chooseSequence("t2"), 4: () => chooseSequence("flair"),
    };
    const act = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
}

function renderer(gl) {
  const info = gl.getExtension("WEBGL_debug_renderer_info");
  return info ? gl.getParameter(info.UNMASKED_RENDERER_WEBGL) : gl.getParameter(gl.RENDERER);
}

async function start() {
  for (const figure of document.querySelectorAll("figure")) {
    const nv = new Niivue(OPTIONS);
    await nv.attachToCanvas(figure.querySelector("canvas"));
    nv.onLocationChange = location => {
      main.dataset.place = [...location.mm].slice(0, 3).map(mm => mm.toFixed(1)).join(" ");
      $("place").textContent = `${main.dataset.place} mm`;
    };
    panels[figure.id] = { figure, nv, label: null };
  }
  setView(SOFTWARE.test(renderer(panels.reference.nv.gl)) ? "Planes" : "Planes and 3-D");
  panels.reference.nv.broadcastTo(panels.prediction.nv);
  panels.prediction.nv.broadcastTo(panels.reference.nv);
  const wanted = decodeURIComponent(location.hash.slice(1));
  const number = cases.findIndex(item => item.case_id === wanted);
  choose(number < 0 ? order[0] : number);
}

build();
listen();
start().catch(error => {
  $("problem").hidden = false;
  $("problem").textContent = `${error.message} The viewer needs a browser with WebGL 2.`;
  main.setAttribute("aria-busy", "false");
});
