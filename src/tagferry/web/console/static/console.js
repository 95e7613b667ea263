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

localizeTimes(document);
addShortcuts();
closeMenus();
addCopying(document);
