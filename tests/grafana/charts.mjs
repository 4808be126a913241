// Draws what a running Prometheus knows of a tree: a picture for each row of the dashboard, from the
// queries of its panels, as SVG.
//
//   npm ci
//   node charts.mjs http://localhost:9090 --minutes 15 --out ../../docs/charts
//
// `--end 2026-01-02T03:04:05Z` looks at another time than now. The table of all nodes has no chart, and
// logs are not Prometheus's.

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import * as vega from 'vega';
import * as vegaLite from 'vega-lite';

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    minutes: { type: 'string', default: '15' },
    end: { type: 'string' },
    out: { type: 'string', default: '../../docs/charts' },
  },
});
const [server] = positionals;
if (server === undefined) {
  console.error('usage: node charts.mjs URL [--minutes N] [--end TIME] [--out DIR]');
  process.exit(2);
}

// How many points a line has at most.
const POINTS = 180;
// The names that a legend has room for; the lines beyond are drawn all the same.
const NAMES = 12;
// From how many names on those are left out that have nothing to tell: a tree has nine nodes.
const MANY = 9;
const WIDTH = 400;
const HEIGHT = 150;

const generated = new URL('../../deploy/generated/', import.meta.url);
const read = (name) => JSON.parse(readFileSync(new URL(name, generated), 'utf8'));
const end = flags.end === undefined ? Date.now() / 1000 : Date.parse(flags.end) / 1000;
const start = end - Number(flags.minutes) * 60;
const step = Math.max(1, Math.round((end - start) / POINTS));

// The samples of a query, each with the name of its series.
async function samples({ expr, legend }, i) {
  const url = new URL('/api/v1/query_range', server);
  url.search = new URLSearchParams({ query: expr, start, end, step });
  const answer = await (await fetch(url)).json();
  if (answer.status !== 'success') throw new Error(`${expr}: ${answer.error}`);
  return answer.data.result.flatMap(({ metric, values }) => {
    const name = legend.replace(/\{\{(\w+)\}\}/g, (_, label) => metric[label] ?? '').trim() || 'value';
    const points = values.map(([time, value]) => ({
      time: time * 1000, name, le: metric.le, query: i, value: value === 'NaN' ? null : Number(value),
    }));
    // A line ends where there was nothing, and begins anew.
    return points.flatMap((point, j) => {
      const before = points[j - 1];
      const whole = before === undefined || point.time - before.time < step * 1500;
      return whole ? [point] : [{ ...point, time: before.time + 1, value: null }, point];
    });
  });
}

// Without the names that never were more than nothing, where that leaves some and there are many.
function telling(data) {
  const some = new Set(data.filter(({ value }) => value > 0).map(({ name }) => name));
  const all = new Set(data.map(({ name }) => name));
  return all.size > MANY && some.size > 0 ? data.filter(({ name }) => some.has(name)) : data;
}

// A duration as an axis has it.
const duration = (value) => `${value} == 0 ? '0' : ${value} < 1e-3 ? format(${value} * 1e6, '.3~r') + ' µs' : `
  + `${value} < 1 ? format(${value} * 1e3, '.3~r') + ' ms' : format(${value}, '.3~r') + ' s'`;
const UNITS = {
  s: { title: null, labelExpr: duration('datum.value') },
  bytes: { title: 'bytes', format: '.3~s' },
  Bps: { title: 'bytes per second', format: '.3~s' },
  ops: { title: 'per second', format: '.3~r' },
  reqps: { title: 'per second', format: '.3~r' },
  none: { title: null, format: ',.3~r' },
};

const time = {
  field: 'time',
  type: 'temporal',
  scale: { domainMin: start * 1000, domainMax: end * 1000 },
  axis: { title: null, format: end - start > 1200 ? '%H:%M' : '%H:%M:%S', tickCount: 6, grid: false },
};

function lines(panel, data) {
  const most = Math.max(...data.map(({ value }) => value ?? 0));
  const names = [...new Set(data.map(({ name }) => name))].sort();
  const stacked = panel.type === 'timeseries' && panel.stacked;
  return {
    mark: stacked
      ? { type: 'area', line: { strokeWidth: 1 }, fillOpacity: 0.5, clip: true }
      : { type: 'line', strokeWidth: 1.5, clip: true },
    encoding: {
      x: time,
      y: {
        field: 'value',
        type: 'quantitative',
        stack: stacked ? 'zero' : null,
        axis: { ...UNITS[panel.unit], ...(most > 0 ? { tickCount: 4 } : { values: [0, 1] }) },
        scale: most > 0 ? { zero: true, nice: true } : { domain: [0, 1] },
      },
      color: {
        field: 'name',
        type: 'nominal',
        scale: { domain: names, scheme: names.length > 10 ? 'tableau20' : 'tableau10' },
        legend: names.length < 2 ? null : { title: null, values: names.slice(0, NAMES) },
      },
    },
  };
}

// What was so when: a bar for each while.
function timeline(panel, data) {
  const colors = panel.values;
  const points = [];
  const last = new Map();
  for (const { name, time, value } of data.filter((point) => point.value !== null)) {
    const before = last.get(name);
    const state = colors[value][0];
    if (before?.state === state && time - before.until < step * 500) {
      before.until = time + step * 1000;
    } else {
      const bar = { name, time, until: time + step * 1000, state };
      last.set(name, bar);
      points.push(bar);
    }
  }
  return {
    data: { values: points },
    mark: { type: 'rect', height: { band: 0.8 }, clip: true },
    encoding: {
      x: time,
      x2: { field: 'until' },
      y: { field: 'name', type: 'nominal', axis: { title: null, grid: false } },
      color: {
        field: 'state',
        type: 'nominal',
        scale: { domain: colors.map(([name]) => name), range: colors.map(([, color]) => color) },
        legend: { title: null },
      },
    },
  };
}

const NOTHING = {
  data: { values: [{}] },
  mark: { type: 'text', fontSize: 12, color: '#888' },
  encoding: { text: { value: 'nothing' } },
};

// Buckets are counts of all that is no longer; a heatmap shows what is between two bounds.
function heatmap(panel, data) {
  const bound = (le) => (le === '+Inf' ? Infinity : Number(le));
  const bounds = [...new Set(data.map(({ le }) => le))].sort((a, b) => bound(a) - bound(b));
  const at = new Map(data.map((point) => [`${point.time} ${point.le}`, point.value]));
  const cells = data.filter((point) => point.value !== null).flatMap(({ time, le, value }) => {
    const below = bounds[bounds.indexOf(le) - 1];
    const count = value - (below === undefined ? 0 : at.get(`${time} ${below}`) ?? 0);
    return count > 1e-9 ? [{ time, until: time + step * 1000, le, count }] : [];
  });
  if (cells.length === 0) return NOTHING;
  return {
    data: { values: cells },
    mark: { type: 'rect', clip: true },
    encoding: {
      x: time,
      x2: { field: 'until' },
      y: {
        field: 'le',
        type: 'ordinal',
        sort: [...bounds].reverse(),
        scale: { domain: [...bounds].reverse() },
        axis: {
          title: 'up to',
          labelOverlap: true,
          labelExpr: `datum.value == '+Inf' ? 'more' : ${duration('toNumber(datum.value)')}`,
        },
      },
      color: {
        field: 'count',
        type: 'quantitative',
        scale: { scheme: 'oranges' },
        legend: { title: 'per second', format: '~s' },
      },
    },
  };
}

// What the dashboard says of a panel, by its title.
function looks() {
  const colors = { green: '#59a14f', red: '#e15759', text: '#bab0ac' };
  const found = new Map();
  for (const { title, type, fieldConfig } of read('tree-state-source.json').panels) {
    if (type === 'row') continue;
    const mapping = fieldConfig.defaults.mappings?.[0]?.options ?? {};
    found.set(title, {
      type,
      stacked: fieldConfig.defaults.custom?.stacking?.mode === 'normal',
      values: Object.values(mapping).map(({ text, color }) => [text, colors[color]]),
    });
  }
  return found;
}

async function draw(panel) {
  const data = telling((await Promise.all(panel.queries.map(samples))).flat());
  const size = { title: panel.title, width: WIDTH, height: HEIGHT };
  if (data.every(({ value }) => value === null)) return { ...size, ...NOTHING };
  if (panel.type === 'state-timeline') return { ...size, ...timeline(panel, data) };
  if (panel.type === 'heatmap') return { ...size, ...heatmap(panel, data) };
  return { ...size, data: { values: data }, ...lines(panel, data) };
}

const rows = new Map();
const looked = looks();
for (const query of read('queries.json')) {
  const look = looked.get(query.title);
  if (query.source !== 'panel' || query.datasource !== 'prometheus' || look.type === 'table') continue;
  if (!rows.has(query.row)) rows.set(query.row, new Map());
  const panels = rows.get(query.row);
  if (!panels.has(query.title)) {
    panels.set(query.title, { title: query.title, unit: query.unit, ...look, queries: [] });
  }
  panels.get(query.title).queries.push(query);
}

const out = resolve(flags.out);
mkdirSync(out, { recursive: true });
for (const [row, panels] of rows) {
  const drawn = [];
  for (const panel of panels.values()) drawn.push(await draw(panel));
  const spec = {
    $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
    background: 'white',
    padding: 12,
    columns: 2,
    concat: drawn,
    resolve: { scale: { color: 'independent', x: 'independent', y: 'independent' } },
    spacing: { row: 24, column: 24 },
    config: {
      font: 'sans-serif',
      title: { anchor: 'start', frame: 'group', fontSize: 13 },
      axis: { labelFontSize: 10, titleFontSize: 10, titleFontWeight: 'normal', gridColor: '#eee' },
      legend: { labelFontSize: 10, titleFontSize: 10, titleFontWeight: 'normal', symbolSize: 60, rowPadding: 1, labelLimit: 130 },
      view: { stroke: '#ddd' },
    },
  };
  const view = new vega.View(vega.parse(vegaLite.compile(spec).spec), { renderer: 'none' });
  const file = `${out}/${row.toLowerCase().replaceAll(' ', '-')}.svg`;
  writeFileSync(file, `${await view.toSVG()}\n`);
  console.log(file);
}
