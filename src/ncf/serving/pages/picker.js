// The search box: a combobox with a list of items, as the ARIA practices describe it.

import { findItems, latest } from "./server.js";
import { count, element, lineOf, titleOf } from "./parts.js";

const DEBOUNCE_MS = 150;

// `isPicked(item)` marks items in the list, `toggle(item)` is called for the chosen one, `say` tells screen readers.
export function picker({ input, list, note, isPicked, toggle, say }) {
  const next = latest();
  let items = [];
  let active = -1;
  let answered = null;
  let timer;

  const wanted = () => input.value.trim();

  function close() {
    clearTimeout(timer);
    next();
    answered = null;
    list.hidden = note.hidden = true;
    input.setAttribute("aria-expanded", "false");
    activate(-1);
  }

  function activate(place) {
    active = place;
    [...list.children].forEach((option, at) => option.setAttribute("aria-selected", at === place));
    const option = list.children[place];
    if (option) {
      input.setAttribute("aria-activedescendant", option.id);
      option.scrollIntoView({ block: "nearest" });
    } else input.removeAttribute("aria-activedescendant");
  }

  function show(found, query) {
    items = found.items;
    answered = query;
    list.replaceChildren(...items.map(option));
    list.hidden = !items.length;
    input.setAttribute("aria-expanded", String(items.length > 0));
    const sentence = items.length ? "" : `Nothing has “${query}” in its name.`;
    remark(sentence);
    say(sentence || `${count(found.total)} found, ${items.length} listed.`);
    activate(items.length ? 0 : -1);
  }

  function remark(sentence) {
    note.textContent = sentence;
    note.hidden = !sentence;
  }

  function option(item, at) {
    const text = element("span", { className: "text" }, element("span", { className: "title" }, titleOf(item)));
    if (lineOf(item)) text.append(element("span", { className: "line" }, lineOf(item)));
    const made = element("li", { id: `option-${at}`, role: "option", onclick: () => choose(at) }, text);
    if (isPicked(item)) made.append(element("span", { className: "quiet" }, "picked"));
    return made;
  }

  async function search() {
    clearTimeout(timer);
    const query = wanted();
    try {
      show(await findItems(query, next()), query);
    } catch (error) {
      if (error.name === "AbortError") return;
      close();
      remark(error.message);
      say(error.message);
    }
  }

  function choose(at) {
    const item = items[at];
    if (!item) return;
    input.value = "";
    close();
    toggle(item);
  }

  const keys = {
    ArrowDown: () => (list.hidden ? search() : activate((active + 1) % items.length)),
    ArrowUp: () => (list.hidden ? search() : activate((active - 1 + items.length) % items.length)),
    Enter: () => (answered === wanted() ? choose(active) : search()),
    Escape: () => {
      if (list.hidden && note.hidden) input.value = "";
      close();
    },
    Tab: close,
  };

  input.addEventListener("keydown", (event) => {
    if (event.isComposing || !(event.key in keys)) return;
    if (event.key !== "Tab") event.preventDefault();
    keys[event.key]();
  });
  input.addEventListener("input", () => {
    clearTimeout(timer);
    next();
    if (wanted()) timer = setTimeout(search, DEBOUNCE_MS);
    else close();
  });
  input.addEventListener("blur", close);
  list.addEventListener("pointerdown", (event) => event.preventDefault());
}
