// What the controls do.

const byId = (id) => document.getElementById(id);
const data = JSON.parse(byId("heads-data").textContent);
const sets = data.sets.map((described) => new TestSet(described));
const phone = matchMedia("(max-width: 46rem)");
const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
const state = {
  layout: phone.matches ? 1 : 2, linked: true, landmarks: false, wireframe: false, error: false,
  playing: false, loop: true, speed: 1, time: 0, top: 0,
};
const SHARPNESS = [1, 0.8, 0.64, 0.5, 0.4]; // of the pixels that there are, per side
const PACE_FRAMES = 5, SLOW_MS = 45; // frames that are looked at together; what is too long for one of 25 per second
const panels = [];
let stage, dirty = true, before = 0;

const shown = () => panels.slice(0, state.layout);
const last = () => Math.max(1, ...shown().map((panel) => (panel.motion ? panel.motion.frames - 1 : 0)));
const redraw = () => { dirty = true; };

// ---------------------------------------------------------------- panels

class Panel {
  constructor(number) {
    this.number = number;
    this.root = byId("panel").content.firstElementChild.cloneNode(true);
    this.root.setAttribute("aria-label", `Head ${number + 1}`);
    this.root.querySelector(".swatch").style.background = COLOURS[number];
    this.view = this.root.querySelector(".view");
    this.said = this.root.querySelector(".said");
    this.head = new Head();
    this.choice = { set: 0, method: 0, label: 0, subject: 0, sample: 0 };
    this.given = {};
    for (const name of ["set", "method", "label", "subject", "sample"])
      this.select(name).addEventListener("change", (event) => this.choose({ [name]: Number(event.target.value) }, true));
    for (const name of ["strength", "apex", "hold"]) {
      const slider = this.root.querySelector(`.${name}`);
      slider.addEventListener("input", () => { this.given[name] = Number(slider.value); this.steer(name); });
    }
    this.root.querySelector(".typical").addEventListener("click", () => { this.given = {}; this.load(); });
    this.root.querySelector(".save").addEventListener("click", () => this.save());
    watchPointer(this.view);
  }

  get set() { return sets[this.choice.set]; }

  get method() { return this.set.methods[this.choice.method]; }

  select(name) { return this.root.querySelector(`select.${name}`); }

  // Take a choice; what it has no motion of is replaced by what it has.
  async choose(choice, byHand = false) {
    Object.assign(this.choice, choice);
    const { set } = this;
    if ("set" in choice) this.given = {};
    if ("label" in choice) this.given = this.given.strength === undefined ? {} : { strength: this.given.strength };
    for (const name of ["method", "label", "subject"])
      this.choice[name] = Math.min(this.choice[name], { method: set.methods, label: set.labels, subject: set.subjects }[name].length - 1);
    const { label, subject } = this.choice, samples = set.samples(this.method, label, subject);
    if (!samples.includes(this.choice.sample)) this.choice.sample = samples[0] ?? 0;
    if (byHand && state.linked && ("label" in choice || "subject" in choice || "set" in choice))
      await Promise.all(panels.filter((other) => other !== this).map((other) => other.choose({ set: this.choice.set, label, subject })));
    await this.load();
    if (byHand) remember();
  }

  fill(name, entries, chosen) {
    const select = this.select(name);
    select.replaceChildren(...entries.map(([text, value, missing]) => {
      const option = new Option(text, value, false, value === chosen);
      option.disabled = Boolean(missing);
      return option;
    }));
    select.hidden = entries.length < 2;
  }

  show() {
    const { set, method, choice } = this, has = (m, l, s) => set.samples(m, l, s).length > 0;
    this.fill("set", sets.map((one, i) => [one.name, i]), choice.set);
    this.fill("method", set.methods.map((one, i) => [one.name, i, !has(one, choice.label, choice.subject)]), choice.method);
    this.fill("label", set.labels.map((one, i) => [one, i, !has(method, i, choice.subject)]), choice.label);
    this.fill("subject", set.subjects.map((one, i) => [one, i, !has(method, choice.label, i)]), choice.subject);
    this.fill("sample", set.samples(method, choice.label, choice.subject).map((k) => [`sample ${k}`, k]), choice.sample);
    const name = `${method.name}, ${set.labels[choice.label]}, ${set.subjects[choice.subject]}`;
    this.name = name;
    this.view.setAttribute("aria-label", `Moving head: ${name}`);
    this.root.querySelector(".save").disabled = !(this.motion && this.motion.weights);
    const steer = this.root.querySelector(".steer"), controls = this.motion && this.motion.controls;
    steer.hidden = !controls;
    if (!controls) return;
    const end = this.motion.frames - 1, values = { strength: controls.strength, apex: controls.apex, hold: controls.release - controls.apex };
    for (const [name, value] of Object.entries(values)) {
      const slider = this.root.querySelector(`input.${name}`);
      if (name !== "strength") slider.max = name === "apex" ? end : Math.floor(end - controls.apex);
      slider.value = value;
      slider.nextElementSibling.textContent = value.toFixed(name === "strength" ? 2 : 1);
    }
  }

  steer(name) {
    const end = this.set.frames - 1, { apex, hold } = this.given;
    if (apex !== undefined && hold !== undefined && apex + hold > end) {
      if (name === "apex") this.given.hold = Math.max(0, end - apex);
      else this.given.apex = Math.max(1, end - hold);
    }
    this.load();
  }

  async load() {
    const { set, choice } = this, turn = (this.turn = (this.turn ?? 0) + 1);
    const motion = await set.motion(this.method.name, choice.label, choice.subject, choice.sample, this.given);
    const real = await set.motion("real", choice.label, choice.subject, 0);
    const surface = motion && motion.weights && [await set.faces(), await set.colours[choice.subject]()];
    if (turn !== this.turn) return; // a later choice came first
    this.motion = motion;
    this.reference = real && this.method.name !== "real" ? real : null;
    if (real && motion && real.weights && this.reference) this.reference.cache = real.cache;
    this.head.setSurface(surface && surface[0].values, surface && surface[1].values, motion && motion.head);
    this.sphere = motion ? sphereOf(motion.weights ? motion.head : motion.landmarks.subarray(0, 204)) : null;
    this.curves = motion && { moved: curveOf(motion), off: this.reference && curveOf(motion, this.reference) };
    this.show();
    rescale();
    redraw();
  }

  update() {
    if (!this.motion) { this.said.textContent = "no such motion"; return; }
    const time = Math.min(state.time, this.motion.frames - 1);
    const reference = state.error && this.motion.weights && this.reference && this.reference.weights ? this.reference : null;
    const surface = this.head.setMotion(this.motion, time, reference, state.scale || 1);
    const words = [];
    if (this.curves.off) words.push(`landmarks ${this.curves.off[Math.round(time)].toFixed(2)} mm off`);
    else words.push(`moved ${this.curves.moved[Math.round(time)].toFixed(2)} mm`);
    if (surface) words.push(`surface ${surface.mean.toFixed(2)} mm, at most ${surface.largest.toFixed(2)} mm`);
    else if (state.error && !this.reference) words.push("the reference");
    this.said.textContent = words.join(" · ");
  }

  vertices(frame) { return this.motion.weights ? frameVertices(this.motion, frame) : null; }

  // The GLB of this motion, an ArrayBuffer.
  async glb() {
    const frames = Array.from({ length: this.motion.frames }, (_, t) => this.vertices(t));
    return glbFile(frames, this.head.faces, this.head.ownColours, data.fps, this.name);
  }

  async save() {
    const address = URL.createObjectURL(new Blob([await this.glb()], { type: "model/gltf-binary" }));
    const link = Object.assign(document.createElement("a"), { href: address, download: `${this.name.replace(/[^\p{L}\p{N}]+/gu, "_")}.glb` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
  }
}

// ---------------------------------------------------------------- looks

// The top of the error scale: what 98 of 100 vertices of the shown frames stay below, or what was chosen.
function rescale() {
  if (state.top) { state.scale = state.top; return; }
  if (!state.error) return;
  const all = [];
  for (const { motion, reference } of shown()) {
    if (!motion || !motion.weights || !reference || !reference.weights) continue;
    for (let part = 1; part < 6; part++) {
      const frame = Math.floor((part / 6) * (Math.min(motion.frames, reference.frames) - 1));
      const each = new Float32Array(motion.head.length / 3);
      distances(frameVertices(motion, frame), frameVertices(reference, frame), each);
      for (let i = 0; i < each.length; i += 7) all.push(each[i]);
    }
  }
  all.sort((a, b) => a - b);
  const wanted = all.length ? all[Math.floor(0.98 * (all.length - 1))] : 1;
  state.scale = [0.05, 0.1, 0.2, 0.5, 1, 2, 3, 5, 10, 20, 50].find((value) => value >= wanted) ?? 100;
  byId("scale-top").options[0].textContent = `${state.scale} (fits)`;
}

function chooseTheme(theme) {
  document.documentElement.dataset.theme = theme;
  byId("theme").textContent = theme === "dark" ? "light" : "dark";
  try { localStorage.setItem("face4d-theme", theme); } catch { /* pages from disk may have no storage */ }
  redraw();
}

function press(id, on) { byId(id).setAttribute("aria-pressed", String(on)); }

function toggle(name) {
  state[name] = !state[name];
  press(name, state[name]);
  if (name === "error") { byId("scale").hidden = !state.error; rescale(); }
  if (name === "linked" && state.linked) panels[0].choose({}, false).then(() => {
    const { set, label, subject } = panels[0].choice;
    for (const panel of panels.slice(1)) panel.choose({ set, label, subject });
  });
  redraw();
}

function setLayout(count) {
  state.layout = count;
  byId("panels").dataset.count = count;
  byId("panels").replaceChildren(...shown().map((panel) => panel.root));
  for (const button of document.querySelectorAll("[data-layout]")) button.setAttribute("aria-pressed", String(Number(button.dataset.layout) === count));
  rescale();
  stage.resize();
  redraw();
}

// ---------------------------------------------------------------- time

function play(on) {
  if (on && state.time >= last()) state.time = 0;
  state.playing = on;
  before = 0;
  if (on) pace.begin();
  else pace.rest();
  const button = byId("play");
  button.setAttribute("aria-pressed", String(on));
  button.firstElementChild.textContent = on ? "❚❚" : "▶";
  button.lastElementChild.textContent = on ? "pause" : "play";
  redraw();
}

function seek(time) {
  state.time = clamp(time, 0, last());
  redraw();
}

function faster(step) {
  const select = byId("speed");
  select.selectedIndex = clamp(select.selectedIndex + step, 0, select.options.length - 1);
  state.speed = Number(select.value);
}

// How fine heads are drawn while they play: coarser step by step where frames take long, whole again at rest.
const pace = {
  level: 0, taken: [],

  begin() { this.level = Math.max(0, this.level - 1); this.taken = []; this.set(); }, // it may have been a short delay

  rest() { if (stage) stage.resize(1); },

  set() { stage.resize(SHARPNESS[this.level]); },

  note(milliseconds) {
    this.taken.push(milliseconds);
    if (this.taken.length < PACE_FRAMES) return;
    const usual = this.taken.sort((a, b) => a - b)[PACE_FRAMES >> 1];
    this.taken = [];
    if (usual < SLOW_MS || this.level === SHARPNESS.length - 1) return;
    this.level += 1;
    this.set();
  },
};

function tick(now) {
  requestAnimationFrame(tick);
  if (state.playing) {
    const passed = before ? (now - before) / 1000 : 0, end = last(); // late frames are left out, not shown late
    if (before) pace.note(now - before);
    before = now;
    state.time += passed * data.fps * state.speed;
    if (state.time >= end) {
      if (state.loop) state.time %= end;
      else { state.time = end; play(false); }
    }
    dirty = true;
  }
  if (!dirty) return;
  dirty = false;
  draw();
}

function draw() {
  const style = getComputedStyle(document.documentElement), ink = style.getPropertyValue("--ink").trim();
  const views = [];
  for (const panel of shown()) {
    panel.update();
    if (panel.motion) views.push({ head: panel.head, sphere: panel.sphere, element: panel.view });
  }
  stage.draw(views, { ...state, ink });
  const slider = byId("time"), end = last();
  slider.max = end;
  slider.value = state.time;
  slider.setAttribute("aria-valuetext", `frame ${Math.round(state.time)} of ${end}`);
  byId("clock").textContent = `frame ${String(Math.round(state.time)).padStart(String(end).length, "\u2007")} of ${end} · ${(state.time / data.fps).toFixed(2)} s`;
  const curves = shown().map((panel) => {
    const values = panel.curves && (state.error ? panel.curves.off : panel.curves.moved);
    return values && { values, colour: COLOURS[panel.number] };
  });
  drawCurves(byId("plot"), curves, end, state.time, ink);
}

// ---------------------------------------------------------------- pointer and keys

function watchPointer(view) {
  const fingers = new Map();
  const size = () => Math.max(120, Math.min(view.clientWidth, view.clientHeight));
  view.addEventListener("pointerdown", (event) => {
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
    view.setPointerCapture(event.pointerId);
  });
  view.addEventListener("pointermove", (event) => {
    const old = fingers.get(event.pointerId);
    if (!old) return;
    const dx = event.clientX - old[0], dy = event.clientY - old[1], { orbit } = stage;
    const spread = () => { const [a, b] = [...fingers.values()]; return Math.hypot(a[0] - b[0], a[1] - b[1]); };
    const apart = fingers.size === 2 ? spread() : 0;
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
    if (fingers.size === 2) {
      orbit.zoom(apart / Math.max(spread(), 1));
      orbit.pan(dx / size(), dy / size());
    } else if (event.buttons & 6 || event.shiftKey) orbit.pan((2 * dx) / size(), (2 * dy) / size());
    else orbit.turn((3.2 * dx) / size(), (3.2 * dy) / size());
    redraw();
  });
  for (const name of ["pointerup", "pointercancel"]) view.addEventListener(name, (event) => fingers.delete(event.pointerId));
  view.addEventListener("contextmenu", (event) => event.preventDefault());
  view.addEventListener("wheel", (event) => {
    event.preventDefault();
    stage.orbit.zoom(Math.exp(event.deltaY * (event.deltaMode ? 0.03 : 0.0012)));
    redraw();
  }, { passive: false });
  view.addEventListener("dblclick", () => { stage.orbit.reset(); redraw(); });
  view.addEventListener("keydown", (event) => {
    const turn = { ArrowLeft: [-0.12, 0], ArrowRight: [0.12, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] }[event.key];
    const zoom = { "+": 0.9, "=": 0.9, "-": 1.1 }[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey || !(turn || zoom)) return;
    if (turn) stage.orbit.turn(...turn);
    else stage.orbit.zoom(zoom);
    event.preventDefault();
    event.stopPropagation();
    redraw();
  });
}

function onKey(event) {
  const inside = event.target instanceof Element ? event.target : document.body;
  if (event.ctrlKey || event.metaKey || event.altKey || byId("keys").open || inside.closest("select, textarea, summary")) return;
  if (inside.matches("input") && /^(Arrow|Home|End)/.test(event.key)) return;
  if (event.key === " " && inside.closest("button")) return;
  const step = event.shiftKey ? 10 : 1, whole = Math.round(state.time);
  const nextLabel = (by) => panels[0].choose({ label: (panels[0].choice.label + by + panels[0].set.labels.length) % panels[0].set.labels.length }, true);
  const actions = {
    " ": () => play(!state.playing), ArrowLeft: () => seek(whole - step), ArrowRight: () => seek(whole + step),
    Home: () => seek(0), End: () => seek(last()), ",": () => faster(-1), ".": () => faster(1),
    1: () => setLayout(1), 2: () => setLayout(2), 4: () => setLayout(4), "[": () => nextLabel(-1), "]": () => nextLabel(1),
    k: () => toggle("linked"), l: () => toggle("landmarks"), w: () => toggle("wireframe"), e: () => toggle("error"), o: () => toggle("loop"),
    r: () => byId("reset").click(), t: () => byId("theme").click(), "?": () => byId("help").click(),
  };
  const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  // keys of reading and scrolling work as usual where the heads are out of sight
  const box = byId("heads").getBoundingClientRect();
  if (!action || box.bottom < 0 || box.top > innerHeight) return;
  event.preventDefault();
  action();
}

// ---------------------------------------------------------------- what is shown in the address, for links

function remember() {
  const choices = panels.map(({ choice, given }) => ({ ...choice, ...given }));
  history.replaceState(null, "", `#heads=${encodeURIComponent(JSON.stringify({ layout: state.layout, choices }))}`);
}

function recall() {
  const text = location.hash.match(/^#heads=(.*)$/);
  if (!text) return null;
  try {
    const { layout, choices } = JSON.parse(decodeURIComponent(text[1]));
    const whole = (value) => (Number.isInteger(value) && value >= 0 ? value : 0);
    return {
      layout: [1, 2, 4].includes(layout) ? layout : 2,
      choices: choices.slice(0, 4).map((one) => ({
        choice: Object.fromEntries(["set", "method", "label", "subject", "sample"].map((name) => [name, whole(one[name])])),
        given: Object.fromEntries(["strength", "apex", "hold"].filter((name) => Number.isFinite(one[name])).map((name) => [name, one[name]])),
      })),
    };
  } catch { return null; }
}

// ---------------------------------------------------------------- beginning

// The label that moves most among the real sequences is shown first.
async function liveliest(set) {
  const method = set.methods[0];
  if (method.steered) return 0;
  const { values } = await method.landmarks(), best = { moved: -1, label: 0 };
  let first = 0;
  for (const [label, , , frames] of method.motions) {
    for (let t = first; t < first + frames; t += 4) {
      const moved = distances(values.subarray(204 * t, 204 * t + 204), values.subarray(204 * first, 204 * first + 204)).mean;
      if (moved > best.moved) Object.assign(best, { moved, label });
    }
    first += frames;
  }
  return best.label;
}

function sayFacts() {
  const sentences = sets.filter((set) => set.hasSurface).map((set) => {
    const { surface, steered } = set.described, count = set.described.surface.heads.find(Boolean).shape[0];
    const drawn = count === surface.recorded_vertices ? `${count} vertices` : `${surface.recorded_vertices} vertices drawn as ${count}`;
    const real = surface.recorded ? "Real surfaces are the recorded meshes" : "Real surfaces are decoded from their landmarks";
    const networks = Object.entries(steered).map(([name, one]) => ` ${name} is computed in the page; its surface is off by ${one.max_error_mm} mm at most.`);
    return `${set.name}: ${drawn}, ${surface.components.shape[0]} components, off by ${surface.max_error_mm} mm at most, ` +
      `${surface.mean_error_mm} mm on average. ${real}; the others are what the decoder makes of their landmarks.${networks.join("")}`;
  });
  byId("facts").textContent = sentences.join(" ");
  byId("notes").replaceChildren(...data.notes.map((note) => Object.assign(document.createElement("p"), { textContent: note })));
}

async function begin() {
  try { stage = new Stage(byId("canvas")); }
  catch { byId("message").textContent = "This browser draws no 3D (WebGL is off). Scores and pictures follow below."; return; }
  for (let number = 0; number < 4; number++) panels.push(new Panel(number));
  const recalled = recall(), label = await liveliest(sets[0]), methods = sets[0].methods.length;
  if (recalled) state.layout = recalled.layout;
  setLayout(state.layout);
  const start = (number) => {
    const own = recalled && recalled.choices[number];
    if (own) panels[number].given = own.given;
    const choice = own ? { ...own.choice, set: Math.min(own.choice.set, sets.length - 1) } : { set: 0, method: Math.min(number, methods - 1), label };
    const { given } = panels[number];
    return panels[number].choose(choice).then(() => { if (own && Object.keys(given).length) { panels[number].given = given; return panels[number].load(); } });
  };
  await Promise.all(shown().map((_, number) => start(number)));
  byId("message").hidden = true;
  requestAnimationFrame(tick);
  if (!calm) play(true);
  for (let number = state.layout; number < 4; number++) await start(number);
}

for (const name of ["linked", "landmarks", "wireframe", "error", "loop"]) {
  press(name, state[name]);
  byId(name).addEventListener("click", () => toggle(name));
}
for (const button of document.querySelectorAll("[data-layout]")) button.addEventListener("click", () => { setLayout(Number(button.dataset.layout)); remember(); });
byId("scale-top").replaceChildren(new Option("fits", 0), ...[0.1, 0.5, 1, 2, 5, 10].map((value) => new Option(String(value), value)));
byId("scale-top").addEventListener("change", (event) => { state.top = Number(event.target.value); rescale(); redraw(); });
byId("reset").addEventListener("click", () => { stage.orbit.reset(); redraw(); });
byId("theme").addEventListener("click", () => chooseTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
byId("help").addEventListener("click", () => byId("keys").showModal());
byId("play").addEventListener("click", () => play(!state.playing));
byId("time").addEventListener("input", (event) => { if (state.playing) play(false); seek(Number(event.target.value)); });
byId("speed").addEventListener("change", (event) => { state.speed = Number(event.target.value); });
addEventListener("keydown", onKey);
document.addEventListener("visibilitychange", () => { before = 0; });
new ResizeObserver(() => { if (stage && panels.length) { stage.resize(); draw(); } }).observe(byId("panels"));
let theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
try { theme = localStorage.getItem("face4d-theme") || theme; } catch { /* none */ }
chooseTheme(theme === "dark" ? "dark" : "light");
sayFacts();

// For the console of the browser, and tests: what is shown, in millimetres.
window.face4d = { holdBack, stage: () => stage, state, panels, sets, seek, play, setLayout, toggle, ready: begin() };
