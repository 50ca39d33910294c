// Receives the webhooks of tidings and verifies them with the Standard Webhooks library.
//
//     npm install standardwebhooks@1.1.1
//     WEBHOOK_SECRET=whsec_... node receiver.js

const { createServer } = require("node:http");
const { Webhook } = require("standardwebhooks");

const webhook = new Webhook(process.env.WEBHOOK_SECRET);
const seen = new Set(); // in your application: a unique key in the database

const server = createServer(async (request, response) => {
  let event;
  try {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    // The bytes as they came: parsing and writing them again would change them.
    event = webhook.verify(Buffer.concat(chunks), request.headers);
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
