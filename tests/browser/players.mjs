// One web player on one live playlist, in Debian's Chromium, until standard input ends or SIGTERM comes.
//
//   node players.mjs hls.js|shaka|video.js|chromium URL [SECONDS]
//
// In: a player's name and a playlist with a token, on another origin than the page; SECONDS: URL is a session's playlist, and hls.js
// and shaka post CMCD events to the relay, and how they are every so many seconds. Out: lines, as they come: `at SECONDS FRAMES`
// several times a second, `said WORDS` for whatever is not as it should be, `ended` once. Tokens are not printed.

import { NAMES, stage } from "./stage.mjs";

const LOOK_MS = 150;

const [name, url, every_s] = process.argv.slice(2);
if (!NAMES.includes(name) || !url) throw new Error(`usage: players.mjs ${NAMES.join("|")} URL [SECONDS]`);
const said = (words) => console.log(`said ${words}`);
const tell = every_s ? { url: new URL("cmcd", url).href, every_s: Number(every_s) } : null;

let over = false;
for (const signal of ["SIGTERM", "SIGINT"]) process.on(signal, () => (over = true));
process.stdin.on("end", () => (over = true)).resume();
const { page, play, leave } = await stage(name, url, tell, said);
try {
  await play();
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
  await leave();
}
