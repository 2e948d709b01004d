// Debian's Chromium with an empty profile, for as long as it is needed.
//
// In: the window's size. Out: a browser, and what closes it and removes the profile. Touches one temporary folder.

import { chromium } from "playwright-core";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

// Root needs --no-sandbox; the rest keeps the browser from calling home, which a closed network answers with errors.
const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--autoplay-policy=no-user-gesture-required",
  "--mute-audio",
  "--ignore-certificate-errors", // the tests' certificates are their own
];

export async function open(width, height) {
  const profile = await mkdtemp(join(tmpdir(), "releve-browser-"));
  const browser = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    args: FLAGS,
    viewport: { width, height },
  });
  const page = browser.pages()[0] ?? (await browser.newPage());
  const close = async () => {
    await browser.close();
    await rm(profile, { recursive: true, force: true });
  };
  return { page, close };
}
