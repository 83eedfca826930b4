// Captions from the microphone (WebSocket) or of a file (HTTP), and what can be done with them.

const $ = (id) => document.getElementById(id);
const here = new URL(location.href);
let token = here.searchParams.get('token') ?? '';
/** Finished utterances: {start, end, text, words: [{word, start, end, confidence}]}. */
let said = [];
/** Seconds at which the sound ends, once that is known. */
let soundEnd = Infinity;
/** The microphone, while it is listened to. */
let session = null;
/** Ends the transcript of a file that is being made. */
let reading = null;

// ---- what is seen

function status(text, alarm = false) {
  $('status').textContent = text;
  $('status').classList.toggle('alarm', alarm);
}

function clock(seconds, point = '') {
  const ms = Math.round(seconds * 1000);
  const two = (n) => String(n).padStart(2, '0');
  const [h, m, s] = [Math.floor(ms / 3600000), Math.floor(ms / 60000) % 60, Math.floor(ms / 1000) % 60];
  if (point) return `${two(h)}:${two(m)}:${two(s)}${point}${String(ms % 1000).padStart(3, '0')}`;
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

function wordElement({ word, start, end, confidence }) {
  const span = document.createElement('span');
  span.textContent = word;
  span.tabIndex = -1;
  span.className = confidence >= 0.85 ? '' : confidence >= 0.6 ? 'fair' : 'poor';
  span.dataset.time = `${start.toFixed(2)}–${end.toFixed(2)} s, ${Math.round(confidence * 100)} % sure`;
  return span;
}

function show(segment) {
  if (!segment.text) return;
  said.push(segment);
  const line = document.createElement('li');
  const time = document.createElement('time');
  time.textContent = clock(segment.start);
  const words = document.createElement('span');
  words.className = 'words';
  segment.words.forEach((word, index) => words.append(index ? ' ' : '', wordElement(word)));
  // Prose may write the words otherwise than they were said.
  if (!segment.words.length) words.textContent = segment.text;
  line.append(time, words);
  keepEnd(() => $('finals').append(line));
  refresh();
}

function showPartial(text) {
  keepEnd(() => { $('partial').textContent = text; });
  if (text) $('empty').hidden = true;
}

/** Keeps the newest words in sight, unless the reader has scrolled back. */
function keepEnd(change) {
  const box = $('captions');
  const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
  change();
  if (atEnd) box.scrollTop = box.scrollHeight;
}

function refresh() {
  const none = said.length === 0;
  $('empty').hidden = !none;
  document.querySelectorAll('.downloads button').forEach((button) => { button.disabled = none; });
  // One word can be reached with Tab, the others from it with the arrows.
  const words = document.querySelectorAll('.words span');
  if (words.length && !document.querySelector('.words span[tabindex="0"]')) words[0].tabIndex = 0;
}

function clear() {
  said = [];
  soundEnd = Infinity;
  $('finals').replaceChildren();
  showPartial('');
  refresh();
}

// ---- the server

function asked(path) {
  const url = new URL(path, here);
  if (token) url.searchParams.set('token', token);
  return url;
}

/** Whether the server lets us in; asks for the token if that is what is missing. */
async function letIn() {
  const answer = await fetch(asked('v1/models'));
  $('access').hidden = answer.status !== 401;
  if (answer.status === 401) {
    status('This server asks for an access token.', true);
    $('token').focus();
    return false;
  }
  if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
  const { data: [model] } = await answer.json();
  $('model').textContent = `Live captions on this machine · ${model.id} · ${model.language}`;
  return true;
}

// ---- the microphone

async function listen() {
  if (!navigator.mediaDevices) {
    status('The browser gives the microphone to https pages and to http://localhost only.', true);
    return;
  }
  reading?.abort();
  // Its times begin where the captions so far end.
  const mine = { stopped: false, offset: said.at(-1)?.end ?? 0 };
  session = mine;
  soundEnd = Infinity;
  label();
  try {
    if (!(await letIn())) { end(mine); return; }
    goOn(mine);
    const device = $('device').value;
    mine.media = await navigator.mediaDevices.getUserMedia({
      audio: {
        deviceId: device ? { exact: device } : undefined,
        channelCount: 1,
        // What helps people on a telephone hides sounds from a recogniser.
        echoCancellation: false,
        noiseSuppression: false,
        autoGainControl: false,
      },
    });
    goOn(mine);
    await listDevices();
    goOn(mine);
    mine.audio = new AudioContext();
    await mine.audio.audioWorklet.addModule('worklet.js');
    goOn(mine);
    await connect(mine);
    goOn(mine);
    const source = mine.audio.createMediaStreamSource(mine.media);
    mine.pieces = new AudioWorkletNode(mine.audio, 'pieces', { numberOfOutputs: 0 });
    mine.pieces.port.onmessage = ({ data }) => piece(mine, data);
    source.connect(mine.pieces);
    mine.media.getAudioTracks()[0].onended = () => stop('The microphone is gone.');
    status('Listening.');
  } catch (error) {
    const refused = error.name === 'NotAllowedError';
    const reason = refused ? 'The browser does not let this page use the microphone.' : `No captions: ${error.message}`;
    end(mine, mine.stopped ? undefined : reason);
  }
}

/** Begins no further once the user has stopped, as while the browser asked for the microphone. */
function goOn(mine) {
  if (mine.stopped) throw new Error('stopped');
}

function connect(mine) {
  const url = asked('v1/stream');
  url.protocol = url.protocol.replace('http', 'ws');
  const socket = new WebSocket(url);
  mine.socket = socket;
  return new Promise((ready, failed) => {
    socket.onopen = () => socket.send(JSON.stringify({ format: 's16le', sample_rate: mine.audio.sampleRate }));
    socket.onmessage = ({ data }) => {
      const event = JSON.parse(data);
      if (event.event === 'ready') ready();
      hear(mine, event);
    };
    socket.onclose = ({ reason }) => {
      failed(new Error(reason || 'the server does not take the stream; it may have too many'));
      end(mine, mine.stopped ? undefined : mine.error ?? (reason || 'The connection to the server is lost.'));
    };
  });
}

/** Sends 40 ms of sound; shows how loud they were. */
function piece(mine, { samples, peak }) {
  const level = $('level');
  level.value = Math.max(peak, level.value * 0.85);
  mine.begun ??= performance.now() - 40;
  if (mine.socket.readyState !== WebSocket.OPEN || mine.stopped) return;
  // A connection that does not keep up: better to lose sound than to caption the past.
  if (mine.socket.bufferedAmount > 2 * 5 * mine.audio.sampleRate) {
    mine.begun += 40;
    status('The connection is too slow: some sound is lost.', true);
    return;
  }
  mine.socket.send(samples);
}

function hear(mine, event) {
  if (event.event === 'partial') showPartial(event.text);
  if (event.event === 'final') show(later(event, mine.offset));
  // At an endpoint the words of a partial may have been taken back.
  if (event.event === 'final' || event.event === 'endpoint') showPartial('');
  if (event.event === 'end') soundEnd = mine.offset + event.duration;
  if (event.event === 'error') mine.error = event.message;
  if (event.event === 'partial' && mine.begun) {
    // From when the last word was over until it is seen.
    const late = performance.now() - mine.begun - event.end * 1000;
    mine.latency = mine.latency === undefined ? late : mine.latency + (late - mine.latency) * 0.3;
    $('latency').textContent = `${Math.max(0, Math.round(mine.latency))} ms`;
  }
}

/** The same utterance, so many seconds later. */
function later(segment, offset) {
  const moved = (part) => ({ ...part, start: part.start + offset, end: part.end + offset });
  return { ...moved(segment), words: segment.words.map(moved) };
}

/** Ends the sound; the last words are still waited for. */
function stop(text = 'Stopped.') {
  const mine = session;
  if (!mine || mine.stopped) return;
  mine.stopped = true;
  mine.media?.getTracks().forEach((track) => track.stop());
  if (mine.socket?.readyState === WebSocket.OPEN) mine.socket.send('{"type":"finish"}');
  else end(mine);
  status(text);
}

function end(mine, error) {
  // Each time: more may have been opened meanwhile.
  mine.media?.getTracks().forEach((track) => track.stop());
  if (mine.audio?.state !== 'closed') mine.audio?.close();
  mine.socket?.close();
  if (mine.over) return;
  mine.over = true;
  mine.stopped = true;
  if (session === mine) session = null;
  $('level').value = 0;
  showPartial('');
  label();
  if (error) status(error, true);
}

function label() {
  const on = session !== null;
  $('listen').classList.toggle('listening', on);
  $('listen-label').textContent = on ? 'Stop listening' : 'Start listening';
}

async function listDevices() {
  const devices = await navigator.mediaDevices.enumerateDevices();
  const list = $('device');
  const chosen = list.value;
  const inputs = devices.filter(({ kind, deviceId }) => kind === 'audioinput' && deviceId && deviceId !== 'default');
  list.replaceChildren(new Option('System default', ''), ...inputs.map(({ label: name, deviceId }) => new Option(name || 'Microphone', deviceId)));
  list.value = inputs.some(({ deviceId }) => deviceId === chosen) ? chosen : '';
}

// ---- files

async function transcribe(file) {
  if (session) { status('Stop listening first.', true); return; }
  reading?.abort();
  const mine = new AbortController();
  reading = mine;
  const progress = $('progress');
  try {
    if (!(await letIn())) return;
    mine.signal.throwIfAborted();
    clear();
    progress.hidden = false;
    progress.removeAttribute('value');
    status(`Transcribing ${file.name}…`);
    const length = await lengthOf(file);
    mine.signal.throwIfAborted();
    soundEnd = length || Infinity;
    const form = new FormData();
    form.append('model', 'sori');
    form.append('stream', 'true');
    form.append('file', file);
    const answer = await fetch(asked('v1/audio/transcriptions'), { method: 'POST', body: form, signal: mine.signal });
    if (!answer.ok) throw new Error((await answer.json()).error.message);
    for await (const event of sentEvents(answer.body)) {
      if (event.type === 'error') throw new Error(event.error.message);
      if (event.type === 'transcript.text.delta') {
        show(event.segment);
        if (length) progress.value = Math.min(1, event.segment.end / length);
      }
      if (event.type === 'transcript.text.done') status(`${file.name}: ${said.length ? 'done' : 'no words found'}.`);
    }
  } catch (error) {
    if (!mine.signal.aborted) status(`No transcript: ${error.message}`, true);
  } finally {
    if (reading === mine) progress.hidden = true;
  }
}

/** Seconds of sound in a file, if the browser can tell. */
function lengthOf(file) {
  return new Promise((tell) => {
    const address = URL.createObjectURL(file);
    const audio = new Audio();
    const done = (length) => { URL.revokeObjectURL(address); tell(length); };
    audio.onloadedmetadata = () => done(Number.isFinite(audio.duration) ? audio.duration : 0);
    audio.onerror = () => done(0);
    setTimeout(() => done(0), 2000);
    audio.src = address;
  });
}

async function* sentEvents(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const events = text.split('\n\n');
    text = events.pop();
    for (const event of events) {
      if (event.startsWith('data:')) yield JSON.parse(event.slice(5));
    }
  }
}

// ---- what can be taken along

/** Two lines of 42 characters for six seconds at most, as `sori transcribe --format srt` makes them. */
function cues() {
  const cues = [];
  // A cue stays up for a while, but not beside the next one, nor beyond the sound.
  const linger = (cue, next) => { cue.end = Math.max(cue.end, Math.min(cue.end + 0.6, next)); };
  for (const segment of said) {
    let cue = null;
    for (const { word, start, end } of segment.words) {
      const line = cue?.lines.at(-1);
      if (cue && end - cue.start <= 6 && line.length + 1 + word.length <= 42) {
        cue.lines[cue.lines.length - 1] = `${line} ${word}`;
        cue.end = end;
      } else if (cue && end - cue.start <= 6 && cue.lines.length < 2) {
        cue.lines.push(word);
        cue.end = end;
      } else {
        if (cues.length) linger(cues.at(-1), start);
        cue = { start, end, lines: [word] };
        cues.push(cue);
      }
    }
  }
  if (cues.length) linger(cues.at(-1), soundEnd);
  return cues;
}

const formats = {
  txt: () => said.map(({ text }) => `${text}\n`).join(''),
  srt: () => cues().map(({ start, end, lines }, index) =>
    `${index + 1}\n${clock(start, ',')} --> ${clock(end, ',')}\n${lines.join('\n')}\n`).join('\n'),
  vtt: () => `WEBVTT\n${cues().map(({ start, end, lines }) =>
    `\n${clock(start, '.')} --> ${clock(end, '.')}\n${lines.join('\n').replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;')}\n`).join('')}`,
};

function download(format) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([formats[format]()], { type: 'text/plain' }));
  link.download = `captions.${format}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// ---- what the user does

$('listen').addEventListener('click', () => (session ? stop() : listen()));
$('clear').addEventListener('click', () => { clear(); status('Cleared.'); });
$('file').addEventListener('change', ({ target }) => {
  const [file] = target.files;
  target.value = '';
  if (file) transcribe(file);
});
$('access').addEventListener('submit', async (event) => {
  event.preventDefault();
  token = $('token').value;
  if (await letIn()) status('Ready.');
});
document.querySelectorAll('[data-format]').forEach((button) => {
  button.addEventListener('click', () => download(button.dataset.format));
});
$('captions').addEventListener('keydown', (event) => {
  const steps = { ArrowRight: 1, ArrowLeft: -1 };
  if (!(event.key in steps) || !event.target.closest('.words span')) return;
  const words = [...document.querySelectorAll('.words > span')];
  const next = words[words.indexOf(event.target) + steps[event.key]];
  if (!next) return;
  event.target.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
  event.preventDefault();
});

let dragged = 0;
const holdsFile = (event) => event.dataTransfer?.types.includes('Files');
addEventListener('dragenter', (event) => { if (holdsFile(event)) { dragged += 1; $('drop').hidden = false; } });
addEventListener('dragleave', (event) => { if (holdsFile(event) && (dragged -= 1) <= 0) $('drop').hidden = true; });
addEventListener('dragover', (event) => { if (holdsFile(event)) event.preventDefault(); });
addEventListener('drop', (event) => {
  if (!holdsFile(event)) return;
  event.preventDefault();
  dragged = 0;
  $('drop').hidden = true;
  const [file] = event.dataTransfer.files;
  if (file) transcribe(file);
});
navigator.mediaDevices?.addEventListener('devicechange', listDevices);
navigator.mediaDevices && listDevices();
letIn().catch((error) => status(`The server cannot be reached: ${error.message}`, true));
