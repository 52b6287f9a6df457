"""The page for analysts, in a headless Chromium: figures, look-ups, the keyboard, a phone.

Where the variable SCREENSHOTS names a folder, pictures of the page go there.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient
from headless import chromium
from service_calls import Make, answering, experiments_of, items, send, serving

from recbole_signed.live.replica import OnlineReplica

selenium = pytest.importorskip("selenium", reason="the browser test needs selenium, which the extra dev installs")

from selenium import webdriver  # noqa: E402
from selenium.common.exceptions import StaleElementReferenceException  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.expected_conditions import element_to_be_clickable, staleness_of  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

PATIENCE = 60
ROWS = "#list tbody tr"
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
"""Ids and names that are made to be taken for something else."""


@pytest.fixture
def browser(tmp_path: Any) -> Iterator[webdriver.Chrome]:
    with chromium(tmp_path / "browser") as driver:
        driver.set_window_size(1200, 1000)
        yield driver


def on_page(browser: webdriver.Chrome, url: str) -> WebDriverWait[webdriver.Chrome]:
    """Open a page, and return what waits for what it shows."""
    browser.get(url)
    return WebDriverWait(browser, PATIENCE, ignored_exceptions=[StaleElementReferenceException])


@pytest.fixture
def address(client: TestClient) -> Iterator[str]:
    send(client, "1", items(client, "1", k=1)[0], "dislike")
    with answering(client.app) as url:
        yield url


def look_up(browser: webdriver.Chrome, user: str) -> Any:
    """Look a user up by the keyboard, once the page shows the one that it begins with; return the field."""
    field, wait = browser.find_element(By.ID, "userid"), WebDriverWait(browser, PATIENCE)
    before = wait.until(lambda driver: driver.find_elements(By.CSS_SELECTOR, "#userresult > *"))
    field.clear()
    field.send_keys(user, Keys.ENTER)
    wait.until(staleness_of(before[0]))
    return field


def reasons(browser: webdriver.Chrome) -> dict[str, str]:
    """Return the items of the list that is shown, in its order, and their reasons; nothing until all have one."""
    cells = [row.find_elements(By.TAG_NAME, "td") for row in browser.find_elements(By.CSS_SELECTOR, ROWS)]
    found = {each[1].text: each[2].text for each in cells}
    return found if all(found.values()) else {}


def photograph(browser: webdriver.Chrome, name: str) -> None:
    if folder := os.environ.get("SCREENSHOTS"):
        browser.save_screenshot(os.path.join(folder, f"{name}.png"))


def test_the_page(browser: webdriver.Chrome, address: str) -> None:
    wait = on_page(browser, address)
    wait.until(lambda driver: driver.find_element(By.ID, "state").text == "● ready")
    tiles = browser.find_element(By.ID, "tiles").text
    assert "Users" in tiles
    assert "Event to visible, p99" in tiles
    charts = browser.find_element(By.ID, "charts").text
    assert "DislikeRecall@20: 1.0000" in charts  # it was on top of the list
    assert "top line 1, bottom 0" in charts
    # a user, by the keyboard alone
    field = look_up(browser, "1")
    wait.until(lambda driver: "The newest dislike is that of" in driver.find_element(By.ID, "userresult").text)
    assert len(browser.find_elements(By.CSS_SELECTOR, ROWS)) == 10
    browser.find_element(By.CSS_SELECTOR, "#userresult button[aria-label^=Why]").send_keys(Keys.ENTER)
    wait.until(lambda driver: "The like rate of item" in driver.find_element(By.ID, "why").text)
    # what the user said, and taking the newest back
    said = [row.text for row in browser.find_elements(By.CSS_SELECTOR, "#said tbody tr")]
    assert 0 < len(said) <= 10
    assert " dislike " in said[0]
    browser.find_element(By.CSS_SELECTOR, "#said button[aria-label^=Take]").send_keys(Keys.ENTER)
    wait.until(lambda driver: "is taken back" in driver.find_element(By.ID, "why").text)
    assert browser.find_element(By.CSS_SELECTOR, "#said tbody tr").text != said[0]
    # an id is text, whatever it looks like
    field.clear()
    field.send_keys("<img src=x onerror=alert(1)>", Keys.ENTER)
    wait.until(lambda driver: "Not known" in driver.find_element(By.ID, "userresult").text)
    item = browser.find_element(By.ID, "itemid")
    item.send_keys("3", Keys.ENTER)
    wait.until(lambda driver: "Near it" in driver.find_element(By.ID, "itemresult").text)
    item.clear()
    item.send_keys("no such item", Keys.ENTER)
    wait.until(lambda driver: "there is no item 'no such item'" in driver.find_element(By.ID, "itemresult").text)
    photograph(browser, "desk")
    assert [each for each in browser.get_log("browser") if "404" not in each["message"]] == []


def test_what_is_named_can_be_looked_up_and_judged(browser: webdriver.Chrome, address: str) -> None:
    wait = on_page(browser, address)

    def press(selector: str) -> str:
        found = wait.until(lambda driver: driver.find_element(By.CSS_SELECTOR, selector))
        name = found.accessible_name
        found.send_keys(Keys.ENTER)
        return str(name)

    # from a popular item to a user whom it suits
    wait.until(lambda driver: "Popular" in driver.find_element(By.ID, "itemresult").text)
    assert press("#itemresult button.link").startswith("Look up item ")
    wait.until(lambda driver: "Who would get it" in driver.find_element(By.ID, "itemresult").text)
    user = press("#itemresult button[aria-label^='Look up user']").removeprefix("Look up user ")
    wait.until(lambda driver: len(driver.find_elements(By.CSS_SELECTOR, ROWS)) == 10)
    assert browser.find_element(By.ID, "userid").get_attribute("value") == user
    # nobody judges in the name of a user by accident
    assert not browser.find_elements(By.CSS_SELECTOR, "#userresult button[aria-label^=Dislike]")
    browser.find_element(By.ID, "acting").send_keys(Keys.SPACE)
    item = press(f"{ROWS} button[aria-label^=Dislike]").removeprefix("Dislike ")
    change = rf"The new list was here \d+ ms after the dislike of '{item}' was sent\. Gone: .*\b{item}\b.*New: "
    wait.until(lambda driver: re.search(change, driver.find_element(By.ID, "why").text))
    assert browser.find_element(By.CSS_SELECTOR, "#said tbody tr").text.startswith(f"{item} dislike ")
    photograph(browser, "acting")
    assert browser.get_log("browser") == []
    # a replica may lag behind: the list asked for reflects the event
    asked = browser.execute_script("return performance.getEntriesByType('resource').map(each => each.name)")
    newest = {each.split("?")[0].rpartition("/")[2]: each for each in asked if "min_seq=" in each}
    assert newest.keys() == {"recommendations", "last-dislike", "verdicts", "wishes"}
    assert not any(each.endswith("min_seq=0") for each in newest.values())


def test_a_dislike_shows_its_reason_and_one_click_takes_it_back(browser: webdriver.Chrome, client: TestClient) -> None:
    """The page said which items went, not why others moved, and operations stood before the list."""
    with answering(client.app) as url:
        wait = on_page(browser, url)
        assert browser.find_element(By.CSS_SELECTOR, "main section:not([hidden])").text.startswith("A user")
        browser.find_element(By.ID, "acting").send_keys(Keys.SPACE)
        look_up(browser, "1")
        before = wait.until(lambda _: len(found := reasons(browser)) == 10 and found)
        assert any(reason.startswith("you liked ") for reason in before.values())
        item = next(iter(before))
        browser.find_element(By.CSS_SELECTOR, f"{ROWS} button[aria-label='Dislike {item}']").send_keys(Keys.ENTER)
        reason = f"▼ lower: near what you disliked: {item}"
        after = wait.until(lambda _: item not in (found := reasons(browser)) and found)
        effect = client.get("/v1/users/1/last-dislike?k=10").json()
        now = {each["item"]: each for each in effect["lowered"] if each["now"] is not None}
        assert now
        for each, told in after.items():
            assert told.startswith(reason) == (each in now)
            if each in now:
                moved = now[each]["before"] not in (None, now[each]["now"])
                assert told == reason + f"; without it number {now[each]['before']}" * moved
        photograph(browser, "felt")
        browser.find_element(By.CSS_SELECTOR, "#effect button").send_keys(Keys.ENTER)
        assert wait.until(lambda _: item in (found := reasons(browser)) and found) == before
        assert browser.get_log("browser") == []


def test_less_of_a_genre_is_shown_and_undone(browser: webdriver.Chrome, client: TestClient) -> None:
    listed = client.get("/v1/users/1/recommendations?k=10").json()["items"]
    told = [{"item_id": each["item"], "type": "item", "features": {"genre": "<b>War</b>"}} for each in listed[:3]]
    client.post("/v1/events", json={"events": told}).raise_for_status()
    with answering(client.app) as url:
        wait = on_page(browser, url)
        browser.find_element(By.ID, "acting").send_keys(Keys.SPACE)
        look_up(browser, "1")

        def press(selector: str) -> None:
            wait.until(lambda driver: driver.find_element(By.CSS_SELECTOR, selector)).send_keys(Keys.ENTER)

        before = wait.until(lambda _: len(found := reasons(browser)) == 10 and found)
        press(f"{ROWS} button[aria-label='Less or more like {listed[0]['item']}']")
        press("#why button")
        wait.until(lambda driver: "after less of genre <b>War</b> was sent" in driver.find_element(By.ID, "why").text)
        reason = "▼ lower: you asked for less of genre <b>War</b>"
        after = wait.until(lambda _: reason in " ".join((found := reasons(browser)).values()) and found)
        assert list(after) != list(before)
        war = {each["item"] for each in listed[:3]}
        assert {each for each, why in after.items() if why.endswith(reason)} == war & after.keys()
        assert browser.find_element(By.CSS_SELECTOR, "#asked tbody tr").text.startswith("less of genre <b>War</b> 20")
        photograph(browser, "less")
        press("#asked button")
        wait.until(lambda driver: "is taken back" in driver.find_element(By.ID, "why").text)
        assert wait.until(lambda _: reasons(browser)) == before
        assert not browser.find_elements(By.ID, "asked")
        assert browser.get_log("browser") == []


def test_a_replica_alone_says_so(browser: webdriver.Chrome, serve: Make, tmp_path: Path) -> None:
    serve()
    with serving(OnlineReplica(tmp_path / "state"), tmp_path / "state") as reader, answering(reader.app) as url:
        wait = on_page(browser, url)
        wait.until(lambda driver: "read replica without a writer" in driver.find_element(By.ID, "state").text)
        assert "NaN" not in browser.find_element(By.TAG_NAME, "main").text


@pytest.mark.parametrize("width", [390, 768, 1024, 1440])
def test_it_fits_a_screen(browser: webdriver.Chrome, address: str, width: int) -> None:
    """Beside the item's column the list of a user was cut off."""
    screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 768}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    wait = on_page(browser, address)
    wait.until(lambda _: reasons(browser))
    photograph(browser, f"width-{width}")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    boxes = "document.querySelectorAll('#userresult .scroll')"
    assert not browser.execute_script(f"return [...{boxes}].some(each => each.scrollWidth > each.clientWidth)")


def test_the_page_of_routes_needs_no_foreign_host(browser: webdriver.Chrome, address: str) -> None:
    wait = on_page(browser, f"{address}docs")
    wait.until(lambda driver: "/v1/users/{user_id}/recommendations" in driver.find_element(By.ID, "routes").text)
    assert browser.execute_script("return performance.getEntriesByType('resource').map(each => each.name)") == [
        f"{address}openapi.json"
    ]

    def opened(method: str, path: str) -> Any:
        for each in browser.find_elements(By.TAG_NAME, "details"):
            if [each.find_element(By.TAG_NAME, name).text for name in ("b", "code")] == [method, path]:
                each.find_element(By.TAG_NAME, "summary").click()
                return each
        raise AssertionError(path)

    def sent(part: Any) -> str:
        part.find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
        wait.until(lambda _: part.find_element(By.TAG_NAME, "pre").text)
        return str(part.find_element(By.TAG_NAME, "pre").text)

    lists = opened("GET", "/v1/users/{user_id}/recommendations")
    user, length = lists.find_elements(By.TAG_NAME, "input")[:2]
    user.send_keys("1")
    length.send_keys("3")
    answer = sent(lists)
    assert answer.startswith("200")
    assert answer.count('"score"') == 3
    events = opened("POST", "/v1/events")  # its example is one that the service takes
    assert '"accepted": 1' in sent(events)
    assert sent(opened("POST", "/v1/recommendations")).startswith("200")
    photograph(browser, "routes")


def test_the_report_of_an_experiment(browser: webdriver.Chrome, serve: Make) -> None:
    variants = {"plain": {"share": 0.5}, "careful": {"share": 0.5, "parameters": {"dislike_aversion": 4.0}}}
    client = serve(experiments=experiments_of(aversion={"variants": variants}))
    for user in range(1, 30):
        send(client, str(user), items(client, str(user), k=1)[0], "like" if user % 3 else "dislike")
    with answering(client.app) as url:
        wait = on_page(browser, url)
        button = wait.until(element_to_be_clickable((By.CSS_SELECTOR, "#variants button")))  # its part is shown later
        button.send_keys(Keys.ENTER)
        report = browser.find_element(By.ID, "report")
        wait.until(lambda _: "Always valid, absolute" in report.text)
        assert re.search(r"plain: \d+ users, \d+ items shown; careful: \d+ users", report.text)
        assert re.search(r"dislike_rate .* to .*-?\d\.\d{4} to -?\d\.\d{4}", report.text)
        photograph(browser, "report")


def test_items_are_called_by_their_names(browser: webdriver.Chrome, serve: Make) -> None:
    client = serve(limits={"k": 10})  # no look-up asks for more at once
    listed = items(client, "1", k=2)
    client.put(f"/v1/items/{listed[0]}", json={"name": "<b>Heat</b>"}).raise_for_status()
    with answering(client.app) as url:
        wait = on_page(browser, url)
        browser.find_element(By.ID, "acting").send_keys(Keys.SPACE)
        look_up(browser, "1")
        wait.until(lambda driver: len(driver.find_elements(By.CSS_SELECTOR, ROWS)) == 10)
        named = [
            f"<b>Heat</b> ({listed[0]})",
            listed[1],
        ]  # once the names have come, with which the list is drawn again
        links = f"{ROWS} button.link"
        wait.until(lambda driver: [each.text for each in driver.find_elements(By.CSS_SELECTOR, links)[:2]] == named)
        asked = browser.execute_script("return performance.getEntriesByType('resource').map(each => each.name)")
        counts = [each.count("id=") for each in asked if "/v1/items?" in each]
        assert sum(counts) > 10 >= max(counts)
        browser.find_element(By.CSS_SELECTOR, f"#userresult button[aria-label='Dislike {listed[0]}']").send_keys(
            Keys.ENTER
        )
        gone = f"'<b>Heat</b> ({listed[0]})' was sent. Gone: "
        wait.until(lambda driver: gone in driver.find_element(By.ID, "why").text)
        # the name is as good as the id, and what is done to the item is seen
        field = browser.find_element(By.ID, "itemid")
        field.send_keys("heat", Keys.ENTER)
        shown = "<b>Heat</b>\nWithdraw\n"
        wait.until(lambda driver: driver.find_element(By.ID, "itemresult").text.startswith(shown))
        assert field.get_attribute("value") == listed[0]
        for answer in ("dismiss", "accept"):
            browser.find_element(By.CSS_SELECTOR, "#itemresult button.quiet").send_keys(Keys.ENTER)
            asked = browser.switch_to.alert
            assert asked.text.startswith("'<b>Heat</b> (")
            getattr(asked, answer)()
            assert client.get(f"/v1/items/{listed[0]}").json()["withdrawn"] is False or answer == "accept"
        shown = "<b>Heat</b>; withdrawn\nLet it return\n"
        wait.until(lambda driver: driver.find_element(By.ID, "itemresult").text.startswith(shown))
        field.clear()
        field.send_keys("<b>he")
        wait.until(lambda driver: driver.find_elements(By.CSS_SELECTOR, f"#found option[value='{listed[0]}']"))
        assert [each for each in browser.get_log("browser") if "404" not in each["message"]] == []


def test_hostile_names_are_text(browser: webdriver.Chrome, client: TestClient) -> None:
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
        assert [each for each in browser.get_log("browser") if "404" not in each["message"]] == []
