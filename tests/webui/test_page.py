"""The page in real Chromium, against the models inside."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.webui.conftest import OpenPage

if TYPE_CHECKING:
    from playwright.sync_api import Page

EXAMPLES = Path(__file__).parents[2] / "examples"
Take = Callable[["Page", str], None]

# Collects every text that the last answer has had.
WATCH = """() => {
    window.seen = [];
    new MutationObserver(() => {
        const answers = document.querySelectorAll("#chat .bot.message .md");
        const text = answers.length ? answers[answers.length - 1].textContent : "";
        if (text !== window.seen[window.seen.length - 1]) window.seen.push(text);
    }).observe(document.querySelector("#chat"), {childList: true, subtree: true, characterData: true});
}"""

# Contrast of every visible text with what lies behind it (WCAG 2: relative luminance, opacity included).
CONTRAST = """() => {
    const rgba = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return n.length === 4 ? n : [...n, 1]; };
    const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
    const light = (c) => [0, 1, 2].map((i) => c[i] / 255)
        .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = (e) => {
        const layers = [];
        for (; e; e = e.parentElement) {
            layers.push(rgba(getComputedStyle(e).backgroundColor));
            if (layers.at(-1)[3] === 1) break;
        }
        return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
    };
    const faint = [];
    for (const e of document.querySelectorAll("body *")) {
        const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
        const said = own ? e.textContent.trim() : e.placeholder && !e.value ? e.placeholder : "";
        if (!said || !e.checkVisibility({opacityProperty: true, visibilityProperty: true}) || e.disabled) continue;
        if (e.getBoundingClientRect().width <= 1 || e.closest(".sr-only, script, style, svg, option")) continue;
        const style = own ? getComputedStyle(e) : getComputedStyle(e, "::placeholder");
        const ground = behind(e), text = over(rgba(style.color), ground), lum = [light(text), light(ground)];
        const ratio = (Math.max(...lum) + 0.05) / (Math.min(...lum) + 0.05);
        if (ratio < 4.5) faint.push(`${said.slice(0, 40)}: ${ratio.toFixed(2)} (${style.color})`);
    }
    return faint;
}"""


def ask(page: Page, question: str, *files: Path) -> str:
    """Ask as people do, and wait for the whole answer."""
    if files:
        page.set_input_files("#box input[type=file]", files)
        page.wait_for_function("n => document.querySelectorAll('#box .thumbnails img').length === n", arg=len(files))
    before = turns(page)
    page.fill("#box textarea", question)
    page.press("#box textarea", "Enter")
    return answered(page, before + 1)


def answered(page: Page, count: int, pattern: str = "", *, noticed: bool = False) -> str:
    """The last of ``count`` answers, once there is nothing to stop any more and it holds ``pattern``.

    ``noticed``: something may be said of it, as that it was cut at its longest.
    """
    page.wait_for_function(
        """([count, pattern, noticed]) => {
            const all = document.querySelectorAll("#chat .bot.message .md");
            return all.length === count && all[count - 1].textContent !== "…"
                && new RegExp(pattern).test(all[count - 1].textContent)
                && document.querySelector("#box .submit-button")
                && (noticed || !document.querySelector("#talk-notice .notice"));
        }""",
        arg=[count, pattern, noticed],
    )
    return page.locator("#chat .bot.message .md").last.inner_text()


def turns(page: Page) -> int:
    return page.locator("#chat .bot.message .md").count()


def notice(page: Page, tab: str) -> str:
    return page.locator(f"#{tab}-notice .notice").inner_text()


def paint_tab(page: Page) -> None:
    page.get_by_role("tab").nth(1).click()
    page.wait_for_selector("#prompt textarea")


def wish(page: Page, label: str, value: str) -> None:
    """Fill a field of the options. Just after they open the page may still put what the field begins with."""
    field = page.get_by_label(label).first
    for _ in range(20):
        field.fill(value)
        page.wait_for_timeout(500)
        if field.input_value() == value:
            return
    raise AssertionError(f"{label} does not stay {value}")


def paint(page: Page, prompt: str) -> None:
    page.fill("#prompt textarea", prompt)
    page.press("#prompt textarea", "Enter")
    page.wait_for_selector("#to-chat")


def test_talk(open_page: OpenPage, picture: Take) -> None:
    """Upload, question, an answer that grows; on from there, again, otherwise, and back."""
    page = open_page()
    assert page.title().startswith("huayu")
    picture(page, "start_en")
    page.evaluate(WATCH)
    answer = ask(page, "What is in the picture?", EXAMPLES / "fruit_and_dog.png")
    assert all(thing in answer for thing in ("apple", "banana", "dog")), answer
    picture(page, "talk_en")
    seen = [text for text in page.evaluate("window.seen") if text not in ("", "…")]
    assert len(seen) > 1
    assert all(later.startswith(earlier) for earlier, later in pairwise(seen))
    assert "three" in ask(page, "How many things are there?")
    assert "blue" in ask(page, "What colour is the background?").lower()
    assert turns(page) == 3
    page.click("#talk-options > button")
    page.get_by_text("Chinese", exact=True).click()
    page.get_by_role("button", name="Retry").last.click()
    answered(page, 3, "[一-鿿]", noticed=True)  # kept from the language of the question the small model may not end
    page.get_by_role("button", name="Undo").last.click()
    page.wait_for_function("document.querySelector('#box textarea').value.includes('background')")
    assert turns(page) == 2
    page.get_by_role("button", name="Edit").first.click()
    page.locator("#chat textarea").last.fill("Is there a banana in the picture?")
    page.get_by_role("button", name="Send").first.click()
    answered(page, 1, "[一-鿿]", noticed=True)
    page.click("#new-talk")
    page.wait_for_selector("#chat .example")


def test_stop(open_page: OpenPage) -> None:
    """A model that babbles on is stopped; what came is kept."""
    page = open_page()
    page.click("#talk-options > button")
    page.get_by_label("Model").first.click()
    page.get_by_role("option").nth(1).click()
    wish(page, "Longest answer", "8000")
    page.set_input_files("#box input[type=file]", EXAMPLES / "dog.png")
    page.wait_for_selector("#box .thumbnails img")
    page.fill("#box textarea", "what is this?")
    page.press("#box textarea", "Enter")
    page.wait_for_function("document.querySelector('#chat .bot.message .md')?.textContent.length > 3")
    stopped = "document.querySelector('#talk-notice').innerText.startsWith('Stopped')"
    for _ in range(20):  # on a busy machine the button may not be there yet when the first words are
        page.keyboard.press("Escape")
        page.wait_for_timeout(1000)
        if page.evaluate(stopped):
            break
    assert page.evaluate(stopped)
    assert page.locator("#chat .bot.message .md").last.inner_text() not in ("", "…")


def test_errors_are_words(open_page: OpenPage, tmp_path: Path) -> None:
    """A file that is no picture, no question, no prompt, a prompt that is refused; the question stays in the box."""
    page = open_page("zh-CN")
    broken = tmp_path / "broken.png"
    broken.write_text("not a picture")
    page.set_input_files("#box input[type=file]", broken)
    page.fill("#box textarea", "这是什么？")
    page.wait_for_timeout(300)
    page.press("#box textarea", "Enter")
    page.wait_for_selector("#talk-notice .bad")
    assert "不是图片" in notice(page, "talk")
    assert page.input_value("#box textarea") == "这是什么？"
    page.click("#new-talk")
    page.wait_for_function("document.querySelector('#box textarea').value === ''")
    page.set_input_files("#box input[type=file]", EXAMPLES / "dog.png")
    page.wait_for_selector("#box .thumbnails img")
    page.press("#box textarea", "Enter")
    page.wait_for_selector("#talk-notice .bad")
    assert notice(page, "talk") == "请写下问题。"
    paint_tab(page)
    page.click("#paint")
    page.wait_for_selector("#paint-notice .bad")
    assert "提示词为空" in notice(page, "paint")
    page.fill("#prompt textarea", "裸体女人")
    page.click("#paint")
    page.wait_for_function("document.querySelector('#paint-notice').innerText.includes('没有画')")
    assert "Error" not in page.inner_text("body")


def test_paint_look_and_talk_about_it(open_page: OpenPage, picture: Take) -> None:
    """Words become pictures with their story; the chat model looks; one of them goes to the talk."""
    page = open_page()
    paint_tab(page)
    page.click("#paint-options > button")
    wish(page, "Seed", "7")
    page.get_by_label("Let the chat model look").check()
    page.click("#paint-options > button")
    page.get_by_text("cartoon").click()
    paint(page, "a banana")
    page.wait_for_function("document.querySelectorAll('#gallery .thumbnail-item').length === 2")
    assert "Seed 7" in page.locator("#gallery .caption-label").first.inner_text()
    assert "huayu-chat-mini: Yes" in page.inner_text("#about")
    picture(page, "paint_en")
    page.click("#to-chat")
    page.wait_for_selector("#box .thumbnails img")
    assert "Yes" in ask(page, "Is there a banana in the picture?")


def test_candidates_with_scores_and_without(open_page: OpenPage) -> None:
    """The best by a Chinese ranker; of an English prompt all are shown, and it is said why they have no scores."""
    page = open_page("zh-CN")
    paint_tab(page)
    page.click("#paint-options > button")
    wish(page, "张数", "1")
    wish(page, "候选数", "3")
    paint(page, "一个红苹果")
    assert re.search(r"得分\s+-?[\d.]+ \(候选 -?[\d.]+ · -?[\d.]+ · -?[\d.]+\)", page.inner_text("#about"))
    page.wait_for_function("document.querySelectorAll('#gallery .caption-label').length === 1")  # previews fade out
    page.fill("#prompt textarea", "a red apple")
    page.click("#paint")
    page.wait_for_function("document.querySelectorAll('#gallery .thumbnail-item').length === 3")
    page.wait_for_selector("#to-chat")
    assert "不打分" in notice(page, "paint")
    assert "得分" not in page.inner_text("#about")


def test_chinese_page_and_the_switch(open_page: OpenPage, picture: Take) -> None:
    """The browser's language is taken, the switch goes the other way, and is remembered with the settings."""
    page = open_page("zh-CN")
    assert page.url.endswith("/zh")
    assert page.get_attribute("html", "lang") == "zh-CN"
    assert page.inner_text("#new-talk") == "新对话"
    answer = ask(page, "图里有什么？", EXAMPLES / "fruit_and_dog.png")
    assert all(thing in answer for thing in ("苹果", "狗", "香蕉")), answer
    picture(page, "talk_zh")
    paint_tab(page)
    paint(page, "一个红苹果")
    picture(page, "paint_zh")
    page.click("#paint-options > button")
    wish(page, "种子", "11")
    page.click("#switch-language")
    page.wait_for_url(lambda url: not url.endswith("/zh"))
    page.wait_for_selector("#box textarea")
    assert page.inner_text("#new-talk") == "New conversation"
    page.goto(page.url)
    page.wait_for_selector("#box textarea")
    assert page.inner_text("#new-talk") == "New conversation"
    paint_tab(page)
    page.click("#paint-options > button")
    assert page.get_by_label("Seed").input_value() == "11"


def test_history(open_page: OpenPage, picture: Take) -> None:
    """What was said and painted is listed, opened again after a reload, exported and deleted."""
    page = open_page()
    ask(page, "What is this?", EXAMPLES / "dog.png")
    paint_tab(page)
    paint(page, "a red apple")
    page.reload()
    page.wait_for_selector("#box textarea")
    page.click("#open-history")
    page.wait_for_function("document.querySelectorAll('#items input').length === 2")
    picture(page, "history_en")
    page.locator("#items label", has_text="What is this?").click()
    page.wait_for_selector("#chat .bot.message .md")
    with page.expect_download() as one:
        page.click("#export")
    talk = json.loads(Path(one.value.path()).read_text("utf-8"))
    assert one.value.suggested_filename.endswith(".json")
    assert talk["turns"][0]["question"] == "What is this?"
    with page.expect_download() as everything:
        page.click("#export-all")
    assert everything.value.suggested_filename == "huayu-history.zip"
    page.click("#delete")
    page.wait_for_function("document.querySelectorAll('#items input').length === 1")
    page.once("dialog", lambda dialog: dialog.accept())
    page.click("#delete-all")
    page.wait_for_function("document.querySelectorAll('#items input').length === 0")
    page.keyboard.press("Escape")
    assert not page.is_visible("#items")
    assert page.evaluate("document.activeElement.id") == "open-history"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phone(open_page: OpenPage, picture: Take, scheme: str) -> None:
    """390 pixels: nothing sticks out, every text can be read, what has the keyboard shows it."""
    locale = "zh-CN" if scheme == "light" else "en-US"
    page = open_page(locale, 390, 844, color_scheme=scheme, has_touch=True)
    fits = "document.documentElement.scrollWidth <= innerWidth"
    assert page.evaluate(fits)
    assert page.evaluate(CONTRAST) == []
    ask(page, "这是什么？" if scheme == "light" else "What is this?", EXAMPLES / "dog.png")
    assert page.evaluate(fits)
    assert page.evaluate(CONTRAST) == []
    picture(page, f"phone_{scheme}")
    page.click("#talk-options > button")
    assert page.evaluate(CONTRAST) == []
    paint_tab(page)
    paint(page, "一只猫" if scheme == "light" else "a cat")
    page.click("#paint-options > button")
    assert page.evaluate(fits)
    assert page.evaluate(CONTRAST) == []
    page.click("#open-history")
    page.wait_for_timeout(300)
    assert page.evaluate(CONTRAST) == []
    page.keyboard.press("Escape")
    for _ in range(12):
        page.keyboard.press("Tab")
        focus = "() => { const s = getComputedStyle(document.activeElement); return [s.outlineStyle, s.outlineWidth] }"
        assert page.evaluate(focus) == ["solid", "3px"], page.evaluate("document.activeElement.outerHTML.slice(0, 200)")


def test_camera_and_keyboard(open_page: OpenPage) -> None:
    """A photograph joins the box; Shift+Enter is a new line; every control has a name."""
    page = open_page()
    page.click("#camera")
    page.locator("#camera-panel button:visible").click()
    page.wait_for_function("document.querySelector('#camera-panel video')?.videoWidth > 0")
    page.wait_for_function("document.querySelector('#camera-panel video').currentTime > 0.2")
    page.get_by_role("button", name="Take the photograph").click()
    page.wait_for_selector("#box .thumbnails img")
    page.click("#box textarea")
    page.keyboard.type("one")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two")
    assert page.input_value("#box textarea") == "one\ntwo"
    nameless = """() => [...document.querySelectorAll("button, input, textarea, select")]
        .filter((e) => e.checkVisibility() && e.type !== "hidden")
        .filter((e) => !(e.ariaLabel || e.title || e.textContent.trim() || e.labels?.length || e.placeholder))
        .map((e) => e.outerHTML.slice(0, 160))"""
    assert page.evaluate(nameless) == []
