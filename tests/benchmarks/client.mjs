// The npm client with the least that an application can do: count. Usage: node client.mjs URL TOKEN NODE_MODULES
//
// It first looks whether the events were validated: the SDK strips and camel-cases what its schema accepts, so a stamp, or a key in snake case,
// means its other path. After LOOKED_AT events it only counts. SIGTERM: the counts on standard output, and the end.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [url, token, modules] = process.argv.slice(2);
const require = createRequire(modules + "/");
globalThis.WebSocket = require("ws").WebSocket; // Node 20 has none of its own
const { WsClient } = await import(pathToFileURL(modules + "/@relaycast/sdk/dist/index.js").href);

const LOOKED_AT = 1000;
const KINDS = ["message.created", "thread.reply", "dm.received", "message.reacted", "delivery.accepted", "agent.status.active"];
const found = { events: 0, validated: 0, odd: 0, kinds: {}, resynced: 0, replayed: 0 };
const client = new WsClient({ token, baseUrl: url, reconnectBaseDelayMs: 250 });

function raw(value) {
  if (value === null || typeof value !== "object") return false;
  return Object.entries(value).some(([key, inner]) => key.includes("_") || key === "agentSeq" || raw(inner));
}

function look(event) {
  if (raw(event)) found.odd += 1;
  else found.validated += 1;
  found.kinds[event.type] = (found.kinds[event.type] ?? 0) + 1;
  found.events += 1;
  if (found.events === LOOKED_AT) queueMicrotask(countOnly); // not now: a handler added while they are called is called too
}

function countOnly() {
  for (const kind of KINDS) {
    client.off(kind, look);
    client.on(kind, count);
  }
}

function count() {
  found.events += 1;
}

for (const kind of KINDS) client.on(kind, look);
client.on("resynced", (event) => {
  found.resynced += 1;
  found.replayed += event.replayed;
});
client.on("open", () => client.subscribe(["general"]));
client.connect();
process.on("SIGTERM", () => process.stdout.write(JSON.stringify(found) + "\n", () => process.exit(0)));
