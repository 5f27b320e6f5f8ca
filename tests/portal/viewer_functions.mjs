// What test_viewer_functions.py runs; its first argument is the viewer's source folder.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import ts from 'typescript';
const load = async (name) => {
  const options = { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 };
  const text = ts.transpile(readFileSync(`${process.argv[1]}/${name}.ts`, 'utf8'), options);
  return import('data:text/javascript;base64,' + Buffer.from(text).toString('base64'));
};
const [geometry, grey, frames] = await Promise.all(['geometry', 'grey', 'frame'].map(load));
const near = (one, other, by = 1e-9) => assert.ok(Math.abs(one - other) <= by, `${one} is not ${other}`);

// Distances, angles and areas keep to millimetres where rows and columns are apart differently.
const spacing = { x: 0.5, y: 2, source: 'patient' };
near(geometry.distance({ x: 0, y: 0 }, { x: 6, y: 2 }, spacing), 5);
near(geometry.angle({ x: 4, y: 0 }, { x: 0, y: 0 }, { x: 4, y: 1 }, spacing), 45);
near(geometry.angle({ x: -1, y: 0 }, { x: 0, y: 0 }, { x: 1, y: 0 }, spacing), 180);
near(geometry.ellipseArea({ x: 10, y: 5 }, { x: 0, y: 0 }, spacing), Math.PI * 2.5 * 5);

// The statistics of an ellipse are those of the pixels within it; a ramp's mean is its middle.
const image = { columns: 64, rows: 64 };
const ramp = geometry.ellipseStatistics({ x: 20, y: 20 }, { x: 40, y: 40 }, image, (column) => column);
near(ramp.mean, 29.5, 1e-6);
near(ramp.count, Math.PI * 100, 8);
const edge = geometry.ellipseStatistics({ x: -10, y: -10 }, { x: 10, y: 10 }, image, () => 7);
assert.deepEqual([edge.mean, edge.deviation, edge.least, edge.most], [7, 0, 7, 7]);

// Every turn and flip brings a point back to where it came from; pixels keep their shape.
for (const quarters of [0, 1, 2, 3]) for (const flipped of [false, true]) {
  const view = { zoom: 2, panX: 11, panY: -7, quarters, flipped };
  const matrix = geometry.matrixOf(view, { columns: 100, rows: 50, tall: 2 }, 300, 500);
  const back = geometry.unapplied(matrix, geometry.applied(matrix, { x: 12.5, y: 33 }));
  near(back.x, 12.5, 1e-6); near(back.y, 33, 1e-6);
  const span = (to) => { const a = geometry.applied(matrix, { x: 0, y: 0 }), b = geometry.applied(matrix, to);
    return Math.hypot(a.x - b.x, a.y - b.y); };
  near(span({ x: 10, y: 0 }), span({ x: 0, y: 5 }), 1e-6);
}
const turned = geometry.matrixOf({ ...geometry.WHOLE, quarters: 1 }, { columns: 100, rows: 100, tall: 1 }, 100, 100);
const corner = geometry.applied(turned, { x: 0, y: 0 });
near(corner.x, 100, 1e-6); near(corner.y, 0, 1e-6);
const mirrored = geometry.matrixOf({ ...geometry.WHOLE, flipped: true }, { columns: 100, rows: 100, tall: 1 }, 100, 100);
near(geometry.applied(mirrored, { x: 0, y: 0 }).x, 100, 1e-6);

// The point under the fingers stays while zooming.
const size = { columns: 100, rows: 100, tall: 1 };
const before = geometry.unapplied(geometry.matrixOf(geometry.WHOLE, size, 200, 200), { x: 150, y: 60 });
const closer = geometry.zoomed(geometry.WHOLE, 3, { x: 50, y: -40 });
const after = geometry.unapplied(geometry.matrixOf(closer, size, 200, 200), { x: 150, y: 60 });
near(after.x, before.x, 1e-6); near(after.y, before.y, 1e-6);

// An ultrasound region calibrates what lies within it, and nothing else.
const region = { left: 10, top: 10, right: 60, bottom: 60, x: 0.2, y: 0.3 };
const inside = geometry.spacingOf([{ x: 20, y: 20 }, { x: 60, y: 30 }], geometry.UNCALIBRATED, [region]);
assert.deepEqual([inside.x, inside.y, inside.source], [0.2, 0.3, 'region']);
assert.equal(geometry.spacingOf([{ x: 20, y: 20 }, { x: 90, y: 30 }], geometry.UNCALIBRATED, [region]).source, 'none');
near(geometry.alongNormal([3, 4, 5], [1, 0, 0, 0, 1, 0]), 5);
near(geometry.alongNormal([3, 4, 5], [0, 1, 0, 0, 0, -1]), -3);

// Stored words: their own bits, signed or not, overlay bits above them left out.
const unsigned = { bitsAllocated: 16, bitsStored: 12, highBit: 11, isSigned: false };
assert.equal(grey.valueOf(0xf123, unsigned), 0x123);
assert.equal(grey.valueOf(0x0fff, { ...unsigned, isSigned: true }), -1);
assert.equal(grey.valueOf(0x8000, { bitsAllocated: 16, bitsStored: 16, highBit: 15, isSigned: true }), -32768);
assert.equal(grey.valueOf(0x1230, { ...unsigned, highBit: 15 }), 0x123);

// PS3.3 C.11.2.1.2: the standard's own formula at its edges and its middle.
const window = { center: 40, width: 400 };
assert.deepEqual([-160, 239, 1000].map((each) => grey.level(each, window, 'LINEAR')), [0, 255, 255]);
near(grey.level(39.5, window, 'LINEAR'), 127.5);
near(grey.level(40, window, 'LINEAR_EXACT'), 127.5);
near(grey.level(40, window, 'SIGMOID'), 127.5);
assert.deepEqual([0, 1].map((each) => grey.level(each, { center: 1, width: 1 }, 'LINEAR')), [0, 255]);
const table = grey.tableOf(unsigned, { slope: 1, intercept: -1024 }, window, 'LINEAR', false);
const inverse = grey.tableOf(unsigned, { slope: 1, intercept: -1024 }, window, 'LINEAR', true);
for (const word of [0, 900, 1064, 1200, 4095]) near(table[word] + inverse[word], 255, 1);
const whole = grey.wholeWindow(new Uint16Array([10, 30, 20]), unsigned, { slope: 2, intercept: 1 });
assert.deepEqual([21, 61].map((each) => grey.level(each, whole, 'LINEAR')), [0, 255]);

// What a data set says of its frames.
const element = (vr, ...Value) => ({ vr, Value });
const base = { '00080060': element('CS', 'CT'), '00280004': element('CS', 'MONOCHROME2'), '00280010': element('US', 4),
  '00280011': element('US', 5), '00280100': element('US', 16), '00280101': element('US', 12) };
const ct = frames.frameOf({ ...base, '00280030': element('DS', 2, 0.5), '00281050': element('DS', 40, 300),
  '00281051': element('DS', 400, 900) }, 1);
assert.deepEqual(ct.spacing, { x: 0.5, y: 2, source: 'patient' });
assert.deepEqual([ct.window, ct.units, ct.tall, ct.isGrey], [{ center: 40, width: 400 }, 'HU', 4, true]);
const dx = frames.frameOf({ ...base, '00080060': element('CS', 'DX'), '00181164': element('DS', 0.1, 0.2) }, 1);
assert.deepEqual(dx.spacing, { x: 0.2, y: 0.1, source: 'detector' });
assert.equal(frames.frameOf(base, 1).spacing.source, 'none');
const item = (...items) => element('SQ', ...items);
const enhanced = frames.frameOf({ ...base,
  '52009229': item({ '00289110': item({ '00280030': element('DS', 3, 3) }) }),
  '52009230': item({}, { '00209113': item({ '00200032': element('DS', 1, 2, 3) }),
    '00289145': item({ '00281053': element('DS', 2), '00281052': element('DS', -5) }) }) }, 2);
assert.deepEqual([enhanced.spacing.x, enhanced.position, enhanced.rescale], [3, [1, 2, 3], { slope: 2, intercept: -5 }]);
const ultrasound = frames.frameOf({ ...base, '00186011': item({ '00186018': element('UL', 1), '0018601A': element('UL', 2),
  '0018601C': element('UL', 3), '0018601E': element('UL', 4), '00186024': element('US', 3), '00186026': element('US', 3),
  '0018602C': element('FD', 0.02), '0018602E': element('FD', -0.03) }) }, 1);
near(ultrasound.regions[0].x, 0.2); near(ultrasound.regions[0].y, 0.3);
assert.equal(frames.frameOf({ ...base, '00280004': element('CS', 'RGB') }, 1).isGrey, false);
console.log('all right');
