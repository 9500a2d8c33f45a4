"""Addresses that the service must never call, as clients may write them, and as a resolver may answer with them."""

from tests.core.domain.test_receivers import BY_NAT64, REFUSED_ADDRESSES, REFUSED_URLS

HIDDEN = [*(text for texts in REFUSED_ADDRESSES.values() for text in texts.split()), *BY_NAT64.split()]
"""Of no host on the public internet."""

SPELLED = [
    *("http://localhost/", "http://LOCALHOST:5432/", "http://localhost./", "http://a.localhost/", "HTTPS://x.y.LocalHost./"),
    *("http://127.0.0.1./", "http://127.0.0.1:6379/", "https://127.0.0.1/?a=b", "HTTP://127.0.0.1:80/../../x"),
    *("http://[0:0:0:0:0:0:0:1]/", "http://[0000:0000::0001]:8000/", "http://[::FFFF:7F00:1]/", "http://[::ffff:7f00:0001]/"),
    *("http://[::127.0.0.1]/", "http://[::FFFF:169.254.169.254]/latest/meta-data/iam", "http://[FE80::1]/", "http://[FD00::1]/"),
    *("http://169.254.169.254/computeMetadata/v1/", "http://169.254.169.254:80/openstack", "http://169.254.170.2/v2/"),
    *("http://100.100.100.200/latest/", "http://[fd00:ec2::254]/latest/", "http://168.63.129.16/machine?comp=goalstate"),
    *("http://0.0.0.0:8000/jobs", "http://[::]:8000/jobs", "http://[64:FF9B::7F00:1]/", "http://[2002:7F00:0001::]/"),
    *("http://10.0.0.1:9200/_search", "http://172.17.0.1:2375/containers/json", "http://192.168.1.1/%2e%2e/admin"),
]  # fmt: skip
"""Places of those kinds, said otherwise or more exactly."""

FORBIDDEN = [*(f"http://[{text}]/" if ":" in text else f"http://{text}/" for text in HIDDEN), *SPELLED]
UNREADABLE = REFUSED_URLS
"""What two readers could take for two addresses is no address here."""
