// Which point lies under the pointer, found from the geometry itself: the surface or nearer points hide those behind.

const NEAR = 8; // pixels: in a cloud, a click this close to a dot still means it

// ray: {from, along} with a unit `along`. Index of the corner nearest to where the ray first meets a triangle, or -1.
function pickSurface(p, triangles, { from, along }) {
  const [ox, oy, oz] = from, [dx, dy, dz] = along;
  let nearest = Infinity, hit = -1;
  for (let t = 0; t < triangles.length; t += 3) {
    const a = 3 * triangles[t], b = 3 * triangles[t + 1], c = 3 * triangles[t + 2];
    const ux = p[b] - p[a], uy = p[b + 1] - p[a + 1], uz = p[b + 2] - p[a + 2];
    const vx = p[c] - p[a], vy = p[c + 1] - p[a + 1], vz = p[c + 2] - p[a + 2];
    const hx = dy * vz - dz * vy, hy = dz * vx - dx * vz, hz = dx * vy - dy * vx;
    const volume = ux * hx + uy * hy + uz * hz;
    if (volume === 0) continue;
    const sx = ox - p[a], sy = oy - p[a + 1], sz = oz - p[a + 2];
    const first = (sx * hx + sy * hy + sz * hz) / volume;
    if (!(first >= 0 && first <= 1)) continue;
    const qx = sy * uz - sz * uy, qy = sz * ux - sx * uz, qz = sx * uy - sy * ux;
    const second = (dx * qx + dy * qy + dz * qz) / volume;
    if (!(second >= 0 && first + second <= 1)) continue;
    const distance = (vx * qx + vy * qy + vz * qz) / volume;
    if (distance > 0 && distance < nearest) [nearest, hit] = [distance, t];
  }
  if (hit < 0) return -1;
  const spot = from.map((v, k) => v + nearest * along[k]);
  const corners = [...triangles.subarray(hit, hit + 3)];
  const away = corners.map((i) => Math.hypot(spot[0] - p[3 * i], spot[1] - p[3 * i + 1], spot[2] - p[3 * i + 2]));
  return corners[away.indexOf(Math.min(...away))];
}

// The nearest dot that the ray goes through; else the one that passes closest by, within `NEAR` pixels; else -1.
// pixel: the tangent of the angle that one pixel covers.
function pickCloud(p, radius, { from, along }, pixel) {
  let [nearest, through, closest, beside] = [Infinity, -1, NEAR * pixel, -1];
  for (let i = 0; i < p.length; i += 3) {
    const x = p[i] - from[0], y = p[i + 1] - from[1], z = p[i + 2] - from[2];
    const depth = x * along[0] + y * along[1] + z * along[2];
    if (depth <= 0) continue;
    const aside = Math.sqrt(Math.max(0, x * x + y * y + z * z - depth * depth));
    if (aside / depth < closest) [closest, beside] = [aside / depth, i / 3];
    if (aside > radius) continue;
    const front = depth - Math.sqrt(radius * radius - aside * aside);
    if (front < nearest) [nearest, through] = [front, i / 3];
  }
  return through >= 0 ? through : beside;
}
