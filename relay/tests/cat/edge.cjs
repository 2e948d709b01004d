// Makes EdgeAuth tokens with npm's akamai-edgeauth: `node edge.cjs HEX-KEY JSON…`, each JSON the library's options and an `acl`. The
// tokens as a JSON list.
const EdgeAuth = require("akamai-edgeauth");

const [key, ...said] = process.argv.slice(2);
const tokens = said.map((text) => {
  const { acl, ...options } = JSON.parse(text);
  return new EdgeAuth({ key, ...options }).generateACLToken(acl);
});
process.stdout.write(JSON.stringify(tokens));
