"""A login link from the service opens the dashboard once."""

import httpx

from atelier_client import AtelierClient


def test_a_link_opens_the_dashboard_once(client: AtelierClient) -> None:
    link = client.create_login_link()
    assert link.expires_in_seconds == 600
    assert "token" not in repr(link)
    base, _, token = link.url.partition("?token=")
    answers = [httpx.post(base, data={"token": token}, headers={"Sec-Fetch-Site": "same-origin"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [303, 401]
