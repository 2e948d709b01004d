// Reads a maced token with npm's @eyevinn/cat, as an edge in JavaScript would: `node read.cjs HEX-KEY TOKEN`. The claims as JSON pairs.
const { CAT } = require("@eyevinn/cat");

const [key, token] = process.argv.slice(2);
const reader = new CAT({ keys: { any: Buffer.from(key, "hex") }, expectCwtTag: true });
reader.validate(token, "mac", { issuer: "nobody" }).then(({ cat, error }) => {
  if (error) throw error;
  process.stdout.write(JSON.stringify([...cat.payload]));
});
