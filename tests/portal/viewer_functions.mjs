// What test_viewer_functions.py runs; its first argument is the viewer's source folder.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import ts from 'typescript';
const addresses = new Map();
const address = (name) => {
  const options = { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 };
  const text = ts.transpile(readFileSync(`${process.argv[1]}/${name}.ts`, 'utf8'), options)
    .replace(/from "\.\/(\w+)"/g, (_, other) => `from "${address(other)}"`);
  if (!addresses.has(name)) addresses.set(name, 'data:text/javascript;base64,' + Buffer.from(text).toString('base64'));
  return addresses.get(name);
};
const names = ['geometry', 'grey', 'frame', 'linking', 'references', 'volume'];
const [geometry, grey, frames, linking, references, volume] = await Promise.all(names.map((name) => import(address(name))));
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

// What is no image counts for nothing, and is black, inverted or not.
const signed = { bitsAllocated: 16, bitsStored: 16, highBit: 15, isSigned: true };
const padded = frames.frameOf({ ...base, '00280101': element('US', 16), '00280103': element('US', 1),
  '00280120': element('SS', -2000) }, 1);
assert.deepEqual(padded.padding, [-2000, -2000]);
assert.deepEqual(frames.frameOf({ ...base, '00280120': element('US', 0), '00280121': element('US', 9) }, 1).padding, [0, 9]);
assert.deepEqual(frames.frameOf({ ...base, '00280101': element('US', 16), '00280103': element('US', 1),
  '00280120': element('US', 63536) }, 1).padding, [-2000, -2000]);
const word = (value) => value & 0xffff;
for (const inverted of [false, true]) {
  const drawn = grey.tableOf(signed, { slope: 1, intercept: 0 }, { center: -1500, width: 100 }, 'LINEAR', inverted, [-2000, -2000]);
  assert.equal(drawn[word(-2000)], 0);
  assert.equal(drawn[word(-1999)], inverted ? 255 : 0);
}
const ranged = grey.wholeWindow(Uint16Array.from([word(-2000), word(-5), word(5)]), signed, { slope: 1, intercept: 0 }, [-2000, -2000]);
assert.deepEqual(ranged, { center: 0.5, width: 11 });
const partly = geometry.ellipseStatistics({ x: 0, y: 0 }, { x: 8, y: 8 }, { columns: 8, rows: 8 }, (x) => (x < 4 ? undefined : 3));
assert.deepEqual([partly.mean, partly.deviation], [3, 0]);

// Presets: an image's own windows by name, Hounsfield units for CT, relative ones for others.
const offered = frames.frameOf({ ...base, '00281050': element('DS', 40, 300), '00281051': element('DS', 400, 900),
  '00281055': element('LO', 'SOFT', 'BONE') }, 1).windows;
const forCt = grey.presetsOf('CT', offered[0], offered);
assert.deepEqual(forCt.slice(0, 2).map(({ key, name }) => [key, name]), [['own', 'SOFT'], ['own-other', 'BONE']]);
assert.ok(forCt.some(({ key, center, width }) => key === 'lung' && center === -600 && width === 1500));
for (const modality of ['MR', 'CR', 'DX', 'MG', 'PT', 'NM', 'XA', 'US', 'OT']) {
  const found = grey.presetsOf(modality, { center: 1000, width: 200 });
  assert.ok(found.length > 3 && found.every(({ key, width }) => key && width > 0), modality);
}
assert.ok(grey.presetsOf('PT', { center: 5, width: 10 }).some(({ inverted }) => inverted));

// Series side by side: by position in one frame of reference, by distance in another examination, else by number.
const axial = [1, 0, 0, 0, 1, 0];
const stackOf = (reference, orientation, ...places) => places.map((z, at) => ({ position: [0, 0, z], orientation,
  frameOfReference: reference, instanceNumber: at + 1, number: 1 }));
const now = stackOf('1.2', axial, 0, 5, 10, 15, 20), same = stackOf('1.2', axial, 20, 17.5, 15, 12.5, 10), earlier = stackOf('1.9', axial, 900, 902.5, 905, 907.5, 910);
assert.equal(linking.linkOf(now, same), 'position');
assert.equal(linking.partnerOf(now, same, 3, { at: 0, other: 0 }, 'position'), 2);
assert.equal(linking.linkOf(now, earlier), 'distance');
assert.equal(linking.partnerOf(now, earlier, 2, { at: 1, other: 1 }, 'distance'), 3);
assert.equal(linking.linkOf(now, stackOf('1.2', [0, 1, 0, 0, 0, -1], 0, 1)), 'number');
assert.equal(linking.partnerOf(now, earlier, 4, { at: 1, other: 3 }, 'number'), 4);
assert.deepEqual(linking.inOrder(same).map(({ position }) => position[2]), [10, 12.5, 15, 17.5, 20]);
assert.deepEqual(linking.firstPair(now, earlier, 4), { at: 4, other: 4 });

// Key objects, presentation states, structured reports and FHIR reports.
const coded = (value, meaning) => item({ '00080100': element('SH', value), '00080104': element('LO', meaning) });
const pointed = (uid, ...numbers) => item({ '00081155': element('UI', uid), ...(numbers.length ? { '00081160': element('IS', ...numbers) } : {}) });
const ko = references.saidBy({ '00080060': element('CS', 'KO'), '0040A043': coded('113000', 'Of Interest'), '0040A730': item(
  { '0040A040': element('CS', 'TEXT'), '0040A043': coded('113012', 'Key Object Description'), '0040A160': element('UT', '结节') },
  { '0040A040': element('CS', 'IMAGE'), '00081199': pointed('1.5', 2, 7) }) });
assert.deepEqual(ko.keys.map(({ label, instance, frame }) => [label, instance, frame]), [['Of Interest: 结节', '1.5', 2], ['Of Interest: 结节', '1.5', 7]]);
const pr = references.saidBy({ '00080060': element('CS', 'PR'), '00700080': element('CS', 'BONE'),
  '00081115': item({ '00081140': pointed('1.6') }), '00700042': element('US', 270), '00700041': element('CS', 'Y'),
  '00283110': item({ '00281050': element('DS', 500), '00281051': element('DS', 2000) }),
  '0070005A': item({ '00700052': element('SL', 11, 21), '00700053': element('SL', 30, 60) }),
  '00700001': item({ '00700009': item({ '00700005': element('CS', 'DISPLAY'), '00700023': element('CS', 'POLYLINE'), '00700022': element('FL', 0, 0, 0.5, 1) }),
    '00700008': item({ '00700004': element('CS', 'PIXEL'), '00700014': element('FL', 3, 4), '00700006': element('ST', 'here') }) }) });
const shown = pr.keys[0].shown;
assert.deepEqual([shown.window, shown.quarters, shown.flipped, shown.inverted], [{ center: 500, width: 2000 }, 1, true, false]);
assert.deepEqual(shown.area, { left: 10, top: 20, right: 30, bottom: 60 });
// Its window is in the units of its own rescale; what is measured stays in the image's.
assert.deepEqual(references.windowFor(shown, { slope: 1, intercept: -1024 }), { center: 500 - 1024, width: 2000 });
assert.deepEqual(references.windowFor({ ...shown, rescale: { slope: 2, intercept: 10 } }, { slope: 4, intercept: 1 }), { center: 981, width: 4000 });
assert.equal(references.windowFor({ ...shown, window: null }, { slope: 1, intercept: 0 }), null);
// Turned a quarter clockwise and then flipped, the upper left corner comes to lie at the upper left.
const turnedThenFlipped = references.saidBy({ '00080060': element('CS', 'PR'), '00081115': item({ '00081140': pointed('1.6') }),
  '00700042': element('US', 90), '00700041': element('CS', 'Y') }).keys[0].shown;
const onScreen = geometry.applied(geometry.matrixOf({ ...geometry.WHOLE, quarters: turnedThenFlipped.quarters, flipped: true },
  { columns: 100, rows: 100, tall: 1 }, 100, 100), { x: 0, y: 0 });
near(onScreen.x, 0, 1e-6); near(onScreen.y, 0, 1e-6);
// The displayed area fills the screen, whichever way it lies, and however tall pixels are.
for (const quarters of [0, 1]) for (const flipped of [false, true]) {
  const extent = { columns: 100, rows: 80, tall: 2 }, area = { left: 10, top: 20, right: 50, bottom: 40 };
  const view = geometry.framed({ ...geometry.WHOLE, quarters, flipped }, extent, area, 300, 300);
  const [one, other] = [[10, 20], [50, 40]].map(([x, y]) => geometry.applied(geometry.matrixOf(view, extent, 300, 300), { x, y }));
  near(Math.abs(one.x - other.x), 300, 1e-6); near(Math.abs(one.y - other.y), 300, 1e-6);
  near((one.x + other.x) / 2, 150, 1e-6); near((one.y + other.y) / 2, 150, 1e-6);
}
const on = (more) => ({ instance: '1.6', number: 1, columns: 100, rows: 100, position: [0, 0, 10], orientation: axial,
  spacing: { x: 0.5, y: 2, source: 'patient' }, thickness: 5, frameOfReference: '1.2', ...more });
assert.deepEqual(references.drawingsOn(on({}), pr.drawings).map(({ points, text }) => [points, text]),
  [[[{ x: 10, y: 20 }, { x: 20, y: 60 }], ''], [[{ x: 3, y: 4 }], 'here']]);
assert.equal(references.drawingsOn(on({ instance: '1.7' }), pr.drawings).length, 0);
const covered = references.saidBy({ '00080018': element('UI', '1.66'), '00080060': element('CS', 'PR'), '00081115': item({ '00081140': pointed('1.6') }),
  '20500020': element('CS', 'INVERSE'), '00181600': element('CS', 'RECTANGULAR', 'CIRCULAR', 'POLYGONAL', 'BITMAP'), '00181622': element('US', 0x8000),
  '00181602': element('IS', 11), '00181604': element('IS', 90), '00181606': element('IS', 21), '00181608': element('IS', 80),
  '00181610': element('IS', 50, 40), '00181612': element('IS', 30), '00181620': element('IS', 1, 1, 1, 100, 100, 50) });
assert.equal(covered.keys[0].shown.inverted, true);
assert.equal(references.drawingsOn(on({}), covered.drawings).length, 0); // only where that state shows the image
assert.deepEqual(references.drawingsOn(on({}), covered.drawings, '1.66').map(({ shape, points, shutter }) => [shape, points, shutter.grey]), [
  ['polyline', [{ x: 10, y: 20 }, { x: 90, y: 20 }, { x: 90, y: 80 }, { x: 10, y: 80 }], 128],
  ['circle', [{ x: 39.5, y: 49.5 }, { x: 69.5, y: 49.5 }], 128],
  ['polyline', [{ x: 0.5, y: 0.5 }, { x: 99.5, y: 0.5 }, { x: 49.5, y: 99.5 }], 128]]);
const led = references.saidBy({ '00080060': element('CS', 'PR'), '00081115': item({ '00081140': pointed('1.6') }), '00700001': item({
  '00700008': item({ '00700003': element('CS', 'PIXEL'), '00700004': element('CS', 'PIXEL'), '00700006': element('ST', 'nodule'),
    '00700010': element('FL', 60, 60), '00700011': element('FL', 90, 70), '00700014': element('FL', 20, 30), '00700015': element('CS', 'Y') }) }) });
assert.deepEqual(led.drawings.map(({ shape, points }) => [shape, points]),
  [['text', [{ x: 60, y: 60 }]], ['polyline', [{ x: 20, y: 30 }, { x: 60, y: 60 }]]]);
const measure = { '0040A040': element('CS', 'NUM'), '0040A043': coded('G-D7FE', 'Length'),
  '0040A300': item({ '0040A30A': element('DS', 12.5), '004008EA': coded('mm', 'millimeter') }) };
const drawn = { '0040A040': element('CS', 'SCOORD'), '00700023': element('CS', 'CIRCLE'), '00700022': element('FL', 5, 5, 8, 9),
  '0040A730': item({ '0040A040': element('CS', 'IMAGE'), '00081199': pointed('1.6') }) };
const inSpace = { '0040A040': element('CS', 'SCOORD3D'), '00700023': element('CS', 'POINT'), '00700022': element('FL', 10, 20, 11),
  '30060024': element('UI', '1.2') };
const sr = references.saidBy({ '00080060': element('CS', 'SR'), '0040A043': coded('126000', 'Measurements'), '0040A730': item(
  { ...measure, '0040A730': item(drawn) },
  { '0040A040': element('CS', 'CONTAINER'), '0040A730': item(measure, inSpace) }) });
assert.deepEqual(sr.keys.map(({ label }) => label), ['Length 12.5 mm']);
const onSlice = references.drawingsOn(on({}), sr.drawings);
assert.deepEqual(onSlice.map(({ shape, text }) => [shape, text]), [['circle', 'Length 12.5 mm'], ['points', 'Length 12.5 mm']]);
assert.deepEqual(onSlice[1].points, [{ x: 20.5, y: 10.5 }]);
assert.equal(references.drawingsOn(on({ instance: '1.9', position: [0, 0, 20] }), sr.drawings).length, 0);
const linked = references.linkedBy({ contained: [{ id: 'm', identifier: [{ system: 'urn:dicom:uid', value: 'urn:oid:1.8' }] }], media: [
  { comment: '结节', link: { identifier: { system: 'urn:dicom:uid', value: 'urn:oid:1.7' } } }, { link: { reference: '#m' } }, { link: { reference: 'Media/9' } },
  { link: { reference: 'https://elsewhere.example/Media/1' } }] });
assert.deepEqual(linked.keys.map(({ label, instance }) => [label, instance]), [['结节', '1.7'], ['', '1.8']]);
assert.deepEqual(linked.unread, [{ path: 'Media/9', label: '' }]);

// Slices that make a volume, on an even grid; and those that make none.
const slice = (z, more = {}) => ({ isGrey: true, columns: 8, rows: 4, spacing: { x: 0.5, y: 2, source: 'patient' }, position: [1, 2, z],
  orientation: axial, stored: signed, rescale: { slope: 1, intercept: -10 }, padding: null, ...more });
const even = volume.gridOf([6, 0, 3, 9, 12].map((z) => slice(z)), 1e9);
assert.deepEqual([even.isEven, even.spacing, even.order, even.by, even.origin], [true, [0.5, 2, 3], [1, 2, 0, 3, 4], 1, [1, 2, 0]]);
assert.deepEqual(even.direction.slice(6), [0, 0, 1]);
const uneven = volume.gridOf([0, 2, 4, 8, 10, 13].map((z) => slice(z)), 1e9);
assert.deepEqual([uneven.isEven, uneven.gaps, uneven.spacing[2], uneven.slices], [false, [2, 4], 2, 7]);
assert.deepEqual(volume.between(uneven, 3), { below: 2, above: 3, part: 0.5 });
const small = volume.gridOf([0, 3, 6, 9, 12].map((z) => slice(z)), 8 * 4 * 5 - 1);
assert.deepEqual([small.by, small.columns, small.rows, small.slices, small.spacing], [2, 4, 2, 3, [1, 4, 6]]);
assert.deepEqual(small.origin, [1.25, 3, 0]);
const means = volume.reduced(Uint16Array.from({ length: 32 }, (_, at) => at % 8), slice(0), small);
assert.deepEqual([...means], [-9.5, -7.5, -5.5, -3.5, -9.5, -7.5, -5.5, -3.5]);
const refused = (places, more) => volume.gridOf(places.map((z, at) => slice(z, typeof more === 'function' ? more(z, at) : more)), 1e9);
assert.equal(refused([0, 1, 2], {}), 'few');
assert.equal(refused([0, 3, 6, 6, 9], {}), 'repeated');
assert.equal(refused([0, 3, 6, 40, 43], {}), 'gap');
assert.equal(refused([0, 3, 6, 9, 12], (z) => ({ position: [0, z * 0.4, z] })), 'tilted');
assert.equal(refused([0, 3, 6, 9, 12], (z, at) => ({ columns: at ? 8 : 9 })), 'sizes');
assert.equal(refused([0, 3, 6, 9, 12], { spacing: { x: 1, y: 1, source: 'detector' } }), 'sizes');
assert.equal(refused([0, 3, 6, 9, 12], (z, at) => ({ orientation: at ? axial : [0, 1, 0, 0, 0, -1] })), 'turned');
assert.equal(refused([0, 3, 6, 9, 12], { isGrey: false }), 'colour');
assert.ok(volume.voxelsFor(undefined, true) < volume.voxelsFor(undefined, false));
assert.ok(volume.voxelsFor(1, true) < volume.voxelsFor(4, true));
console.log('all right');
