"""Which addresses are refused: 127.0.0.1 has many names."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.receivers import AllowList, Receiver, describe_refused

NOWHERE = AllowList()

# Addresses of the service itself and of its neighbours, each with the kind that the message names.
REFUSED_ADDRESSES = {
    "loopback": "127.0.0.1 127.0.0.2 127.1.2.3 127.255.255.255 ::1",
    "private": "10.0.0.0 10.1.2.3 10.255.255.255 172.16.0.1 172.31.255.255 192.168.0.1 192.168.255.255 fc00::1 fd00::1 "
    "fd00:ec2::254 fdff:ffff::1 fec0::1 feff::1 100.64.0.1 100.100.100.200 100.127.255.255 64:ff9b:1::a00:1",
    "link-local": "169.254.0.1 169.254.169.254 169.254.170.2 169.254.255.255 fe80::1 febf::1",
    "no host": "0.0.0.0 0.1.2.3 0.255.255.255 ::",
    "multicast": "224.0.0.1 239.255.255.255 ff02::1 ff0e::1",
    "reserved": "240.0.0.1 255.255.255.255 192.0.0.1 192.0.0.192 2001:1::1 2001:20::1 100::1 4000::1 8000::1 5f00::1 "
    "1::1",
    "documentation": "192.0.2.1 198.51.100.7 203.0.113.9 2001:db8::1 3fff::1",
    "benchmark": "198.18.0.1 198.19.255.255",
    "metadata": "168.63.129.16",
    "embedded": "::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:8.8.8.8 ::127.0.0.1 ::10.0.0.1 "
    "::ffff:0:127.0.0.1",
    "tunnel": "2002:7f00:1::1 2002:a00:1::1 2002:c0a8:101::1 2002:808:808::1 2001::1 "
    "2001:0:4136:e378:8000:63bf:3fff:fdd2 192.88.99.1 2606:4700::5efe:7f00:1 2606:4700::200:5efe:a00:1 "
    "2606:4700:0:0:0:5efe:c0a8:101",
}
BY_NAT64 = "64:ff9b::7f00:1 64:ff9b::a00:1 64:ff9b::a9fe:a9fe 64:ff9b::c0a8:1 64:ff9b::6440:1"
PUBLIC = (
    "8.8.8.8 1.1.1.1 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 169.253.255.255 "
    "172.15.255.255 172.32.0.0 192.167.255.255 192.169.0.0 223.255.255.255 2606:4700:4700::1111 2a00:1450::1 "
    "64:ff9b::808:808"
)
REFUSED_URLS = [
    # written so that only some readers see an address
    *("http://127.1/", "http://127.0.1/", "http://2130706433/", "http://0x7f000001/", "http://0x7f.0.0.1/"),
    *(
        "http://017700000001/",
        "http://0177.0.0.1/",
        "http://127.0.0.01/",
        "http://127.0.0.1.1/",
        "http://1/",
        "http://0/",
    ),
    *("http://0x/", "http://256.256.256.256/", "http://[::1/", "http://::1/", "http://[127.0.0.1]/", "http://[::g]/"),
    *("http://[fe80::1%25eth0]/", "http://[fe80::1%eth0]/", "http://①②⑦.⓪.⓪.①/", "http://127。0。0。1/"),
    # whose host is another than it seems
    *("http://example.com@127.0.0.1/", "http://user:password@example.com/", "http://@example.com/"),
    *(
        "http://example.com\\@127.0.0.1/",
        "http://127.0.0.1\\.example.com/",
        "http:\\\\127.0.0.1/",
        "http:///127.0.0.1/",
    ),
    *("http:/127.0.0.1/", "http:127.0.0.1", "//127.0.0.1/", "127.0.0.1", "http://example.com#@127.0.0.1/"),
    *("http://example.com:80@127.0.0.1/", "http://exam ple.com/", " http://example.com/", "http://example.com/\n"),
    *(
        "http://example.com\r\nHost: x/",
        "http://example.com/\r\nX: y",
        "http://example.com/a b",
        "http://example.com\t/",
    ),
    *("http://exa\x00mple.com/", "http://例え.jp/", "http://exämple.com/", "http://%31%32%37.0.0.1/", "http://a..b/"),
    *(
        "http://.example.com/",
        "http://-a.com/",
        "http://a-.com/",
        f"http://{'a' * 64}.com/",
        f"http://{'a.' * 127}com/",
    ),
    *("http://example.com:0/", "http://example.com:65536/", "http://example.com:-1/", "http://example.com:80:80/"),
    *("http://example.com:x/", "http://", "http:///", "http://:80/", "", f"http://example.com/{'a' * 2048}"),
    # other schemes
    *("file:///etc/passwd", "ftp://example.com/", "gopher://127.0.0.1:6379/_FLUSHALL", "dict://127.0.0.1:6379/info"),
    *(
        "javascript:alert(1)",
        "data:text/plain,x",
        "redis://127.0.0.1/",
        "unix:///var/run/docker.sock",
        "ws://example.com/",
    ),
    *("httpx://example.com/", "http+unix://x/", "jar:http://example.com/"),
]


@pytest.mark.parametrize(
    ("kind", "address"), [(kind, text) for kind, texts in REFUSED_ADDRESSES.items() for text in texts.split()]
)
def test_addresses_that_are_not_of_the_public_internet(kind: str, address: str) -> None:
    assert kind in (describe_refused(ip_address(address)) or "")
    host = f"[{address}]" if ":" in address else address
    receiver = Receiver.parse(f"http://{host}/")
    assert receiver.address == ip_address(address)
    assert NOWHERE.find_refusal_unresolved(receiver) is not None


@pytest.mark.parametrize("address", BY_NAT64.split())
def test_nat64_is_judged_by_the_address_within(address: str) -> None:
    assert describe_refused(ip_address(address)) == describe_refused(ip_address(int(ip_address(address)) & 0xFFFFFFFF))
    assert describe_refused(ip_address(address)) is not None


@pytest.mark.parametrize("address", PUBLIC.split())
def test_public_addresses(address: str) -> None:
    assert describe_refused(ip_address(address)) is None


@pytest.mark.parametrize("url", REFUSED_URLS)
def test_addresses_that_can_be_read_in_two_ways(url: str) -> None:
    with pytest.raises(ValueError, match=r"must be|the host|the port") as refusal:
        Receiver.parse(url)
    assert "password@" not in str(refusal.value)


def test_enough_hostile_ones_are_tried() -> None:
    assert len(REFUSED_URLS) + len(BY_NAT64.split()) + sum(len(t.split()) for t in REFUSED_ADDRESSES.values()) >= 100


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST", "localhost.", "api.localhost", "a.b.LocalHost."])
def test_names_of_this_machine(name: str) -> None:
    receiver = Receiver.parse(f"http://{name}:8000/")
    assert NOWHERE.find_refusal_unresolved(receiver) is not None
    assert AllowList.parse("127.0.0.0/8").find_refusal_unresolved(receiver) is None
    assert AllowList.parse("10.0.0.0/8").find_refusal_unresolved(receiver) is not None


@pytest.mark.parametrize(
    ("url", "parts", "authority"),
    [
        ("https://Hooks.Example.com", ("https", "hooks.example.com", 443, "/"), "hooks.example.com"),
        ("HTTP://example.com.:8080/a/b?c=d&e", ("http", "example.com", 8080, "/a/b?c=d&e"), "example.com:8080"),
        ("http://example.com?q", ("http", "example.com", 80, "/?q"), "example.com"),
        ("https://example.com:80/%20@:", ("https", "example.com", 80, "/%20@:"), "example.com:80"),
        ("http://[2606:4700::1111]:81/", ("http", "2606:4700::1111", 81, "/"), "[2606:4700::1111]:81"),
        ("http://xn--r8jz45g.jp/", ("http", "xn--r8jz45g.jp", 80, "/"), "xn--r8jz45g.jp"),
        ("http://my_hooks.example.com/", ("http", "my_hooks.example.com", 80, "/"), "my_hooks.example.com"),
    ],
)
def test_an_address_taken_apart(url: str, parts: tuple[str, str, int, str], authority: str) -> None:
    receiver = Receiver.parse(url)
    assert (receiver.scheme, receiver.host, receiver.port, receiver.target) == parts
    assert receiver.authority == authority


ADMITTED = "10.1.2.3:8080, hooks.internal:9000 other.internal,192.168.0.0/16\n[fd00::1]:80 fd01::/16 127.0.0.1"


@pytest.mark.parametrize(
    ("url", "address", "admitted"),
    [
        ("http://10.1.2.3:8080/", "10.1.2.3", True),
        ("http://any.name:8080/", "10.1.2.3", True),
        ("http://10.1.2.3:8081/", "10.1.2.3", False),
        ("http://10.1.2.4:8080/", "10.1.2.4", False),
        ("http://hooks.internal:9000/", "10.9.9.9", True),
        ("http://Hooks.Internal.:9000/", "10.9.9.9", True),
        ("http://hooks.internal/", "10.9.9.9", False),
        ("http://not-hooks.internal:9000/", "10.9.9.9", False),
        ("http://other.internal:7/", "fd09::1", True),
        ("http://192.168.77.1:1/", "192.168.77.1", True),
        ("http://[fd00::1]/", "fd00::1", True),
        ("http://[fd00::1]:81/", "fd00::1", False),
        ("http://[fd01:2::3]:5/", "fd01:2::3", True),
        ("http://127.0.0.1:5432/", "127.0.0.1", True),
        ("http://127.0.0.2/", "127.0.0.2", False),
        ("http://[::ffff:127.0.0.1]/", "::ffff:127.0.0.1", False),
    ],
)
def test_what_the_operator_admits(url: str, address: str, admitted: bool) -> None:
    refusal = AllowList.parse(ADMITTED).find_refusal(Receiver.parse(url), [ip_address(address)])
    assert (refusal is None) == admitted


def test_one_bad_address_of_a_name_is_enough() -> None:
    addresses = [ip_address("8.8.8.8"), ip_address("10.0.0.1")]
    assert NOWHERE.find_refusal(Receiver.parse("http://two.example/"), addresses) == "10.0.0.1 is a private address"
    assert NOWHERE.find_refusal(Receiver.parse("http://two.example/"), addresses[:1]) is None


@pytest.mark.parametrize(
    "entry", ["http://x", "a/b", "10.0.0.1/8", "10.0.0.0/33", "x:99999", "x:", "user@x", "*", "::1:80:"]
)
def test_an_allow_list_that_is_none_is_named(entry: str) -> None:
    with pytest.raises(ValueError, match="is not a host"):
        AllowList.parse(f"good.internal, {entry}")


@given(st.text(max_size=80).map(lambda text: "http://" + text))
def test_whatever_is_taken_has_a_plain_host(url: str) -> None:
    try:
        receiver = Receiver.parse(url)
    except ValueError:
        return
    assert receiver.host.isascii()
    assert not set(receiver.host) & set("@/?")
    assert not set(receiver.host + receiver.target) & set(" \t\r\n\\#")
    assert Receiver.parse(f"{receiver.scheme}://{receiver.authority}{receiver.target}") == receiver
