// Draws the car once per panel: a lit surface, round dots with depth, and a query marker that nothing hides.

const SURFACE_VERTEX = `#version 300 es
layout(location = 0) in vec3 position;
layout(location = 1) in vec3 normal;
layout(location = 2) in float level;
uniform mat4 view, projection;
out vec3 seen, across;
out float shade;
void main() {
  vec4 p = view * vec4(position, 1.0);
  seen = p.xyz;
  across = mat3(view) * normal;
  shade = level;
  gl_Position = projection * p;
}`;

const LIGHT = `
float light(vec3 n) {
  return 0.75 * max(dot(n, normalize(vec3(-0.5, 0.9, 1.0))), 0.0)
    + 0.25 * max(dot(n, normalize(vec3(0.9, 0.1, 0.6))), 0.0) + 0.12 * max(dot(n, normalize(vec3(0.0, -0.8, 0.4))), 0.0);
}`;

// The smooth normal, turned to the eye; at a sharp edge the triangle's own.
const SURFACE_FRAGMENT = `#version 300 es
precision highp float;
in vec3 seen, across;
in float shade;
uniform sampler2D ramp;
uniform vec3 grey;
uniform bool painted;
out vec4 colour;
${LIGHT}
void main() {
  vec3 flatNormal = normalize(cross(dFdx(seen), dFdy(seen)));
  vec3 n = normalize(across);
  n = dot(n, flatNormal) < 0.0 ? -n : n;
  n = dot(n, flatNormal) < 0.6 ? flatNormal : n;
  vec3 base = painted ? texture(ramp, vec2((shade * 255.0 + 0.5) / 256.0, 0.5)).rgb : grey;
  colour = vec4(base * (painted ? 0.62 + 0.42 * light(n) : 0.42 + 0.72 * light(n)), 1.0);
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

const DOT_FRAGMENT = `#version 300 es
precision highp float;
in vec3 base;
in float z, r;
uniform mat4 projection;
out vec4 colour;
${LIGHT}
void main() {
  vec2 at = vec2(2.0, -2.0) * (gl_PointCoord - 0.5);
  float d = dot(at, at);
  if (d > 1.0) discard;
  vec3 n = vec3(at, sqrt(1.0 - d));
  float depth = z + r * n.z;
  gl_FragDepth = 0.5 - 0.5 * (projection[2][2] * depth + projection[3][2]) / depth;
  colour = vec4(base * (0.5 + 0.6 * light(n)), 1.0);
}`;

const MARK_VERTEX = `#version 300 es
uniform vec3 position;
uniform mat4 view, projection;
uniform float size;
void main() {
  gl_Position = projection * view * vec4(position, 1.0);
  gl_PointSize = size;
}`;

const MARK_FRAGMENT = `#version 300 es
precision highp float;
uniform vec3 tint;
out vec4 colour;
void main() {
  float d = 3.0 * length(gl_PointCoord - 0.5);
  if (d > 1.5) discard;
  colour = vec4(d > 1.32 ? vec3(0.13) : d > 1.0 ? vec3(1.0) : tint, 1.0);
}`;

class Renderer {
  // positions (3P) and triangles (3F) are typed arrays; panels is how many pictures of the car there are.
  constructor(canvas, positions, triangles, panels) {
    const gl = canvas.getContext("webgl2", { antialias: true, alpha: false });
    if (!gl) throw new Error("This browser offers no WebGL 2, which the 3D view needs.");
    this.gl = gl;
    this.canvas = canvas;
    this.points = positions.length / 3;
    this.corners = triangles.length;
    this.surface = this.program(SURFACE_VERTEX, SURFACE_FRAGMENT);
    this.dots = this.program(DOT_VERTEX, DOT_FRAGMENT);
    this.mark = this.program(MARK_VERTEX, MARK_FRAGMENT);
    const place = this.buffer(positions), normal = this.buffer(vertexNormals(positions, triangles));
    const index = gl.createBuffer();
    this.panels = Array.from({ length: panels }, () => {
      const panel = { levels: gl.createBuffer(), tints: gl.createBuffer(), radii: gl.createBuffer(), dots: false, painted: false };
      panel.mesh = gl.createVertexArray();
      gl.bindVertexArray(panel.mesh);
      gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, index);
      this.attribute(0, place, 3, gl.FLOAT);
      this.attribute(1, normal, 3, gl.FLOAT);
      this.attribute(2, panel.levels, 1, gl.UNSIGNED_BYTE);
      panel.cloud = gl.createVertexArray();
      gl.bindVertexArray(panel.cloud);
      this.attribute(0, place, 3, gl.FLOAT);
      this.attribute(1, panel.tints, 3, gl.UNSIGNED_BYTE);
      this.attribute(2, panel.radii, 1, gl.FLOAT);
      gl.bindVertexArray(null);
      return panel;
    });
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, index);
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, triangles, gl.STATIC_DRAW);
    this.ramp = gl.createTexture();
    this.setRamp(new Uint8Array(768));
    for (const panel of this.panels) this.fill(panel.levels, new Uint8Array(this.points));
    gl.enable(gl.DEPTH_TEST);
    gl.enable(gl.SCISSOR_TEST);
    gl.clearColor(1, 1, 1, 1);
  }

  // Grey surface with dots: tints (3P) uint8 and radii (P) float32, where a radius of 0 draws nothing.
  setDots(panel, tints, radii) {
    this.panels[panel].dots = true;
    this.fill(this.panels[panel].tints, tints);
    this.fill(this.panels[panel].radii, radii);
  }

  // Surface painted with levels (P) uint8 along the ramp.
  setPaint(panel, levels) {
    this.panels[panel].painted = true;
    this.fill(this.panels[panel].levels, levels);
  }

  setRamp(rgb) {
    const gl = this.gl;
    gl.bindTexture(gl.TEXTURE_2D, this.ramp);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGB8, 256, 1, 0, gl.RGB, gl.UNSIGNED_BYTE, rgb);
    for (const name of ["MIN_FILTER", "MAG_FILTER"]) gl.texParameteri(gl.TEXTURE_2D, gl["TEXTURE_" + name], gl.LINEAR);
    for (const name of ["WRAP_S", "WRAP_T"]) gl.texParameteri(gl.TEXTURE_2D, gl["TEXTURE_" + name], gl.CLAMP_TO_EDGE);
  }

  // boxes are {left, top, width, height} in pixels of the page within the canvas; look is {grey, mark: {position, tint} or null}.
  draw(boxes, camera, look) {
    const gl = this.gl, ratio = Math.min(window.devicePixelRatio || 1, 2);
    const width = Math.round(this.canvas.clientWidth * ratio), height = Math.round(this.canvas.clientHeight * ratio);
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    gl.scissor(0, 0, width, height);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    boxes.forEach((box, i) => {
      const panel = this.panels[i], h = box.height * ratio;
      const frame = [box.left * ratio, height - box.top * ratio - h, box.width * ratio, h].map(Math.round);
      gl.viewport(...frame);
      gl.scissor(...frame);
      const { view, projection } = camera.matrices(box.width / box.height);
      if (this.corners) {
        this.use(this.surface, { view, projection, grey: look.grey, painted: panel.painted });
        gl.bindVertexArray(panel.mesh);
        gl.drawElements(gl.TRIANGLES, this.corners, gl.UNSIGNED_INT, 0);
      }
      if (panel.dots) {
        this.use(this.dots, { view, projection, height: h });
        gl.bindVertexArray(panel.cloud);
        gl.drawArrays(gl.POINTS, 0, this.points);
      }
      if (look.mark) {
        gl.disable(gl.DEPTH_TEST);
        this.use(this.mark, { view, projection, ...look.mark, size: Math.max(0.04 * h, 13 * ratio) });
        gl.drawArrays(gl.POINTS, 0, 1);
        gl.enable(gl.DEPTH_TEST);
      }
      gl.bindVertexArray(null);
    });
  }

  use(program, uniforms) {
    const gl = this.gl;
    gl.useProgram(program);
    for (const [name, value] of Object.entries(uniforms)) {
      const at = gl.getUniformLocation(program, name);
      if (typeof value === "number") gl.uniform1f(at, value);
      else if (typeof value === "boolean") gl.uniform1i(at, value ? 1 : 0);
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
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error("A shader failed: " + gl.getProgramInfoLog(program));
    return program;
  }

  buffer(data) {
    const buffer = this.gl.createBuffer();
    this.fill(buffer, data);
    return buffer;
  }

  fill(buffer, data) {
    this.gl.bindBuffer(this.gl.ARRAY_BUFFER, buffer);
    this.gl.bufferData(this.gl.ARRAY_BUFFER, data, this.gl.DYNAMIC_DRAW);
  }

  attribute(location, buffer, size, type) {
    this.gl.bindBuffer(this.gl.ARRAY_BUFFER, buffer);
    this.gl.enableVertexAttribArray(location);
    this.gl.vertexAttribPointer(location, size, type, type === this.gl.UNSIGNED_BYTE, 0, 0);
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
