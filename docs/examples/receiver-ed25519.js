// Receives the webhooks of tidings and verifies their ed25519 signatures with what Node brings along.
//
//     WEBHOOK_PUBLIC_KEY=whpk_... node receiver-ed25519.js

const { createServer } = require("node:http");
const { createPublicKey, verify } = require("node:crypto");

const x = Buffer.from(process.env.WEBHOOK_PUBLIC_KEY.replace("whpk_", ""), "base64").toString("base64url");
const publicKey = createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x }, format: "jwk" });
const seen = new Set(); // in your application: a unique key in the database

function verified(headers, body) {
  const { "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": entries = "" } = headers;
  // Whoever overheard a request could send it again later.
  if (!(Math.abs(Date.now() / 1000 - Number(timestamp)) < 300)) throw new Error("too old or too new");
  const message = Buffer.concat([Buffer.from(`${id}.${timestamp}.`), body]);
  const fits = (entry) =>
    entry.startsWith("v1a,") && verify(null, message, publicKey, Buffer.from(entry.slice(4), "base64"));
  if (!entries.split(" ").some(fits)) throw new Error("no signature fits");
  return JSON.parse(body);
}

const server = createServer(async (request, response) => {
  let event;
  try {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    // The bytes as they came: parsing and writing them again would change them.
    event = verified(request.headers, Buffer.concat(chunks));
  } catch (error) {
    console.log("refused:", error.message);
    response.writeHead(400).end();
    return;
  }
  if (seen.has(event.id)) {
    console.log("again", event.id);
  } else {
    seen.add(event.id);
    console.log("verified", event.id, event.type, event.job_id);
  }
  response.writeHead(204).end();
});

server.listen(Number(process.env.PORT ?? 9000), "127.0.0.1", () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}/hooks/jobs`);
});
