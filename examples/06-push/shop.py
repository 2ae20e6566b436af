"""The backend of a web shop that tells a customer on every device that the parcel is on its way.

Python's standard library and one file, so that all of it can be seen: what speaks to Tidegate is `push` and `ticket`.
(A program of your own takes `tidegate_client` of sdk/python-client, which keeps connections and tries again.)
"""

import hashlib
import hmac
import json
import os
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HERE = Path(__file__).parent
API = os.environ.get("TIDEGATE_API", "http://127.0.0.1:7480")
WEBSOCKET = os.environ.get("SHOP_WS", "ws://127.0.0.1:7276/")
SECRET = os.environ.get("SHOP_SECRET", "a secret that the shop and the plugin share")
ADDRESS = ("127.0.0.1", int(os.environ.get("SHOP_PORT", "7286")))

CUSTOMERS = {"ann": "Ann", "bob": "Bob"}
ORDERS = {
    "1001": {"customer": "ann", "what": "A teapot"},
    "1002": {"customer": "bob", "what": "A bicycle bell"},
    "1003": {"customer": "ann", "what": "A tide table"},
}


def push(uid, message, key):
    """Sends a JSON message to every device of a user; once, however often it is called with this key. Gives how many
    devices have it."""
    request = urllib.request.Request(
        f"{API}/v1/apps/default/push/send",
        data=json.dumps({"to": {"uid": uid}, "text": json.dumps(message)}).encode(),
        headers={"Authorization": f"Bearer {token()}", "Content-Type": "application/json", "Idempotency-Key": key},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)["reached"]


def token():
    """Of the environment, or what `tidegate dev` has laid down beside its settings."""
    return os.environ.get("TIDEGATE_TOKEN") or (HERE / "data/admin.token").read_text().strip()


def ticket(user, expires):
    """What a page logs in with at the plugin: the shop says who it is, until when."""
    signed = f"{user}.{expires}"
    return f"{signed}.{hmac.new(SECRET.encode(), signed.encode(), hashlib.sha256).hexdigest()}"


class Shop(BaseHTTPRequestHandler):
    """GET / and its files; GET /orders; POST /tickets {"user"}; POST /ship {"order"}."""

    protocol_version = "HTTP/1.1"
    FILES = {
        "/": ("index.html", "text/html"),
        "/app.js": ("app.js", "text/javascript"),
        "/style.css": ("style.css", "text/css"),
    }

    def do_GET(self):
        if self.path == "/orders":
            return self.answer(200, {"orders": ORDERS, "customers": CUSTOMERS})
        name, kind = self.FILES.get(self.path, (None, None))
        if name is None:
            return self.answer(404, {"error": "There is no such page."})
        return self.answer(200, (HERE / "web" / name).read_bytes(), f"{kind}; charset=utf-8")

    def do_POST(self):
        length = int(self.headers.get("Content-Length") or 0)
        # A page of another server cannot send JSON here without being asked for permission first.
        if length > 10_000 or self.headers.get("Content-Type") != "application/json":
            self.close_connection = True
            return self.answer(400, {"error": "Send a little JSON."})
        try:
            body = json.loads(self.rfile.read(length))
            act = {"/tickets": self.login, "/ship": self.ship}[self.path]
            status, answer = act(body)
        except (ValueError, KeyError, TypeError):
            status, answer = 400, {"error": "There is no such customer, order or page."}
        return self.answer(status, answer)

    def login(self, body):
        # A shop looks at its own cookie here; this one believes everybody.
        user = body["user"]
        CUSTOMERS[user]
        return 200, {"ticket": ticket(user, int(time.time()) + 300), "ws": WEBSOCKET}

    def ship(self, body):
        number = body["order"]
        order = ORDERS[number]
        text = f"{order['what']} is on its way to you."
        message = {"type": "parcel", "order": number, "text": text}
        try:
            # The page names each parcel: it may ask twice, the customer hears of it once.
            reached = push(order["customer"], message, key=f"parcel-{number}-{body['parcel']}")
        except urllib.error.HTTPError as problem:
            return 502, {"error": json.load(problem).get("detail", str(problem))}
        except (OSError, ValueError) as error:
            return 502, {"error": f"Tidegate does not answer at {API}: {error}"}
        return 200, {"reached": reached}

    def answer(self, status, content, kind="application/json"):
        if not isinstance(content, bytes):
            content = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(ADDRESS, Shop)
    print(f"The shop is open: http://127.0.0.1:{server.server_port}/", flush=True)
    server.serve_forever()
