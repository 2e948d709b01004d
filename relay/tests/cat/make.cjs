// Keys and tokens of npm's @eyevinn/cat, as an operator in JavaScript would make them: JSON to standard output.
const { CAT } = require("@eyevinn/cat");

const now = Math.floor(Date.now() / 1000);
const key = Buffer.from(Array.from({ length: 32 }, (_, at) => at));
const standard = new CAT({ keys: { npm: key }, expectCwtTag: true });
const other = new CAT({ keys: { npm: Buffer.alloc(32, 7) }, expectCwtTag: true });
// Without the tag of a CBOR web token this library writes the claims as hexadecimal text: no CBOR web token.
const untagged = new CAT({ keys: { npm: key }, expectCwtTag: false });

const path = { path: { "prefix-match": "/live/demo/" } };
const claims = (more) => ({ sub: "alice", iss: "shop", iat: now, exp: now + 300, catu: path, ...more });
const make = (maker, more) =>
  maker.generateFromJson(claims(more), { type: "mac", alg: "HS256", kid: "npm", generateCwtId: true });

const whole = {
  scheme: { "exact-match": "https" },
  host: { "suffix-match": ".example.org" },
  port: { "exact-match": "" },
  path: { "contains-match": "/demo/" },
  "parent-path": { "exact-match": "/live/demo" },
  filename: { "exact-match": "index.m3u8" },
  stem: { "prefix-match": "ind" },
  extension: { "exact-match": ".m3u8" },
};
const good = [
  {},
  { catu: whole, catm: ["GET", "HEAD"], nbf: now, catreplay: 0 },
  { catr: { type: "automatic", expadd: 120, deadline: 30 } },
];
const bad = [
  { exp: now - 60 },
  { nbf: now + 3600 },
  { aud: ["tv"] },
  { sub: "" },
  { catu: { path: { "exact-match": "/live/other/index.m3u8" } } },
  { catu: { ...whole, host: { "exact-match": "tv.example.com" } } },
  { catu: { path: { "regex-match": ["/live/.*"] } } },
  { catm: ["POST"] },
  { catreplay: 1 },
  { catv: 2 },
  { catgeoiso3166: ["SE"] },
];

(async () => {
  const all = (maker, list) => Promise.all(list.map((more) => make(maker, more)));
  const set = { keys: [{ kty: "oct", kid: "npm", k: key.toString("base64url") }] };
  const refused = [...(await all(standard, bad)), await make(other, {}), await make(untagged, {})];
  process.stdout.write(JSON.stringify({ set, good: await all(standard, good), bad: refused }));
})();
