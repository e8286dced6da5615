// The generator that follows controls, as face4d/generation/controlled.py computes it, so that sliders act at once.

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const smoothstep = (share) => share * share * (3 - 2 * share);
const sigmoid = (value) => 1 / (1 + Math.exp(-value));

// out = weight (rows x columns) input + bias
function linear(weight, bias, input) {
  const rows = bias.length, columns = input.length, out = new Float32Array(rows);
  for (let r = 0; r < rows; r++) {
    let sum = bias[r];
    const from = r * columns;
    for (let c = 0; c < columns; c++) sum += weight[from + c] * input[c];
    out[r] = sum;
  }
  return out;
}

class SteeredNetwork {
  static async read(described) {
    const names = Object.keys(described.weights);
    const arrays = await Promise.all(names.map((name) => unpack(described.weights[name])));
    return new SteeredNetwork(described, Object.fromEntries(names.map((name, i) => [name, arrays[i].values])));
  }

  constructor(described, weights) {
    this.labels = described.labels;
    this.last = described.last;
    this.limit = described.strength_limit;
    this.weights = weights;
    this.components = weights.scale.length;
    this.labelSize = weights["fc_enc.weight"].length / described.labels.length;
  }

  // Controls as face4d/controls.py completes them: those given, the others where the label's mean ratios put them.
  controls(label, given = {}) {
    let [apex, onset, hold, offset, strength] = this.weights.ratios.subarray(5 * label, 5 * label + 5);
    const last = this.last, has = (name) => given[name] !== undefined && given[name] !== null;
    apex = has("apex") ? given.apex : Math.max(apex * (last - (has("hold") ? given.hold : 0)), 1);
    onset = Math.min(onset * apex, apex - 1);
    const release = apex + (has("hold") ? given.hold : hold * (last - apex));
    offset = release + offset * (last - release);
    return { onset, apex, release, offset, strength: has("strength") ? given.strength : strength };
  }

  // Codes (T+1 x Kg) and landmarks (T+1 x 204) in millimetres, for a start displacement (204) and a neutral face (204).
  run(label, controls, start, neutral) {
    const w = this.weights, size = this.components, last = this.last, { onset, apex, release, offset, strength } = controls;
    const codes = new Float32Array((last + 1) * size), landmarks = new Float32Array((last + 1) * 204);
    for (let k = 0; k < size; k++) {
      let sum = 0;
      for (let i = 0; i < 204; i++) sum += (start[i] / MM) * w.basis[i * size + k];
      codes[k] = sum / w.scale[k];
    }
    for (let i = 0; i < 204; i++) landmarks[i] = neutral[i] + start[i];
    const labelCode = w["fc_enc.weight"].subarray(label * this.labelSize, (label + 1) * this.labelSize);
    const labelApex = w["apex.weight"].subarray(label * size, (label + 1) * size);
    let frame = codes.slice(0, size);
    const state = linear(w["fc_init.weight"], w["fc_init.bias"], [...frame, ...labelCode]).map(Math.tanh);
    const width = state.length / 2, hidden = state.slice(0, width), cell = state.slice(width);
    const passed = (t, begin, end) => clamp((t - begin) / Math.max(end - begin, 1e-3), 0, 1);
    for (let t = 1; t <= last; t++) {
      const rise = passed(t, onset, apex), hold = passed(t, apex, release), fall = passed(t, release, offset);
      const envelope = Math.min(smoothstep(rise), smoothstep(1 - fall));
      const code = [
        ...labelCode, envelope, rise, hold, fall, Math.sin(Math.PI * rise), Math.sin(Math.PI * fall),
        (apex - onset) / last, (release - apex) / last, (offset - release) / last, clamp(strength, -this.limit, this.limit),
      ];
      const gates = linear(w["lstm.weight_ih"], w["lstm.bias_ih"], [...frame, ...code]);
      const own = linear(w["lstm.weight_hh"], w["lstm.bias_hh"], hidden);
      for (let j = 0; j < width; j++) {
        const input = sigmoid(gates[j] + own[j]), forget = sigmoid(gates[width + j] + own[width + j]);
        const seen = Math.tanh(gates[2 * width + j] + own[2 * width + j]);
        cell[j] = forget * cell[j] + input * seen;
        hidden[j] = sigmoid(gates[3 * width + j] + own[3 * width + j]) * Math.tanh(cell[j]);
      }
      const inner = linear(w["fc_1.weight"], w["fc_1.bias"], [...hidden, ...code]).map((value) => Math.max(value, 0));
      frame = linear(w["fc_2.weight"], w["fc_2.bias"], inner);
      const z = codes.subarray(t * size, (t + 1) * size);
      for (let k = 0; k < size; k++) z[k] = strength * (envelope * labelApex[k] + frame[k]);
      for (let i = 0; i < 204; i++) {
        let sum = 0;
        for (let k = 0; k < size; k++) sum += z[k] * w.scale[k] * w.basis[i * size + k];
        landmarks[t * 204 + i] = neutral[i] + sum * MM;
      }
    }
    return { codes, landmarks };
  }
}
