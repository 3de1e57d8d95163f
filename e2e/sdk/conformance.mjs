// Runs the official SDKs against a node and prints one JSON line per check:
// {"name", "ok", "error"} or, once the client has left, {"left": mark}.
//
// Environment: BASE (https URL), KEY, LIMITED (a key with one request per
// minute, spent), KIND (what is behind the model), MODEL, EMBED.
import OpenAI from 'openai';
import Anthropic from '@anthropic-ai/sdk';
import { Ollama } from 'ollama';
import assert from 'node:assert/strict';

console.log = console.error; // the clients may talk, but not into the results

const { BASE, KEY, LIMITED, KIND, MODEL, EMBED } = process.env;
const print = (line) => process.stdout.write(JSON.stringify(line) + '\n');
const openai = new OpenAI({ baseURL: `${BASE}/v1`, apiKey: KEY, maxRetries: 0, timeout: 30_000 });
const anthropic = new Anthropic({ baseURL: BASE, apiKey: KEY, maxRetries: 0, timeout: 30_000 });
const native = { openai: KIND !== 'anthropic', anthropic: KIND === 'anthropic' };
const hello = [{ role: 'user', content: 'Hello there' }];
const PNG = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==';
const schema = {
  type: 'object',
  properties: { city: { type: 'string' }, days: { type: 'integer' } },
  required: ['city', 'days'],
  additionalProperties: false,
};

async function collect(stream) {
  const all = [];
  for await (const x of stream) all.push(x);
  return all;
}

async function raised(promise, type) {
  try {
    await promise;
  } catch (e) {
    assert.ok(e instanceof type, `raised ${e.constructor.name} (${e.status}): ${e.message}`);
    return e;
  }
  assert.fail(`${type.name} was not raised`);
}

const checks = {
  async 'openai chat'() {
    const c = await openai.chat.completions.create({ model: MODEL, messages: [{ role: 'system', content: 'Be brief.' }, ...hello] });
    assert.match(c.choices[0].message.content, /simulated/);
    assert.equal(c.object, 'chat.completion');
    assert.equal(c.choices[0].finish_reason, 'stop');
    assert.equal(c.usage.total_tokens, c.usage.prompt_tokens + c.usage.completion_tokens);
    assert.ok(c.usage.prompt_tokens > 0 && c.usage.completion_tokens > 0);
    assert.match(c._request_id, /^req_/);
  },
  async 'openai stream without usage'() {
    const stream = await openai.chat.completions.create({ model: MODEL, messages: hello, stream: true });
    const chunks = await collect(stream);
    assert.ok(chunks.length > 3);
    assert.ok(chunks.every((c) => c.choices.length > 0), 'a chunk without choices was not asked for');
    assert.match(chunks.map((c) => c.choices[0].delta.content ?? '').join(''), /simulated answer/);
    assert.equal(chunks.at(-1).choices[0].finish_reason, 'stop');
    assert.equal(new Set(chunks.map((c) => c.id)).size, 1);
  },
  async 'openai stream with usage'() {
    const stream = await openai.chat.completions.create({ model: MODEL, messages: hello, stream: true, stream_options: { include_usage: true } });
    const usage = (await collect(stream)).map((c) => c.usage).filter(Boolean);
    assert.equal(usage.length, 1);
    assert.equal(usage[0].total_tokens, usage[0].prompt_tokens + usage[0].completion_tokens);
  },
  async 'openai stream helper'() {
    const runner = openai.chat.completions.stream({ model: MODEL, messages: hello });
    let deltas = '';
    runner.on('content', (d) => { deltas += d; });
    const c = await runner.finalChatCompletion();
    assert.equal(c.choices[0].message.content, deltas);
    assert.match(deltas, /simulated/);
  },
  async 'openai tools'() {
    const tools = [{ type: 'function', function: { name: 'weather', description: 'Weather of a city', parameters: schema } }];
    const messages = [{ role: 'user', content: 'Please call weather' }];
    const c = await openai.chat.completions.create({ model: MODEL, messages, tools, tool_choice: 'auto' });
    const call = c.choices[0].message.tool_calls[0];
    assert.equal(c.choices[0].finish_reason, 'tool_calls');
    assert.equal(call.function.name, 'weather');
    assert.equal(typeof JSON.parse(call.function.arguments).days, 'number');
    const after = await openai.chat.completions.create({
      model: MODEL, tools,
      messages: [...messages, c.choices[0].message, { role: 'tool', tool_call_id: call.id, content: 'Sunny for three days' }],
    });
    assert.match(after.choices[0].message.content, /Sunny for three days/);
  },
  async 'openai tools, streamed'() {
    const tools = [{ type: 'function', function: { name: 'weather', parameters: schema } }, { type: 'function', function: { name: 'clock', parameters: schema } }];
    const stream = await openai.chat.completions.create({ model: MODEL, stream: true, messages: [{ role: 'user', content: 'call weather and call clock' }], tools });
    const calls = [];
    let finish;
    for await (const chunk of stream) {
      for (const d of chunk.choices[0]?.delta?.tool_calls ?? []) {
        const c = (calls[d.index] ??= { id: '', name: '', args: '' });
        if (d.id) c.id = d.id;
        c.name += d.function?.name ?? '';
        c.args += d.function?.arguments ?? '';
      }
      finish = chunk.choices[0]?.finish_reason ?? finish;
    }
    assert.deepEqual(calls.map((c) => c.name), ['weather', 'clock']);
    assert.ok(calls.every((c) => c.id && typeof JSON.parse(c.args).city === 'string'));
    assert.equal(finish, 'tool_calls');
  },
  async 'openai structured output'() {
    const c = await openai.chat.completions.create({
      model: MODEL, messages: hello, response_format: { type: 'json_schema', json_schema: { name: 'trip', strict: true, schema } },
    });
    const trip = JSON.parse(c.choices[0].message.content);
    assert.equal(typeof trip.city, 'string');
    assert.ok(Number.isInteger(trip.days));
  },
  async 'openai image'() {
    const content = [{ type: 'text', text: 'What is this?' }, { type: 'image_url', image_url: { url: `data:image/png;base64,${PNG}` } }];
    const c = await openai.chat.completions.create({ model: MODEL, messages: [{ role: 'user', content }] });
    assert.match(c.choices[0].message.content, /attached 1 image/);
  },
  async 'openai bounds and stops'() {
    const short = await openai.chat.completions.create({ model: MODEL, messages: hello, max_tokens: 5 });
    assert.equal(short.choices[0].finish_reason, 'length');
    assert.equal(short.usage.completion_tokens, 5);
    const stopped = await openai.chat.completions.create({ model: MODEL, messages: hello, stop: ['simulated'] });
    assert.equal(stopped.choices[0].finish_reason, 'stop');
    assert.doesNotMatch(stopped.choices[0].message.content, /simulated/);
  },
  async 'openai several answers, or a clear no'() {
    const ask = openai.chat.completions.create({ model: MODEL, messages: hello, n: 2 });
    if (KIND === 'anthropic' || KIND === 'ollama') {
      const e = await raised(ask, OpenAI.BadRequestError);
      assert.match(e.message, /\bn\b/);
      return;
    }
    assert.equal((await ask).choices.length, 2);
  },
  async 'openai reasoning effort'() {
    const c = await openai.chat.completions.create({ model: MODEL, messages: hello, reasoning_effort: KIND === 'mistral' ? 'high' : 'low' });
    assert.match(c.choices[0].message.content.toString() + JSON.stringify(c.choices[0].message.content), /simulated/i);
  },
  async 'openai embeddings, or a clear no'() {
    const ask = openai.embeddings.create({ model: EMBED, input: ['one', 'two'] });
    if (KIND === 'anthropic') {
      const e = await raised(ask, OpenAI.BadRequestError);
      assert.match(e.message, /embeddings/);
      return;
    }
    const e = await ask; // the SDK asks for base64 and decodes it
    assert.equal(e.data.length, 2);
    const norm = Math.hypot(...e.data[0].embedding);
    assert.ok(Math.abs(norm - 1) < 1e-3, `norm ${norm}`);
    assert.notDeepEqual(e.data[0].embedding, e.data[1].embedding);
    assert.ok(e.usage.prompt_tokens > 0);
  },
  async 'openai models'() {
    const models = await collect(await openai.models.list());
    assert.ok(models.some((m) => m.id === MODEL && m.object === 'model'));
    assert.equal((await openai.models.retrieve(MODEL)).id, MODEL);
    await raised(openai.models.retrieve('no-such-model'), OpenAI.NotFoundError);
  },
  async 'openai responses, or a clear no'() {
    const ask = openai.responses.create({ model: MODEL, input: 'Hello there' });
    if (KIND === 'anthropic' || KIND === 'mistral') {
      const e = await raised(ask, OpenAI.BadRequestError);
      assert.match(e.message, /responses/);
      return;
    }
    const r = await ask;
    assert.match(r.output_text, /simulated/);
    assert.equal(r.status, 'completed');
    assert.notEqual(r.store, true);
    const events = await collect(await openai.responses.create({ model: MODEL, input: 'Hello there', stream: true }));
    assert.equal(events.at(-1).type, 'response.completed');
    assert.match(events.filter((e) => e.type === 'response.output_text.delta').map((e) => e.delta).join(''), /simulated/);
  },
  async 'openai errors have the right classes'() {
    const create = (client, extra) => client.chat.completions.create({ model: MODEL, messages: hello, ...extra });
    const auth = await raised(create(new OpenAI({ baseURL: `${BASE}/v1`, apiKey: 'fdy_wrong', maxRetries: 0 })), OpenAI.AuthenticationError);
    assert.equal(auth.code, 'invalid_api_key');
    const missing = await raised(create(openai, { model: 'no-such-model' }), OpenAI.NotFoundError);
    assert.equal(missing.code, 'model_not_found');
    await raised(create(openai, { messages: 'none' }), OpenAI.BadRequestError);
    const denied = await raised(openai.chat.completions.create({ model: MODEL, messages: hello }, { headers: { 'X-Foundry-Data-Class': 'restricted' } }), OpenAI.PermissionDeniedError);
    assert.equal(denied.code, 'class-ceiling');
    assert.match(denied.requestID, /^req_/);
    const limited = await raised(create(new OpenAI({ baseURL: `${BASE}/v1`, apiKey: LIMITED, maxRetries: 0 })), OpenAI.RateLimitError);
    assert.ok(Number(limited.headers.get('retry-after')) >= 1);
    await raised(create(openai, { messages: [{ role: 'user', content: 'simulate 500' }] }), OpenAI.InternalServerError);
    const own = await raised(create(openai, { messages: [{ role: 'user', content: 'simulate context-length-exceeded' }] }), OpenAI.BadRequestError);
    assert.match(own.message, /too l|maximum context|too large/);
  },
  async 'openai stream that breaks'() {
    const stream = await openai.chat.completions.create({ model: MODEL, stream: true, messages: [{ role: 'user', content: 'simulate cut chunk=3' }] });
    let chunks = 0;
    const e = await raised((async () => { for await (const _ of stream) chunks++; })(), OpenAI.APIError);
    assert.match(e.message, /incomplete/);
    assert.ok(chunks >= 3);
  },
  async 'openai abort in the middle'() {
    const mark = `left-openai-${KIND}`;
    const stream = await openai.chat.completions.create({
      model: MODEL, stream: true, messages: [{ role: 'system', content: mark }, { role: 'user', content: 'simulate stall chunk=3' }],
    });
    for await (const chunk of stream) {
      if (chunk.choices[0]?.delta?.content) break; // leaving the loop aborts
    }
    print({ left: mark });
  },
  async 'anthropic message'() {
    const m = await anthropic.messages.create({ model: MODEL, max_tokens: 200, system: 'Be brief.', messages: hello });
    assert.equal(m.type, 'message');
    assert.match(m.content[0].text, /simulated/);
    assert.equal(m.stop_reason, 'end_turn');
    assert.ok(m.usage.input_tokens > 0 && m.usage.output_tokens > 0);
    assert.match(m._request_id ?? '', /^req_/);
  },
  async 'anthropic stream'() {
    const events = await collect(await anthropic.messages.create({ model: MODEL, max_tokens: 200, messages: hello, stream: true }));
    assert.equal(events[0].type, 'message_start');
    assert.equal(events.at(-1).type, 'message_stop');
    assert.match(events.filter((e) => e.type === 'content_block_delta').map((e) => e.delta.text).join(''), /simulated/);
    const delta = events.find((e) => e.type === 'message_delta');
    assert.equal(delta.delta.stop_reason, 'end_turn');
    assert.ok(delta.usage.output_tokens > 0);
  },
  async 'anthropic stream helper'() {
    const stream = anthropic.messages.stream({ model: MODEL, max_tokens: 200, messages: hello });
    let text = '';
    stream.on('text', (t) => { text += t; });
    const m = await stream.finalMessage();
    assert.equal(m.content[0].text, text);
    assert.equal(m.stop_reason, 'end_turn');
  },
  async 'anthropic tools'() {
    const tools = [{ name: 'weather', description: 'Weather of a city', input_schema: schema }];
    const messages = [{ role: 'user', content: 'Please call weather' }];
    const m = await anthropic.messages.create({ model: MODEL, max_tokens: 200, messages, tools });
    assert.equal(m.stop_reason, 'tool_use');
    const use = m.content.find((b) => b.type === 'tool_use');
    assert.equal(use.name, 'weather');
    assert.equal(typeof use.input.days, 'number');
    const after = await anthropic.messages.create({
      model: MODEL, max_tokens: 200, tools,
      messages: [...messages, { role: 'assistant', content: m.content }, { role: 'user', content: [{ type: 'tool_result', tool_use_id: use.id, content: 'Sunny for three days' }] }],
    });
    assert.match(after.content[0].text, /Sunny for three days/);
  },
  async 'anthropic tools, streamed'() {
    const tools = [{ name: 'weather', input_schema: schema }, { name: 'clock', input_schema: schema }];
    const stream = anthropic.messages.stream({ model: MODEL, max_tokens: 300, messages: [{ role: 'user', content: 'call weather and call clock' }], tools });
    let json = 0;
    stream.on('inputJson', () => { json++; });
    const m = await stream.finalMessage();
    const uses = m.content.filter((b) => b.type === 'tool_use');
    assert.deepEqual(uses.map((u) => u.name), ['weather', 'clock']);
    assert.ok(uses.every((u) => typeof u.input.city === 'string'));
    assert.ok(json >= 2);
    assert.equal(m.stop_reason, 'tool_use');
  },
  async 'anthropic image'() {
    const content = [{ type: 'text', text: 'What is this?' }, { type: 'image', source: { type: 'base64', media_type: 'image/png', data: PNG } }];
    const m = await anthropic.messages.create({ model: MODEL, max_tokens: 200, messages: [{ role: 'user', content }] });
    assert.match(m.content[0].text, /attached 1 image/);
  },
  async 'anthropic bounds and stops'() {
    const short = await anthropic.messages.create({ model: MODEL, max_tokens: 5, messages: hello });
    assert.equal(short.stop_reason, 'max_tokens');
    assert.equal(short.usage.output_tokens, 5);
    const stopped = await anthropic.messages.create({ model: MODEL, max_tokens: 200, messages: hello, stop_sequences: ['simulated'] });
    // OpenAI's dialect does not tell a stop sequence from an ordinary end.
    assert.ok(['stop_sequence', 'end_turn'].includes(stopped.stop_reason));
    if (native.anthropic) assert.equal(stopped.stop_reason, 'stop_sequence');
    assert.doesNotMatch(stopped.content[0].text, /simulated/);
  },
  async 'anthropic thinking, or a clear no'() {
    const ask = { model: MODEL, max_tokens: 2000, messages: hello, thinking: { type: 'enabled', budget_tokens: 1024 } };
    if (!native.anthropic) {
      const e = await raised(anthropic.messages.create(ask), Anthropic.BadRequestError);
      assert.match(e.message, /thinking/);
      return;
    }
    const m = await anthropic.messages.create(ask);
    assert.equal(m.content[0].type, 'thinking');
    assert.ok(m.content[0].signature);
    const streamed = await anthropic.messages.stream(ask).finalMessage();
    assert.equal(streamed.content[0].type, 'thinking');
    assert.equal(streamed.content[0].thinking, m.content[0].thinking);
  },
  async 'anthropic count_tokens, or a clear no'() {
    const ask = anthropic.messages.countTokens({ model: MODEL, messages: hello });
    if (!native.anthropic) {
      const e = await raised(ask, Anthropic.BadRequestError);
      assert.match(e.message, /count_tokens/);
      return;
    }
    assert.ok((await ask).input_tokens > 0);
  },
  async 'anthropic models'() {
    const models = await collect(await anthropic.models.list());
    assert.ok(models.some((m) => m.id === MODEL && m.type === 'model'));
    assert.equal((await anthropic.models.retrieve(MODEL)).id, MODEL);
  },
  async 'anthropic errors have the right classes'() {
    const create = (client, extra, options) => client.messages.create({ model: MODEL, max_tokens: 50, messages: hello, ...extra }, options);
    await raised(create(new Anthropic({ baseURL: BASE, apiKey: 'fdy_wrong', maxRetries: 0 })), Anthropic.AuthenticationError);
    await raised(create(anthropic, { model: 'no-such-model' }), Anthropic.NotFoundError);
    await raised(create(anthropic, { messages: 'none' }), Anthropic.BadRequestError);
    const denied = await raised(create(anthropic, {}, { headers: { 'X-Foundry-Data-Class': 'restricted' } }), Anthropic.PermissionDeniedError);
    assert.equal(denied.error.error.type, 'permission_error');
    await raised(create(new Anthropic({ baseURL: BASE, apiKey: LIMITED, maxRetries: 0 })), Anthropic.RateLimitError);
    await raised(create(anthropic, { messages: [{ role: 'user', content: 'simulate 500' }] }), Anthropic.InternalServerError);
    await raised(create(anthropic, { messages: [{ role: 'user', content: 'simulate context-length-exceeded' }] }), Anthropic.BadRequestError);
  },
  async 'anthropic stream that breaks'() {
    const stream = anthropic.messages.stream({ model: MODEL, max_tokens: 200, messages: [{ role: 'user', content: 'simulate cut chunk=3' }] });
    const e = await raised(stream.finalMessage(), Anthropic.APIError);
    assert.match(e.message, /incomplete/);
  },
  async 'anthropic abort in the middle'() {
    const mark = `left-anthropic-${KIND}`;
    const stream = anthropic.messages.stream({ model: MODEL, max_tokens: 200, system: mark, messages: [{ role: 'user', content: 'simulate stall chunk=3' }] });
    await new Promise((resolve) => stream.once('text', resolve));
    stream.abort();
    await raised(stream.finalMessage(), Anthropic.APIUserAbortError);
    print({ left: mark });
  },
  async 'ollama client is told which endpoints there are'() {
    const client = new Ollama({ host: BASE, headers: { Authorization: `Bearer ${KEY}` } });
    const e = await raised(client.chat({ model: MODEL, messages: hello }), Error);
    assert.equal(e.status_code, 404);
  },
};

for (const [name, check] of Object.entries(checks)) {
  try {
    await check();
    print({ name, ok: true });
  } catch (e) {
    print({ name, ok: false, error: e.stack ?? String(e) });
  }
}
