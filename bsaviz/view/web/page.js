// The page: reads the embedded data, builds panels and switches, and redraws when one of them changes.

const byId = (id) => document.getElementById(id);
const meta = JSON.parse(byId("meta").textContent);

const bytes = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));

async function unpack() {
  const stream = new Blob([bytes(byId("data").textContent)]).stream().pipeThrough(new DecompressionStream("gzip"));
  const data = await new Response(stream).arrayBuffer();
  const positions = new Float32Array(data, 0, 3 * meta.points);
  const triangles = new Uint32Array(data, 12 * meta.points, 3 * meta.faces);
  return { positions, triangles, levels: new Uint8Array(data, 12 * (meta.points + meta.faces)) };
}

class Page {
  constructor({ positions, triangles, levels }) {
    Object.assign(this, { positions, levels, state: { ...meta.start }, off: new Set(), queued: false });
    this.ramps = meta.ramps.map(bytes);
    this.panels = meta.headings.map((heading) => {
      const panel = make("section", byId("panels"));
      panel.className = "panel";
      make("h2", panel, heading);
      const caption = make("p", panel), view = make("div", panel);
      view.className = "view";
      return { caption, view };
    });
    this.renderer = new Renderer(byId("canvas"), this.panels.length, { grey: meta.surface.map((c) => c / 255) });
    this.renderer.setSurface(positions, triangles);
    this.camera = new Orbit(byId("canvas"), positions, meta.angle, () => this.redraw());
    this.switches();
    this.legend();
    this.camera.look(this.eye(), this.shape());
    this.update();
    new ResizeObserver(() => {
      if (!this.camera.moved) this.camera.fit(this.shape());
      this.redraw();
    }).observe(byId("stage"));
  }

  // Where to look from: a side that sees the query.
  eye() {
    return meta.eyes[this.state.query || 0];
  }

  shape() {
    const { clientWidth, clientHeight } = this.panels[0].view;
    return clientWidth / Math.max(clientHeight, 1);
  }

  // A list for every choice that offers more than one thing, and one for the camera.
  switches() {
    for (const [name, values] of Object.entries(meta.choices)) {
      if (values.length < 2) continue;
      this.list(name, values, this.state[name], (i) => {
        this.state[name] = i;
        if (name === "query" && !this.camera.turned && !this.camera.moved) this.camera.look(this.eye(), this.shape());
        this.update();
      });
    }
    const cameras = Object.keys(meta.cameras);
    this.list("camera", ["as opened", ...cameras], 0, (i) => {
      this.camera.look(i ? meta.cameras[cameras[i - 1]] : this.eye(), this.shape());
      this.redraw();
    });
  }

  list(name, values, start, chosen) {
    const label = make("label", byId("controls"), name + " "), select = make("select", label);
    select.name = name;
    values.forEach((value) => make("option", select, String(value)));
    select.selectedIndex = start;
    select.addEventListener("change", () => chosen(select.selectedIndex));
  }

  // A button a branch, which shows or hides it.
  legend() {
    if (meta.mode !== "field") return;
    const css = (rgb) => `rgb(${rgb.join(",")})`;
    meta.branches.forEach((branch, i) => {
      const button = drawName(byId("legend"), "button", css(branch.colour), branch.name);
      button.type = "button";
      button.setAttribute("aria-pressed", "true");
      button.addEventListener("click", () => {
        if (!this.off.delete(i)) this.off.add(i);
        button.setAttribute("aria-pressed", String(!this.off.has(i)));
        this.update();
      });
    });
    drawName(byId("legend"), "span", css(meta.queryColour), "query point");
  }

  // Everything that depends on the choices: words, bar, dots and paint.
  update() {
    const { query = 0, layer, head, kind = 0 } = this.state, { choices } = meta;
    const index = (query * choices.layer.length + layer) * choices.head.length + head;
    const words = meta.views[index][meta.kinds[kind]];
    const size = meta.branches.length * meta.points;
    const levels = this.levels.subarray(index * size, (index + 1) * size);
    this.panels.forEach((panel, i) => {
      panel.caption.textContent = words.captions[i];
      if (meta.mode === "field") this.renderer.setDots(i, ...this.reads(levels, i, Boolean(words.bar)));
      else this.paint(i, levels.subarray(i * meta.points, (i + 1) * meta.points));
    });
    byId("footer").textContent = words.footer;
    byId("bar").replaceChildren();
    if (words.bar) drawBar(byId("bar"), this.ramps, words.bar.label, words.bar.ticks);
    if (meta.mode === "field") this.mark(choices.query[query]);
    this.redraw();
  }

  mark(query) {
    const mark = { points: Uint32Array.of(query), tint: meta.queryColour.map((c) => c / 255), onTop: true, size: 1 };
    this.panels.forEach((_, i) => this.renderer.setMarks(i, [mark]));
  }

  // Colours and radii of a panel: a point read by several branches is drawn for the first of them.
  reads(levels, last, byMass) {
    const n = meta.points, tints = new Uint8Array(3 * n), radii = new Float32Array(n);
    if (!meta.faces) {
      tints.set(Uint8Array.from({ length: 3 * n }, (_, i) => meta.surface[i % 3]));
      radii.fill(meta.radii.faint);
    }
    for (let b = last; b >= 0; b--) {
      if (this.off.has(b)) continue;
      const branch = meta.branches[b], size = branch.faint ? meta.radii.faint : meta.radii.clear;
      for (let p = 0; p < n; p++) {
        const level = levels[b * n + p];
        if (!level) continue;
        radii[p] = byMass ? size * (0.6 + level / 640) : size;
        for (let c = 0; c < 3; c++) tints[3 * p + c] = byMass ? this.ramps[b][3 * level + c] : branch.colour[c];
      }
    }
    return [tints, radii];
  }

  paint(panel, levels) {
    if (meta.faces) return this.renderer.setLevels(panel, levels, this.ramps[0]);
    this.renderer.setDots(panel, coloured(levels, this.ramps[0]), meta.radii.clear);
  }

  redraw() {
    if (this.queued) return;
    this.queued = true;
    requestAnimationFrame(() => {
      this.queued = false;
      const canvas = byId("canvas").getBoundingClientRect();
      const boxes = this.panels.map(({ view }) => {
        const box = view.getBoundingClientRect();
        return { left: box.left - canvas.left, top: box.top - canvas.top, width: box.width, height: box.height };
      });
      this.renderer.draw(boxes, this.camera);
      document.body.dataset.drawn = String(Number(document.body.dataset.drawn || 0) + 1);
    });
  }
}

unpack().then((data) => new Page(data)).catch((error) => {
  byId("problem").hidden = false;
  byId("problem").textContent = `This picture could not be drawn. ${error.message}`;
});
