// What htmx cannot do: read a stream of tokens, pause updates, copy a key, ask
// for a passkey, take an invitation out of the address.
// Text is only ever set as text; nothing here makes HTML.
(() => {
  'use strict';
  const $ = (id) => document.getElementById(id);

  // Updates can be paused (WCAG 2.2, success criterion 2.2.2): events are then
  // dropped, and the page catches up when they go on.
  let paused = false;
  document.addEventListener('htmx:before:request', (e) => {
    const elt = e.detail?.ctx?.sourceElement;
    if (paused && elt?.id === 'region') e.preventDefault();
  });
  for (const button of document.querySelectorAll('[data-pause]')) {
    button.hidden = false;
    button.addEventListener('click', () => {
      paused = !paused;
      button.setAttribute('aria-pressed', String(paused));
      button.textContent = paused ? 'Updates are paused' : 'Pause updates';
      if (!paused) $('region')?.dispatchEvent(new CustomEvent('ledger-changed', { bubbles: true }));
    });
  }

  for (const button of document.querySelectorAll('[data-copy]')) {
    const field = $(button.dataset.copy);
    button.hidden = !navigator.clipboard;
    button.addEventListener('click', async () => {
      try {
        await navigator.clipboard.writeText(field.value);
        button.textContent = 'Copied';
      } catch {
        field.select();
      }
    });
  }

  // An invitation's token stands behind the # of the address. It is moved into
  // the form, and out of the address and the history.
  for (const form of document.querySelectorAll('[data-fragment]')) {
    const token = location.hash.slice(1);
    if (!token) continue;
    history.replaceState(null, '', location.pathname);
    form.elements[form.dataset.fragment].value = token;
    form.requestSubmit();
  }

  for (const button of document.querySelectorAll('[data-print]')) {
    button.hidden = false;
    button.addEventListener('click', () => print());
  }

  // Passkeys (WebAuthn level 3): the node asks, the browser answers, and the
  // answer goes back as a form, so that what follows is a page like any other.
  const able = typeof PublicKeyCredential === 'function' && 'parseRequestOptionsFromJSON' in PublicKeyCredential;
  for (const part of document.querySelectorAll('[data-with-passkey], [data-passkey]')) part.hidden = !able;

  async function passkey(form) {
    const response = await fetch(form.dataset.begin, { method: 'POST' });
    const asked = await response.json();
    if (!response.ok) throw new Error([asked.detail, asked.mend].filter(Boolean).join(' '));
    const publicKey = asked.options.publicKey || asked.options;
    const answer = form.dataset.passkey === 'create'
      ? await navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(publicKey) })
      : await navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(publicKey) });
    form.elements.ceremony.value = asked.ceremony;
    form.elements.answer.value = JSON.stringify(answer.toJSON());
  }

  for (const form of document.querySelectorAll('[data-passkey]')) {
    form.addEventListener('submit', async (e) => {
      if (form.elements.answer.value) return;
      e.preventDefault();
      const button = form.querySelector('button'), wrong = form.querySelector('.err');
      button.disabled = true;
      wrong.hidden = true;
      try {
        await passkey(form);
        form.submit();
      } catch (err) {
        wrong.hidden = false;
        wrong.textContent = err.name === 'NotAllowedError' ? 'No passkey was used. Try again, or choose another way.'
          : err.name === 'InvalidStateError' ? 'This device has a passkey for your account already.' : err.message;
        button.disabled = false;
      }
    });
  }

  const form = $('playground');
  if (!form) return;
  const answer = $('answer'), status = $('play-status'), send = $('send'), stop = $('stop');
  let running = null;

  const fact = (name, text) => { form.parentNode.querySelector(`[data-fact="${name}"]`).textContent = text || '–'; };
  const ms = (n) => n < 1000 ? `${Math.round(n)} ms` : `${(n / 1000).toFixed(2)} s`;

  // lines splits a response into server-sent events' data, as they come.
  async function* events(response) {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = '';
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (rest + value).split(/\r\n|\n|\r/);
      rest = lines.pop();
      for (const line of lines) if (line.startsWith('data:')) yield line.slice(5).trim();
    }
  }

  // say adds text without making every token an announcement of its own.
  const say = (text, kind) => {
    const span = document.createElement('span');
    if (kind) span.className = kind;
    span.textContent = text;
    answer.append(span);
    answer.scrollTop = answer.scrollHeight;
  };

  function facts(response) {
    const h = response.headers;
    fact('route', h.get('x-foundry-route'));
    fact('jurisdiction', h.get('x-foundry-jurisdiction'));
    const cell = form.parentNode.querySelector('[data-fact="request"]');
    cell.replaceChildren();
    const id = h.get('x-request-id') || '';
    if (!/^req_[a-z2-7]{26}$/.test(id)) { cell.textContent = id || '–'; return; }
    const link = document.createElement('a');
    link.href = `${form.dataset.requests}${id}?wait=1`;
    link.textContent = id;
    cell.append(link);
  }

  async function read(response, began) {
    let first = 0, usage = null;
    for await (const data of events(response)) {
      if (data === '[DONE]') break;
      const event = JSON.parse(data);
      if (event.error) throw new Error(event.error.message);
      if (event.usage) usage = event.usage;
      const delta = event.choices?.[0]?.delta;
      const text = delta?.content, thought = delta?.reasoning_content || delta?.reasoning;
      if (!text && !thought) continue;
      if (!first) {
        first = performance.now();
        fact('first', ms(first - began));
        status.textContent = 'The answer is coming in.';
      }
      if (thought) say(thought, 'thought');
      if (text) say(text);
    }
    const end = performance.now();
    fact('total', ms(end - began));
    if (usage) {
      fact('tokens', `${usage.prompt_tokens} in, ${usage.completion_tokens} out`);
      if (first && end > first) fact('rate', `${(usage.completion_tokens / ((end - first) / 1000)).toFixed(1)} tokens per second`);
    }
  }

  async function ask() {
    const began = performance.now();
    const headers = { 'Content-Type': 'application/json' };
    if ($('class').value) headers['X-Foundry-Data-Class'] = $('class').value;
    if ($('key').value) headers['X-Api-Key'] = $('key').value;
    const response = await fetch(form.dataset.chat + encodeURIComponent($('organisation').value), {
      method: 'POST', headers, signal: running.signal,
      body: JSON.stringify({
        model: $('model').value, stream: true, stream_options: { include_usage: true }, max_tokens: Number($('max').value) || 512,
        messages: [{ role: 'user', content: $('prompt').value }],
      }),
    });
    facts(response);
    if (!response.ok) {
      const body = await response.json().catch(() => ({}));
      throw new Error(body.error?.message || [body.detail, body.mend].filter(Boolean).join(' ') || `The node answered ${response.status}.`);
    }
    await read(response, began);
  }

  form.addEventListener('submit', async (e) => {
    e.preventDefault();
    if (running) return;
    running = new AbortController();
    answer.replaceChildren();
    for (const name of ['route', 'jurisdiction', 'first', 'total', 'tokens', 'rate', 'request']) fact(name, '');
    answer.setAttribute('aria-busy', 'true');
    send.disabled = true;
    stop.disabled = false;
    status.textContent = 'Waiting for the first token.';
    try {
      await ask();
      status.textContent = 'Done.';
    } catch (err) {
      const stopped = err.name === 'AbortError';
      status.textContent = stopped ? 'Stopped.' : 'It failed.';
      if (!stopped) say(err.message, 'wrong');
    }
    running = null;
    answer.setAttribute('aria-busy', 'false');
    send.disabled = false;
    stop.disabled = true;
  });
  stop.addEventListener('click', () => running?.abort());
  $('prompt').addEventListener('keydown', (e) => {
    if (e.key === 'Enter' && (e.ctrlKey || e.metaKey)) form.requestSubmit();
  });
})();
