// Checks custom resources, a JSON array on standard input, against their definitions. The schemas
// find wrong types, missing fields and values that aren't allowed; they let unknown fields pass, as
// Kubernetes does (it drops them without a word), so the compiler looks for those in the types.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

const packages = {
  'external-secrets.io': '@kubernetes-models/external-secrets',
  'gateway.networking.k8s.io': '@kubernetes-models/gateway-api',
  'monitoring.coreos.com': '@kubernetes-models/prometheus-operator',
  'postgresql.cnpg.io': '@kubernetes-models/cloudnative-pg',
};
const resources = JSON.parse(readFileSync(0, 'utf8'));
const mistakes = [];
let source = '';
const names = [];
for (const [index, { case: name, resource }] of resources.entries()) {
  const { apiVersion, kind } = resource;
  const module = `${packages[apiVersion.split('/')[0]]}/${apiVersion}/${kind}`;
  const model = (await import(module))[kind];
  try {
    new model(resource).validate();
  } catch (error) {
    mistakes.push(`${name}: ${kind} ${resource.metadata.name}: ${error.message}`);
  }
  // Each on one line, so that a line's number says which it is.
  source += `import type { I${kind} as R${index} } from '${module}'; export const r${index}: R${index} = ${JSON.stringify(resource)};\n`;
  names.push(`${name}: ${kind} ${resource.metadata.name}`);
}

const file = fileURLToPath(new URL('resources.ts', import.meta.url));
const options = {
  noEmit: true,
  strict: true,
  skipLibCheck: true,
  types: [],
  module: ts.ModuleKind.NodeNext,
  moduleResolution: ts.ModuleResolutionKind.NodeNext,
  target: ts.ScriptTarget.ES2022,
};
const host = ts.createCompilerHost(options);
const { getSourceFile, fileExists, readFile } = host;
host.getSourceFile = (path, ...rest) =>
  path === file ? ts.createSourceFile(path, source, options.target) : getSourceFile(path, ...rest);
host.fileExists = (path) => path === file || fileExists(path);
host.readFile = (path) => (path === file ? source : readFile(path));
const program = ts.createProgram([file], options, host);
for (const problem of ts.getPreEmitDiagnostics(program)) {
  const text = ts.flattenDiagnosticMessageText(problem.messageText, '\n');
  const line = problem.file?.fileName === file
    ? names[problem.file.getLineAndCharacterOfPosition(problem.start).line]
    : problem.file?.fileName;
  mistakes.push(`${line}: ${text}`);
}
if (mistakes.length) {
  console.error(mistakes.join('\n'));
  process.exit(1);
}
console.log(`${resources.length} resources are fine`);
