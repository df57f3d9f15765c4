// What the page holds: its choices at once, and the car, the words and the levels of every kind once unpacked.

const byId = (id) => document.getElementById(id);
const meta = JSON.parse(byId("meta").textContent);

const bytes = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));

async function unpack() {
  const lines = byId("data").textContent.trim().split("\n");
  const parts = Object.fromEntries(await Promise.all(meta.parts.map(async (name, i) => [name, await inflate(lines[i])])));
  byId("data").textContent = "";
  const words = JSON.parse(new TextDecoder().decode(parts.words));
  return {
    positions: new Float32Array(parts.car, 0, 3 * meta.points),
    triangles: new Uint32Array(parts.car, 12 * meta.points, 3 * meta.faces),
    kinds: meta.kinds.map((kind) => new Kind(kind, words[kind.name], new Uint8Array(parts[kind.name]))),
    members: parts.regions ? regions(new Uint8Array(parts.regions)) : meta.anchors.map((point) => Uint32Array.of(point)),
  };
}

async function inflate(line) {
  const stream = new Blob([bytes(line)]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

// One kind of field. A view is one choice of all that it varies with.
class Kind {
  constructor(kind, words, packed) {
    Object.assign(this, kind, { words, packed, ramps: kind.ramps.map(bytes) });
  }

  view(state) {
    return this.varies.reduce((index, name) => index * meta.choices[name].length + state[name], 0);
  }

  // Levels (branches, points) of a view: 0 where nothing is read.
  levels(view) {
    const size = this.branches.length * meta.points;
    if (!this.bits) return this.packed.subarray(view * size, (view + 1) * size);
    const stride = Math.ceil(size / 8), bit = bits(this.packed.subarray(view * stride, (view + 1) * stride));
    const levels = new Uint8Array(size);
    for (let i = 0; i < size; i++) levels[i] = 255 * bit(i);
    return levels;
  }
}

const bits = (packed) => (i) => (packed[i >> 3] >> (7 - (i & 7))) & 1;

// Points of each query.
function regions(packed) {
  const stride = Math.ceil(meta.points / 8), everything = Uint32Array.from({ length: meta.points }, (_, i) => i);
  return meta.anchors.map((_, q) => everything.filter(bits(packed.subarray(q * stride, (q + 1) * stride))));
}
