// What is on the page more than once. All text goes in as text nodes: a title is never read as HTML.

export function element(name, { dataset, ...properties } = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  Object.assign(made.dataset, dataset);
  made.append(...children);
  return made;
}

const unseen = (text) => element("span", { className: "unseen" }, text);

export const titleOf = (item) => String(item.title ?? item.item);

const NOT_IN_LINE = new Set(["item", "title", "score", "popularity"]);

export function lineOf(item) {
  const told = Object.entries(item).filter(([name, value]) => !NOT_IN_LINE.has(name) && typeof value !== "object");
  return told.map(([, value]) => String(value)).filter(Boolean).join(" · ");
}

export const count = (number) => number.toLocaleString("en");

// How an answer's scores are written, what share of the bar each fills, and what a reader should know of them.
export const SCALES = {
  model: {
    write: (score) => score.toFixed(2),
    share: withinList,
    note: "Scores are the model’s logits: higher is better. Bars compare the items of this list.",
  },
  popularity: {
    write: count,
    share: (score, scores) => score / (Math.max(...scores) || 1),
    note: "The number is how often the item was used in the training data.",
  },
  similar: {
    write: (score) => score.toFixed(2),
    share: (score) => Math.max(score, 0),
    note: "The number is the cosine of the two items’ vectors: 1 is the same direction.",
  },
};
SCALES.fold_in = SCALES.model;

function withinList(score, scores) {
  const [low, high] = [Math.min(...scores), Math.max(...scores)];
  return high > low ? 0.15 + (0.85 * (score - low)) / (high - low) : 1;
}

// One item: a link that opens it, what is known of it, and where given its score and a button.
export function itemRow(item, href, { score, button } = {}) {
  const line = lineOf(item);
  const link = element("a", { href, className: "title" }, titleOf(item));
  const text = element("div", { className: "text" }, link);
  if (line) text.append(element("span", { className: "line" }, line));
  const row = element("li", {}, text);
  if (score) row.append(score);
  if (button) row.append(button);
  return row;
}

export function scoreOf(item, items, source) {
  const { write, share } = SCALES[source];
  const fill = element("span", { className: "fill" });
  const scores = items.map((one) => one.score);
  fill.style.setProperty("inline-size", `${Math.round(100 * share(item.score, scores))}%`);
  const bar = element("span", { className: "bar", ariaHidden: "true" }, fill);
  return element("span", { className: "score" }, bar, unseen("score "), write(item.score));
}

export const iconButton = (sign, label, onclick) =>
  element("button", { type: "button", className: "plain round sign", ariaLabel: label, title: label, onclick }, sign);

// New children for a list; a control that had the focus passes it on to the one in its place.
export function fill(list, rows) {
  const controls = () => [...list.querySelectorAll("a, button")];
  const place = controls().indexOf(document.activeElement);
  list.replaceChildren(...rows);
  if (place >= 0) (controls()[place] ?? controls().at(-1))?.focus();
}

export const skeleton = () =>
  Array.from({ length: 5 }, () => element("li", { className: "skeleton", ariaHidden: "true" }));

// A sentence in a notice, with a button to try again where that may help; no sentence hides it.
export function tell(notice, sentence, again) {
  notice.hidden = !sentence;
  notice.replaceChildren(...(sentence ? [element("span", {}, sentence)] : []));
  if (sentence && again) notice.append(element("button", { type: "button", onclick: again }, "Try again"));
}
