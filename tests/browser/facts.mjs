// What one web player does with a playlist, in Debian's Chromium, as one JSON object.
//
//   node facts.mjs codecs PLAYER URL SECONDS    whether the browser decodes what CODECS says, and what the player makes of it
//   node facts.mjs steer PLAYER URL             told by the steering manifest to go over to the CDN, and back
//
// In: a player's name, an address with a token. Out: facts; the caller judges them. Nothing of the relay's is left out but the
// order of the pathways and the time to live in a steering manifest, which are put in here, so that it takes no minutes.

import { stage } from "./stage.mjs";

const [verb, name, url, seconds] = process.argv.slice(2);
const said = [];
const { page, play, leave } = await stage(name, url, null, (words) => said.push(words));
try {
  console.log(JSON.stringify({ ...(await { codecs, steer }[verb]()), said }));
} finally {
  await leave();
}

function at() {
  return page.evaluate(() => document.querySelector("video").currentTime);
}

async function codecs() {
  const segments = [];
  page.on("request", (request) => request.url().includes(".m4s") && segments.push(new URL(request.url()).pathname));
  const [codecs, decodes] = await page.evaluate(async (url) => {
    const index = await (await fetch(url)).text();
    const codecs = index.match(/CODECS="([^"]*)"/)[1];
    return [codecs, MediaSource.isTypeSupported(`video/mp4; codecs="${codecs}"`)];
  }, url);
  await play();
  await page.waitForTimeout(Number(seconds) * 1000);
  return { codecs, decodes, segments: segments.length, at: await at() };
}

async function steer() {
  const TTL_S = 2;
  const PATIENCE_MS = 40_000;
  let first = null;
  let manifests = 0;
  await page.route("**/steering.json*", async (route) => {
    const response = await route.fetch();
    const json = await response.json();
    manifests += 1;
    json.TTL = TTL_S;
    if (first !== null) json["PATHWAY-PRIORITY"].sort((one, other) => (other === first) - (one === first));
    await route.fulfill({ response, json });
  });
  const ways = { video: [], audio: [] };
  page.on("request", (request) => {
    const path = new URL(request.url()).pathname;
    const track = path.match(/\/(video|audio)\/[^/]*\.m4s$/)?.[1];
    if (track) ways[track].push(path.startsWith("/cdn/") ? "cdn" : "relay");
  });
  // The last two segments of each track came that way.
  const comes = async (way) => {
    const until = Date.now() + PATIENCE_MS;
    const is = () => Object.values(ways).every((track) => track.length > 2 && track.slice(-2).every((one) => one === way));
    while (!is() && Date.now() < until) await page.waitForTimeout(100);
    return is();
  };
  await play();
  const steps = { begins: await comes("relay") };
  await page.waitForFunction(() => document.querySelector("video").currentTime > 0, null, { timeout: 20_000 });
  await page.evaluate(() => {
    window.waits = [];
    for (const kind of ["waiting", "error", "ended", "pause"])
      video.addEventListener(kind, () => window.waits.push({ kind, at: video.currentTime }));
  });
  const [from, began] = [await at(), Date.now()];
  first = "cdn";
  steps.goes = await comes("cdn");
  first = "relay";
  steps.comes_back = await comes("relay");
  await page.waitForTimeout(3_000);
  const once = (track) => track.filter((way, index) => way !== track[index - 1]);
  return {
    ...steps,
    manifests,
    video: once(ways.video),
    audio: once(ways.audio),
    played_s: (await at()) - from,
    wall_s: (Date.now() - began) / 1000,
    waits: await page.evaluate(() => window.waits),
  };
}
