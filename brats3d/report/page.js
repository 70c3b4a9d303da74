"use strict";

/* Tables: a click on a column's name sorts the rows by it. */
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  const key = (row, column) => {
    const cell = row.cells[column];
    return "sort" in cell.dataset ? Number(cell.dataset.sort) : cell.textContent;
  };
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = [...body.rows].sort((a, b) => {
        const [x, y] = [key(a, column), key(b, column)];
        const order = typeof x === "number" ? x - y : x.localeCompare(y, undefined, {numeric: true});
        return up ? order : -order;
      });
      body.append(...rows);
    });
  });
}

/* Viewers: sagittal, coronal and axial view from left to right. Axes 0, 1, 2 run towards L, P and S, so the patient's
   right is on the left, anterior is on the left of the sagittal view, and axis 2 is drawn upside down. */
const VIEWS = [{across: 1, down: 2}, {across: 0, down: 2}, {across: 0, down: 1}];
const ZOOM = 3;
const ARROWS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};

/* Decode a mosaic of slices; the result returns the value of a voxel (x, y, z). */
async function readMosaic(uri, [width, height], columns) {
  const image = new Image();
  image.src = uri;
  await image.decode();
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  const context = canvas.getContext("2d", {willReadFrequently: true});
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
  return ([x, y, z]) => {
    const row = Math.floor(z / columns) * height + y;
    return pixels[4 * (row * canvas.width + (z % columns) * width + x)];
  };
}

/* Draw the slice of one view, a pixel a voxel. */
function drawSlice({across, down}, shape, place, grey, region, colours, opacity) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [shape[across], shape[down]];
  const context = canvas.getContext("2d");
  const picture = context.createImageData(canvas.width, canvas.height);
  const voxel = [...place];
  let at = 0;
  for (let j = 0; j < canvas.height; j++) {
    voxel[down] = down === 2 ? canvas.height - 1 - j : j;
    for (let i = 0; i < canvas.width; i++) {
      voxel[across] = i;
      const value = grey(voxel);
      const colour = colours[region(voxel)] || [value, value, value];
      for (const part of colour) picture.data[at++] = (1 - opacity) * value + opacity * part;
      picture.data[at++] = 255;
    }
  }
  context.putImageData(picture, 0, 0);
  return canvas;
}

async function startViewer(viewer) {
  const columns = Number(viewer.dataset.columns);
  const size = JSON.parse(viewer.dataset.shape);
  const place = JSON.parse(viewer.dataset.start);
  const hex = viewer.dataset.colours.trim().split(" ");
  const canvases = [...viewer.querySelectorAll("canvas")];
  const colours = [null, ...hex.map((colour) => [1, 3, 5].map((k) => parseInt(colour.slice(k, k + 2), 16)))];
  const high = Math.max(size[1], size[2]);
  const lefts = [0, size[1], size[1] + size[0]];
  const tops = VIEWS.map(({down}) => Math.floor((high - size[down]) / 2));
  const codes = await readMosaic(viewer.dataset.regions, size, columns);
  /* Rounded, because some browsers add noise to what is read back from a canvas. */
  const code = (voxel) => Math.round(codes(voxel) / 17);
  const regionOf = {reference: (voxel) => code(voxel) >> 2, prediction: (voxel) => code(voxel) & 3};
  let grey;
  let active = VIEWS[1];
  const opacity = viewer.querySelector("input[type=range]");

  const draw = () => {
    for (const canvas of canvases) {
      const context = canvas.getContext("2d");
      context.imageSmoothingEnabled = false;
      context.fillRect(0, 0, canvas.width, canvas.height);
      VIEWS.forEach((view, k) => {
        const {across, down} = view;
        const region = regionOf[canvas.dataset.source];
        const slice = drawSlice(view, size, place, grey, region, colours, Number(opacity.value));
        const [left, top, wide, tall] = [lefts[k], tops[k], slice.width, slice.height].map((voxels) => voxels * ZOOM);
        context.drawImage(slice, left, top, wide, tall);
        context.save();
        context.fillStyle = "rgb(0 255 0 / 60%)";
        const row = down === 2 ? size[2] - 1 - place[2] : place[down];
        context.fillRect(left + (place[across] + 0.5) * ZOOM, top, 1, tall);
        context.fillRect(left, top + (row + 0.5) * ZOOM, wide, 1);
        context.restore();
      });
    }
    viewer.dataset.place = place;
  };
  const move = ({across, down}, i, j) => {
    const row = down === 2 ? size[2] - 1 - j : j;
    place[across] = Math.min(Math.max(i, 0), size[across] - 1);
    place[down] = Math.min(Math.max(row, 0), size[down] - 1);
    draw();
  };
  const point = (event) => {
    const box = event.target.getBoundingClientRect();
    const i = Math.floor((event.clientX - box.left) / box.width * event.target.width / ZOOM);
    const j = Math.floor((event.clientY - box.top) / box.height * event.target.height / ZOOM);
    if (event.type === "pointerdown") active = VIEWS[lefts.findLastIndex((left) => left <= i)] || active;
    const k = VIEWS.indexOf(active);
    move(active, i - lefts[k], j - tops[k]);
  };
  const press = (event) => {
    if (!(event.key in ARROWS)) return;
    event.preventDefault();
    const [right, down] = ARROWS[event.key];
    const row = active.down === 2 ? size[2] - 1 - place[2] : place[active.down];
    move(active, place[active.across] + right, row + down);
  };
  const choose = async (choice) => {
    grey = await readMosaic(choice.dataset.volume, size, columns);
    draw();
  };

  for (const canvas of canvases) {
    [canvas.width, canvas.height] = [(2 * size[0] + size[1]) * ZOOM, high * ZOOM];
    canvas.addEventListener("pointerdown", point);
    canvas.addEventListener("pointermove", (event) => event.buttons & 1 && point(event));
    canvas.addEventListener("keydown", press);
  }
  opacity.addEventListener("input", draw);
  const choices = [...viewer.querySelectorAll("input[type=radio]")];
  for (const choice of choices) choice.addEventListener("change", () => choose(choice));
  /* A reloaded page keeps the choice that was made. */
  await choose(choices.find((choice) => choice.checked));
}

for (const viewer of document.querySelectorAll(".viewer")) startViewer(viewer);
