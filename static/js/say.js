/** What the page says: two live regions for ears, short toasts for eyes. */

/**
 * @param {string} text
 * @param {"status" | "alert"} [role]
 */
export function announce(text, role = "status") {
  const region = document.getElementById(role === "alert" ? "say-alert" : "say-status");
  if (!region) return;
  region.textContent = "";
  // A region speaks when its text changes; the same sentence twice needs the pause.
  setTimeout(() => (region.textContent = text), 60);
}

/**
 * A message in the corner; it is spoken too.
 * @param {string} text
 * @param {"" | "done" | "care" | "bad"} [tone]
 * @param {number} [ms]
 */
export function toast(text, tone = "", ms = 6000) {
  const corner = document.getElementById("toasts");
  if (!corner) return;
  const box = document.createElement("div");
  box.className = `toast enter ${tone}`.trim();
  box.append(Object.assign(document.createElement("span"), { textContent: text }));
  corner.append(box);
  announce(text, tone === "bad" ? "alert" : "status");
  setTimeout(() => box.remove(), ms);
}
