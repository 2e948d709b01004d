// One web player on one live playlist, in Debian's Chromium, until standard input ends or SIGTERM comes.
//
//   node players.mjs hls.js|shaka|video.js|chromium URL
//
// In: a player's name and a playlist with a token, on another origin than the page. Out: lines, as they come:
// `at SECONDS FRAMES` several times a second, `said WORDS` for whatever is not as it should be, `ended` once.
// Tokens are not printed. Touches one browser with an empty profile and a web server of its own on loopback.

import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { open } from "./browser.mjs";

// Where each player is, and what a page does to play with it; `said` is for errors.
const PLAYERS = {
  "hls.js": {
    file: "hls.js/dist/hls.min.js",
    play: (url) => {
      const hls = new Hls();
      hls.on(Hls.Events.ERROR, (_, data) => said(`${data.fatal ? "fatal " : ""}${data.type} ${data.details}`));
      hls.loadSource(url);
      hls.attachMedia(video);
    },
  },
  shaka: {
    file: "shaka-player/dist/shaka-player.compiled.js",
    play: async (url) => {
      shaka.polyfill.installAll();
      const player = new shaka.Player();
      const words = (error) => said(`error ${error.code} category ${error.category} severity ${error.severity}`);
      player.addEventListener("error", (event) => words(event.detail));
      player.addEventListener("stalldetected", () => said("stalldetected"));
      await player.attach(video);
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
const LOOK_MS = 150;

const [name, url] = process.argv.slice(2);
const player = PLAYERS[name];
if (!player || !url) throw new Error(`usage: players.mjs ${Object.keys(PLAYERS).join("|")} URL`);
const said = (words) => console.log(`said ${String(words).replaceAll(/token=[^&\s]*|\/v\/[^/\s]*/g, "…").replaceAll("\n", " ")}`);

const script = player.file && (await readFile(new URL(`node_modules/${player.file}`, import.meta.url)));
const head = script ? '<script src="/player.js"></script>' : "";
const page_text = `<!doctype html><title>${name}</title><link rel="icon" href="data:,">${head}
  <video id="video" muted autoplay playsinline width="640" height="360"></video>`;
const server = createServer((request, response) => {
  const is_script = request.url === "/player.js";
  response.writeHead(200, { "content-type": is_script ? "text/javascript" : "text/html; charset=utf-8" });
  response.end(is_script ? script : page_text);
});
await new Promise((up) => server.listen(0, "127.0.0.1", up));

const { page, close } = await open(800, 600);
let over = false;
for (const signal of ["SIGTERM", "SIGINT"]) process.on(signal, () => (over = true));
process.stdin.on("end", () => (over = true)).resume();
try {
  page.on("pageerror", (error) => said(error));
  page.on("console", (message) => message.type() === "error" && said(message.text()));
  page.on("response", (answer) => answer.status() >= 400 && said(`status ${answer.status()} ${new URL(answer.url()).pathname}`));
  page.on("requestfailed", (request) => {
    const why = request.failure()?.errorText;
    // A player gives up requests of its own when it has changed its mind.
    if (why !== "net::ERR_ABORTED") said(`${why} ${new URL(request.url()).pathname}`);
  });
  await page.exposeFunction("said", said);
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  await page.evaluate(`window.video = document.getElementById("video")`);
  await page.evaluate(`(${player.play})(${JSON.stringify(url)})`);
  let plays = false;
  while (!over) {
    const now = await page.evaluate(() => {
      const media = document.querySelector("video");
      return { at: media.currentTime, ready: media.readyState, frames: media.getVideoPlaybackQuality().totalVideoFrames };
    });
    if (!plays && now.at > 0 && now.ready >= 3) {
      plays = true;
      await page.evaluate(() => {
        for (const kind of ["waiting", "error", "ended", "pause"])
          document.querySelector("video").addEventListener(kind, (event) => said(`event ${kind} at ${event.target.currentTime}`));
      });
    }
    if (plays) console.log(`at ${now.at.toFixed(3)} ${now.frames}`);
    await new Promise((later) => setTimeout(later, LOOK_MS));
  }
  console.log("ended");
} finally {
  await close();
  server.close();
}
