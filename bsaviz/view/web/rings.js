// The queries of an atlas: rings on the car, told by name under the pointer, and gone to with a click on or near one.

const REACH = 16; // pixels: so far from a ring, a click still means it
const STILL = 6; // pixels that a finger may move while it clicks

class Rings {
  // page: has positions, triangles, camera, boxes() and go(query); shown is the name under the pointer.
  constructor(page, canvas) {
    Object.assign(this, { page, canvas, shown: byId("name"), down: null });
    canvas.addEventListener("pointerdown", (event) => (this.down = event.isPrimary ? event : null));
    canvas.addEventListener("pointerup", (event) => this.clicked(event));
    canvas.addEventListener("pointermove", (event) => this.over(event));
    canvas.addEventListener("pointerleave", () => this.say(null));
  }

  clicked(event) {
    const { down } = this;
    this.down = null;
    if (!down || event.button !== 0 || apart([down.clientX, down.clientY], [event.clientX, event.clientY]) > STILL) return;
    const at = this.place(event);
    if (!at) return;
    const point = this.pointAt(at), ring = this.ringAt(at, point);
    const query = ring >= 0 ? ring : point >= 0 ? this.nearest(point) : -1;
    if (query >= 0) this.page.go(query);
  }

  over(event) {
    const at = event.buttons ? null : this.place(event);
    const ring = at ? this.ringAt(at, this.pointAt(at)) : -1;
    this.say(ring < 0 ? null : { at, ring });
  }

  say(found) {
    this.canvas.style.cursor = found ? "pointer" : "";
    this.shown.hidden = !found;
    if (!found) return;
    this.shown.textContent = meta.choices.query[found.ring];
    const half = this.shown.offsetWidth / 2, x = found.at.box.left + found.at.x;
    this.shown.style.left = `${Math.min(Math.max(x, half), this.canvas.clientWidth - half)}px`;
    this.shown.style.top = `${found.at.box.top + found.at.y}px`;
  }

  // Where in which panel an event is, in pixels.
  place(event) {
    const canvas = this.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - canvas.left, event.clientY - canvas.top];
    const box = this.page.boxes().find((b) => x >= b.left && x < b.left + b.width && y >= b.top && y < b.top + b.height);
    return box && { box, x: x - box.left, y: y - box.top };
  }

  // The point of the car there, or -1.
  pointAt({ box, x, y }) {
    const { camera, positions, triangles } = this.page;
    const ray = camera.ray((2 * x) / box.width - 1, 1 - (2 * y) / box.height, box.width / box.height);
    if (triangles.length) return pickSurface(positions, triangles, ray);
    return pickCloud(positions, meta.radii.clear, ray, (2 * camera.half) / box.height);
  }

  // The ring within reach that is nearest on the screen and not hidden by the car, whose `point` is there; or -1.
  ringAt({ box, x, y }, point) {
    const { camera } = this.page, matrices = camera.matrices(box.width / box.height);
    const farthest = point < 0 ? Infinity : this.onScreen(point, matrices, box).depth + 0.1 * camera.radius;
    let [best, least] = [-1, REACH];
    meta.anchors.forEach((anchor, query) => {
      const seen = this.onScreen(anchor, matrices, box), away = Math.hypot(seen.x - x, seen.y - y);
      if (seen.depth <= farthest && away < least) [best, least] = [query, away];
    });
    return best;
  }

  onScreen(point, { view, projection }, box) {
    const p = this.page.positions.subarray(3 * point, 3 * point + 3);
    const [x, y, z] = [0, 1, 2].map((row) => view[row] * p[0] + view[4 + row] * p[1] + view[8 + row] * p[2] + view[12 + row]);
    const share = [projection[0] * x / -z, projection[5] * y / -z];
    return { x: (box.width * (1 + share[0])) / 2, y: (box.height * (1 - share[1])) / 2, depth: -z };
  }

  // The query whose point is nearest to a point of the car.
  nearest(point) {
    const p = this.page.positions;
    const far = meta.anchors.map((a) => Math.hypot(...[0, 1, 2].map((k) => p[3 * a + k] - p[3 * point + k])));
    return far.indexOf(Math.min(...far));
  }
}
