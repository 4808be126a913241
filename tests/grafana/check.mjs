// Checks what the generator of the dashboard makes against what Grafana itself publishes: LogQL with its
// grammar, the dashboard with the types of its schema, and that all of deploy/ is YAML.
//
//   npm ci && node check.mjs

import { parser } from '@grafana/lezer-logql';
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseDocument } from 'yaml';

const here = new URL('.', import.meta.url);
const deploy = new URL('../../deploy/', here);
const generated = new URL('generated/', deploy);
const read = (name) => JSON.parse(readFileSync(new URL(name, generated), 'utf8'));
const problems = [];

// Where the grammar does not go on, if anywhere.
function wrongPlace(query) {
  let place = null;
  parser.parse(query).iterate({
    enter: (node) => {
      if (node.type.isError && place === null) place = node.from;
    },
  });
  return place;
}

const logql = read('queries.json').filter((query) => query.datasource === 'loki');
for (const { title, expr } of logql) {
  const place = wrongPlace(expr);
  if (place !== null) problems.push(`${title}: no LogQL from ${place} on: ${expr}`);
}
if (logql.length === 0) problems.push('there is no LogQL to check');
if (wrongPlace('sum by (level) (rate({a="b"} | json [1m])') === null) {
  problems.push('a query without its end counts as LogQL');
}

// What of the types belongs to which sort of panel: options, and what fields have of their own.
const kinds = {
  heatmap: ['heatmap/panelcfg/x/HeatmapPanelCfg', 'Options', 'FieldConfig'],
  logs: ['logs/panelcfg/x/LogsPanelCfg', 'Options', null],
  stat: ['stat/panelcfg/x/StatPanelCfg', 'Options', null],
  'state-timeline': ['statetimeline/panelcfg/x/StateTimelinePanelCfg', 'Options', 'FieldConfig'],
  table: ['table/panelcfg/x/TablePanelCfg', 'Options', 'FieldConfig'],
  timeseries: ['timeseries/panelcfg/x/TimeSeriesPanelCfg', 'Options', 'FieldConfig'],
};

// What an import by hand reads besides the schema.
const { __inputs, __requires, ...dashboard } = read('tree-state-source.json');
const lines = [
  "import * as schema from '@grafana/schema/dist/esm/raw/dashboard/x/Dashboard_types.gen';",
  // JSON has no enumerations, but their values; what a plugin brings is typed below.
  'type Plain<T> = T extends string ? `${T}` : T extends number | boolean | null | undefined | Date ? T',
  '  : T extends (infer E)[] ? Plain<E>[] : { [K in keyof T]: Plain<T[K]> };',
  // These are in what Grafana itself saves.
  'type Variable = schema.VariableModel & { definition?: string };',
  'type Annotation = schema.AnnotationQuery & {',
  '  expr?: string; step?: string; titleFormat?: string; useValueForTime?: string };',
  'type Panel = schema.Panel & { datasource: schema.DataSourceRef; targets: object[] };',
  'type Dashboard = Omit<schema.Dashboard, "templating" | "annotations" | "panels"> & {',
  '  templating: { list: Variable[] }; annotations: { list: Annotation[] };',
  '  panels: (Panel | schema.RowPanel)[] };',
];
for (const [i, [path]] of Object.values(kinds).entries()) {
  lines.push(`import * as kind${i} from '@grafana/schema/dist/esm/raw/composable/${path}_types.gen';`);
}
lines.push(`export const dashboard: Plain<Dashboard> = ${JSON.stringify(dashboard, null, 1)};`);
for (const panel of dashboard.panels) {
  if (panel.type === 'row') continue;
  const i = Object.keys(kinds).indexOf(panel.type);
  if (i < 0) {
    problems.push(`${panel.title}: who types a ${panel.type}?`);
    continue;
  }
  const [, options, custom] = kinds[panel.type];
  const typed = (name, value) =>
    lines.push(`// ${panel.title}`, `export const ${name}${panel.id}: Partial<Plain<kind${i}.${
      name === 'options' ? options : custom}>> = ${JSON.stringify(value)};`);
  typed('options', panel.options);
  const fields = panel.fieldConfig.defaults.custom;
  if (fields !== undefined) typed('custom', fields);
}

const folder = new URL('.check/', here);
mkdirSync(folder, { recursive: true });
writeFileSync(new URL('dashboard.ts', folder), `${lines.join('\n')}\n`);
const wrong = "import type { Dashboard } from '@grafana/schema';\n"
  + "export const wrong: Dashboard = { schemaVersion: '39' };\n";
writeFileSync(new URL('wrong.ts', folder), wrong);
function tsc(file) {
  const compiler = fileURLToPath(new URL('node_modules/typescript/bin/tsc', here));
  const args = [compiler, '--noEmit', '--strict', '--skipLibCheck', '--ignoreConfig', '--target', 'es2022',
    '--module', 'nodenext', '--moduleResolution', 'nodenext', file];
  const ended = spawnSync(process.execPath, args, { cwd: folder, encoding: 'utf8' });
  return ended.status === 0 ? '' : ended.stdout + ended.stderr;
}
const typed = tsc('dashboard.ts');
if (typed !== '') problems.push(`the dashboard is not as the schema has it:\n${typed}`);
if (!tsc('wrong.ts').includes('TS2322')) problems.push('a wrong dashboard counts as right');

for (const place of [deploy, generated]) {
  for (const name of readdirSync(place).filter((name) => /\.ya?ml$/.test(name))) {
    const document = parseDocument(readFileSync(new URL(name, place), 'utf8'), { merge: true });
    for (const error of document.errors) problems.push(`${name}: ${error.message}`);
  }
}

for (const problem of problems) console.error(problem);
if (problems.length === 0) {
  const panels = dashboard.panels.filter((panel) => panel.type !== 'row').length;
  console.log(`${panels} panels and ${logql.length} LogQL queries are as Grafana has them`);
}
process.exit(problems.length === 0 ? 0 : 1);
