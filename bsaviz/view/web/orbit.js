// One camera for all panels: an eye that circles a target, z up. Mouse, touch and arrow keys move it.

class Orbit {
  // cloud (3P) positions; angle: vertical opening in degrees; changed: called after every move of mouse, finger or key.
  // courteous: the wheel zooms only once the view has been clicked, and a double click is two picks, not a reset.
  constructor(element, cloud, angle, changed, { courteous = false } = {}) {
    Object.assign(this, { changed, half: Math.tan((angle * Math.PI) / 360), aspect: 1.6, moved: false });
    Object.assign(this, { fingers: new Map(), ended: new AbortController() });
    this.setCloud(cloud);
    this.listen(element, courteous);
  }

  setCloud(cloud) {
    const low = [Infinity, Infinity, Infinity], high = [-Infinity, -Infinity, -Infinity];
    for (let i = 0; i < cloud.length; i++) {
      low[i % 3] = Math.min(low[i % 3], cloud[i]);
      high[i % 3] = Math.max(high[i % 3], cloud[i]);
    }
    this.cloud = cloud;
    this.centre = low.map((v, k) => (v + high[k]) / 2);
    this.radius = Math.hypot(...high.map((v, k) => v - low[k])) / 2 || 1;
  }

  // Look from direction (x, y, z) with every point just inside a panel of this shape.
  look(direction, aspect) {
    this.direction = direction;
    this.face(direction);
    this.moved = this.turned = false;
    this.fit(aspect || this.aspect);
  }

  face([x, y, z]) {
    this.azimuth = Math.abs(x) + Math.abs(y) < 1e-6 ? -Math.PI / 2 : Math.atan2(y, x);
    this.elevation = limit(Math.atan2(z, Math.hypot(x, y)));
  }

  // What another view needs to show the same: target and distance only where someone zoomed or moved.
  get state() {
    const direction = this.axes().forward.map((v) => -v);
    return this.moved ? { direction, target: this.target, distance: this.distance } : { direction, target: null, distance: null };
  }

  set state({ direction, target, distance }) {
    this.face(direction);
    this.moved = Boolean(target);
    if (this.moved) Object.assign(this, { target, distance });
    else this.fit(this.aspect);
  }

  reset() {
    this.look(this.direction);
    this.changed();
  }

  fit(aspect) {
    this.aspect = aspect;
    const { right, up, forward } = this.axes(), tall = 0.9 * this.half, wide = tall * aspect;
    let [x1, x0, y1, y0, near, sum] = [-Infinity, -Infinity, -Infinity, -Infinity, Infinity, 0];
    const c = this.cloud, [r, u, f] = [right, up, forward];
    for (let i = 0; i < c.length; i += 3) {
      const x = c[i] * r[0] + c[i + 1] * r[1] + c[i + 2] * r[2], y = c[i] * u[0] + c[i + 1] * u[1] + c[i + 2] * u[2];
      const z = c[i] * f[0] + c[i + 1] * f[1] + c[i + 2] * f[2];
      x1 = Math.max(x1, x - wide * z);
      x0 = Math.max(x0, -x - wide * z);
      y1 = Math.max(y1, y - tall * z);
      y0 = Math.max(y0, -y - tall * z);
      near = Math.min(near, z);
      sum += z;
    }
    const back = Math.min(-(x1 + x0) / (2 * wide), -(y1 + y0) / (2 * tall), near - 0.1 * this.radius);
    const middle = sum / (this.cloud.length / 3);
    const [cx, cy] = [(x1 - x0) / 2, (y1 - y0) / 2];
    this.target = right.map((r, k) => cx * r + cy * up[k] + middle * forward[k]);
    this.distance = middle - back;
  }

  axes() {
    const [ca, sa, ce, se] = [Math.cos(this.azimuth), Math.sin(this.azimuth), Math.cos(this.elevation), Math.sin(this.elevation)];
    return { right: [-sa, ca, 0], up: [-se * ca, -se * sa, ce], forward: [-ce * ca, -ce * sa, -se] };
  }

  // Column-major matrices for a panel of this shape; the depth range just holds the car.
  matrices(aspect) {
    const { right, up, forward } = this.axes();
    const eye = this.target.map((t, k) => t - this.distance * forward[k]);
    const depth = dot(this.centre.map((c, k) => c - eye[k]), forward);
    const near = Math.max(depth - 1.1 * this.radius, 0.01 * this.radius), far = Math.max(depth + 1.1 * this.radius, 2 * near);
    const view = new Float32Array(16);
    [right, up, forward.map((v) => -v)].forEach((axis, row) => {
      axis.forEach((v, k) => (view[4 * k + row] = v));
      view[12 + row] = -dot(axis, eye);
    });
    view[15] = 1;
    const projection = new Float32Array(16);
    projection[0] = 1 / (this.half * aspect);
    projection[5] = 1 / this.half;
    projection[10] = (far + near) / (near - far);
    projection[11] = -1;
    projection[14] = (2 * far * near) / (near - far);
    return { view, projection };
  }

  // The ray through a place of a panel, given as shares -1 (left, bottom) to 1 (right, top).
  ray(across, upward, aspect) {
    const { right, up, forward } = this.axes();
    const from = this.target.map((t, k) => t - this.distance * forward[k]);
    const along = forward.map((v, k) => v + this.half * (across * aspect * right[k] + upward * up[k]));
    const length = Math.hypot(...along);
    return { from, along: along.map((v) => v / length) };
  }

  // Until someone zooms or moves, the whole car stays in view while it turns.
  turn(dx, dy) {
    this.azimuth -= 0.008 * dx;
    this.elevation = limit(this.elevation + 0.008 * dy);
    this.turned = true;
    if (!this.moved) this.fit(this.aspect);
    this.changed();
  }

  zoom(factor) {
    this.distance = Math.min(Math.max(this.distance * factor, 0.05 * this.radius), 40 * this.radius);
    this.after();
  }

  move(dx, dy, height) {
    const { right, up } = this.axes(), step = (2 * this.half * this.distance) / height;
    this.target = this.target.map((t, k) => t - step * (dx * right[k] - dy * up[k]));
    this.after();
  }

  after() {
    this.moved = true;
    this.changed();
  }

  listen(element, courteous) {
    const fingers = this.fingers;
    const height = () => element.clientHeight || 1;
    element.addEventListener("pointerdown", (event) => {
      element.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, [event.clientX, event.clientY]);
    });
    for (const end of ["pointerup", "pointercancel"]) element.addEventListener(end, (event) => fingers.delete(event.pointerId));
    element.addEventListener("pointermove", (event) => {
      const before = fingers.get(event.pointerId);
      if (!before) return;
      const now = [event.clientX, event.clientY], [dx, dy] = [now[0] - before[0], now[1] - before[1]];
      const other = [...fingers.entries()].find(([id]) => id !== event.pointerId);
      fingers.set(event.pointerId, now);
      if (other) {
        this.zoom(apart(before, other[1]) / Math.max(apart(now, other[1]), 1));
        this.move(dx / 2, dy / 2, height());
      } else if (event.buttons & 2 || event.shiftKey) this.move(dx, dy, height());
      else this.turn(dx, dy);
    });
    element.addEventListener("wheel", (event) => {
      if (courteous && element.getRootNode().activeElement !== element) return;
      event.preventDefault();
      this.zoom(Math.exp(0.001 * Math.max(-300, Math.min(300, event.deltaY))));
    }, { passive: false });
    element.addEventListener("contextmenu", (event) => event.preventDefault());
    if (!courteous) element.addEventListener("dblclick", () => this.reset());
    // From the window, before Lab's own shortcuts, which would act on the notebook's cells.
    const pressed = (event) => event.composedPath()[0] === element && this.key(event);
    window.addEventListener("keydown", pressed, { capture: true, signal: this.ended.signal });
  }

  key(event) {
    const turns = { ArrowLeft: [-12, 0], ArrowRight: [12, 0], ArrowUp: [0, -12], ArrowDown: [0, 12] };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (turns[event.key]) this.turn(...turns[event.key]);
    else if (event.key === "+" || event.key === "-") this.zoom(event.key === "+" ? 0.9 : 1.1);
    else if (event.key === "Home" || event.key === "r") this.reset();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  free() {
    this.ended.abort();
  }
}

const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const apart = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]);
const limit = (angle) => Math.max(-1.569, Math.min(1.569, angle));
