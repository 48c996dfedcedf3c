/** Small behaviours of the frame: menus, theme, the bar of new rows, dialogs that return the focus. */

import { toast } from "./say.js";

/** Close open summaries of the frame. @returns {boolean} whether one was open */
export function closeMenus() {
  const open = document.querySelectorAll("details.chip[open]");
  for (const menu of open) {
    if (menu.contains(document.activeElement)) menu.querySelector("summary")?.focus();
    menu.removeAttribute("open");
  }
  return open.length > 0;
}

function closeMenusOutside() {
  document.addEventListener("click", (event) => {
    for (const menu of document.querySelectorAll("details.chip[open]")) {
      if (event.target instanceof Node && !menu.contains(event.target)) menu.removeAttribute("open");
    }
  });
}

/** The theme changes at once; the form's POST keeps it for the next page and the next machine. */
function themeSwitch() {
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!(form instanceof HTMLFormElement) || !form.matches("[data-theme-form]")) return;
    event.preventDefault();
    const button = event.submitter;
    const theme = button instanceof HTMLButtonElement ? button.value : "system";
    document.documentElement.dataset.theme = theme;
    for (const option of form.querySelectorAll("button[name=theme]")) {
      option.setAttribute("aria-pressed", String(option === button));
    }
    const body = new FormData(form);
    body.set("theme", theme);
    fetch(form.action, { method: "POST", body, redirect: "manual" }).catch(() =>
      toast("The theme could not be kept: no answer from the server", "care"),
    );
  });
  document.addEventListener("click", (event) => {
    const next = event.target instanceof Element ? event.target.closest("[data-theme-next]") : null;
    if (next) chooseNextTheme();
  });
}

function chooseNextTheme() {
  const options = /** @type {HTMLButtonElement[]} */ ([...document.querySelectorAll("[data-theme-form] button[name=theme]")]);
  const at = options.findIndex((option) => option.getAttribute("aria-pressed") === "true");
  const next = options[(at + 1) % options.length];
  if (!next) return;
  next.form?.requestSubmit(next);
  toast(`Theme: ${next.value}`, "", 1500);
}

/** A toast that the server asks for in its answer: `HX-Trigger: {"say": {"text": …, "tone": …}}`. */
function serverToasts() {
  document.addEventListener("say", (event) => {
    if (!(event instanceof CustomEvent)) return;
    toast(String(event.detail.text ?? ""), event.detail.tone ?? "");
  });
}

/** `data-opens="id"` shows that dialog, `data-closes` in it goes back; <dialog> itself returns the focus. */
function dialogs() {
  document.addEventListener("click", (event) => {
    if (!(event.target instanceof Element)) return;
    const opener = event.target.closest("[data-opens]");
    const dialog = opener && document.getElementById(opener.getAttribute("data-opens") ?? "");
    if (dialog instanceof HTMLDialogElement) {
      event.preventDefault();
      dialog.showModal();
    }
    if (event.target.closest("[data-closes]")) {
      event.preventDefault();
      event.target.closest("dialog")?.close();
    }
  });
}

/** A fragment that came back as the sign-in page means that the session ended: show the real one. */
function noticeSignOut() {
  document.addEventListener("htmx:before:response", (event) => {
    if (!(event instanceof CustomEvent)) return;
    const raw = event.detail.ctx?.response?.raw;
    if (!(raw instanceof Response) || !raw.redirected || !new URL(raw.url).pathname.startsWith("/accounts/login")) return;
    event.preventDefault();
    location.reload();
  });
}

let complainedAt = -Infinity;

/** What was pressed may have been done, whatever came back: the reader is sent to look. */
function outcomeUnknown() {
  toast("No usable answer to what you pressed: it may have been done. Look before you press again", "bad", 15_000);
  document.body.dispatchEvent(new CustomEvent("proposals:changed", { detail: {} }));
}

/** A part that cannot be refreshed keeps what it shows; the reader is told, but not every second. */
function noticeFailures() {
  /** @param {Event} event */
  const complain = (event) => {
    const ctx = event instanceof CustomEvent ? event.detail.ctx : undefined;
    const response = ctx?.response;
    // An answer that broke off has a status too, and says nothing.
    if (event.type === "htmx:response:error" && response?.status < 500) return;
    const pressed = String(ctx?.request?.method ?? "GET").toUpperCase() !== "GET";
    if (pressed && !ctx.sourceElement?.matches("[data-attend]")) return outcomeUnknown();
    if (performance.now() - complainedAt < 15_000) return;
    complainedAt = performance.now();
    const id = response?.headers?.get("Request-Id");
    toast(id ? `A part of this page could not be refreshed (E901, request ${id})` : "No answer from the server; the page shows old data", "care");
  };
  document.addEventListener("htmx:response:error", complain);
  document.addEventListener("htmx:error", complain);
}

/** The count of waiting proposals stands in the title too, for readers in another tab. */
function keepTitle() {
  document.addEventListener("htmx:after:swap", () => {
    const waiting = Number(document.getElementById("waiting-count")?.dataset.count ?? 0);
    const plain = document.title.replace(/^\(\d+\) /, "");
    document.title = waiting ? `(${waiting}) ${plain}` : plain;
  });
}

/** A tab that nobody sees is no person who watches. */
function attendWhileSeen() {
  document.addEventListener("htmx:config:request", (event) => {
    const part = event instanceof CustomEvent ? event.detail.ctx?.sourceElement : null;
    if (document.hidden && part instanceof Element && part.matches("[data-attend]")) event.preventDefault();
  });
}

export function startFrame() {
  attendWhileSeen();
  noticeSignOut();
  noticeFailures();
  keepTitle();
  closeMenusOutside();
  themeSwitch();
  serverToasts();
  dialogs();
}
