"""The page over HTTP."""

from __future__ import annotations

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from tests.web.markup import parse
from tests.web.samples import BUSY, EMPTY

from mangaassist.core.errors import InputError
from mangaassist.web.pages import asset, router


def client(prefix: str = "") -> TestClient:
    app = FastAPI(openapi_url=None)
    app.include_router(router(lambda: BUSY), prefix=prefix)
    return TestClient(app)


@pytest.mark.parametrize("prefix", ["", "/ui"])
def test_page_and_files_are_served_from_here(prefix: str) -> None:
    """Issue 2, 9: every address in the page answers, with its own type and a lasting cache."""
    http = client(prefix)
    answer = http.get(f"{prefix}/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    page = parse(answer.text)
    addresses = [
        one.attributes.get("href") or one.attributes.get("src") for one in page.find("link", "script")
    ]
    assert len(addresses) == 3
    for address in addresses:
        file = http.get(str(address))
        assert file.status_code == 200
        assert "immutable" in file.headers["cache-control"]
    assert http.head(f"{prefix}/").status_code == 200


def test_an_unchanged_page_is_not_sent_twice() -> None:
    """Issue 2, 9: the refresh of an open page costs a tag when nothing happened."""
    http = client()
    tag = http.get("/").headers["etag"]
    again = http.get("/", headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")


def test_the_browser_is_told_to_run_nothing_else() -> None:
    """Issue 2, 9: nothing inline, nothing from elsewhere, no framing."""
    policy = client().get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


@pytest.mark.parametrize("name", ["../pages.py", "refresh.js.map", "%2e%2e%2fpages.py", "mangaassist.cs"])
def test_only_the_pages_own_files_are_served(name: str) -> None:
    """Issue 2, 9: no other file of the package can be read."""
    assert client().get(f"/static/{name}").status_code == 404
    with pytest.raises(InputError):
        asset(name)


def test_the_view_is_taken_anew_for_each_request() -> None:
    """Issue 2, 9: a reload shows what is, not what was."""
    views = iter([EMPTY, BUSY])
    app = FastAPI()
    app.include_router(router(lambda: next(views)))
    http = TestClient(app)
    assert "No story yet" in http.get("/").text
    assert "No story yet" not in http.get("/").text
