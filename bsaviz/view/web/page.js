// The page: builds panels and switches from the embedded data, and redraws when one of them changes.

const css = (rgb) => `rgb(${rgb.join(",")})`;
const unit = (rgb) => rgb.map((c) => c / 255);

class Page {
  constructor(data) {
    Object.assign(this, data, { state: { kind: 0, ...meta.start }, off: new Set(), lists: {}, queued: false });
    const most = Math.max(...this.kinds.map((kind) => kind.headings.length));
    this.panels = Array.from({ length: most }, () => {
      const section = make("section", byId("panels"));
      section.className = "panel";
      const heading = make("h2", section), caption = make("p", section), view = make("div", section);
      view.className = "view";
      return { section, heading, caption, view };
    });
    this.renderer = new Renderer(byId("canvas"), most, { grey: unit(meta.surface) });
    this.renderer.setSurface(this.positions, this.triangles);
    this.camera = new Orbit(byId("canvas"), this.positions, meta.angle, () => this.redraw());
    if (meta.rings) this.rings = new Rings(this, byId("canvas"));
    this.switches();
    this.legend();
    this.update();
    this.camera.look(this.eye(), this.shape());
    new ResizeObserver(() => {
      if (!this.camera.moved) this.camera.fit(this.shape());
      this.redraw();
    }).observe(byId("stage"));
  }

  get kind() {
    return this.kinds[this.state.kind];
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
      this.lists[name] = this.list(name, values, this.state[name], (i) => {
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
    values.forEach((value) => make("option", select, value));
    select.selectedIndex = start;
    select.addEventListener("change", () => chosen(select.selectedIndex));
    return select;
  }

  // To a query that was clicked: it is in sight, so the camera stays.
  go(query) {
    this.state.query = query;
    if (this.lists.query) this.lists.query.selectedIndex = query;
    this.update();
  }

  // A button a branch, which shows or hides it.
  legend() {
    if (!meta.anchors.length) return;
    const branches = new Map(this.kinds.filter((kind) => !kind.painted).flatMap((kind) => kind.branches).map((b) => [b.name, b]));
    this.buttons = [...branches.values()].map((branch) => {
      const button = drawName(byId("legend"), "button", css(branch.colour), branch.name);
      button.type = "button";
      button.setAttribute("aria-pressed", "true");
      button.addEventListener("click", () => {
        if (!this.off.delete(branch.name)) this.off.add(branch.name);
        button.setAttribute("aria-pressed", String(!this.off.has(branch.name)));
        this.update();
      });
      return { button, name: branch.name };
    });
    drawName(byId("legend"), "span", css(meta.queryColour), "query");
    if (!meta.rings || meta.anchors.length < 2) return;
    const ring = drawName(byId("legend"), "span", "", "other queries: click one");
    ring.firstChild.className = "ring";
    ring.firstChild.style.borderColor = css(meta.queryColour);
  }

  // Everything that depends on the choices: words, bar, dots and paint.
  update() {
    const { kind } = this, view = kind.view(this.state), words = kind.words[view], levels = kind.levels(view);
    for (const [name, select] of Object.entries(this.lists)) select.disabled = name !== "kind" && !kind.varies.includes(name);
    for (const { button, name } of this.buttons || []) button.hidden = kind.painted || !kind.branches.some((b) => b.name === name);
    this.panels.forEach((panel, i) => {
      panel.section.hidden = i >= kind.headings.length;
      if (panel.section.hidden) return;
      panel.heading.textContent = kind.headings[i];
      panel.caption.textContent = words.captions[i];
      if (kind.painted) this.paint(i, levels.subarray(i * meta.points, (i + 1) * meta.points));
      else {
        this.renderer.setGrey(i);
        this.renderer.setDots(i, ...this.reads(levels, i));
      }
      if (meta.anchors.length) this.renderer.setMarks(i, this.marks());
    });
    byId("footer").textContent = words.footer;
    byId("bar").replaceChildren();
    if (words.bar) drawBar(byId("bar"), kind.ramps, words.bar.label, words.bar.ticks);
    this.redraw();
  }

  // The query itself, all points of a region, and rings on the others.
  marks() {
    const { query = 0 } = this.state, tint = unit(meta.queryColour), anchor = meta.anchors[query];
    const marks = [{ points: Uint32Array.of(anchor), tint, onTop: true, size: 1 }];
    if (this.members[query].length > 1) marks.push({ points: this.members[query], tint, radius: 1.1 * meta.radii.clear });
    const others = meta.anchors.filter((point) => point !== anchor);
    if (meta.rings && others.length) marks.push({ points: Uint32Array.from(others), tint, ring: true, size: 0.9 });
    return marks;
  }

  // Colours and radii of a panel: a point read by several branches is drawn for the first of them.
  reads(levels, last) {
    const { branches, ramps, bits } = this.kind, n = meta.points, tints = new Uint8Array(3 * n), radii = new Float32Array(n);
    if (!meta.faces) {
      tints.set(Uint8Array.from({ length: 3 * n }, (_, i) => meta.surface[i % 3]));
      radii.fill(meta.radii.faint);
    }
    for (let b = last; b >= 0; b--) {
      const branch = branches[b], size = branch.faint ? meta.radii.faint : meta.radii.clear;
      if (this.off.has(branch.name)) continue;
      for (let p = 0; p < n; p++) {
        const level = levels[b * n + p];
        if (!level) continue;
        radii[p] = bits ? size : size * (0.6 + level / 640);
        for (let c = 0; c < 3; c++) tints[3 * p + c] = bits ? branch.colour[c] : ramps[b][3 * level + c];
      }
    }
    return [tints, radii];
  }

  paint(panel, levels) {
    const [ramp] = this.kind.ramps;
    if (meta.faces) {
      this.renderer.hideDots(panel);
      this.renderer.setLevels(panel, levels, ramp);
    } else this.renderer.setDots(panel, coloured(levels, ramp), meta.radii.clear);
  }

  // Where the panels lie on the canvas, in pixels.
  boxes() {
    const canvas = byId("canvas").getBoundingClientRect();
    return this.panels.filter(({ section }) => !section.hidden).map(({ view }) => {
      const box = view.getBoundingClientRect();
      return { left: box.left - canvas.left, top: box.top - canvas.top, width: box.width, height: box.height };
    });
  }

  redraw() {
    if (this.queued) return;
    this.queued = true;
    requestAnimationFrame(() => {
      this.queued = false;
      this.renderer.draw(this.boxes(), this.camera);
      document.body.dataset.drawn = String(Number(document.body.dataset.drawn || 0) + 1);
    });
  }
}

unpack().then((data) => new Page(data)).catch((error) => {
  byId("problem").hidden = false;
  byId("problem").textContent = `This picture could not be drawn. ${error.message}`;
});
