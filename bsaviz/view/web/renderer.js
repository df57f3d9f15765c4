// Draws the car once per panel: a lit surface, round dots with depth, and a query marker that nothing hides.

const SURFACE_VERTEX = `#version 300 es
layout(location = 0) in vec3 position;
layout(location = 1) in vec3 normal;
layout(location = 2) in float level;
layout(location = 3) in vec3 tint;
uniform mat4 view, projection;
out vec3 seen, across, own;
out vec2 shade;
void main() {
  vec4 p = view * vec4(position, 1.0);
  seen = p.xyz;
  across = mat3(view) * normal;
  shade = vec2(level, level > 0.0 ? 1.0 : 0.0);
  own = tint;
  gl_Position = projection * p;
}`;

const LIGHT = `
float light(vec3 n) {
  return 0.75 * max(dot(n, normalize(vec3(-0.5, 0.9, 1.0))), 0.0)
    + 0.25 * max(dot(n, normalize(vec3(0.9, 0.1, 0.6))), 0.0) + 0.12 * max(dot(n, normalize(vec3(0.0, -0.8, 0.4))), 0.0);
}`;

// The smooth normal, turned to the eye; at a sharp edge the triangle's own.
const FACING = `
vec3 facing(vec3 seen, vec3 across) {
  vec3 flatNormal = normalize(cross(dFdx(seen), dFdy(seen)));
  vec3 n = normalize(across);
  n = dot(n, flatNormal) < 0.0 ? -n : n;
  return dot(n, flatNormal) < 0.6 ? flatNormal : n;
}`;

// Level 0 is no value: values next to such a point keep theirs up to half way. shade: the mean level, and the share of it
// that has a value.
const SHADE = `
vec3 shaded(vec2 shade, vec3 own, float lit) {
  float level = shade.y < 0.5 ? 0.0 : shade.x / shade.y;
  vec3 base = paint == 1.0 ? texture(ramp, vec2((level * 255.0 + 0.5) / 256.0, 0.5)).rgb : paint == 2.0 ? own : grey;
  return base * (paint > 0.0 ? 0.62 + 0.42 * lit : 0.42 + 0.72 * lit);
}`;

const SURFACE_FRAGMENT = `#version 300 es
precision highp float;
in vec3 seen, across, own;
in vec2 shade;
uniform sampler2D ramp;
uniform vec3 grey;
uniform float paint;
out vec4 colour;
${LIGHT}
${FACING}
${SHADE}
void main() {
  colour = vec4(shaded(shade, own, light(facing(seen, across))), 1.0);
}`;

const DOT_VERTEX = `#version 300 es
layout(location = 0) in vec3 position;
layout(location = 1) in vec3 tint;
layout(location = 2) in float radius;
uniform mat4 view, projection;
uniform float height;
out vec3 base;
out float z, r;
void main() {
  vec4 p = view * vec4(position, 1.0);
  z = p.z;
  r = radius;
  base = tint;
  gl_Position = radius > 0.0 ? projection * p : vec4(2.0, 2.0, 2.0, 1.0);
  gl_PointSize = radius * projection[1][1] * height / -p.z + 1.0;
}`;

// Normal and depth of a ball of radius r, z before the eye, at this pixel of its square; nothing outside its circle.
const BALL = `
vec4 ball(float z, float r, mat4 projection) {
  vec2 at = vec2(2.0, -2.0) * (gl_PointCoord - 0.5);
  float d = dot(at, at);
  if (d > 1.0) discard;
  vec3 n = vec3(at, sqrt(1.0 - d));
  float depth = z + r * n.z;
  return vec4(n, 0.5 - 0.5 * (projection[2][2] * depth + projection[3][2]) / depth);
}`;

const DOT_FRAGMENT = `#version 300 es
precision highp float;
in vec3 base;
in float z, r;
uniform mat4 projection;
out vec4 colour;
${LIGHT}
${BALL}
void main() {
  vec4 n = ball(z, r, projection);
  gl_FragDepth = n.w;
  colour = vec4(base * (0.5 + 0.6 * light(n.xyz)), 1.0);
}`;

const MARK_VERTEX = `#version 300 es
layout(location = 0) in vec3 position;
uniform mat4 view, projection;
uniform float size, height, hollow;
void main() {
  vec4 p = view * vec4(position, 1.0);
  p.xyz *= 1.0 - 2.0 * hollow * size / (projection[1][1] * height); // a ring clears a slanted surface
  gl_Position = projection * p;
  gl_PointSize = size;
}`;

const MARK_FRAGMENT = `#version 300 es
precision highp float;
uniform vec3 tint;
uniform float hollow;
out vec4 colour;
void main() {
  float d = 3.0 * length(gl_PointCoord - 0.5);
  if (d > 1.5 || d < 0.62 * hollow) discard;
  vec3 edge = hollow > 0.0 ? vec3(1.0) : vec3(0.13);
  colour = vec4(d > 1.32 ? edge : d > 1.0 + 0.32 * hollow ? vec3(1.0) : tint, 1.0);
}`;

const [GREY, LEVELS, TINTS] = [0, 1, 2];
const [PLACE, NORMAL, LEVEL, TINT] = [0, 1, 2, 3];

class Renderer {
  // panels: how many pictures of the surface; grey: its colour (3) from 0 to 1 where nothing is painted; background: the
  // same behind it, or null to let the page's own show through. quick: pictures may also be drawn with edges that are not
  // smoothed (`Seen`, `Samples`), which needs the page's own background and dots of one size.
  constructor(canvas, panels, { grey, background = [1, 1, 1], quick = false }) {
    const gl = canvas.getContext("webgl2", { antialias: !quick, alpha: !background });
    if (!gl) throw new Error("This browser offers no WebGL 2, which the 3D view needs.");
    Object.assign(this, { gl, canvas, grey, points: 0, corners: 0, hover: null });
    this.surface = this.program(SURFACE_VERTEX, SURFACE_FRAGMENT);
    this.dots = this.program(DOT_VERTEX, DOT_FRAGMENT);
    this.mark = this.program(MARK_VERTEX, MARK_FRAGMENT);
    [this.place, this.normal, this.index] = [gl.createBuffer(), gl.createBuffer(), gl.createBuffer()];
    this.panels = Array.from({ length: panels }, () => this.panel());
    [this.seen, this.samples] = quick ? [new Seen(this), new Samples(gl)] : [null, null];
    gl.enable(gl.DEPTH_TEST);
    gl.enable(gl.SCISSOR_TEST);
    gl.clearColor(...(background ? [...background, 1] : [0, 0, 0, 0]));
  }

  // What one panel has of its own. All share the geometry.
  panel() {
    const gl = this.gl, panel = { paint: GREY, dots: false, marks: [] };
    for (const name of ["levels", "tints", "dotTints", "dotRadii"]) panel[name] = gl.createBuffer();
    panel.ramp = gl.createTexture();
    for (const name of ["mesh", "cloud", "marked"]) panel[name] = gl.createVertexArray();
    gl.bindVertexArray(panel.mesh);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, this.index);
    this.attribute(PLACE, this.place, 3, gl.FLOAT);
    this.attribute(NORMAL, this.normal, 3, gl.FLOAT);
    for (const name of ["cloud", "marked"]) {
      gl.bindVertexArray(panel[name]);
      this.attribute(PLACE, this.place, 3, gl.FLOAT);
    }
    gl.bindVertexArray(null);
    return panel;
  }

  // positions (3P) and triangles (3F) are typed arrays; what the panels showed before is gone.
  setSurface(positions, triangles) {
    const gl = this.gl;
    Object.assign(this, { points: positions.length / 3, corners: triangles.length, hover: null });
    const normals = vertexNormals(positions, triangles);
    this.fill(this.place, positions);
    this.fill(this.normal, normals);
    if (this.seen) this.seen.setSurface(positions, normals, triangles);
    gl.bindVertexArray(null);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, this.index);
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, triangles, gl.STATIC_DRAW);
    this.panels.forEach((panel, i) => {
      panel.dots = false;
      this.setGrey(i);
      this.setMarks(i, []);
    });
  }

  setGrey(panel) {
    this.paint(panel, GREY);
  }

  // Surface painted with levels (P) uint8 along ramp (768) uint8 colours; level 0 is no value.
  setLevels(panel, levels, ramp) {
    const gl = this.gl, mine = this.panels[panel];
    this.paint(panel, LEVELS, levels, mine.levels);
    gl.bindTexture(gl.TEXTURE_2D, mine.ramp);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGB8, 256, 1, 0, gl.RGB, gl.UNSIGNED_BYTE, ramp);
    for (const name of ["MIN_FILTER", "MAG_FILTER"]) gl.texParameteri(gl.TEXTURE_2D, gl["TEXTURE_" + name], gl.LINEAR);
    for (const name of ["WRAP_S", "WRAP_T"]) gl.texParameteri(gl.TEXTURE_2D, gl["TEXTURE_" + name], gl.CLAMP_TO_EDGE);
  }

  // Surface painted with a colour a point, tints (3P) uint8.
  setTints(panel, tints) {
    this.paint(panel, TINTS, tints, this.panels[panel].tints);
  }

  paint(panel, kind, data, buffer) {
    const gl = this.gl, mine = this.panels[panel];
    mine.paint = kind;
    if (this.seen && data) this.seen.setValues(mine, data, kind === LEVELS ? 1 : 3);
    gl.bindVertexArray(mine.mesh);
    if (kind === LEVELS) this.attribute(LEVEL, buffer, 1, gl.UNSIGNED_BYTE, data);
    else gl.disableVertexAttribArray(LEVEL);
    if (kind === TINTS) this.attribute(TINT, buffer, 3, gl.UNSIGNED_BYTE, data);
    else gl.disableVertexAttribArray(TINT);
    gl.bindVertexArray(null);
  }

  // Round dots on the points: tints (3P) uint8 and radii (P) float32, where 0 draws nothing, or one radius for all.
  setDots(panel, tints, radii) {
    const gl = this.gl, mine = this.panels[panel];
    mine.dots = true;
    mine.radius = radii;
    if (this.seen) this.seen.setValues(mine, tints, 3);
    gl.bindVertexArray(mine.cloud);
    this.attribute(1, mine.dotTints, 3, gl.UNSIGNED_BYTE, tints);
    if (typeof radii === "number") gl.disableVertexAttribArray(2);
    else this.attribute(2, mine.dotRadii, 1, gl.FLOAT, radii);
    gl.bindVertexArray(null);
  }

  hideDots(panel) {
    this.panels[panel].dots = false;
  }

  // Marks of a panel: {points (k) uint32, tint (3) from 0 to 1, radius} are round dots; with onTop they are ringed discs
  // that nothing hides, of `size` times the usual, and with ring rings of that size, which the surface does hide.
  setMarks(panel, marks) {
    const gl = this.gl, mine = this.panels[panel];
    for (const mark of mine.marks) gl.deleteBuffer(mark.index);
    mine.marks = marks.map((mark) => ({ ...mark, index: gl.createBuffer(), count: mark.points.length }));
    gl.bindVertexArray(null);
    for (const mark of mine.marks) {
      gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, mark.index);
      gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, mark.points, gl.DYNAMIC_DRAW);
    }
  }

  // boxes are {left, top, width, height} in pixels of the page within the canvas. smooth: whether edges are, which takes
  // longer.
  draw(boxes, camera, smooth = true) {
    const gl = this.gl, ratio = Math.min(window.devicePixelRatio || 1, 2);
    const width = Math.round(this.canvas.clientWidth * ratio), height = Math.round(this.canvas.clientHeight * ratio);
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    const frames = boxes.map((box) => this.frame(box, height, ratio));
    const matrices = boxes.map((box) => camera.matrices(box.width / box.height));
    if (this.seen && !smooth) this.seen.look(matrices[0], frames[0][2], frames[0][3], this.panels[0].radius || 0);
    if (this.samples && smooth) this.samples.begin(width, height);
    gl.scissor(0, 0, width, height);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    frames.forEach((frame, i) => {
      gl.viewport(...frame);
      gl.scissor(...frame);
      if (this.seen && !smooth) this.seen.draw(this.panels[i], frame.slice(0, 2));
      else this.drawBody(this.panels[i], matrices[i], frame[3]);
      this.drawMarks(i, matrices[i], frame[3], ratio);
    });
    gl.bindVertexArray(null);
    gl.scissor(0, 0, width, height);
    if (this.samples && smooth) this.samples.end();
  }

  // Left, bottom, width and height of a box in pixels of the screen.
  frame(box, height, ratio) {
    return [box.left * ratio, height - (box.top + box.height) * ratio, box.width * ratio, box.height * ratio].map(Math.round);
  }

  // Call `then` once all that was asked for has been drawn; nothing waits for it.
  whenDone(then) {
    const gl = this.gl, fence = gl.fenceSync(gl.SYNC_GPU_COMMANDS_COMPLETE, 0);
    gl.flush();
    const look = () => {
      if (gl.isContextLost()) return;
      if (gl.getSyncParameter(fence, gl.SYNC_STATUS) !== gl.SIGNALED) return void setTimeout(look, 2);
      gl.deleteSync(fence);
      then();
    };
    setTimeout(look);
  }

  drawBody(panel, matrices, height) {
    const gl = this.gl;
    if (this.corners) {
      this.use(this.surface, { ...matrices, grey: this.grey, paint: panel.paint });
      gl.bindTexture(gl.TEXTURE_2D, panel.ramp);
      gl.bindVertexArray(panel.mesh);
      gl.drawElements(gl.TRIANGLES, this.corners, gl.UNSIGNED_INT, 0);
    }
    if (panel.dots) {
      this.use(this.dots, { ...matrices, height });
      gl.bindVertexArray(panel.cloud);
      if (typeof panel.radius === "number") gl.vertexAttrib1f(2, panel.radius);
      gl.drawArrays(gl.POINTS, 0, this.points);
    }
  }

  drawMarks(i, matrices, height, ratio) {
    const gl = this.gl, panel = this.panels[i];
    this.use(this.dots, { ...matrices, height });
    gl.bindVertexArray(panel.marked);
    for (const mark of panel.marks.filter((mark) => !mark.onTop && !mark.ring)) {
      gl.vertexAttrib3f(1, ...mark.tint);
      gl.vertexAttrib1f(2, mark.radius);
      this.drawMark(mark);
    }
    const disc = { ...matrices, height, hollow: 0 }, usual = Math.max(0.04 * height, 13 * ratio);
    for (const mark of panel.marks.filter((mark) => mark.ring)) {
      this.use(this.mark, { ...disc, hollow: 1, tint: mark.tint, size: mark.size * usual });
      this.drawMark(mark);
    }
    gl.disable(gl.DEPTH_TEST);
    for (const mark of panel.marks.filter((mark) => mark.onTop)) {
      this.use(this.mark, { ...disc, tint: mark.tint, size: mark.size * usual });
      this.drawMark(mark);
    }
    if (this.hover && this.hover.panel === i) {
      this.use(this.mark, { ...disc, tint: [1, 1, 1], size: Math.max(0.03 * height, 10 * ratio) });
      gl.drawArrays(gl.POINTS, this.hover.point, 1);
    }
    gl.enable(gl.DEPTH_TEST);
  }

  drawMark(mark) {
    this.gl.bindBuffer(this.gl.ELEMENT_ARRAY_BUFFER, mark.index);
    this.gl.drawElements(this.gl.POINTS, mark.count, this.gl.UNSIGNED_INT, 0);
  }

  // Give the graphics memory back at once; browsers allow few contexts.
  free() {
    const lose = this.gl.getExtension("WEBGL_lose_context");
    if (lose) lose.loseContext();
  }

  use(program, uniforms) {
    const gl = this.gl;
    gl.useProgram(program);
    for (const [name, value] of Object.entries(uniforms)) {
      const at = (program.places[name] ??= gl.getUniformLocation(program, name)); // asking each time is slow
      if (typeof value === "number") gl.uniform1f(at, value);
      else if (value.length === 3) gl.uniform3fv(at, value);
      else gl.uniformMatrix4fv(at, false, value);
    }
  }

  program(vertex, fragment) {
    const gl = this.gl, program = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    program.places = {};
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error("A shader failed: " + gl.getProgramInfoLog(program));
    return program;
  }

  fill(buffer, data) {
    this.gl.bindBuffer(this.gl.ARRAY_BUFFER, buffer);
    this.gl.bufferData(this.gl.ARRAY_BUFFER, data, this.gl.DYNAMIC_DRAW);
  }

  // Bind a buffer, filled with `data` if any is given, to a location of the bound vertex array.
  attribute(location, buffer, size, type, data) {
    const gl = this.gl;
    if (data) this.fill(buffer, data);
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    gl.enableVertexAttribArray(location);
    gl.vertexAttribPointer(location, size, type, type === gl.UNSIGNED_BYTE, 0, 0);
  }
}

// Sum of the triangles' normals at every point, weighted by area.
function vertexNormals(p, triangles) {
  const out = new Float32Array(p.length);
  for (let t = 0; t < triangles.length; t += 3) {
    const [a, b, c] = [3 * triangles[t], 3 * triangles[t + 1], 3 * triangles[t + 2]];
    const u = [p[b] - p[a], p[b + 1] - p[a + 1], p[b + 2] - p[a + 2]], v = [p[c] - p[a], p[c + 1] - p[a + 1], p[c + 2] - p[a + 2]];
    const n = [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
    for (const corner of [a, b, c]) for (let k = 0; k < 3; k++) out[corner + k] += n[k];
  }
  return out;
}

// Colours (3P) of levels (P) along a ramp.
function coloured(levels, ramp) {
  const out = new Uint8Array(3 * levels.length);
  for (let i = 0; i < out.length; i++) out[i] = ramp[3 * levels[(i / 3) | 0] + (i % 3)];
  return out;
}
