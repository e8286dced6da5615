// The motion of one panel as an animated GLB (glTF 2.0): principal components as morph targets, as face4d/view/glb.py.

const GLB_TOLERANCE = 0.05; // mm

// Eigenvectors of a symmetric matrix (n x n, changed in place) by Jacobi's rotations: {values, vectors (columns)}.
function eigen(matrix, n) {
  const vectors = new Float64Array(n * n);
  for (let i = 0; i < n; i++) vectors[i * n + i] = 1;
  for (let sweep = 0; sweep < 30; sweep++) {
    let off = 0, diagonal = 0;
    for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) (i === j ? (diagonal += matrix[i * n + j] ** 2) : (off += matrix[i * n + j] ** 2));
    if (off <= 1e-22 * diagonal) break;
    for (let p = 0; p < n; p++)
      for (let q = p + 1; q < n; q++) {
        const apq = matrix[p * n + q];
        if (Math.abs(apq) < 1e-300) continue;
        const theta = (matrix[q * n + q] - matrix[p * n + p]) / (2 * apq);
        const t = Math.sign(theta || 1) / (Math.abs(theta) + Math.sqrt(theta * theta + 1));
        const c = 1 / Math.sqrt(t * t + 1), s = t * c;
        for (let k = 0; k < n; k++) {
          const a = matrix[k * n + p], b = matrix[k * n + q];
          matrix[k * n + p] = c * a - s * b; matrix[k * n + q] = s * a + c * b;
        }
        for (let k = 0; k < n; k++) {
          const a = matrix[p * n + k], b = matrix[q * n + k];
          matrix[p * n + k] = c * a - s * b; matrix[q * n + k] = s * a + c * b;
        }
        for (let k = 0; k < n; k++) {
          const a = vectors[k * n + p], b = vectors[k * n + q];
          vectors[k * n + p] = c * a - s * b; vectors[k * n + q] = s * a + c * b;
        }
      }
  }
  return { values: Float64Array.from({ length: n }, (_, i) => matrix[i * n + i]), vectors };
}

// {targets, normals: K arrays (3V), weights (T x K), error in mm} of frames (T arrays of 3V, mm) over `base`.
function morphTargets(frames, base, faces) {
  const n = frames.length, size = base.length, rest = frames.map((frame) => frame.map((value, i) => value - base[i]));
  const gram = new Float64Array(n * n);
  for (let a = 0; a < n; a++)
    for (let b = a; b < n; b++) {
      let sum = 0;
      for (let i = 0; i < size; i++) sum += rest[a][i] * rest[b][i];
      gram[a * n + b] = gram[b * n + a] = sum;
    }
  const { values, vectors } = eigen(gram, n), order = [...values.keys()].sort((a, b) => values[b] - values[a]);
  const baseNormals = new Float32Array(size);
  vertexNormals(base, faces, baseNormals);
  const change = frames.map((frame) => {
    const normals = new Float32Array(size);
    vertexNormals(frame, faces, normals);
    return normals.map((value, i) => value - baseNormals[i]);
  });
  const targets = [], normals = [], columns = [];
  let error = Infinity;
  for (const column of order) {
    let peak = 0;
    for (let t = 0; t < n; t++) if (Math.abs(vectors[t * n + column]) > Math.abs(peak)) peak = vectors[t * n + column];
    const target = new Float32Array(size), normal = new Float32Array(size), weights = new Float32Array(n);
    for (let t = 0; t < n; t++) {
      const share = vectors[t * n + column] * peak;
      weights[t] = vectors[t * n + column] / peak;
      for (let i = 0; i < size; i++) { target[i] += share * rest[t][i]; normal[i] += share * change[t][i]; }
    }
    targets.push(target); normals.push(normal); columns.push(weights);
    error = 0;
    for (let t = 0; t < n; t++)
      for (let i = 0; i < size; i += 3) {
        for (let c = i; c < i + 3; c++) rest[t][c] -= weights[t] * target[c];
        error = Math.max(error, Math.hypot(rest[t][i], rest[t][i + 1], rest[t][i + 2]));
      }
    if (error < GLB_TOLERANCE) break;
  }
  const weights = new Float32Array(n * columns.length);
  columns.forEach((column, k) => column.forEach((value, t) => (weights[t * columns.length + k] = value)));
  return { targets, normals, weights, baseNormals, error };
}

// The file as an ArrayBuffer. frames: T arrays (3V), mm; colours (3V) linear.
function glbFile(frames, faces, colours, fps, name) {
  const base = frames[0], { targets, normals, weights, baseNormals, error } = morphTargets(frames, base, faces);
  const chunks = [], bufferViews = [], accessors = [];
  let length = 0;
  const add = (array, type, extra = {}, target) => {
    const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
    bufferViews.push({ buffer: 0, byteOffset: length, byteLength: bytes.length, ...(target ? { target } : {}) });
    chunks.push(bytes, new Uint8Array((4 - (bytes.length % 4)) % 4));
    length += bytes.length + chunks.at(-1).length;
    const width = type === "SCALAR" ? 1 : 3, componentType = array instanceof Uint32Array ? 5125 : 5126;
    accessors.push({ bufferView: bufferViews.length - 1, componentType, count: array.length / width, type, ...extra });
    return accessors.length - 1;
  };
  const bounds = (array, width) => {
    const min = Array(width).fill(Infinity), max = Array(width).fill(-Infinity);
    for (let i = 0; i < array.length; i++) { min[i % width] = Math.min(min[i % width], array[i]); max[i % width] = Math.max(max[i % width], array[i]); }
    return { min, max };
  };
  const metres = (array) => array.map((value) => value / MM);
  const points = (array) => { const own = metres(array); return add(own, "VEC3", bounds(own, 3), 34962); };
  const attributes = { POSITION: points(base), NORMAL: add(baseNormals, "VEC3", {}, 34962), COLOR_0: add(Float32Array.from(colours), "VEC3", {}, 34962) };
  const { COLOR_0, ...dark } = attributes;
  const morphs = targets.map((target, k) => ({ POSITION: points(target), NORMAL: add(normals[k], "VEC3", {}, 34962) }));
  const outside = Uint32Array.from(faces), inside = Uint32Array.from(faces, (_, i) => faces[i - (i % 3) + (2 - (i % 3))]);
  const primitives = [[attributes, outside], [dark, inside]].map(([own, order], material) => ({
    attributes: own, indices: add(order, "SCALAR", {}, 34963), material, mode: 4, targets: morphs,
  }));
  const times = Float32Array.from(frames, (_, t) => t / fps);
  const input = add(times, "SCALAR", bounds(times, 1)), output = add(weights, "SCALAR");
  const surface = (baseColorFactor, roughnessFactor) => ({ pbrMetallicRoughness: { baseColorFactor, metallicFactor: 0, roughnessFactor } });
  const targetNames = targets.map((_, k) => `${name} ${k + 1}`);
  const document = {
    asset: { version: "2.0", generator: "face4d" }, scene: 0, scenes: [{ nodes: [0] }], nodes: [{ name, mesh: 0 }],
    meshes: [{ name, primitives, weights: Array(targets.length).fill(0), extras: { targetNames, maxErrorMm: error } }],
    materials: [{ name: "skin", ...surface([1, 1, 1, 1], 0.6) }, { name: "inside", ...surface([0.05, 0.02, 0.02, 1], 0.9) }],
    animations: [{ name, samplers: [{ input, output, interpolation: "LINEAR" }], channels: [{ sampler: 0, target: { node: 0, path: "weights" } }] }],
    buffers: [{ byteLength: length }], bufferViews, accessors,
  };
  const text = new TextEncoder().encode(JSON.stringify(document)), padding = (4 - (text.length % 4)) % 4;
  const file = new Uint8Array(12 + 8 + text.length + padding + 8 + length), view = new DataView(file.buffer);
  [0x46546c67, 2, file.length, text.length + padding, 0x4e4f534a].forEach((word, i) => view.setUint32(4 * i, word, true));
  file.set(text, 20);
  file.fill(0x20, 20 + text.length, 20 + text.length + padding);
  let at = 20 + text.length + padding;
  view.setUint32(at, length, true);
  view.setUint32(at + 4, 0x004e4942, true);
  at += 8;
  for (const chunk of chunks) { file.set(chunk, at); at += chunk.length; }
  return file.buffer;
}
