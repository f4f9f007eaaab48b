// Runs before Gradio: its own words follow the page's language, and the document says which that is.
(() => {
  const tag = window.huayu_language;
  Object.defineProperty(navigator, "language", { get: () => tag });
  Object.defineProperty(navigator, "languages", { get: () => [tag] });
  const root = () => (window.gradio_config?.root || "").replace(/\/$/, "");
  const open = (yes) => {
    document.body.classList.toggle("history-open", yes);
    document.querySelector(yes ? "#close-history button, button#close-history" : "#open-history button, button#open-history")?.focus();
  };
  addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const is = (id) => button.id === id || button.closest(`#${id}`);
    if (is("switch-language")) {
      const other = tag === "en" ? "zh" : "en";
      document.cookie = `huayu_language=${other}; path=/; max-age=31536000; samesite=lax`;
      location.assign(root() + (other === "zh" ? "/zh" : "/"));
    }
    if (is("open-history")) open(!document.body.classList.contains("history-open"));
    if (is("close-history")) open(false);
  });
  // What Gradio has only in English.
  const names = {
    "Submit": ["Send", "发送"], "Stop": ["Stop", "停止"], "Upload a file": ["Add a picture", "添加图片"],
    "File upload": ["Add a picture", "添加图片"], "Click to upload or drop files": ["Add a picture", "添加图片"],
    "Multimedia input field": ["Question and pictures", "问题与图片"], "chatbot conversation": ["Conversation", "对话"],
    "Remove file": ["Take the picture out", "移除图片"], "Remove this file": ["Take the picture out", "移除图片"],
  };
  const rename = (within) => {
    for (const element of within.querySelectorAll?.("[aria-label]") || []) {
      const name = element.getAttribute("aria-label");
      const better = names[name]?.[tag === "en" ? 0 : 1] || name.replace(/^Select example \d+: /, "");
      if (better !== name) element.setAttribute("aria-label", better);
    }
  };
  new MutationObserver((changes) => changes.forEach((change) => rename(change.target)))
    .observe(document.documentElement, { childList: true, subtree: true });
  addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    if (document.body.classList.contains("history-open")) open(false);
    else document.querySelector("#box .stop-button, #stop-painting")?.click();
  });
})();
