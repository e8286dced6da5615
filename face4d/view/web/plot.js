// The curves above the time line: how far the landmarks of every head have moved, or are off, by frame.

const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"]; // Okabe and Ito

// Mean displacement (mm) of the landmarks of each frame from frame 0 or, with a reference, from the reference.
function curveOf(motion, reference) {
  const values = new Float32Array(motion.frames);
  for (let t = 0; t < motion.frames; t++) {
    const other = reference ? Math.min(t, reference.frames - 1) : 0, from = (reference ?? motion).landmarks;
    values[t] = distances(motion.landmarks.subarray(204 * t, 204 * t + 204), from.subarray(204 * other, 204 * other + 204)).mean;
  }
  return values;
}

function drawCurves(canvas, curves, last, time, ink) {
  const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const pen = canvas.getContext("2d"), edge = 8; // half the thumb of the slider below
  pen.scale(ratio, ratio);
  const top = Math.max(1e-6, ...curves.filter(Boolean).map((curve) => Math.max(...curve.values)));
  const x = (t) => edge + (t / Math.max(last, 1)) * (width - 2 * edge), y = (v) => height - 3 - (v / top) * (height - 8);
  pen.lineWidth = 1.6;
  pen.lineJoin = "round";
  for (const curve of curves) {
    if (!curve) continue;
    pen.strokeStyle = curve.colour;
    pen.beginPath();
    curve.values.forEach((value, t) => (t ? pen.lineTo(x(t), y(value)) : pen.moveTo(x(t), y(value))));
    pen.stroke();
  }
  pen.strokeStyle = pen.fillStyle = ink;
  pen.globalAlpha = 0.55;
  pen.lineWidth = 1;
  pen.beginPath();
  pen.moveTo(x(time), 0);
  pen.lineTo(x(time), height);
  pen.stroke();
  pen.font = "10px system-ui, sans-serif";
  pen.textAlign = time > last / 2 ? "left" : "right";
  pen.fillText(`${top.toFixed(top < 1 ? 2 : 1)} mm`, time > last / 2 ? edge : width - edge, 10);
}
