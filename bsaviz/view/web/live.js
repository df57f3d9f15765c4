// The live view: draws the newest state of the widget's model, and tells it of turns and clicks.

const CAMERA_EVENT = "bsaviz-camera"; // linked views hear of each other through the window, not through the kernel
const CLICK = 5; // pixels: a pointer that moved less has clicked
const SLOW = 30; // milliseconds: where finding the point takes longer, hovering looks for it less often
const HEAVY = 16; // milliseconds: where smoothing edges takes longer, a moving picture goes without
const REST = 150; // milliseconds without a new picture after which its edges are smoothed all the same

const raw = (view) => (view && view.byteLength ? view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength) : new ArrayBuffer(0));
const bytes = (view) => new Uint8Array(raw(view));
const unit = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16) / 255);

class LiveView {
  constructor(model, element) {
    Object.assign(this, { model, stale: new Set(), queued: false, drawn: 0, surface: null, cost: 0, heavy: true, measured: 0 });
    const { width, height } = model.get("settings");
    this.root = make("div", element);
    this.root.className = "bsaviz-live";
    Object.assign(this.root.style, { height: `${height}px`, width: width ? `${width}px` : "100%" });
    this.problem = make("p", this.root);
    this.problem.setAttribute("role", "alert");
    this.layOut(model.get("panels"));
    this.start();
    this.listen();
  }

  layOut(count) {
    this.stage = make("div", this.root);
    this.stage.className = "bsaviz-stage";
    this.grid = make("div", this.root);
    this.grid.className = "bsaviz-panels";
    this.grid.style.gridTemplateColumns = `repeat(${count}, minmax(0, 1fr))`;
    this.panels = Array.from({ length: count }, () => {
      const panel = {};
      for (const part of ["title", "view", "key"]) {
        panel[part] = make("div", this.grid);
        panel[part].className = `bsaviz-${part}`;
      }
      return panel;
    });
    this.hint = make("div", this.root);
    this.hint.className = "bsaviz-hint";
    const reset = make("button", this.root, "\u27f2");
    reset.className = "bsaviz-reset";
    reset.type = "button";
    reset.title = "Reset the camera (Home or r)";
    reset.addEventListener("click", () => this.orbit && this.orbit.reset());
  }

  // A canvas with all of the model's state; again on a new one where the browser took the last one's graphics away.
  start() {
    const { angle, grey } = this.model.get("settings");
    this.stage.replaceChildren();
    this.canvas = make("canvas", this.stage);
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("aria-label", "3D view: drag or arrow keys turn it, + and - zoom, Home resets; click a point to pick it");
    try {
      this.grey = unit(grey);
      this.renderer = new Renderer(this.canvas, this.panels.length, { grey: this.grey, background: null, quick: true });
    } catch (error) {
      return this.say(error.message);
    }
    this.say("");
    this.orbit = new Orbit(this.canvas, new Float32Array(3), angle, () => this.turned(), { courteous: true });
    this.canvas.addEventListener("webglcontextlost", () => this.lost());
    this.pointer();
    ["surface", "camera"].forEach((part) => this.stale.add(part));
    this.panels.forEach((_, i) => ["paint", "marks", "title"].forEach((part) => this.stale.add(`${part}_${i}`)));
    this.redraw();
  }

  lost() {
    if (this.freed) return;
    this.renderer = null;
    this.orbit.free();
    this.say("The browser took this view's graphics memory for others. ");
    const again = make("button", this.problem, "Draw it again");
    again.type = "button";
    again.addEventListener("click", () => this.start());
  }

  say(text) {
    this.problem.textContent = text;
    this.problem.hidden = !text;
  }

  listen() {
    const parts = ["surface", "camera", ...this.panels.flatMap((_, i) => [`paint_${i}`, `marks_${i}`, `title_${i}`])];
    for (const part of parts) {
      this.model.on(`change:${part}`, () => {
        if (part === "camera" && this.model.get("camera") === this.sent) return;
        this.stale.add(part);
        this.redraw();
      });
    }
    this.resized = new ResizeObserver(() => this.redraw());
    this.resized.observe(this.root);
    this.watchPixels();
  }

  // A window moved to a screen with other pixels, or zoomed.
  watchPixels() {
    const same = window.matchMedia(`(resolution: ${window.devicePixelRatio}dppx)`);
    same.addEventListener("change", () => {
      if (this.freed) return;
      this.watchPixels();
      this.redraw();
    }, { once: true });
  }

  // Draw at the browser's next frame, whatever has come until then; a hidden view waits until it is seen.
  redraw() {
    if (this.queued) return;
    this.queued = true;
    requestAnimationFrame(() => {
      this.queued = false;
      if (!this.renderer || !this.canvas.clientWidth) return;
      const stale = [...this.stale];
      this.stale.clear();
      if (stale.includes("surface")) this.takeSurface(this.model.get("surface"));
      for (const part of stale) this.take(part);
      this.boxes = this.panels.map(({ view }) => this.box(view));
      const shape = this.boxes[0].width / Math.max(this.boxes[0].height, 1);
      if (stale.includes("camera")) this.aim(shape);
      else if (!this.orbit.moved && (shape !== this.orbit.aspect || stale.includes("surface"))) this.orbit.fit(shape);
      this.show();
      this.root.dataset.drawn = String((this.drawn += 1));
    });
  }

  // Where smoothing is heavy (drawing in software, large clouds), a new picture comes without and gets it at rest.
  show() {
    const rough = this.heavy;
    this.renderer.draw(this.boxes, this.orbit, !rough);
    this.root.toggleAttribute("data-rough", rough);
    clearTimeout(this.rest);
    if (rough) this.rest = setTimeout(() => this.smooth(), REST + 2 * (this.heaviness || 0));
  }

  smooth() {
    if (!this.renderer || !this.canvas.clientWidth || this.queued) return;
    const before = performance.now();
    this.renderer.draw(this.boxes, this.orbit, true);
    if (this.measured < 2) { // the first time takes longer than the later ones
      this.measured += 1;
      this.renderer.whenDone(() => {
        this.heaviness = Math.min(this.heaviness ?? Infinity, performance.now() - before);
        this.heavy = this.heaviness > HEAVY;
      });
    }
    this.root.removeAttribute("data-rough");
  }

  box(view) {
    const canvas = this.canvas.getBoundingClientRect(), box = view.getBoundingClientRect();
    return { left: box.left - canvas.left, top: box.top - canvas.top, width: box.width, height: box.height };
  }

  take(part) {
    const [what, panel] = part.split("_"), value = this.model.get(part);
    if (what === "title") this.panels[panel].title.textContent = value;
    if (!this.surface) return;
    if (what === "paint") this.takePaint(Number(panel), value);
    if (what === "marks") this.takeMarks(Number(panel), value);
  }

  takeSurface(surface) {
    if (!surface.positions) return;
    const positions = new Float32Array(raw(surface.positions)), triangles = new Uint32Array(raw(surface.triangles));
    this.surface = { positions, triangles, radius: surface.radius };
    this.renderer.setSurface(positions, triangles);
    Object.assign(this, { heavy: true, heaviness: null, measured: 0 });
    this.orbit.setCloud(positions);
    this.hint.textContent = "";
  }

  takePaint(panel, paint) {
    const mine = this.panels[panel], count = this.surface.positions.length / 3;
    const levels = bytes(paint.levels), ramp = bytes(paint.ramp), tints = paint.palette ? inClasses(paint, count) : bytes(paint.tints);
    const [byLevel, byColour] = [levels.length === count, tints.length === 3 * count]; // else grey
    Object.assign(mine, { levels: byLevel ? levels : null, bar: paint.bar });
    const words = JSON.stringify([byLevel && [paint.bar, paint.missing, ramp.join()], byColour && paint.legend]);
    if (words !== mine.words) this.drawKey(mine.key, paint, ramp, byLevel, byColour);
    mine.words = words;
    if (!this.surface.triangles.length) {
      const dots = byLevel ? coloured(levels, ramp) : byColour ? tints : new Uint8Array(3 * count).fill(Math.round(255 * this.grey[0]));
      this.renderer.setDots(panel, dots, this.surface.radius);
    } else if (byLevel) this.renderer.setLevels(panel, levels, ramp);
    else if (byColour) this.renderer.setTints(panel, tints);
    else this.renderer.setGrey(panel);
  }

  drawKey(key, paint, ramp, byLevel, byColour) {
    key.replaceChildren();
    if (byColour) for (const [name, colour] of paint.legend) drawName(key, "span", colour, name);
    if (!byLevel) return;
    const bar = make("div", key);
    bar.className = "bsaviz-bar";
    const shown = ramp.slice();
    shown.copyWithin(0, 3, 6); // the first colour is that of no value
    drawBar(bar, [shown], paint.bar.label, paint.bar.ticks);
    if (paint.missing) drawName(key, "span", paint.missing, "no value");
  }

  takeMarks(panel, marks) {
    const known = this.surface.positions.length / 3;
    const whole = marks.map((mark) => ({ ...mark, points: new Uint32Array(raw(mark.points)).filter((point) => point < known) }));
    const radius = this.surface.radius;
    this.renderer.setMarks(panel, whole.map(({ points, colour, scale, onTop }) => (
      { points, tint: unit(colour), radius: radius * scale, size: scale / 2, onTop }
    )));
  }

  aim(shape) {
    this.orbit.direction = this.model.get("home");
    this.orbit.aspect = shape;
    this.orbit.state = this.model.get("camera");
  }

  // Someone turned this view: other views of this model, linked models and the kernel follow.
  turned() {
    this.sent = this.orbit.state;
    this.model.set("camera", this.sent);
    this.save();
    this.redraw();
    const group = this.model.get("group");
    if (group) window.dispatchEvent(new CustomEvent(CAMERA_EVENT, { detail: { group, camera: this.sent } }));
  }

  // One message a frame at most.
  save() {
    if (this.saving) return;
    this.saving = true;
    requestAnimationFrame(() => {
      this.saving = false;
      this.model.save_changes();
    });
  }

  pointer() {
    let start = null;
    const place = (event) => [event.offsetX, event.offsetY];
    this.canvas.addEventListener("pointerdown", (event) => {
      start = event.button === 0 && !event.shiftKey ? place(event) : null;
      this.hover(null);
    });
    this.canvas.addEventListener("pointerup", (event) => {
      const [x, y] = place(event);
      if (start && Math.hypot(x - start[0], y - start[1]) < CLICK) this.click(x, y);
      start = null;
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (event.buttons || event.pointerType === "touch" || (this.cost *= 0.97) > SLOW) return;
      const waiting = Boolean(this.over);
      this.over = place(event);
      if (!waiting) requestAnimationFrame(() => {
        const over = this.over;
        this.over = null;
        if (over) this.hover(this.find(...over));
      });
    });
    this.canvas.addEventListener("pointerleave", () => {
      this.over = null;
      this.hover(null);
    });
  }

  click(x, y) {
    const found = this.find(x, y);
    if (found) this.model.send({ pick: found.point, panel: found.panel });
  }

  // The point seen at a place of the canvas, and its panel; null where there is none.
  find(x, y) {
    if (!this.surface || !this.boxes || !this.renderer) return null;
    const panel = this.boxes.findIndex((b) => x >= b.left && x < b.left + b.width && y >= b.top && y < b.top + b.height);
    if (panel < 0) return null;
    const { left, top, width, height } = this.boxes[panel], { positions, triangles, radius } = this.surface;
    const ray = this.orbit.ray((2 * (x - left)) / width - 1, 1 - (2 * (y - top)) / height, width / height);
    const before = performance.now();
    const pixel = (2 * this.orbit.half) / height;
    const point = triangles.length ? pickSurface(positions, triangles, ray) : pickCloud(positions, radius, ray, pixel);
    this.cost = performance.now() - before;
    return point < 0 ? null : { point, panel };
  }

  hover(found) {
    if (!this.renderer) return;
    const before = this.renderer.hover, same = found && before && found.point === before.point && found.panel === before.panel;
    if (same || (!found && !before)) return;
    this.renderer.hover = found;
    this.hint.textContent = found ? this.words(found) : "";
    this.redraw();
  }

  words({ point, panel }) {
    const { levels, bar } = this.panels[panel];
    if (!levels) return `point ${point}`;
    if (!levels[point]) return `point ${point}: no value`;
    const value = bar.low + ((levels[point] - 1) / 254) * (bar.high - bar.low);
    return `point ${point}: ${Number(value.toPrecision(3))}`;
  }

  free() {
    this.freed = true;
    clearTimeout(this.rest);
    this.resized.disconnect();
    if (this.orbit) this.orbit.free();
    if (this.renderer) this.renderer.free();
    this.renderer = null;
  }
}

// Tints of the classes of a message: a byte a point, or a bit where there are only two.
function inClasses(paint, count) {
  if (paint.classes) return coloured(bytes(paint.classes), bytes(paint.palette));
  const packed = bytes(paint.bits), classes = new Uint8Array(Math.min(count, 8 * packed.length));
  for (let i = 0; i < classes.length; i++) classes[i] = (packed[i >> 3] >> (7 - (i & 7))) & 1;
  return coloured(classes, bytes(paint.palette));
}

// A model follows the views of the models that it is linked with, also while it is not shown itself.
function initialize({ model }) {
  const follow = ({ detail: { group, camera } }) => {
    if (group !== model.get("group") || camera === model.get("camera")) return;
    model.set("camera", camera);
    model.save_changes();
  };
  window.addEventListener(CAMERA_EVENT, follow);
  return () => window.removeEventListener(CAMERA_EVENT, follow);
}

function render({ model, el }) {
  const view = new LiveView(model, el);
  return () => view.free();
}

export default { initialize, render };
