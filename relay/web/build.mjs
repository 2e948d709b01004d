// Builds the watch page into a folder: `node build.mjs FOLDER`. One script, one style sheet, nothing fetched at run time.

import { build } from "esbuild";
import { copyFile, mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const out = process.argv[2];
if (!out) throw new Error("usage: node build.mjs FOLDER");

await mkdir(out, { recursive: true });
await build({
  entryPoints: [join(here, "src/watch.js"), join(here, "src/watch.css")],
  outdir: out,
  bundle: true,
  minify: true,
  format: "esm",
  target: ["chrome111", "firefox111", "safari16.4"],
  legalComments: "eof",
  logLevel: "warning",
});
for (const page of ["watch.html", "refused.html"]) await copyFile(join(here, "src", page), join(out, page));
