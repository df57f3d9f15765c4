// The surface as a panel sees it, pixel by pixel: which triangle or dot, where in it, how lit and how far. With that kept,
// another paint costs pixels and not triangles, and all panels share it. Edges are not smoothed.

const WIDE = 2048; // pixels of a row of the textures that hold a number for each point or triangle
const FETCH = `
precision highp float;
precision highp int;
precision highp sampler2D;
precision highp usampler2D;
ivec2 at(uint i) { return ivec2(int(i) % ${WIDE}, int(i) / ${WIDE}); }`;

const SEEN_VERTEX = `#version 300 es
${FETCH}
layout(location = 0) in uint corner;
uniform sampler2D places, normals;
uniform mat4 view, projection;
out vec3 seen, across;
out vec2 within;
flat out uint found;
void main() {
  vec4 p = view * vec4(texelFetch(places, at(corner), 0).xyz, 1.0);
  seen = p.xyz;
  across = mat3(view) * texelFetch(normals, at(corner), 0).xyz;
  within = vec2(gl_VertexID % 3 == 0, gl_VertexID % 3 == 1);
  found = uint(gl_VertexID / 3) + 1u;
  gl_Position = projection * p;
}`;

const SEEN_FRAGMENT = `#version 300 es
precision highp float;
precision highp int;
in vec3 seen, across;
in vec2 within;
flat in uint found;
out uvec4 kept;
${LIGHT}
${FACING}
void main() {
  kept = uvec4(found, packUnorm2x16(within), floatBitsToUint(light(facing(seen, across))), floatBitsToUint(gl_FragCoord.z));
}`;

const SEEN_DOT_VERTEX = `#version 300 es
${FETCH}
uniform sampler2D places;
uniform mat4 view, projection;
uniform float height, radius;
out float z, r;
flat out uint found;
void main() {
  vec4 p = view * vec4(texelFetch(places, at(uint(gl_VertexID)), 0).xyz, 1.0);
  z = p.z;
  r = radius;
  found = uint(gl_VertexID) + 1u;
  gl_Position = projection * p;
  gl_PointSize = radius * projection[1][1] * height / -p.z + 1.0;
}`;

const SEEN_DOT_FRAGMENT = `#version 300 es
precision highp float;
precision highp int;
in float z, r;
flat in uint found;
uniform mat4 projection;
out uvec4 kept;
${LIGHT}
${BALL}
void main() {
  vec4 n = ball(z, r, projection);
  gl_FragDepth = n.w;
  kept = uvec4(found, packUnorm2x16(vec2(1.0, 0.0)), floatBitsToUint(light(n.xyz)), floatBitsToUint(n.w));
}`;

const PAINT_VERTEX = `#version 300 es
void main() {
  gl_Position = vec4(vec2(gl_VertexID % 2, gl_VertexID / 2) * 4.0 - 1.0, 0.0, 1.0);
}`;

const PAINT_FRAGMENT = `#version 300 es
${FETCH}
uniform usampler2D seen, corners;
uniform sampler2D values, ramp;
uniform vec3 grey;
uniform vec2 origin;
uniform float paint, dots;
out vec4 colour;
${SHADE}
vec3 tint(uint i) { return texelFetch(values, at(i), 0).rgb; }
void main() {
  uvec4 kept = texelFetch(seen, ivec2(gl_FragCoord.xy - origin), 0);
  if (kept.x == 0u) discard;
  gl_FragDepth = uintBitsToFloat(kept.w);
  float lit = uintBitsToFloat(kept.z);
  uvec3 of = dots > 0.0 ? uvec3(kept.x - 1u) : texelFetch(corners, at(kept.x - 1u), 0).xyz;
  vec3 share = vec3(unpackUnorm2x16(kept.y), 0.0);
  share.z = max(1.0 - share.x - share.y, 0.0);
  vec3 own = paint > 0.0 ? mat3(tint(of.x), tint(of.y), tint(of.z)) * share : grey;
  vec3 levels = vec3(tint(of.x).r, tint(of.y).r, tint(of.z).r), some = vec3(greaterThan(levels, vec3(0.0)));
  colour = vec4(dots > 0.0 ? own * (0.5 + 0.6 * lit) : shaded(vec2(dot(levels, share), dot(some, share)), own, lit), 1.0);
}`;

class Seen {
  // renderer: whose surface, panels and programs these are.
  constructor(renderer) {
    const gl = renderer.gl;
    Object.assign(this, { renderer, gl, of: null });
    this.mesh = this.program(SEEN_VERTEX, SEEN_FRAGMENT, ["places", "normals"]);
    this.cloud = this.program(SEEN_DOT_VERTEX, SEEN_DOT_FRAGMENT, ["places"]);
    this.paint = this.program(PAINT_VERTEX, PAINT_FRAGMENT, ["seen", "corners", "values", "ramp"]);
    for (const name of ["places", "normals", "corners", "kept"]) this[name] = gl.createTexture();
    [this.frame, this.depth] = [gl.createFramebuffer(), gl.createRenderbuffer()];
    [this.corner, this.array, this.none] = [gl.createBuffer(), gl.createVertexArray(), gl.createVertexArray()];
    gl.bindVertexArray(this.array);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.corner);
    gl.enableVertexAttribArray(0);
    gl.vertexAttribIPointer(0, 1, gl.UNSIGNED_INT, 0, 0);
    gl.bindVertexArray(null);
  }

  program(vertex, fragment, samplers) {
    const gl = this.gl, program = this.renderer.program(vertex, fragment);
    gl.useProgram(program);
    samplers.forEach((name, unit) => gl.uniform1i(gl.getUniformLocation(program, name), unit));
    return program;
  }

  setSurface(positions, normals, triangles) {
    const gl = this.gl;
    this.of = null;
    this.fill(this.places, gl.RGB32F, gl.RGB, gl.FLOAT, positions, 3);
    if (!triangles.length) return;
    this.fill(this.normals, gl.RGB32F, gl.RGB, gl.FLOAT, normals, 3);
    this.fill(this.corners, gl.RGB32UI, gl.RGB_INTEGER, gl.UNSIGNED_INT, triangles, 3);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.corner);
    gl.bufferData(gl.ARRAY_BUFFER, triangles, gl.STATIC_DRAW);
  }

  // What a panel is painted with: a byte (levels) or three (tints) a point.
  setValues(panel, values, each) {
    const gl = this.gl;
    panel.values ??= gl.createTexture();
    if (each === 1) this.fill(panel.values, gl.R8, gl.RED, gl.UNSIGNED_BYTE, values, 1);
    else this.fill(panel.values, gl.RGB8, gl.RGB, gl.UNSIGNED_BYTE, values, 3);
  }

  fill(texture, inside, format, type, data, each) {
    const gl = this.gl, rows = Math.ceil(data.length / each / WIDE), padded = new data.constructor(rows * WIDE * each);
    padded.set(data);
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.texImage2D(gl.TEXTURE_2D, 0, inside, WIDE, rows, 0, format, type, padded);
    this.nearest();
  }

  nearest() {
    const gl = this.gl;
    for (const name of ["MIN_FILTER", "MAG_FILTER"]) gl.texParameteri(gl.TEXTURE_2D, gl["TEXTURE_" + name], gl.NEAREST);
  }

  // Look anew where the camera or the size (width, height in pixels of the screen) is another.
  look(matrices, width, height, radius) {
    const gl = this.gl, renderer = this.renderer, of = [width, height, radius, ...matrices.view, ...matrices.projection].join();
    if (of === this.of) return;
    this.of = of;
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.frame);
    this.resize(width, height);
    gl.viewport(0, 0, width, height);
    gl.scissor(0, 0, width, height);
    gl.clearBufferuiv(gl.COLOR, 0, [0, 0, 0, 0]);
    gl.clearBufferfv(gl.DEPTH, 0, [1]);
    this.bind(this.places, this.normals);
    if (renderer.corners) {
      renderer.use(this.mesh, matrices);
      gl.bindVertexArray(this.array);
      gl.drawArrays(gl.TRIANGLES, 0, renderer.corners);
    } else {
      renderer.use(this.cloud, { ...matrices, height, radius });
      gl.bindVertexArray(this.none);
      gl.drawArrays(gl.POINTS, 0, renderer.points);
    }
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
  }

  resize(width, height) {
    if (this.width === width && this.height === height) return;
    const gl = this.gl;
    Object.assign(this, { width, height });
    gl.bindTexture(gl.TEXTURE_2D, this.kept);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA32UI, width, height, 0, gl.RGBA_INTEGER, gl.UNSIGNED_INT, null);
    this.nearest();
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, this.kept, 0);
    gl.bindRenderbuffer(gl.RENDERBUFFER, this.depth);
    gl.renderbufferStorage(gl.RENDERBUFFER, gl.DEPTH_COMPONENT24, width, height);
    gl.framebufferRenderbuffer(gl.FRAMEBUFFER, gl.DEPTH_ATTACHMENT, gl.RENDERBUFFER, this.depth);
  }

  // Draw a panel whose lower left pixel is `origin`; colour and depth are as if the surface itself had been drawn.
  draw(panel, origin) {
    const gl = this.gl, { grey, corners } = this.renderer, painted = corners ? panel.paint : 2;
    this.renderer.use(this.paint, { grey, paint: painted, dots: corners ? 0 : 1 });
    gl.uniform2fv(this.paint.places.origin ??= gl.getUniformLocation(this.paint, "origin"), origin);
    this.bind(this.kept, this.corners, painted ? panel.values : null, panel.ramp);
    gl.bindVertexArray(this.none);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }

  bind(...textures) {
    const gl = this.gl;
    textures.forEach((texture, unit) => {
      gl.activeTexture(gl.TEXTURE0 + unit);
      gl.bindTexture(gl.TEXTURE_2D, texture);
    });
    gl.activeTexture(gl.TEXTURE0);
  }
}
