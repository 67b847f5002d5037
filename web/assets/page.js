// What every page has: times in the viewer's own zone on hover, countdowns, copying, and a mark that scripts run.
"use strict";
(() => {
  document.documentElement.classList.add("js");

  const local = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
  const explain = (root) => {
    for (const element of root.querySelectorAll("time[datetime]")) {
      const at = new Date(element.dateTime);
      if (Number.isNaN(at.getTime()) || element.dataset.explained) continue;
      element.dataset.explained = "yes";
      element.title = `your time: ${local.format(at)}; UTC: ${element.dateTime}`;
    }
  };

  const left = (until) => {
    const seconds = Math.max(0, Math.round((until - Date.now()) / 1000));
    const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
    if (h >= 48) return `${Math.floor(h / 24)} d left`;
    if (h > 0) return `${h} h ${m} min left`;
    if (m >= 5) return `${m} min left`;
    return seconds > 0 ? `${m} min ${s} s left` : "over";
  };
  const count = () => {
    for (const element of document.querySelectorAll("[data-until]")) {
      const text = left(Date.parse(element.dataset.until));
      if (element.textContent !== text) element.textContent = text;
    }
  };

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const text = button.parentElement.querySelector("code, pre, .digest")?.textContent ?? "";
    try {
      await navigator.clipboard.writeText(text.trim());
      toast("Copied");
    } catch {
      toast("This browser does not allow copying: select the text instead");
    }
  });

  const toast = (text) => {
    const place = document.querySelector(".toasts");
    if (!place) return;
    const element = document.createElement("p");
    element.className = "toast";
    element.textContent = text;
    place.append(element);
    setTimeout(() => element.remove(), 4000);
  };

  const ready = () => {
    explain(document);
    count();
    setInterval(count, 1000);
    new MutationObserver(() => explain(document)).observe(document.body, { childList: true, subtree: true });
  };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", ready);
  else ready();
})();
