// Runs before Gradio: its own words follow the page's language, and the document says which that is.
(() => {
  const tag = window.huayu_language;
  Object.defineProperty(navigator, "language", { get: () => tag });
  Object.defineProperty(navigator, "languages", { get: () => [tag] });
  const root = () => (window.gradio_config?.root || "").replace(/\/$/, "");
  const drawer = () => document.getElementById("history");
  const open = (yes) => {
    drawer().toggleAttribute("data-open", yes);
    document.querySelector(yes ? "#close-history" : "#open-history").focus();
  };
  addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const is = (id) => button.id === id;
    if (is("switch-language")) {
      const other = tag === "en" ? "zh" : "en";
      document.cookie = `huayu_language=${other}; path=/; max-age=31536000; samesite=lax`;
      location.assign(root() + (other === "zh" ? "/zh" : "/"));
    }
    if (is("open-history")) open(!drawer().hasAttribute("data-open"));
    if (is("close-history")) open(false);
  });
  // What Gradio has only in English.
  const names = {
    "Submit": ["Send", "发送"], "Stop": ["Stop", "停止"], "Upload a file": ["Add a picture", "添加图片"],
    "File upload": ["Add a picture", "添加图片"], "Click to upload or drop files": ["Add a picture", "添加图片"],
    "Multimedia input field": ["Question and pictures", "问题与图片"], "chatbot conversation": ["Conversation", "对话"],
    "capture photo": ["Take the photograph", "拍照"], "Drop an image file here to upload": ["Add a picture", "添加图片"],
    "Remove file": ["Take the picture out", "移除图片"], "Remove this file": ["Take the picture out", "移除图片"],
  };
  const rename = (within) => {
    for (const element of [within, ...within.querySelectorAll("[aria-label]")]) {
      if (!element.hasAttribute("aria-label")) continue;
      const name = element.getAttribute("aria-label");
      const chinese = tag !== "en";
      const better = names[name]?.[chinese ? 1 : 0] || name
        .replace(/^Select example \d+: /, "").replace(/^user's message: /, chinese ? "你：" : "You: ")
        .replace(/^bot's message: /, chinese ? "模型：" : "Model: ").replace(/a component of type image.*/, chinese ? "图片" : "a picture")
        .replace(/^Thumbnail (\d+) of (\d+)$/, chinese ? "第 $1 张，共 $2 张" : "Picture $1 of $2");
      if (better !== name) element.setAttribute("aria-label", better);
    }
  };
  new MutationObserver((changes) => changes.forEach((change) => rename(change.target)))
    .observe(document.documentElement, { childList: true, subtree: true, attributeFilter: ["aria-label"] });
  addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    if (drawer()?.hasAttribute("data-open")) open(false);
    else document.querySelector("#box .stop-button, #stop-painting")?.click();
  });
})();
