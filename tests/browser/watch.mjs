// Opens pages in Debian's Chromium as a viewer would and prints what happened, one JSON object a line.
//
//   node watch.mjs play URL SECONDS SCREENSHOT    plays; times, stalls, errors, and whether the picture moves
//   node watch.mjs read URL                       what the page says once it has settled
//   node watch.mjs choose URL                     takes the second sound, then each encoding of the picture: what came of it
//   node watch.mjs clock URL SECONDS              plays a feed that shows the time (tests::clock); how old its pictures are
//
// In: addresses of this machine. Out: facts; the caller judges them. Touches one browser with an empty profile.

import { open } from "./browser.mjs";

const [verb, url, seconds, screenshot] = process.argv.slice(2);
const { page, close } = await open(1280, 860);
try {
  const complaints = [];
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => {
    if (new URL(request.url()).host !== new URL(url).host && !request.url().startsWith("data:") && !request.url().startsWith("blob:"))
      complaints.push(`a request to somewhere else: ${request.url()}`);
  });
  const answer = await page.goto(url);
  const facts = await { play, read, choose, clock }[verb](page);
  console.log(JSON.stringify({ status: answer.status(), ...facts, complaints }));
} finally {
  await close();
}

/** Waits until it plays; from then on the page notes each time it has to wait. Gives how long that took. */
async function begin(page) {
  const opened = Date.now();
  const plays = () => window.releve?.video.currentTime > 0 && !window.releve.video.paused;
  await page.waitForFunction(plays, null, { timeout: 30_000 }).catch(async () => {
    const events = await page.evaluate(() => JSON.stringify(window.releve?.events));
    throw new Error(`it does not play: ${events}`);
  });
  const startup_ms = Date.now() - opened;
  await page.evaluate(() => {
    // Licences fetched; the list of resources is too short for all of a minute.
    const names = (entries) => entries.map((entry) => entry.name).filter((name) => name.includes("/key/"));
    window.keys = names(performance.getEntriesByType("resource"));
    new PerformanceObserver((list) => window.keys.push(...names(list.getEntries()))).observe({ type: "resource" });
    window.waits = [];
    for (const kind of ["waiting", "stalled", "error", "ended", "pause"])
      window.releve.video.addEventListener(kind, () => window.waits.push({ kind, at: window.releve.video.currentTime }));
  });
  return startup_ms;
}

/** Milliseconds between the time that a picture shows and the time at which it is on screen, of every tenth picture. */
async function clock(page) {
  const startup_ms = await begin(page);
  await page.evaluate(() => {
    const [BITS, SIDE] = [24, 40]; // as tests::clock draws them
    const { video } = window.releve;
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [BITS * SIDE, SIDE];
    const context = canvas.getContext("2d", { willReadFrequently: true });
    window.ages_ms = [];
    const look = (count) => () => {
      if (count % 10 === 0) {
        const now = Date.now();
        context.drawImage(video, 0, 0, BITS * SIDE, SIDE, 0, 0, BITS * SIDE, SIDE);
        const row = context.getImageData(0, SIDE / 2, BITS * SIDE, 1).data;
        let shown = 0;
        for (let bit = 0; bit < BITS; bit++) shown += row[4 * (bit * SIDE + SIDE / 2)] > 128 ? 2 ** bit : 0;
        window.ages_ms.push((((now - shown) % 2 ** BITS) + 2 ** BITS) % 2 ** BITS);
      }
      video.requestVideoFrameCallback(look(count + 1));
    };
    video.requestVideoFrameCallback(look(0));
  });
  await page.waitForTimeout(Number(seconds) * 1000);
  return page.evaluate((startup_ms) => {
    const { events, hls } = window.releve;
    const errors = events.filter((event) => event.kind === "error");
    return { startup_ms, ages_ms: window.ages_ms, waits: window.waits, errors, target_s: hls?.targetLatency };
  }, startup_ms);
}

/** The second sound is chosen on the page; the picture's size is hls.js's to choose, and the smallest is last. */
async function choose(page) {
  await begin(page);
  const sounds = await page.locator("#sound option").allTextContents();
  await page.locator("#sound select").selectOption({ index: 1 });
  const fetched = () => performance.getEntriesByType("resource").some((entry) => /\/audio2\/.*\.m4s/.test(entry.name));
  const wait = (what, argument) => page.waitForFunction(what, argument, { timeout: 20_000 }).then(() => true, () => false);
  const sound_fetched = await wait(fetched);
  const sizes = [];
  for (const pick of ["smallest", "largest"]) {
    const width = await page.evaluate((pick) => {
      const { hls } = window.releve;
      const widths = hls.levels.map((level) => level.width);
      const wanted = pick === "smallest" ? Math.min(...widths) : Math.max(...widths);
      hls.nextLevel = widths.indexOf(wanted);
      return wanted;
    }, pick);
    await wait((width) => window.releve.video.videoWidth === width, width);
    sizes.push(await page.evaluate(() => [window.releve.video.videoWidth, window.releve.video.videoHeight]));
  }
  const at = await page.evaluate(() => window.releve.video.currentTime);
  const plays_on = await wait((at) => window.releve.video.currentTime > at + 1, at);
  const errors = await page.evaluate(() => window.releve.events.filter((event) => event.kind === "error"));
  const names = await page.evaluate(() => performance.getEntriesByType("resource").map((entry) => entry.name).slice(-20));
  return { sounds, sound_fetched, sizes, plays_on, errors, names };
}

async function play(page) {
  const startup_ms = await begin(page);
  const encrypted = await page.evaluate(() => window.releve.video.mediaKeys !== null);
  const look = async () => {
    // A page may not read the pictures of an encrypted film: then it is given what is on screen.
    const screen = encrypted ? (await page.locator("video").screenshot()).toString("base64") : null;
    return page.evaluate(async (screen) => {
      const { video } = window.releve;
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [64, 36];
      const context = canvas.getContext("2d");
      const shown = new Image();
      if (screen !== null) {
        shown.src = `data:image/png;base64,${screen}`;
        await shown.decode();
      }
      context.drawImage(screen === null ? video : shown, 0, 0, 64, 36);
      return {
        at: video.currentTime,
        pixels: Array.from(context.getImageData(0, 0, 64, 36).data.filter((_, index) => index % 4 === 0)),
        frames: video.getVideoPlaybackQuality().totalVideoFrames,
        sound_bytes: video.webkitAudioDecodedByteCount,
        size: [video.videoWidth, video.videoHeight],
      };
    }, screen);
  };
  const [began, first] = [Date.now(), await look()];
  const looks = [first];
  while (Date.now() - began < Number(seconds) * 1000) {
    await page.waitForTimeout(500);
    looks.push(await look());
  }
  const [ended, last] = [Date.now(), looks.at(-1)];
  await page.screenshot({ path: screenshot });
  const inside = await page.evaluate(() => ({
    waits: window.waits,
    errors: window.releve.events.filter((event) => event.kind === "error"),
    words: document.getElementById("status").textContent,
    protocols: [...new Set(performance.getEntriesByType("resource").map((entry) => entry.nextHopProtocol))],
    hls: window.releve.hls !== null,
    address: window.releve.hls === null ? null : new URL(window.releve.hls.url).pathname,
    keys: window.keys,
  }));
  const mean = (pixels) => pixels.reduce((sum, pixel) => sum + pixel, 0) / pixels.length;
  const differs = (pixels) => mean(pixels.map((pixel, index) => Math.abs(pixel - first.pixels[index])));
  const spread = (pixels) => Math.max(...pixels) - Math.min(...pixels);
  return {
    ...inside,
    encrypted,
    startup_ms,
    wall_s: (ended - began) / 1000,
    played_s: last.at - first.at,
    smallest_step_s: Math.min(...looks.slice(1).map((now, index) => now.at - looks[index].at)),
    frames: last.frames - first.frames,
    sound_bytes: last.sound_bytes - first.sound_bytes,
    size: last.size,
    brightness: mean(last.pixels),
    contrast: spread(last.pixels),
    moved: Math.max(...looks.map((now) => differs(now.pixels))),
  };
}

async function read(page) {
  await page.waitForTimeout(2_000);
  return {
    words: await page.evaluate(() => document.body.innerText),
    playing: await page.evaluate(() => [...document.querySelectorAll("video")].some((video) => video.currentTime > 0)),
  };
}
