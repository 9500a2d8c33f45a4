"""An S3 server that says what the test tells it to."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class ScriptedStore(ThreadingHTTPServer):
    """An S3 server that answers the coming requests from a list of (status, body or error code)."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), ScriptedAnswer)
        self.answers: list[tuple[int, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class ScriptedAnswer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ScriptedStore

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, text = self.server.answers.pop(0)
        body = text if status < 300 or not text else f"<Error><Code>{text}</Code><Message>so be it</Message></Error>"
        self.send_response(status)
        self.send_header("ETag", '"etag"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_PUT(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *arguments: object) -> None:
        pass


class BreakingOff(BaseHTTPRequestHandler):
    """Promises a megabyte, and hangs up after a kilobyte."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        self.wfile.write(bytes(1000))
        self.close_connection = True

    def log_message(self, *arguments: object) -> None:
        pass
