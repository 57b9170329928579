// Runs a real npm client against a relay and prints what happens as JSON lines. What is done is told by one JSON argument:
//   {mode: "watch" | "schema" | "rest", url, token, ...}
// Nothing here interprets: counting and judging is the tests'.

import { ServerEventSchema } from '@relaycast/types';
import * as types from '@relaycast/types';
import { RelayCast, WsClient } from '@relaycast/sdk';
import WebSocket from 'ws';

// Node 20 has no WebSocket of its own; the SDK looks for a global one, and users give it this one.
globalThis.WebSocket = WebSocket;

const options = JSON.parse(process.argv[2]);
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

if (options.clockOffsetMs) {
  const Real = Date;
  globalThis.Date = class extends Real {
    constructor(...args) {
      super(...(args.length ? args : [Real.now() + options.clockOffsetMs]));
    }
    static now() {
      return Real.now() + options.clockOffsetMs;
    }
  };
}

// watch: the client's lifecycle events and every event it hands to the application, in order
function watch() {
  const settings = {
    reconnectJitter: false,
    reconnectBaseDelayMs: options.baseDelayMs ?? 100,
    ...(options.maxDelayMs === undefined ? {} : { reconnectMaxDelayMs: options.maxDelayMs }),
    ...(options.maxReconnectAttempts === undefined ? {} : { maxReconnectAttempts: options.maxReconnectAttempts }),
  };
  let client;
  if (options.client === 'relaycast') {
    client = new RelayCast({ apiKey: options.token, baseUrl: options.url, ws: settings });
    client.on.any((event) => say(event));
  } else {
    client = new WsClient({ token: options.token, baseUrl: options.url, ...settings });
    if (options.connectTimeoutMs !== undefined) client.connectTimeoutMs = options.connectTimeoutMs;
    if (options.subscribe) client.on('open', () => client.subscribe(options.subscribe));
    client.on('*', (event) => say(event));
  }
  client.connect();
  process.stdin.on('data', (data) => {
    for (const command of String(data).trim().split('\n')) client[command]?.();
  });
  process.stdin.on('end', () => {
    client.disconnect();
    process.stdin.destroy();
  });
}

// schema: every frame as the wire has it, with what the client's schema says of it
function schema() {
  const socket = new WebSocket(`${options.url.replace('http', 'ws')}/v1/ws?token=${options.token}`);
  socket.on('open', () => say({ type: 'open', extensions: socket.extensions, protocol: socket.protocol }));
  socket.on('message', (data) => {
    const frame = JSON.parse(String(data));
    const result = ServerEventSchema.safeParse(frame);
    say({ type: 'frame', frame, valid: result.success, issues: result.success ? null : result.error.issues });
  });
  socket.on('unexpected-response', (request, response) => {
    say({ type: 'refused', status: response.statusCode, headers: response.headers });
    request.destroy();
  });
  socket.on('error', () => {});
  process.stdin.on('data', (data) => socket.send(String(data).trim()));
  process.stdin.on('end', () => {
    socket.close();
    process.stdin.destroy();
  });
}

// rest: the SDK's HTTP client does what a user does first; replies are checked by the client's own schemas
async function rest() {
  const check = (name, shape, value) => say({ type: 'reply', name, valid: shape.safeParse(value).success, value });
  const raw = async (method, path, token, body) => {
    const response = await fetch(`${options.url}${path}`, {
      method,
      headers: { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json' },
      ...(body ? { body: JSON.stringify(body) } : {}),
    });
    return (await response.json()).data;
  };
  const workspace = await RelayCast.createWorkspace('interop', { baseUrl: options.url });
  const relay = new RelayCast({ apiKey: workspace.apiKey, baseUrl: options.url });
  const alice = await relay.agents.register({ name: 'alice' });
  const bob = await relay.agents.registerOrRotate({ name: 'bob' });
  const rotated = await relay.agents.registerOrRotate({ name: 'bob' });
  say({ type: 'agents', different: bob.token !== rotated.token, same: bob.id === rotated.id });
  const me = relay.as(alice.token, { autoHeartbeatMs: false });
  say({ type: 'me', name: (await me.me()).name });
  await me.channels.create({ name: 'news', topic: 'all' });
  await relay.as(rotated.token).channels.join('news');
  const first = await me.send('#news', 'hello @bob', { idempotencyKey: 'k' });
  const again = await me.send('news', 'hello @bob', { idempotencyKey: 'k' });
  say({ type: 'once', same: first.id === again.id, mentions: first.mentions });
  try {
    await me.send('news', 'something else', { idempotencyKey: 'k' });
  } catch (error) {
    say({ type: 'error', code: error.code, rawCode: error.rawCode, status: error.statusCode });
  }
  await me.react(first.id, 'eyes');
  await me.unreact(first.id, 'eyes');
  await me.reply(first.id, 'and more');
  await me.dm('bob', 'psst');
  await me.dm('@self', 'note');
  const group = await me.dms.createGroup({ participants: ['bob'] });
  await me.dms.sendMessage(group.id, 'all of you');
  await me.channels.mute('news');
  await me.channels.unmute('news');
  await me.channels.setTopic('news', 'some');
  await me.heartbeat();
  say({ type: 'history', texts: (await me.messages('news', { limit: 10 })).map((message) => message.text) });
  check('agent', types.CreateAgentResponseSchema, await raw('POST', '/v1/agents', workspace.apiKey, { name: 'carol' }));
  check('agents', types.AgentSchema.array(), await raw('GET', '/v1/agents', workspace.apiKey));
  check('channel', types.ChannelSchema, await raw('GET', '/v1/channels/news', alice.token));
  check('join', types.JoinChannelResponseSchema, await raw('POST', '/v1/channels/news/join', alice.token));
  check('messages', types.MessageWithMetaSchema.array(), await raw('GET', '/v1/channels/news/messages', alice.token));
  check('dm', types.SendDmResponseSchema, await raw('POST', '/v1/dm', alice.token, { to: 'bob', text: 'x' }));
  check('group', types.CreateGroupDmResponseSchema, await raw('POST', '/v1/dm/group', alice.token, { participants: ['bob'] }));
  check('reaction', types.AddedReactionSchema, await raw('POST', `/v1/messages/${first.id}/reactions`, alice.token, { emoji: 'eyes' }));
  check('rotate', types.TokenRotateResponseSchema, await raw('POST', '/v1/agents/carol/rotate-token', workspace.apiKey));
  await me.channels.leave('news');
  await me.disconnect();
  say({ type: 'done' });
}

await { watch, schema, rest }[options.mode]();
