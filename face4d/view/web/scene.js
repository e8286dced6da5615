// Heads in panels, drawn by three.js: one canvas below all panels, one scene per panel, one camera direction for all.

const CONTOUR = [[0, 16], [17, 21], [22, 26], [27, 30], [31, 35], [36, 41, 36], [42, 47, 42], [48, 59, 48], [60, 67, 60]];
const RAMP = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]]; // viridis
const toLinear = (byte) => { const c = byte / 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
const LINEAR_RAMP = RAMP.map((colour) => colour.map(toLinear));

function landmarkLines() {
  const pairs = [];
  for (const [first, end, back] of CONTOUR) {
    for (let i = first; i < end; i++) pairs.push(i, i + 1);
    if (back !== undefined) pairs.push(end, back);
  }
  return pairs;
}

// Every edge of the triangles once.
function edges(faces, count) {
  const seen = new Set(), pairs = [];
  for (let f = 0; f < faces.length; f += 3)
    for (let e = 0; e < 3; e++) {
      const a = faces[f + e], b = faces[f + ((e + 1) % 3)], low = Math.min(a, b), high = Math.max(a, b);
      const key = low * count + high;
      if (!seen.has(key)) { seen.add(key); pairs.push(low, high); }
    }
  return pairs;
}

function vertexNormals(positions, faces, normals) {
  normals.fill(0);
  for (let f = 0; f < faces.length; f += 3) {
    const a = 3 * faces[f], b = 3 * faces[f + 1], c = 3 * faces[f + 2];
    const ax = positions[a], ay = positions[a + 1], az = positions[a + 2];
    const ux = positions[b] - ax, uy = positions[b + 1] - ay, uz = positions[b + 2] - az;
    const vx = positions[c] - ax, vy = positions[c + 1] - ay, vz = positions[c + 2] - az;
    const x = uy * vz - uz * vy, y = uz * vx - ux * vz, z = ux * vy - uy * vx;
    normals[a] += x; normals[a + 1] += y; normals[a + 2] += z;
    normals[b] += x; normals[b + 1] += y; normals[b + 2] += z;
    normals[c] += x; normals[c + 1] += y; normals[c + 2] += z;
  }
  for (let i = 0; i < normals.length; i += 3) {
    const length = Math.hypot(normals[i], normals[i + 1], normals[i + 2]) || 1;
    normals[i] /= length; normals[i + 1] /= length; normals[i + 2] /= length;
  }
}

function rampColour(share, out, at) {
  const place = clamp(share, 0, 1) * (LINEAR_RAMP.length - 1), low = Math.min(Math.floor(place), LINEAR_RAMP.length - 2);
  const a = LINEAR_RAMP[low], b = LINEAR_RAMP[low + 1], f = place - low;
  for (let c = 0; c < 3; c++) out[at + c] = a[c] + f * (b[c] - a[c]);
}

function disc() {
  const size = 32, canvas = Object.assign(document.createElement("canvas"), { width: size, height: size });
  const pen = canvas.getContext("2d");
  pen.fillStyle = "#fff";
  pen.arc(size / 2, size / 2, size / 2 - 1, 0, 2 * Math.PI);
  pen.fill();
  return new THREE.CanvasTexture(canvas);
}

// What one panel shows.
class Head {
  constructor() {
    this.scene = new THREE.Scene();
    this.scene.add(new THREE.HemisphereLight(0xf4f6ff, 0x6a5a50, 0.62));
    this.lights = new THREE.Group(); // turns with the camera
    for (const [colour, strength, x, y, z] of [[0xfff2e4, 0.66, -0.7, 0.9, 1], [0xdfe8ff, 0.26, 1, 0.1, 0.8], [0xffffff, 0.3, 0.4, 0.7, -1]]) {
      const light = new THREE.DirectionalLight(colour, strength);
      light.position.set(x, y, z);
      this.lights.add(light, light.target);
    }
    this.scene.add(this.lights);
    const points = new THREE.BufferGeometry();
    points.setAttribute("position", new THREE.BufferAttribute(new Float32Array(204), 3));
    const lines = new THREE.BufferGeometry();
    lines.setAttribute("position", points.attributes.position);
    lines.setIndex(landmarkLines());
    const above = { depthTest: false, transparent: true };
    this.points = new THREE.Points(points, new THREE.PointsMaterial({ map: disc(), sizeAttenuation: false, ...above }));
    this.lines = new THREE.LineSegments(lines, new THREE.LineBasicMaterial({ opacity: 0.75, ...above }));
    this.scene.add(this.lines, this.points);
    for (const object of [this.points, this.lines]) object.frustumCulled = false;
  }

  // Take another topology or face: triangles, colours (V x 3 bytes), the neutral head; null for landmarks alone.
  setSurface(faces, colours, head) {
    if (this.skin && (!faces || this.faces !== faces || this.head !== head)) {
      this.scene.remove(this.skin, this.inside, this.wire);
      this.geometry.dispose();
      this.wire.geometry.dispose();
      this.skin = null;
    }
    if (!faces || this.skin) return;
    this.faces = faces;
    this.head = head;
    const count = head.length / 3, geometry = (this.geometry = new THREE.BufferGeometry());
    geometry.setAttribute("position", new THREE.BufferAttribute(Float32Array.from(head), 3).setUsage(THREE.DynamicDrawUsage));
    geometry.setAttribute("normal", new THREE.BufferAttribute(new Float32Array(head.length), 3).setUsage(THREE.DynamicDrawUsage));
    geometry.setIndex(new THREE.BufferAttribute(Uint32Array.from(faces), 1));
    this.ownColours = Float32Array.from(colours, toLinear);
    geometry.setAttribute("color", new THREE.BufferAttribute(Float32Array.from(this.ownColours), 3));
    const behind = { polygonOffset: true, polygonOffsetFactor: 2, polygonOffsetUnits: 8 };
    this.material = new THREE.MeshPhongMaterial({ vertexColors: true, specular: 0x24211e, shininess: 22, polygonOffsetFactor: 1, polygonOffsetUnits: 1 });
    this.skin = new THREE.Mesh(geometry, this.material);
    // seen from behind, as through an open mouth, the surface is dark
    this.inside = new THREE.Mesh(geometry, new THREE.MeshBasicMaterial({ color: 0x150807, side: THREE.BackSide, ...behind }));
    const wire = new THREE.BufferGeometry();
    wire.setAttribute("position", geometry.attributes.position);
    wire.setIndex(edges(faces, count));
    this.wire = new THREE.LineSegments(wire, new THREE.LineBasicMaterial({ color: 0x0d2a38, transparent: true, opacity: 0.35 }));
    for (const object of [this.skin, this.inside, this.wire]) object.frustumCulled = false;
    this.scene.add(this.skin, this.inside, this.wire);
    this.coloured = false;
  }

  // Vertices at a time; with `reference`, a motion, coloured by the distance from it up to `scale` mm.
  setMotion(motion, time, reference, scale) {
    landmarksAt(motion, time, this.points.geometry.attributes.position.array);
    this.points.geometry.attributes.position.needsUpdate = true;
    if (!this.skin || !motion.weights) return null;
    const { position, normal, color } = this.geometry.attributes;
    verticesAt(motion, time, position.array);
    vertexNormals(position.array, this.faces, normal.array);
    position.needsUpdate = normal.needsUpdate = true;
    if (!reference) {
      if (this.coloured) { color.array.set(this.ownColours); color.needsUpdate = true; this.coloured = false; }
      return null;
    }
    this.other ??= new Float32Array(position.array.length);
    if (this.other.length !== position.array.length) this.other = new Float32Array(position.array.length);
    verticesAt(reference, time, this.other);
    const each = new Float32Array(position.array.length / 3), found = distances(position.array, this.other, each);
    for (let i = 0; i < each.length; i++) rampColour(each[i] / scale, color.array, 3 * i);
    color.needsUpdate = this.coloured = true;
    return found;
  }
}

// Bounding sphere of points (3n), mm.
function sphereOf(points) {
  const low = [Infinity, Infinity, Infinity], high = [-Infinity, -Infinity, -Infinity];
  for (let i = 0; i < points.length; i++) {
    low[i % 3] = Math.min(low[i % 3], points[i]);
    high[i % 3] = Math.max(high[i % 3], points[i]);
  }
  const centre = low.map((value, c) => (value + high[c]) / 2);
  return { centre, radius: Math.hypot(...high.map((value, c) => value - low[c])) / 2 };
}

// The camera goes round every head alike: angles in radians, distance in radii, target in radii from the middle.
class Orbit {
  constructor() { this.reset(); }

  reset() { Object.assign(this, { yaw: 0.42, pitch: 0.06, distance: 1, x: 0, y: 0 }); }

  turn(yaw, pitch) { this.yaw -= yaw; this.pitch = clamp(this.pitch + pitch, -1.5, 1.5); }

  zoom(factor) { this.distance = clamp(this.distance * factor, 0.25, 4); }

  pan(x, y) { this.x = clamp(this.x - x, -2, 2); this.y = clamp(this.y + y, -2, 2); }

  place(camera, sphere, aspect) {
    const half = (camera.fov * Math.PI) / 360, fit = Math.min(half, Math.atan(Math.tan(half) * aspect));
    const distance = (0.8 * sphere.radius * this.distance) / Math.sin(fit);
    const [cy, sy, cp, sp] = [Math.cos(this.yaw), Math.sin(this.yaw), Math.cos(this.pitch), Math.sin(this.pitch)];
    const right = [cy, 0, -sy], up = [-sy * sp, cp, -cy * sp], back = [sy * cp, sp, cy * cp];
    const target = sphere.centre.map((value, c) => value + sphere.radius * (this.x * right[c] + this.y * up[c]));
    camera.position.set(...target.map((value, c) => value + distance * back[c]));
    camera.up.set(0, 1, 0);
    camera.lookAt(...target);
    Object.assign(camera, { aspect, near: distance / 20, far: distance + 8 * sphere.radius });
    camera.updateProjectionMatrix();
  }
}

class Stage {
  constructor(canvas) {
    this.canvas = canvas;
    this.renderer = new THREE.WebGLRenderer({ canvas, antialias: true, alpha: true, powerPreference: "high-performance" });
    this.renderer.outputEncoding = THREE.sRGBEncoding;
    this.renderer.autoClear = false;
    this.camera = new THREE.PerspectiveCamera(24, 1, 1, 1000);
    this.orbit = new Orbit();
    this.sharpness = 1;
  }

  // Take the size of the canvas; `sharpness`: share of the screen's pixels per side, kept where none is given.
  resize(sharpness = this.sharpness) {
    const { clientWidth, clientHeight } = this.canvas, ratio = sharpness * Math.min(window.devicePixelRatio || 1, 2);
    this.sharpness = sharpness;
    this.renderer.setPixelRatio(ratio);
    this.renderer.setSize(clientWidth, clientHeight, false);
  }

  // views: [{head, sphere, element}]; each is drawn where its element lies.
  draw(views, look) {
    const renderer = this.renderer, whole = this.canvas.getBoundingClientRect();
    renderer.setScissorTest(false);
    renderer.setClearColor(0, 0);
    renderer.clear();
    renderer.setScissorTest(true);
    for (const { head, sphere, element } of views) {
      const box = element.getBoundingClientRect();
      const place = [box.left - whole.left, whole.bottom - box.bottom, box.width, box.height];
      if (box.width < 1 || box.height < 1) continue;
      renderer.setViewport(...place);
      renderer.setScissor(...place);
      const alone = !head.skin;
      head.points.visible = look.landmarks || alone;
      head.lines.visible = look.landmarks || alone;
      head.points.material.color.set(alone ? look.ink : 0xffb000);
      head.lines.material.color.set(alone ? look.ink : 0xffb000);
      head.points.material.size = (alone ? 6 : 4.5) * renderer.getPixelRatio();
      if (head.skin) {
        head.wire.visible = head.material.polygonOffset = look.wireframe;
        head.material.specular.set(head.coloured ? 0 : 0x24211e);
      }
      this.orbit.place(this.camera, sphere, box.width / box.height);
      head.lights.quaternion.copy(this.camera.quaternion);
      renderer.render(head.scene, this.camera);
    }
  }
}
