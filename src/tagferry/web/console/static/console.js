// @ts-check
// Comfort for the console's pages, which work without it: shortcuts, copying, local times, menus.

const page = document.documentElement;
const script = /** @type {HTMLElement | null} */ (document.querySelector("script[data-copied]"));

/**
 * Show times in the local time zone, if the user prefers that. Pages have UTC.
 * @param {ParentNode} within
 */
export function localizeTimes(within) {
  if (page.dataset.time !== "local") return;
  const format = new Intl.DateTimeFormat(page.lang, { dateStyle: "medium", timeStyle: "medium" });
  for (const time of within.querySelectorAll("time[datetime]")) {
    const element = /** @type {HTMLTimeElement} */ (time);
    const exact = format.format(new Date(element.dateTime));
    if (element.dataset.exact === undefined) element.title = exact;
    else element.textContent = exact;
  }
}

/** Let "/" focus the search, and Escape close an open menu. */
function addShortcuts() {
  document.addEventListener("keydown", (event) => {
    const target = /** @type {HTMLElement} */ (event.target);
    const isTyping = target.matches("input, textarea, select, [contenteditable]");
    if (event.key === "/" && !isTyping && !event.ctrlKey && !event.metaKey && !event.altKey) {
      const search = /** @type {HTMLInputElement | null} */ (document.querySelector(".search input"));
      if (search) {
        event.preventDefault();
        search.focus();
      }
    } else if (event.key === "Escape") {
      const open = /** @type {HTMLDetailsElement | null} */ (target.closest("details.menu[open]"));
      if (open) {
        open.open = false;
        open.querySelector("summary")?.focus();
      }
    }
  });
}

/** Close a menu when something outside of it is clicked or focused. */
function closeMenus() {
  /** @param {Event} event */
  const close = (event) => {
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      if (event.target instanceof Node && !menu.contains(event.target)) menu.removeAttribute("open");
    }
  };
  document.addEventListener("click", close);
  document.addEventListener("focusin", close);
}

/**
 * Show the buttons that copy a command.
 * @param {ParentNode} within
 */
export function addCopying(within) {
  // Browsers offer the clipboard over https and on loopback only.
  if (!navigator.clipboard) return;
  for (const found of within.querySelectorAll("[data-copy]")) {
    const button = /** @type {HTMLButtonElement} */ (found);
    button.hidden = false;
    button.addEventListener("click", async () => {
      const text = button.parentElement?.querySelector("code")?.textContent ?? "";
      await navigator.clipboard.writeText(text);
      const label = button.getAttribute("aria-label") ?? "";
      button.classList.add("copied");
      button.setAttribute("aria-label", script?.dataset.copied ?? "");
      setTimeout(() => {
        button.classList.remove("copied");
        button.setAttribute("aria-label", label);
      }, 2000);
    });
  }
}

/**
 * Replace parts of the page by their ids.
 * @param {string} html
 */
function replaceParts(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  for (const part of [...template.content.children]) {
    const shown = document.getElementById(part.id);
    if (!shown || shown.outerHTML === part.outerHTML) continue;
    const scroll = shown.querySelector(".timeline")?.scrollTop ?? 0;
    // What is focused inside of the part stays; the next change replaces it.
    if (shown.contains(document.activeElement)) continue;
    shown.replaceWith(part);
    localizeTimes(part);
    const list = part.querySelector(".timeline");
    if (list) list.scrollTop = scroll;
  }
}

/** Show the changes of jobs while the page is visible: one stream, which a hidden page closes. */
function showChanges() {
  const live = /** @type {HTMLElement | null} */ (document.querySelector("[data-live]"));
  if (!live) return;
  /** @type {EventSource | null} */
  let stream = null;
  let timer = 0;
  const close = () => {
    clearTimeout(timer);
    stream?.close();
    stream = null;
  };
  const end = () => {
    close();
    document.removeEventListener("visibilitychange", change);
    live.querySelector("[data-live-ended]")?.removeAttribute("hidden");
  };
  const open = () => {
    close();
    stream = new EventSource(live.dataset.live ?? "");
    stream.addEventListener("parts", (event) => replaceParts(/** @type {MessageEvent<string>} */ (event).data));
    stream.addEventListener("ended", end);
    stream.addEventListener("reload", () => location.reload());
    stream.addEventListener("error", async () => {
      // The browser opens it again by itself, unless it was refused.
      if (stream?.readyState !== EventSource.CLOSED) return;
      close();
      const answer = await fetch(location.href, { method: "HEAD", redirect: "manual" }).catch(() => null);
      if (answer?.type === "opaqueredirect") end();
      else timer = setTimeout(open, 3000);
    });
  };
  const change = () => (document.hidden ? close() : open());
  document.addEventListener("visibilitychange", change);
  addEventListener("pagehide", close);
  addEventListener("pageshow", (event) => {
    if (event.persisted && !document.hidden) open();
  });
  if (!document.hidden) open();
}

/** Load the parts of the page that the server is still computing, until they are complete. */
async function loadPending() {
  let pause = 300;
  while (document.querySelector("[data-pending]")) {
    await new Promise((resolve) => setTimeout(resolve, pause));
    pause = Math.min(pause * 1.5, 2000);
    if (document.hidden) continue;
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } }).catch(() => null);
    // To the page that a search has found, or to sign in again.
    if (answer?.redirected) return location.assign(answer.url);
    // A connection that breaks in the body is tried again as well.
    const html = await answer?.text().catch(() => null);
    if (!answer || html == null) continue;
    const fresh = new DOMParser().parseFromString(html, "text/html");
    const parts = [...document.querySelectorAll("[data-pending]")];
    // A failure is shown elsewhere on the page.
    const isWhole = answer.ok && parts.every((part) => fresh.getElementById(part.id));
    for (const part of isWhole ? parts : document.querySelectorAll("main")) {
      const loaded = isWhole ? fresh.getElementById(part.id) : fresh.querySelector("main");
      if (!loaded) return;
      part.replaceWith(loaded);
      localizeTimes(loaded);
      addCopying(loaded);
    }
  }
}

/** Let one checkbox select all rows, and count the selected ones. */
function addSelection() {
  for (const form of document.querySelectorAll("form[data-select]")) {
    const label = form.querySelector("[data-select-all]");
    const all = /** @type {HTMLInputElement | null | undefined} */ (label?.querySelector("input"));
    const count = /** @type {HTMLElement | null} */ (form.querySelector("[data-selected]"));
    const boxes = /** @type {HTMLInputElement[]} */ ([...form.querySelectorAll("tbody input[type=checkbox]")]);
    if (!label || !all || !count) continue;
    label.removeAttribute("hidden");
    const show = () => {
      const selected = boxes.filter((box) => box.checked).length;
      all.checked = selected === boxes.length;
      all.indeterminate = selected > 0 && !all.checked;
      count.textContent = selected ? (count.dataset.text ?? "").replace("%(n)s", String(selected)) : "";
    };
    all.addEventListener("change", () => {
      for (const box of boxes) box.checked = all.checked;
      show();
    });
    form.addEventListener("change", show);
    addEventListener("pageshow", show);
  }
}

localizeTimes(document);
showChanges();
loadPending();
addSelection();
addShortcuts();
closeMenus();
addCopying(document);
