"""Requests to hostile addresses, over real sockets on loopback; only the resolver is the test's."""

import asyncio
import gzip
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from core.domain.receivers import AllowList
from tests.fixtures.receiver import Receiver, serve_receiver
from worker.outgoing import EXCERPT_BYTES, Answer, NotSent, Outgoing, Resolve

LOOPBACK = AllowList.parse("127.0.0.0/8 ::1")
NOWHERE = AllowList()


def post(
    url: str,
    *,
    allow: AllowList = LOOPBACK,
    resolve: Resolve | None = None,
    ssl_context: ssl.SSLContext | None = None,
    timeout_seconds: float = 30,
) -> Answer:
    outgoing = Outgoing(allow, timeout_seconds=timeout_seconds, resolve=resolve, ssl_context=ssl_context)
    return asyncio.run(outgoing.post(url, b'{"a": 1}', {"Content-Type": "application/json", "webhook-id": "evt_1"}))


class Names:
    """A resolver with the given answers, one after the other; the last stays."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers, self.asked = list(answers), [""][:0]

    def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(f"{host}:{port}")
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with serve_receiver() as receiver:
        yield receiver


@contextmanager
def serve_raw(answer: Callable[[socket.socket], None], host: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """Its port. ``answer`` gets each connection once the request's head was read, in a thread."""
    over = threading.Event()

    def handle(connection: socket.socket) -> None:
        with connection:
            connection.recv(65536)
            with suppress(OSError):
                answer(connection)

    def accept() -> None:
        while not over.is_set():
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=handle, args=(connection,), daemon=True).start()

    with socket.create_server((host, port)) as server:
        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield int(server.getsockname()[1])
        finally:
            over.set()
            with socket.create_connection((host, server.getsockname()[1])):
                thread.join()


# --- where it goes -------------------------------------------------------------------------------------


def test_it_arrives_as_it_was_sent(receiver: Receiver) -> None:
    receiver.reply = lambda _: (201, b"thanks")

    assert post(f"{receiver.url}?a=b&c=%20") == Answer(201, "thanks")

    (message,) = receiver.messages
    assert (message.path, message.content) == ("/hook?a=b&c=%20", b'{"a": 1}')
    assert message.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert message.headers["webhook-id"] == "evt_1"
    assert message.headers["content-type"] == "application/json"


def test_loopback_is_refused_unless_it_is_admitted(receiver: Receiver) -> None:
    with pytest.raises(NotSent, match=r"refused: 127.0.0.1 is a loopback address"):
        post(receiver.url, allow=NOWHERE)
    with pytest.raises(NotSent, match="refused"):
        post(receiver.url, allow=AllowList.parse(f"127.0.0.1:{receiver.port + 1}"))
    assert receiver.messages == []


HOSTILE_ANSWERS = [
    ["127.0.0.1"], ["10.0.0.1"], ["169.254.169.254"], ["0.0.0.0"], ["::1"], ["::ffff:127.0.0.1"], ["64:ff9b::7f00:1"],
    ["2002:7f00:1::"], ["fe80::1%1"], ["fd00::1"], ["100.64.0.1"], ["224.0.0.1"], ["8.8.8.8", "127.0.0.1"],
    ["127.0.0.1", "8.8.8.8"], ["2606:4700::1111", "::1"], ["8.8.8.8"] * 5 + ["192.168.0.1"],
]  # fmt: skip


@pytest.mark.parametrize("addresses", HOSTILE_ANSWERS, ids=str)
def test_a_name_with_a_private_address_is_refused_whatever_others_it_has(
    receiver: Receiver, addresses: list[str]
) -> None:
    with pytest.raises(NotSent, match="refused"):
        post(f"http://innocent.example:{receiver.port}/", allow=NOWHERE, resolve=Names(addresses))
    assert receiver.messages == []


def test_a_name_that_changes_its_address_is_asked_once_and_the_answer_kept(receiver: Receiver) -> None:
    """DNS rebinding: good when it is checked, bad when it is called."""
    with serve_receiver("127.0.0.2") as private:
        names = Names(["127.0.0.1"], ["127.0.0.2"])
        allow = AllowList.parse("127.0.0.1")
        assert post(f"http://rebinding.example:{receiver.port}/", allow=allow, resolve=names).status_code == 204
        with pytest.raises(NotSent, match=r"127.0.0.2 is a loopback"):
            post(f"http://rebinding.example:{private.port}/", allow=allow, resolve=names)
    assert names.asked == [f"rebinding.example:{receiver.port}", f"rebinding.example:{private.port}"]
    assert receiver.messages[0].headers["host"] == f"rebinding.example:{receiver.port}"
    assert private.messages == []


def test_the_systems_resolver_is_asked_once(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    original = socket.getaddrinfo

    def getaddrinfo(host: str | bytes, *args: object, **kwargs: object) -> object:
        asked.append(host)
        return original(host if host != "named.example" else "127.0.0.1", *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    post(f"http://named.example:{receiver.port}/")
    assert asked.count("named.example") == 1


def fail_to_resolve(host: str, port: int) -> Sequence[str]:
    raise socket.gaierror(socket.EAI_AGAIN, "try again")


@pytest.mark.parametrize(
    "resolve", [fail_to_resolve, Names([]), Names(["no address"])], ids=["error", "none", "strange"]
)
def test_a_resolver_that_fails_is_a_no(resolve: Resolve) -> None:
    with pytest.raises(NotSent, match=r"the name nobody\.example"):
        post("http://nobody.example/", resolve=resolve)


def test_a_redirect_is_an_answer_and_not_followed(receiver: Receiver) -> None:
    with serve_receiver() as other:
        for status in (301, 302, 303, 307, 308):
            receiver.reply = lambda _, status=status: (status, b"", {"Location": other.url})  # type: ignore[misc]
            assert post(receiver.url).status_code == status
    assert other.messages == []


def test_proxies_of_the_environment_are_not_asked(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve_receiver() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert post(receiver.url).status_code == 204
    assert proxy.messages == []


def test_the_next_address_is_tried_where_nobody_listens(receiver: Receiver) -> None:
    names = Names(["127.0.0.9", "127.0.0.8", "127.0.0.1"])
    assert post(f"http://three.example:{receiver.port}/", resolve=names).status_code == 204


def test_what_was_sent_is_not_sent_to_another_address(receiver: Receiver) -> None:
    with (
        serve_raw(lambda connection: None, "127.0.0.2", receiver.port),
        pytest.raises(NotSent, match="the connection broke"),
    ):
        post(f"http://two.example:{receiver.port}/", resolve=Names(["127.0.0.2", "127.0.0.1"]))
    assert receiver.messages == []


# --- what comes back -----------------------------------------------------------------------------------


def drip(connection: socket.socket, start: bytes) -> None:
    connection.sendall(start)
    while True:
        connection.sendall(b"x")
        threading.Event().wait(0.05)


def test_a_head_that_drips_is_cut_off() -> None:
    with (
        serve_raw(lambda connection: drip(connection, b"HTTP/1.1 200 OK\r\nX: ")) as port,
        pytest.raises(NotSent, match=r"no response within 0\.7 s"),
    ):
        post(f"http://127.0.0.1:{port}/", timeout_seconds=0.7)


def test_a_body_that_drips_is_an_answer_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.outgoing.READ_SECONDS", 0.3)
    with serve_raw(lambda connection: drip(connection, b"HTTP/1.1 200 OK\r\n\r\n")) as port:
        answer = post(f"http://127.0.0.1:{port}/")
    assert (answer.status_code, set(answer.excerpt)) == (200, {"x"})


def test_an_answer_that_came_is_one_whatever_time_its_body_takes() -> None:
    """The receiver has the message: a slow answer must not lead to another delivery."""
    with serve_raw(lambda connection: drip(connection, b"HTTP/1.1 200 OK\r\n\r\n")) as port:
        assert post(f"http://127.0.0.1:{port}/", timeout_seconds=0.7).status_code == 200


def test_of_an_endless_body_little_is_read() -> None:
    sent = []

    def pour(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 500 No\r\n\r\n")
        while True:
            sent.append(connection.send(b"y" * 65536))

    with serve_raw(pour) as port:
        assert post(f"http://127.0.0.1:{port}/") == Answer(500, "y" * EXCERPT_BYTES)
    assert sum(sent) < 64 * 2**20


def test_an_endless_head_is_cut_off() -> None:
    def pour(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        while True:
            connection.sendall(b"X-Long: " + b"z" * 65536)

    with (
        serve_raw(pour) as port,
        pytest.raises(NotSent, match="the connection broke"),
    ):
        post(f"http://127.0.0.1:{port}/")


def test_what_is_packed_is_not_unpacked(receiver: Receiver) -> None:
    receiver.reply = lambda _: (200, gzip.compress(bytes(10**7)), {"Content-Encoding": "gzip"})
    assert len(post(receiver.url).excerpt) <= EXCERPT_BYTES


def test_an_excerpt_is_plain_text(receiver: Receiver) -> None:
    receiver.reply = lambda _: (500, b"a\x00b\x1b[31mc\r\nd\xff" + "ü".encode())
    assert post(receiver.url).excerpt == "a b [31mc \nd\ufffdü"


@pytest.mark.parametrize(
    "noise", [b"", b"SSH-2.0-OpenSSH_9.7\r\n", b"\x15\x03\x01\x00\x02\x02\x16", b"HTTP/9.9 1 x\r\n\r\n"]
)
def test_what_speaks_no_http_is_no_answer(noise: bytes) -> None:
    with (
        serve_raw(lambda connection: connection.sendall(noise)) as port,
        pytest.raises(NotSent, match="the connection broke"),
    ):
        post(f"http://127.0.0.1:{port}/")


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(NotSent, match="no connection"):
        post(f"http://127.0.0.1:{port}/")


def test_addresses_do_not_stand_in_the_log(receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        post(f"{receiver.url}?token=hushhush")
    assert "hushhush" not in caplog.text


# --- TLS -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For named.example alone, with its key; signed by itself."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("named.example")]), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    encoding = serialization.Encoding.PEM
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(private + made.public_bytes(encoding))
    return file


@pytest.fixture
def tls(certificate: Path) -> Iterator[tuple[Receiver, ssl.SSLContext, list[str | None]]]:
    """A receiver, what trusts it, and the names that it was called by."""
    called: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.sni_callback = lambda _socket, name, _context: called.append(name)
    trusting = ssl.create_default_context(cafile=certificate)
    with serve_receiver(ssl_context=context) as receiver:
        yield receiver, trusting, called


def test_the_certificate_is_checked_against_the_name_and_the_server_gets_it(
    tls: tuple[Receiver, ssl.SSLContext, list[str | None]],
) -> None:
    receiver, trusting, called = tls
    url = f"https://named.example:{receiver.port}/"
    assert post(url, resolve=Names(["127.0.0.1"]), ssl_context=trusting).status_code == 204
    assert called == ["named.example"]
    assert receiver.messages[0].headers["host"] == f"named.example:{receiver.port}"


def test_a_certificate_of_another_name_or_of_nobody_is_refused(
    tls: tuple[Receiver, ssl.SSLContext, list[str | None]],
) -> None:
    receiver, trusting, _ = tls
    with pytest.raises(NotSent, match="no connection"):
        post(f"https://other.example:{receiver.port}/", resolve=Names(["127.0.0.1"]), ssl_context=trusting)
    with pytest.raises(NotSent, match="no connection"):
        post(f"https://named.example:{receiver.port}/", resolve=Names(["127.0.0.1"]))
    with pytest.raises(NotSent, match="no connection"):
        post(f"https://127.0.0.1:{receiver.port}/", ssl_context=trusting)
    assert receiver.messages == []
