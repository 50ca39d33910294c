"""Receives the webhooks of tidings and verifies them with the Standard Webhooks library.

    python3 -m pip install standardwebhooks==1.1.0
    WEBHOOK_SECRET=whsec_... python3 receiver.py
"""

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook, WebhookVerificationError

webhook = Webhook(os.environ["WEBHOOK_SECRET"])
seen = set()  # in your application: a unique key in the database


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        try:
            # The bytes as they came: parsing and writing them again would change them.
            event = webhook.verify(body, dict(self.headers))
        except (WebhookVerificationError, ValueError) as error:
            print("refused:", error, flush=True)
            return self.answer(400)
        if event["id"] in seen:
            print("again", event["id"], flush=True)
        else:
            seen.add(event["id"])
            print("verified", event["id"], event["type"], event.get("job_id"), flush=True)
        self.answer(204)

    def answer(self, status):
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "9000"))), Receiver)
print(f"listening on http://127.0.0.1:{server.server_port}/hooks/jobs", flush=True)
server.serve_forever()
