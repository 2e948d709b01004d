// A page with one web player in it, in Debian's Chromium, on another origin than the stream's.
//
// In: a player's name, a playlist's address, where to post events and how often. Out: the page, and what closes it all.
// Touches one browser with an empty profile and a web server of its own on loopback.

import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { open } from "./browser.mjs";

// Where each player is, and what a page does to play with it; `said` is for errors. `tell`: the address that takes CMCD events,
// and how many seconds lie between two reports of how the player is.
const PLAYERS = {
  "hls.js": {
    file: "hls.js/dist/hls.min.js",
    play: (url, tell) => {
      const events = ["ps", "pr", "bc", "e", "t", "rr"];
      const target = tell && { url: tell.url, interval: tell.every_s, events };
      const hls = new Hls(tell ? { cmcd: { version: 2, contentId: "demo", eventTargets: [target] } } : {});
      hls.on(Hls.Events.ERROR, (_, data) => said(`${data.fatal ? "fatal " : ""}${data.type} ${data.details}`));
      hls.loadSource(url);
      hls.attachMedia(video);
    },
  },
  shaka: {
    file: "shaka-player/dist/shaka-player.compiled.js",
    play: async (url, tell) => {
      shaka.polyfill.installAll();
      const player = new shaka.Player();
      const words = (error) => said(`error ${error.code} category ${error.category} severity ${error.severity}`);
      player.addEventListener("error", (event) => words(event.detail));
      player.addEventListener("stalldetected", () => said("stalldetected"));
      await player.attach(video);
      if (tell) {
        const events = ["ps", "pr", "bc", "e", "t", "rr"];
        const target = { mode: "event", enabled: true, url: tell.url, interval: tell.every_s, events, version: 2, batchSize: 2 };
        player.configure("cmcd", { enabled: true, version: 2, contentId: "demo", eventTargets: [target] });
      }
      await player.load(url).catch(words);
    },
  },
  "video.js": {
    file: "video.js/dist/video.min.js",
    play: (url) => {
      const own = { overrideNative: true };
      const player = videojs(video, { html5: { vhs: own, nativeAudioTracks: false, nativeVideoTracks: false } });
      player.on("error", () => said(`error ${player.error()?.code} ${player.error()?.message}`));
      player.src({ src: url, type: "application/x-mpegurl" });
      player.ready(() => player.play());
    },
  },
  chromium: {
    file: null,
    play: (url) => {
      video.src = url;
    },
  },
};

/** The players' names. */
export const NAMES = Object.keys(PLAYERS);

/** Words of a player without what opens the stream. */
export const bare = (words) => String(words).replaceAll(/token=[^&\s]*|\/v\/[^/\s]*/g, "…").replaceAll("\n", " ");

/**
 * Opens the page; `play()` begins to play. `said` takes each word that a faultless stream does not cause.
 */
export async function stage(name, url, tell, said) {
  const player = PLAYERS[name];
  const script = player.file && (await readFile(new URL(`node_modules/${player.file}`, import.meta.url)));
  const head = script ? '<script src="/player.js"></script>' : "";
  const text = `<!doctype html><title>${name}</title><link rel="icon" href="data:,">${head}
    <video id="video" muted autoplay playsinline width="640" height="360"></video>`;
  const server = createServer((request, response) => {
    const is_script = request.url === "/player.js";
    response.writeHead(200, { "content-type": is_script ? "text/javascript" : "text/html; charset=utf-8" });
    response.end(is_script ? script : text);
  });
  await new Promise((up) => server.listen(0, "127.0.0.1", up));
  const { page, close } = await open(800, 600);
  page.on("pageerror", (error) => said(bare(error)));
  page.on("console", (message) => message.type() === "error" && said(bare(message.text())));
  page.on("response", (answer) => answer.status() >= 400 && said(bare(`status ${answer.status()} ${new URL(answer.url()).pathname}`)));
  page.on("requestfailed", (request) => {
    const why = request.failure()?.errorText;
    // A player gives up requests of its own when it has changed its mind.
    if (why !== "net::ERR_ABORTED") said(bare(`${why} ${new URL(request.url()).pathname}`));
  });
  await page.exposeFunction("said", (words) => said(bare(words)));
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  await page.evaluate(`window.video = document.getElementById("video")`);
  const play = () => page.evaluate(`(${player.play})(${JSON.stringify(url)}, ${JSON.stringify(tell)})`);
  const leave = async () => {
    await close();
    server.close();
  };
  return { page, play, leave };
}
