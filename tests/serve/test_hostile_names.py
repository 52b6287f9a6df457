"""The page of a service in a browser, with ids and names that are made to be taken for something else."""

from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient

pytest.importorskip("selenium", reason="the browser test needs selenium, which the extra dev installs")

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from service_calls import answering
from test_page import browser, on_page  # noqa: F401

HOSTILE = [
    '<img src=x onerror="window.hit=1">',
    '"><script>window.hit=1</script>',
    "' onmouseover='window.hit=1' autofocus onfocus='window.hit=1",
    "javascript:window.hit=1",
    "</title></script><svg onload=window.hit=1>",
    "__proto__",
    "constructor",
    "toString",
    "a/b?c=d&e#f%2Fg+h\\i",
    "...",
    "\u202egnp.exe",
    "  spaces  ",
    "W" * 250,
]


def test_hostile_names_are_text(browser: webdriver.Chrome, client: TestClient) -> None:  # noqa: F811
    events = [
        {"user_id": user, "item_id": item, "type": "like" if (i + j) % 3 else "dislike"}
        for i, user in enumerate(HOSTILE)
        for j, item in enumerate([*HOSTILE, "3", "5"])
        if i != j
    ]
    assert client.post("/v1/events", json={"events": events}).json()["refused"] == 0
    for item in HOSTILE:
        answer = client.put(f"/v1/items/{quote(item, safe='')}", json={"name": f"{item} {'n' * 300}", "tags": [item]})
        assert answer.status_code == 200, item
    variants = {"a": {"share": 0.5}, "b": {"share": 0.5, "parameters": {"dislike_aversion": 2.0}}}
    assert client.put("/v1/experiments/constructor", json={"variants": variants}).status_code == 200
    with answering(client.app) as url:
        wait = on_page(browser, url)
        wait.until(lambda driver: driver.find_element(By.ID, "state").text == "● ready")
        if not browser.find_element(By.ID, "acting").is_selected():
            browser.find_element(By.ID, "acting").send_keys(Keys.SPACE)
        for own, name in enumerate(HOSTILE):
            for field, out in (("userid", "userresult"), ("itemid", "itemresult")):
                browser.execute_script("document.getElementById(arguments[0]).replaceChildren()", out)
                browser.execute_script("document.getElementById(arguments[0]).value = arguments[1]", field, name)
                browser.find_element(By.ID, field).send_keys(Keys.ENTER)
                # the user was found, as it has verdicts in its table; the item, as it has neighbours
                shown = "#said tbody tr" if field == "userid" else "#itemresult button.link"
                wait.until(lambda driver, shown=shown: driver.find_elements(By.CSS_SELECTOR, shown))
                assert browser.find_element(By.ID, field).get_attribute("value") == name
            if own < 3:  # what the user likes is taken back by its own button
                before = len(browser.find_elements(By.CSS_SELECTOR, "#said tbody tr"))
                total = client.get(f"/v1/users/{quote(name, safe='')}/verdicts").json()["total"]
                assert before
                browser.find_element(By.CSS_SELECTOR, "#said button[aria-label^=Take]").send_keys(Keys.ENTER)
                wait.until(
                    lambda _, name=name, total=total: (
                        client.get(f"/v1/users/{quote(name, safe='')}/verdicts").json()["total"] == total - 1
                    )
                )
        assert browser.execute_script("return window.hit") is None
        assert [each for each in browser.get_log("browser") if "422" not in each["message"]] == []
