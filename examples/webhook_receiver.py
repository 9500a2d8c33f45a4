"""A receiver of webhooks: it verifies each message's signature, drops repeated ones, and answers at once.

    pip install standardwebhooks
    ATELIER_WEBHOOK_SECRET=whsec_… python examples/webhook_receiver.py 9000

A job names it by `"webhook": {"url": "https://…", "secret": "whsec_…"}`. docs/webhooks.md explains the messages.
"""

import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook, WebhookVerificationError

SECRET = os.environ.get("ATELIER_WEBHOOK_SECRET") or sys.exit("Set ATELIER_WEBHOOK_SECRET to the job's secret.")
MAX_BYTES = 1_000_000

seen: set[str] = set()  # of a receiver that restarts: in a database


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        length = int(self.headers.get("content-length", 0))
        if length > MAX_BYTES:
            return self.answer(413)
        body = self.rfile.read(length)
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            message = Webhook(SECRET).verify(body, headers)
        except WebhookVerificationError:
            return self.answer(400)
        if headers["webhook-id"] not in seen:
            seen.add(headers["webhook-id"])
            print(message["type"], message["data"]["job_id"], flush=True)  # slow work belongs into a queue
        return self.answer(204)

    def answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """What is received is printed above."""


ThreadingHTTPServer(("", int(sys.argv[1])), Receiver).serve_forever()
