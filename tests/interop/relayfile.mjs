// Runs the real npm RelayFileSync against a relay and prints what happens as JSON lines. What is done is told by one JSON argument:
//   {url, token, workspace, socket: "ws" | "builtin", from, cursor, paths, pollIntervalMs, pingIntervalMs, reconnect}
// Nothing here interprets: counting and judging is the tests'.

import { RelayFileClient, RelayFileSync } from '@relayfile/sdk';
import WebSocketOfWs from 'ws';

const options = JSON.parse(process.argv[2]);
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
console.warn = (text) => say({ type: 'warn', text: String(text) });

const client = new RelayFileClient({ baseUrl: options.url, token: options.token, retry: { maxRetries: 0 } });
const optional = Object.fromEntries(
  ['from', 'cursor', 'paths', 'pollIntervalMs', 'pingIntervalMs', 'reconnect', 'preferPolling']
    .filter((name) => options[name] !== undefined)
    .map((name) => [name, options[name]]),
);
const sync = new RelayFileSync({
  client,
  workspaceId: options.workspace,
  baseUrl: options.url,
  // Node 20 has no WebSocket of its own unless it is asked for (--experimental-websocket).
  ...(options.socket === 'builtin' ? {} : { webSocketFactory: (url) => new WebSocketOfWs(url) }),
  onPollingFallback: ({ reason }) => say({ type: 'polling-fallback', reason }),
  ...optional,
});
sync.on('state', (state) => say({ type: 'state', state }));
sync.on('event', (event) => say({ type: 'event', event }));
sync.on('pong', () => say({ type: 'pong' }));
sync.on('open', () => say({ type: 'open' }));
sync.on('close', (event) => say({ type: 'close', code: event.code, reason: event.reason }));
sync.on('error', (error) => say({ type: 'error', message: String(error?.message ?? error), status: error?.status ?? null }));
sync.start();

// A line {call, input} calls the REST client and tells what it answered.
let buffered = '';
process.stdin.on('data', (data) => {
  buffered += data;
  const lines = buffered.split('\n');
  buffered = lines.pop();
  for (const line of lines) {
    const { call, input } = JSON.parse(line);
    client[call](...(Array.isArray(input) ? input : [input])).then(
      (value) => say({ type: 'answer', call, value }),
      (error) => say({ type: 'refusal', call, status: error.status ?? null, code: error.code ?? null, name: error.name }),
    );
  }
});
process.stdin.on('end', async () => {
  process.stdin.destroy();
  await sync.stop();
  process.exit(0);
});
