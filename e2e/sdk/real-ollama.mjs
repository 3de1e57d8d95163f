// Runs calls through the official SDKs. Reads one job per line on standard
// input, {"id", "sdk", "base", "key", "call", "params", "abortAfter",
// "tellAfter"}, and writes one result per line, and a line {"id", "begun"}
// before it where tellAfter asks for one. Jobs run side by side; the line
// {"abort": id} aborts one.
import { createInterface } from 'node:readline';
import Anthropic from '@anthropic-ai/sdk';
import OpenAI from 'openai';
import { Ollama } from 'ollama';

const running = new Map();

// signal is what aborts a job from outside.
function signal(job) {
  running.set(job.id, new AbortController());
  return running.get(job.id).signal;
}

// Retries belong to the gateway here: one by an SDK would hide a failure.
const openai = (job) => new OpenAI({ baseURL: job.base + '/v1', apiKey: job.key, maxRetries: 0, timeout: 60_000 });
const anthropic = (job) => new Anthropic({ baseURL: job.base, apiKey: job.key, maxRetries: 0, timeout: 60_000 });
const ollama = (job) => new Ollama({ host: job.base, headers: { Authorization: 'Bearer ' + job.key } });

const headers = (response) => Object.fromEntries(response.headers.entries());

const calls = {
  'openai chat': async (job) => {
    const { data, response } = await openai(job).chat.completions.create(job.params, { signal: signal(job) }).withResponse();
    const choice = data.choices[0];
    return {
      headers: headers(response), model: data.model, text: choice.message.content ?? '', reasoning: choice.message.reasoning ?? '',
      finish: choice.finish_reason, tools: (choice.message.tool_calls ?? []).map((c) => ({ id: c.id, name: c.function.name, input: JSON.parse(c.function.arguments) })),
      input: data.usage?.prompt_tokens, output: data.usage?.completion_tokens,
    };
  },
  'openai stream': async (job) => {
    const { data, response } = await openai(job).chat.completions.create({ ...job.params, stream: true }).withResponse();
    const out = { headers: headers(response), text: '', reasoning: '', tools: [], chunks: 0, usages: 0 };
    for await (const chunk of data) {
      const choice = chunk.choices[0];
      if (choice?.delta?.content) { out.text += choice.delta.content; out.chunks++; }
      if (choice?.delta?.reasoning) out.reasoning += choice.delta.reasoning;
      for (const c of choice?.delta?.tool_calls ?? []) {
        const tool = (out.tools[c.index] ??= { id: '', name: '', arguments: '' });
        tool.id ||= c.id ?? '';
        tool.name += c.function?.name ?? '';
        tool.arguments += c.function?.arguments ?? '';
      }
      if (choice?.finish_reason) out.finish = choice.finish_reason;
      if (chunk.usage) { out.usages++; out.input = chunk.usage.prompt_tokens; out.output = chunk.usage.completion_tokens; }
      if (choice?.delta?.content && out.chunks === job.tellAfter) write({ id: job.id, begun: true });
      if (job.abortAfter && out.chunks >= job.abortAfter) { data.controller.abort(); out.aborted = true; break; }
    }
    out.tools = out.tools.map((t) => ({ id: t.id, name: t.name, input: JSON.parse(t.arguments) }));
    return out;
  },
  'openai responses': async (job) => {
    const { data, response } = await openai(job).responses.create(job.params).withResponse();
    return { headers: headers(response), ...answer(data) };
  },
  'openai responses stream': async (job) => {
    const { data, response } = await openai(job).responses.create({ ...job.params, stream: true }).withResponse();
    const out = { headers: headers(response), chunks: 0 };
    let text = '';
    for await (const event of data) {
      if (event.type === 'response.output_text.delta') { text += event.delta; out.chunks++; }
      if (event.type === 'response.completed' || event.type === 'response.incomplete') Object.assign(out, answer(event.response));
    }
    if (text !== out.text) throw new Error(`the deltas say ${text}, the end says ${out.text}`);
    return out;
  },
  'openai embeddings': async (job) => {
    const { data, response } = await openai(job).embeddings.create(job.params).withResponse();
    return { headers: headers(response), vectors: data.data.map((d) => d.embedding), input: data.usage?.prompt_tokens };
  },
  'openai models': async (job) => {
    const names = [];
    for await (const m of openai(job).models.list()) names.push(m.id);
    return { names };
  },
  'anthropic message': async (job) => {
    const { data, response } = await anthropic(job).messages.create(job.params).withResponse();
    return { headers: headers(response), ...message(data) };
  },
  'anthropic stream': async (job) => {
    const stream = anthropic(job).messages.stream(job.params);
    let chunks = 0;
    stream.on('text', () => { if (++chunks === job.abortAfter) stream.abort(); });
    try {
      const data = await stream.finalMessage();
      return { headers: headers(stream.response), chunks, ...message(data) };
    } catch (err) {
      if (!(err instanceof Anthropic.APIUserAbortError)) throw err;
      return { headers: headers(stream.response), chunks, aborted: true };
    }
  },
  'anthropic count': async (job) => ({ input: (await anthropic(job).messages.countTokens(job.params)).input_tokens }),
  'anthropic models': async (job) => {
    const names = [];
    for await (const m of anthropic(job).models.list()) names.push(m.id);
    return { names };
  },
  'ollama chat': async (job) => native(await ollama(job).chat(job.params)),
  'ollama stream': async (job) => {
    const out = { text: '', reasoning: '', chunks: 0 };
    for await (const part of await ollama(job).chat({ ...job.params, stream: true })) {
      const n = native(part);
      if (n.text) out.chunks++;
      out.text += n.text;
      out.reasoning += n.reasoning;
      if (part.done) Object.assign(out, { finish: n.finish, input: n.input, output: n.output });
    }
    return out;
  },
  'ollama embed': async (job) => {
    const data = await ollama(job).embed(job.params);
    return { vectors: data.embeddings, input: data.prompt_eval_count };
  },
  'ollama models': async (job) => ({ names: (await ollama(job).list()).models.map((m) => m.name) }),
};

// answer is an OpenAI response in the terms of all results.
function answer(data) {
  const output = data.output ?? [];
  return {
    model: data.model, finish: data.status, text: output.filter((o) => o.type === 'message').flatMap((o) => o.content).map((c) => c.text ?? '').join(''),
    tools: output.filter((o) => o.type === 'function_call').map((c) => ({ id: c.call_id, name: c.name, input: JSON.parse(c.arguments) })),
    input: data.usage?.input_tokens, output: data.usage?.output_tokens,
  };
}

// message is an Anthropic message in the terms of all results.
function message(data) {
  const of = (type) => data.content.filter((b) => b.type === type);
  return {
    model: data.model, finish: data.stop_reason, text: of('text').map((b) => b.text).join(''),
    reasoning: of('thinking').map((b) => b.thinking).join(''), tools: of('tool_use').map((b) => ({ id: b.id, name: b.name, input: b.input })),
    input: data.usage.input_tokens, output: data.usage.output_tokens,
  };
}

// native is an answer of Ollama's own API in the same terms.
function native(data) {
  return {
    model: data.model, finish: data.done_reason, text: data.message?.content ?? '', reasoning: data.message?.thinking ?? '',
    tools: (data.message?.tool_calls ?? []).map((c) => ({ id: c.id ?? '', name: c.function.name, input: c.function.arguments })),
    input: data.prompt_eval_count, output: data.eval_count,
  };
}

const write = (line) => process.stdout.write(JSON.stringify(line) + '\n');

async function run(job) {
  try {
    return { id: job.id, ...(await calls[job.sdk + ' ' + job.call](job)) };
  } catch (err) {
    return { id: job.id, error: { class: err.constructor.name, status: err.status ?? err.status_code ?? 0, message: String(err.message), headers: err.headers ? Object.fromEntries(err.headers.entries()) : {} } };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const job = JSON.parse(line);
  if (job.abort) running.get(job.abort)?.abort();
  else run(job).then(write);
}
