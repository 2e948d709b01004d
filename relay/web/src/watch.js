// The watch page: from a link with a token to a playing video, and words for everything between.
//
// One loop: come in (token → session), wait until the stream is there, play, and when playing fails, ask the relay what is
// the matter and begin again where that leads. What the viewer reads is one of the states below.
//
// For tests: window.releve = { hls, video, events }, events being every state and error with its time.

import Hls from "hls.js";

const WORDS = {
  connecting: "Connecting…",
  live: "Live",
  offline: "The stream is offline. It starts here by itself when it comes.",
  expired: "The token in this link has expired. Ask for a new link.",
  denied: "This link is no longer valid. Ask for a new link.",
  full: "This account is already watching on as many screens as it may. Stop one, wait a minute and reload.",
  ended: "Watching has ended here: this account watches elsewhere, or may watch no more. Reload to try again.",
  busy: "The server is busy. Trying again…",
  network: "There is trouble with the network. Trying again…",
  unsupported: "This browser cannot play the stream.",
};

/** Pauses between attempts, in milliseconds: the relay itself holds requests for a stream that is not there. */
const RETRY_MS = [500, 1000, 2000, 4000];
/** A request that takes longer than this has lost its relay: held ones take up to 10 s. */
const PATIENCE_MS = 20_000;
/** How long a live playlist may stay the same before the relay is asked whether the stream is still there. */
const STILL_MS = 12_000;

const video = document.getElementById("video");
const unmute = document.getElementById("unmute");
const sound = document.getElementById("sound");
const tracks = sound.querySelector("select");
const status = document.getElementById("status");
const stream = document.body.dataset.stream;
const query = new URLSearchParams(location.search);
const name = query.has("CAT") ? "CAT" : "token";
const token = query.get(name) ?? "";

const events = [];
window.releve = { hls: null, video, events };

function note(kind, detail) {
  events.push({ at: performance.now(), kind, detail });
  if (events.length > 1000) events.shift();
}

function say(state) {
  if (status.dataset.state === state) return;
  status.dataset.state = state;
  status.textContent = WORDS[state];
  note("state", state);
}

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** Asks for a playlist; gives the state it means and, where there is one, the address it came from. */
async function ask(url) {
  const patience = AbortSignal.timeout(PATIENCE_MS);
  let answer;
  try {
    answer = await fetch(url, { cache: "no-store", credentials: "same-origin", signal: patience });
    await answer.arrayBuffer();
  } catch {
    return { state: "network" };
  }
  // A path below /v/, /q/ or /c/ is our session (of the last the browser keeps a cookie): the token has done its work.
  const session = /^\/[vqc]\//.test(new URL(answer.url).pathname) ? answer.url : null;
  if (answer.ok) return { state: "there", session };
  if (answer.status === 404) return { state: "offline", session };
  if (answer.status === 403) {
    const reason = answer.headers.get("releve-reason");
    return { state: ["expired", "full", "ended"].includes(reason) ? reason : "denied" };
  }
  return { state: answer.status === 503 ? "busy" : "network", session };
}

/** Comes in and waits for the stream: gives the address of its playlist, or null when the link opens nothing. */
async function enter(known) {
  const entry = `/live/${stream}/index.m3u8?${name}=${encodeURIComponent(token)}`;
  let session = known;
  for (let attempt = 0; ; attempt++) {
    const answer = await ask(session ?? entry);
    session = answer.session ?? session;
    if (answer.state === "there") return session;
    if (answer.state === "full" || answer.state === "ended") {
      say(answer.state); // coming in again at once would end another screen's session, and that one ours
      return null;
    }
    if (answer.state === "expired" || answer.state === "denied") {
      if (session === null) {
        say(answer.state);
        return null;
      }
      session = null; // the session is over; the token may open another one
      continue;
    }
    say(answer.state);
    await pause(RETRY_MS[Math.min(attempt, RETRY_MS.length - 1)]);
  }
}

/** Plays until something goes wrong that playing cannot mend; gives a word for the log. */
function playWithHls(session) {
  return new Promise((done) => {
    const begun = performance.now();
    let startup_ms = null;
    video.addEventListener("playing", () => (startup_ms = performance.now() - begun), { once: true });
    const hls = new Hls({
      enableWorker: false, // segments are fragmented MP4 already: there is nothing to convert
      // How far behind the newest picture to stay is the playlist's word: three parts, or three segments without parts.
      lowLatencyMode: true,
      maxLiveSyncPlaybackRate: 1.1, // who came in late or had to wait catches up, unheard
      backBufferLength: 30,
      maxBufferLength: 20,
      // A takeover of the ingest is over in seconds and the relay holds requests meanwhile; more patience costs nothing.
      manifestLoadPolicy: policy(PATIENCE_MS),
      playlistLoadPolicy: policy(PATIENCE_MS),
      fragLoadPolicy: policy(PATIENCE_MS),
      ...clearKey,
      cmcd: reports(session, () => {
        const told = { ltc: hls.latency > 0 ? 1000 * hls.latency : null, msd: startup_ms };
        startup_ms = null; // once
        return told;
      }),
    });
    // Further behind than ten segments it jumps. Given above, it would ask for a distance to stay at, too.
    hls.config.liveMaxLatencyDurationCount = 10;
    window.releve.hls = hls;
    let [grownAt, newest, mended] = [performance.now(), -1, 0];
    const watch = setInterval(() => {
      if (performance.now() - grownAt > STILL_MS) finish("still");
    }, 1000);
    function finish(why) {
      clearInterval(watch);
      hls.destroy();
      window.releve.hls = null;
      done(why);
    }
    hls.on(Hls.Events.LEVEL_LOADED, (_, { details }) => {
      if (details.endSN !== newest) [newest, grownAt] = [details.endSN, performance.now()];
    });
    hls.on(Hls.Events.MANIFEST_PARSED, () => start());
    hls.on(Hls.Events.AUDIO_TRACKS_UPDATED, () => showTracks(hls));
    hls.on(Hls.Events.ERROR, (_, error) => {
      note("error", { type: error.type, details: error.details, fatal: error.fatal, status: error.response?.code });
      if (error.response?.code === 403) return finish("refused");
      if (!error.fatal) return;
      if (error.details === Hls.ErrorDetails.MANIFEST_INCOMPATIBLE_CODECS_ERROR) return finish("unsupported");
      if (error.type === Hls.ErrorTypes.MEDIA_ERROR && mended++ < 3) return hls.recoverMediaError();
      finish(error.details);
    });
    hls.loadSource(session);
    hls.attachMedia(video);
  });
}

/**
 * What hls.js tells the relay of itself: its state whenever that changes, errors, and every half a minute how it is (CMCD,
 * relay/docs/players.md). What it does not know itself goes with it: how far behind it is, and how long it took to begin.
 */
function reports(session, more) {
  const { search } = new URL(session);
  return {
    version: 2,
    includeKeys: [], // the requests for the stream itself carry nothing
    eventTargets: [
      {
        url: new URL(`cmcd${search}`, session).href,
        events: ["ps", "e", "t"],
        interval: 30,
        includeKeys: ["bl", "ec", "sid", "sta", "v"],
      },
    ],
    loader({ url, method, headers, body }) {
      const words = Object.entries(more()).filter(([, ms]) => ms !== null);
      const text = words.map(([key, ms]) => `,${key}=${Math.round(ms)}`).join("");
      return fetch(url, { method, headers, body: body.replace(/\n$/, `${text}\n`), credentials: "same-origin", keepalive: true });
    },
  };
}

/**
 * Encrypted streams: the playlist names a key by its id and says where it is, below the session. The browser's Clear Key
 * system is asked for each id as the playlist brings it, ahead of the first segment that needs it.
 */
const clearKey = {
  emeEnabled: true,
  drmSystems: {
    "org.w3.clearkey": {
      licenseUrl: "key", // each key has an address of its own, see below
      generateRequest(_type, _data, { decryptdata }) {
        const kid = btoa(String.fromCharCode(...decryptdata.keyId)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=/g, "");
        const initData = new TextEncoder().encode(JSON.stringify({ kids: [kid] })).buffer;
        return { initDataType: "keyids", initData };
      },
    },
  },
  licenseXhrSetup(xhr, _url, { decryptdata }) {
    xhr.open("GET", decryptdata.uri.replace(/\.key(?=$|\?)/, ".json"), true);
  },
};

function policy(maxTimeToFirstByteMs) {
  const retry = { maxNumRetry: 6, retryDelayMs: 500, maxRetryDelayMs: 4000, backoff: "exponential" };
  return {
    default: {
      maxTimeToFirstByteMs,
      maxLoadTimeMs: 2 * maxTimeToFirstByteMs,
      timeoutRetry: { ...retry, retryDelayMs: 0 },
      errorRetry: retry,
    },
  };
}

/** Safari plays HLS itself. */
function playNatively(session) {
  return new Promise((done) => {
    video.src = session;
    start();
    let [at, moved] = [-1, performance.now()];
    const watch = setInterval(() => {
      if (video.currentTime !== at || video.paused) [at, moved] = [video.currentTime, performance.now()];
      if (performance.now() - moved > STILL_MS) finish("still");
    }, 1000);
    const failed = () => finish("error");
    const ended = () => finish("ended");
    function finish(why) {
      clearInterval(watch);
      video.removeEventListener("error", failed);
      video.removeEventListener("ended", ended);
      video.removeAttribute("src");
      video.load();
      done(why);
    }
    video.addEventListener("error", failed);
    video.addEventListener("ended", ended);
  });
}

/** Starts muted, which browsers allow without a gesture. A viewer who has turned the sound on keeps it. */
function start() {
  video.play().catch((error) => note("play", error.name));
}

function showUnmute() {
  unmute.hidden = !video.muted || video.readyState === 0;
}

/** Several audio tracks can be chosen from; a choice outlives what is played again from the beginning. */
function showTracks(hls) {
  const names = hls.audioTracks.map((track) => track.name);
  const chosen = names.indexOf(tracks.value);
  tracks.replaceChildren(...names.map((name) => new Option(name)));
  tracks.selectedIndex = chosen < 0 ? hls.audioTrack : chosen;
  sound.hidden = names.length < 2;
  if (chosen >= 0) hls.audioTrack = chosen;
}

tracks.addEventListener("change", () => {
  if (window.releve.hls) window.releve.hls.audioTrack = tracks.selectedIndex;
});
unmute.addEventListener("click", () => {
  video.muted = false;
  if (video.volume === 0) video.volume = 1;
  start();
  video.focus();
});
video.addEventListener("volumechange", showUnmute);
video.addEventListener("loadeddata", showUnmute);
video.addEventListener("emptied", showUnmute);
video.addEventListener("playing", () => say("live"));
video.addEventListener("timeupdate", () => {
  if (!video.paused) say("live");
});

async function main() {
  const play = Hls.isSupported() ? playWithHls : video.canPlayType("application/vnd.apple.mpegurl") ? playNatively : null;
  say("connecting");
  if (play === null) return say("unsupported");
  for (let session = null; ; ) {
    session = await enter(session);
    if (session === null) return;
    if (status.dataset.state !== "live") say("connecting");
    const why = await play(session);
    note("stopped", why);
    if (why === "unsupported") return say(why);
    await pause(RETRY_MS[0]);
  }
}

main();
