// Reading the arrays of the page (face4d/view/page_codec.py) and the motions that are made of them. Lengths: millimetres.

const MM = 1000;

function bytesOf(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const binary = atob(text), bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

async function inflate(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// A packed array as {shape, values}: whole numbers of steps times `factor`, or float32.
async function unpack(packed, factor = 1) {
  const planes = await inflate(bytesOf(packed.data)), width = packed.width, count = planes.length / width;
  if (!packed.step) {
    const raw = new Uint8Array(4 * count);
    for (let w = 0; w < 4; w++) for (let i = 0; i < count; i++) raw[4 * i + w] = planes[w * count + i];
    return { shape: packed.shape, values: new Float32Array(raw.buffer) };
  }
  const codes = new Int32Array(count);
  for (let i = 0; i < count; i++) {
    let code = 0;
    for (let w = width - 1; w >= 0; w--) code = code * 256 + planes[w * count + i];
    codes[i] = code % 2 ? -(code + 1) / 2 : code / 2;
  }
  const row = count / packed.shape[0];
  if (packed.delta) for (let i = row; i < count; i++) codes[i] += codes[i - row];
  if (packed.step === 1 && factor === 1) return { shape: packed.shape, values: codes };
  const values = new Float32Array(count), unit = packed.step * factor;
  for (let i = 0; i < count; i++) values[i] = codes[i] * unit;
  return { shape: packed.shape, values };
}

// Weights: whole numbers of the steps of their components.
async function unpackWeights(packed, steps) {
  const { shape, values } = await unpack(packed), found = new Float32Array(values.length), width = steps.length;
  for (let i = 0; i < found.length; i++) found[i] = values[i] * steps[i % width];
  return { shape, values: found };
}

function remembered(make) {
  let found;
  return () => (found ??= make());
}

// One test set. Arrays are read when they are first needed.
class TestSet {
  constructor(described) {
    Object.assign(this, { name: described.name, labels: described.labels, subjects: described.subjects });
    Object.assign(this, { frames: described.frames, described });
    const surface = described.surface;
    this.hasSurface = Boolean(surface);
    this.methods = described.methods.map((method) => ({
      name: method.name,
      steered: false,
      motions: method.motions,
      landmarks: remembered(() => unpack(method.landmarks, MM)),
      weights: remembered(() => (method.weights && surface ? unpackWeights(method.weights, surface.steps) : null)),
    }));
    for (const [name, network] of Object.entries(described.steered))
      this.methods.push({
        name: `${name}, steered`, steered: true, described: network,
        network: remembered(() => SteeredNetwork.read(network)),
      });
    this.neutrals = remembered(() => unpack(described.neutrals.points, MM));
    if (!surface) return;
    this.faces = remembered(() => unpack(surface.faces));
    this.components = remembered(() => unpack(surface.components));
    this.starts = remembered(() => unpackWeights(surface.starts, surface.steps));
    this.heads = surface.heads.map((head) => head && remembered(() => unpack(head, MM)));
    this.held = remembered(() => (surface.held ? readHeld(surface.held) : null));
    this.colours = surface.colours.map((colour) => colour && remembered(() => unpack(colour)));
  }

  method(name) { return this.methods.find((method) => method.name === name); }

  // Numbers of the samples that a method has of a sequence.
  samples(method, label, subject) {
    if (method.steered) return method.described.labels.includes(this.labels[label]) ? [0] : [];
    return method.motions.filter((one) => one[0] === label && one[1] === subject).map((one) => one[2]);
  }

  row(label, subject) { return this.described.neutrals.rows[`${label} ${subject}`]; }

  // The motion of a sequence: {frames, landmarks (T x 204), weights (T x K) or null, head, components}; null if none.
  async motion(name, label, subject, sample, given) {
    const method = this.method(name);
    if (!method) return null;
    const motion = method.steered
      ? await this.steered(method, label, subject, given)
      : await this.stored(method, label, subject, sample);
    if (!motion) return null;
    if (motion.weights && this.heads[subject]) {
      motion.head = (await this.heads[subject]()).values;
      motion.components = (await this.components()).values;
      motion.held = await this.held();
      motion.cache = [];
    } else motion.weights = null;
    return motion;
  }

  async stored(method, label, subject, sample) {
    let first = 0, firstSurface = 0; // frames before this motion's
    for (const [l, s, k, frames, hasSurface] of method.motions) {
      if (l === label && s === subject && k === sample) {
        const landmarks = (await method.landmarks()).values.subarray(204 * first, 204 * (first + frames));
        const all = hasSurface ? await method.weights() : null, width = all ? all.shape[1] : 0;
        const weights = all && all.values.subarray(width * firstSurface, width * (firstSurface + frames));
        return { frames, landmarks, weights };
      }
      first += frames;
      if (hasSurface) firstSurface += frames;
    }
    return null;
  }

  async steered(method, label, subject, given) {
    const row = this.row(label, subject), network = await method.network();
    const own = network.labels.indexOf(this.labels[label]);
    if (row === undefined || own < 0) return null;
    const neutral = (await this.neutrals()).values.subarray(204 * row, 204 * (row + 1));
    const real = await this.motion("real", label, subject, 0);
    const start = new Float32Array(204);
    if (real) for (let i = 0; i < 204; i++) start[i] = real.landmarks[i] - neutral[i];
    const controls = network.controls(own, given);
    const { codes, landmarks } = network.run(own, controls, start, neutral);
    const map = this.hasSurface && method.described.maps && method.described.maps[subject];
    let weights = null;
    if (map) {
      const all = (await this.starts()), width = all.shape[1];
      method.maps ??= {};
      const matrix = (method.maps[subject] ??= (await unpack(map)).values);
      weights = mapped(codes, matrix, all.values.subarray(width * row, width * (row + 1)), network.components);
    }
    return { frames: network.last + 1, landmarks, weights, controls };
  }
}

// (T x K) weights of codes (T x Kg): offset + codes times matrix (Kg x K).
function mapped(codes, matrix, offset, inner) {
  const width = offset.length, frames = codes.length / inner, weights = new Float32Array(frames * width);
  for (let t = 0; t < frames; t++) {
    const own = weights.subarray(t * width, (t + 1) * width);
    own.set(offset);
    for (let j = 0; j < inner; j++) {
      const code = codes[t * inner + j], from = j * width;
      if (code) for (let k = 0; k < width; k++) own[k] += code * matrix[from + k];
    }
  }
  return weights;
}

// Vertices (3V) of a whole frame of a motion; computed once.
function frameVertices(motion, frame) {
  const known = motion.cache[frame];
  if (known) return known;
  const count = motion.head.length, width = motion.components.length / count;
  const vertices = Float32Array.from(motion.head), from = frame * width;
  for (let k = 0; k < width; k++) {
    const weight = motion.weights[from + k];
    if (!weight) continue;
    const component = motion.components.subarray(k * count, (k + 1) * count);
    for (let i = 0; i < count; i++) vertices[i] += weight * component[i];
  }
  if (motion.held) holdBack(vertices, motion.held);
  return (motion.cache[frame] = vertices);
}

async function readHeld(packed) {
  const [teeth, pocket, cheeks] = await Promise.all(["teeth", "pocket", "cheeks"].map(async (name) => (await unpack(packed[name])).values));
  return { teeth, pocket, cheeks, columns: packed.columns, behind: packed.behind * MM, back: packed.back };
}

// Put teeth and the inside of the mouth behind the skin, as FinerHead.hold_back of face4d/demo/detail.py does.
function holdBack(vertices, { teeth, pocket, cheeks, columns, behind, back }) {
  const out = sticksOut(vertices, teeth, cheeks, behind), half = out.length / 2;
  for (let side = 0; side < out.length; side += half)
    for (let column = 0; column < columns; column++) {
      let most = 0;
      for (let i = side + column; i < side + half; i += columns) most = Math.max(most, out[i]);
      for (let i = side + column; i < side + half; i += columns) vertices[3 * teeth[i] + 2] -= back * most;
    }
  sticksOut(vertices, pocket, cheeks, behind).forEach((by, i) => { vertices[3 * pocket[i] + 2] -= back * by; });
}

// How far points, numbers of vertices, come nearer than `behind` to the foremost triangle before them that looks forward.
function sticksOut(vertices, points, triangles, behind) {
  const foremost = new Float32Array(points.length).fill(-Infinity);
  let left = Infinity, right = -Infinity, low = Infinity, high = -Infinity;
  for (const point of points) {
    const x = vertices[3 * point], y = vertices[3 * point + 1];
    left = Math.min(left, x); right = Math.max(right, x); low = Math.min(low, y); high = Math.max(high, y);
  }
  for (let f = 0; f < triangles.length; f += 3) {
    const a = 3 * triangles[f], b = 3 * triangles[f + 1], c = 3 * triangles[f + 2];
    const ax = vertices[a], ay = vertices[a + 1], bx = vertices[b], by = vertices[b + 1], cx = vertices[c], cy = vertices[c + 1];
    const doubled = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax);
    if (doubled <= 1e-6) continue; // square millimetres
    const x0 = Math.min(ax, bx, cx), x1 = Math.max(ax, bx, cx), y0 = Math.min(ay, by, cy), y1 = Math.max(ay, by, cy);
    if (x0 > right || x1 < left || y0 > high || y1 < low) continue;
    for (let i = 0; i < points.length; i++) {
      const x = vertices[3 * points[i]], y = vertices[3 * points[i] + 1];
      if (x < x0 || x > x1 || y < y0 || y > y1) continue;
      const ofB = ((x - ax) * (cy - ay) - (y - ay) * (cx - ax)) / doubled, ofC = ((bx - ax) * (y - ay) - (by - ay) * (x - ax)) / doubled;
      if (ofB < 0 || ofC < 0 || ofB + ofC > 1) continue;
      const az = vertices[a + 2], depth = az + ofB * (vertices[b + 2] - az) + ofC * (vertices[c + 2] - az);
      if (depth > foremost[i]) foremost[i] = depth;
    }
  }
  return foremost.map((depth, i) => (depth === -Infinity ? 0 : Math.max(0, vertices[3 * points[i] + 2] + behind - depth)));
}

// What lies between two frames, linearly, into `out`.
function between(out, a, b, share) {
  if (!share) out.set(a);
  else for (let i = 0; i < out.length; i++) out[i] = a[i] + share * (b[i] - a[i]);
}

function verticesAt(motion, time, out) {
  const frame = Math.min(Math.floor(time), motion.frames - 1), next = Math.min(frame + 1, motion.frames - 1);
  between(out, frameVertices(motion, frame), frameVertices(motion, next), time - Math.floor(time));
}

function landmarksAt(motion, time, out) {
  const frame = Math.min(Math.floor(time), motion.frames - 1), next = Math.min(frame + 1, motion.frames - 1);
  const of = (t) => motion.landmarks.subarray(204 * t, 204 * (t + 1));
  between(out, of(frame), of(next), time - Math.floor(time));
}

// Mean distance of points a and b (3n each), and the largest.
function distances(a, b, each) {
  let total = 0, largest = 0;
  const count = a.length / 3;
  for (let i = 0; i < count; i++) {
    const distance = Math.hypot(a[3 * i] - b[3 * i], a[3 * i + 1] - b[3 * i + 1], a[3 * i + 2] - b[3 * i + 2]);
    if (each) each[i] = distance;
    total += distance;
    if (distance > largest) largest = distance;
  }
  return { mean: total / count, largest };
}
