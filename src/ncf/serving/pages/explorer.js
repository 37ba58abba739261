// The page: the address (#user=1, #visitor=50&visitor=181, either with &item=50) says what is shown, and every action
// is a change of the address. So a link can be shared, and Back undoes the last step.

import { about, describe, forUser, forVisitor, latest, similarTo, userHistory } from "./server.js";
import { count, element, fill, iconButton, itemRow, lineOf, scoreOf, SCALES, skeleton, tell, titleOf } from "./parts.js";
import { picker } from "./picker.js";

const SHORT_HISTORY = 8;
const KINDS = { neumf: "NeuMF", gmf: "GMF", mlp: "MLP" };
const FIGURES = [
  ["hr@10", "HR@10", "Hit ratio: how often the held-out item is among the first ten"],
  ["ndcg@10", "NDCG@10", "How near the top the held-out item is, if it is among the first ten"],
];

const at = (id) => document.getElementById(id);
const say = (sentence) => (at("status").textContent = sentence);
const nextView = latest();
const nextItem = latest();
const known = new Map(); // what was said of items so far, by id
const last = { user: "", picks: [] };
let model = null;
let shown = { view: null, item: null };

// The address

function route() {
  const given = new URLSearchParams(location.hash.slice(1));
  const picks = given.has("visitor") ? [...new Set(given.getAll("visitor").filter(Boolean))] : null;
  return { user: given.get("user")?.trim() ?? "", picks, item: given.get("item") || null };
}

function address({ user, picks, item }) {
  const parameters = new URLSearchParams();
  if (!picks) parameters.set("user", user);
  else for (const pick of picks.length ? picks : [""]) parameters.append("visitor", pick);
  if (item != null) parameters.set("item", item);
  return `#${parameters}`;
}

const go = (target) => (location.hash = address(target));
const itemAddress = (item) => address({ ...route(), item: item.item });
const toggled = (picks, id) => (picks.includes(id) ? picks.filter((one) => one !== id) : [...picks, id]);

function togglePick(item) {
  learn([item]);
  const { picks } = route();
  go({ picks: toggled(picks, String(item.item)) });
}

// Titles

const learn = (items) => items.forEach(({ score, ...item }) => known.set(String(item.item), item));
const itemOf = (id) => known.get(id) ?? { item: id };

async function learnTitles(ids, signal) {
  const missing = ids.filter((id) => !known.has(id));
  learn(await describe(missing, model.items, signal));
}

// Views

function show({ again = false } = {}) {
  const { item, ...target } = route();
  const view = address(target);
  if (again || view !== shown.view) showView(target);
  if (again || item !== shown.item) showItem(item);
  shown = { view, item };
}

function showView({ user, picks }) {
  const signal = nextView();
  Object.assign(last, picks ? { picks } : { user });
  for (const [id, current, href] of [
    ["to-user", !picks, address({ user: last.user })],
    ["to-visitor", !!picks, address({ picks: last.picks })],
  ]) {
    Object.assign(at(id), { href, ariaCurrent: current ? "page" : null });
  }
  at("user-side").hidden = !!picks;
  at("visitor-side").hidden = !picks;
  at("past").hidden = true;
  document.title = `${picks ? "New visitor" : user ? `User ${user}` : "Explorer"} – ${model.name}`;
  if (picks) showVisitor(picks, signal);
  else showUser(user, signal);
}

async function showUser(user, signal) {
  at("user").value = user;
  at("result-title").textContent = user ? `Recommendations for user ${user}` : "Recommendations";
  if (!user) {
    showNothing("Type a user id, or choose one of the examples.");
    return;
  }
  await load(at("result"), signal, async () => {
    const answer = await forUser(user, signal);
    const isKnown = answer.source === "model";
    const used = isKnown && (await userHistory(answer.user, signal));
    showAnswer(answer, isKnown ? "From the model" : "Popularity: not known to the model");
    if (used) showHistory(used);
  });
}

function showHistory({ history, total }) {
  const [section, more] = [at("past"), at("past").querySelector(".more")];
  const list = section.querySelector(".items");
  const rows = (items) => fill(list, items.map((item) => itemRow(item, itemAddress(item))));
  learn(history);
  section.hidden = false;
  section.querySelector(".count").textContent = count(total);
  rows(history.slice(0, SHORT_HISTORY));
  tell(section.querySelector(".notice"), total ? "" : "Nothing is known of what this user has used.");
  more.hidden = history.length <= SHORT_HISTORY;
  const isCut = total > history.length;
  more.textContent = isCut ? `Show the ${count(history.length)} most popular` : `Show all ${count(total)}`;
  more.onclick = () => {
    rows(history);
    more.hidden = true;
    section.querySelectorAll(".items a")[SHORT_HISTORY].focus();
  };
}

async function showVisitor(picks, signal) {
  const whom = picks.length ? "for this visitor" : "before the first pick";
  at("result-title").textContent = `Recommendations ${whom}`;
  showPicks(picks);
  await load(at("result"), signal, async () => {
    const [answer] = await Promise.all([forVisitor(picks, signal), learnTitles(picks, signal)]);
    showPicks(picks);
    showAnswer(answer, sourceForVisitor(answer.source, picks), (item) =>
      iconButton("+", `Pick ${titleOf(item)}`, () => togglePick(item)),
    );
  });
}

function sourceForVisitor(source, picks) {
  if (source === "fold_in") return picks.length === 1 ? "Folded in from one pick" : `Folded in from ${picks.length} picks`;
  return `Popularity: ${picks.length ? "the picks are not known to the model" : "nothing is known of this visitor"}`;
}

function showPicks(picks) {
  at("picks-count").textContent = picks.length || "";
  at("clear").hidden = !picks.length;
  at("no-picks").hidden = !!picks.length;
  const remove = (item) => iconButton("×", `Remove ${titleOf(item)}`, () => togglePick(item));
  const hadFocus = at("picks").contains(document.activeElement);
  fill(at("picks"), picks.map(itemOf).map((item) => itemRow(item, itemAddress(item), { button: remove(item) })));
  if (hadFocus && !picks.length) at("search").focus();
}

function showAnswer(answer, source, button) {
  const section = at("result");
  learn(answer.items);
  section.querySelector(".source").textContent = source;
  section.querySelector(".source").dataset.source = answer.source;
  section.querySelector(".source").hidden = false;
  showItems(section, answer, button);
  say(`${count(answer.items.length)} recommendations. ${source}.`);
}

function showNothing(sentence) {
  const section = at("result");
  clear(section);
  section.querySelector(".items").replaceChildren();
  tell(section.querySelector(".notice"), sentence);
}

// Lists of items with scores

async function load(section, signal, work) {
  const list = section.querySelector(".items");
  section.ariaBusy = "true";
  if (!list.children.length) list.replaceChildren(...skeleton());
  tell(section.querySelector(".notice"), "");
  try {
    await work();
  } catch (error) {
    if (signal.aborted) return;
    clear(section);
    list.replaceChildren();
    const refused = error.status >= 400 && error.status < 500;
    tell(section.querySelector(".notice"), error.message, refused ? null : () => show({ again: true }));
    say(error.message);
  }
  section.ariaBusy = null;
}

function clear(section) {
  section.ariaBusy = null;
  section.querySelector(".scale").hidden = true;
  const source = section.querySelector(".source");
  if (source) source.hidden = true;
}

function showItems(section, { items, source, ignored }, button = () => null) {
  const row = (item) =>
    itemRow(item, itemAddress(item), { score: scoreOf(item, items, source), button: button(item) });
  fill(section.querySelector(".items"), items.map(row));
  section.querySelector(".scale").textContent = SCALES[source].note;
  section.querySelector(".scale").hidden = !items.length;
  const unknown = ignored.length ? `Not known to the model: ${ignored.join(", ")}.` : "";
  tell(section.querySelector(".notice"), items.length ? unknown : "There is nothing left to recommend.");
}

// The drawer with one item

async function showItem(id) {
  const drawer = at("item");
  const signal = nextItem();
  if (id === null) {
    drawer.close();
    return;
  }
  at("similar").querySelector(".items").replaceChildren();
  clear(at("similar"));
  nameItem(id);
  if (!drawer.open) drawer.showModal();
  drawer.scrollTop = 0;
  at("item-title").focus();
  await load(at("similar"), signal, async () => {
    const [answer] = await Promise.all([similarTo(id, signal), learnTitles([id], signal)]);
    learn(answer.items);
    nameItem(id);
    showItems(at("similar"), answer);
    say(`${count(answer.items.length)} items similar to ${titleOf(itemOf(id))}.`);
  });
}

function nameItem(id) {
  const { picks } = route();
  const item = itemOf(id);
  const used = item.popularity == null ? "" : `used ${count(item.popularity)} times in training`;
  at("item-title").textContent = titleOf(item);
  at("item-line").textContent = [lineOf(item), item.title && `id ${id}`, used].filter(Boolean).join(" · ");
  at("item-pick").href = address({ picks: toggled(picks ?? [], id) });
  const inPicks = picks?.includes(id) ? "Remove from picks" : "Add to picks";
  at("item-pick").textContent = picks ? inPicks : "Try as a new visitor with this";
  at("item-pick").hidden = !known.has(id);
}

// The model, and what happens once

function showModel() {
  const figures = [figure("users", count(model.users)), figure("items", count(model.items))];
  for (const [name, label, meaning] of FIGURES) {
    if (name in model.metrics) figures.push(figure(label, model.metrics[name].toFixed(3), meaning));
  }
  const day = new Date(model.created).toLocaleDateString("en-GB", { dateStyle: "long", timeZone: "UTC" });
  at("model-name").textContent = model.name;
  at("model-line").textContent = `${KINDS[model.kind] ?? model.kind} on ${model.data}, trained ${day}`;
  at("figures").replaceChildren(...figures);
  if (!model.columns.includes("title")) at("search-label").textContent = "Search item ids to pick";
  at("examples").hidden = !model.examples.length;
  at("examples").querySelector("ul").replaceChildren(...model.examples.map(example));
}

const figure = (label, value, title = "") =>
  element("div", { title }, element("dt", {}, label), element("dd", {}, value));

function example({ user, history }) {
  const link = element("a", { href: address({ user }) }, String(user), " ");
  link.append(element("span", { className: "quiet" }, `${count(history)} ${history === 1 ? "item" : "items"}`));
  return element("li", {}, link);
}

async function start() {
  try {
    model = await about();
  } catch (error) {
    showNothing(error.message);
    tell(at("result").querySelector(".notice"), error.message, start);
    return;
  }
  showModel();
  show({ again: true });
}

at("user-form").addEventListener("submit", (event) => {
  event.preventDefault();
  go({ user: at("user").value.trim() });
});
at("clear").addEventListener("click", () => {
  go({ picks: [] });
  at("search").focus();
});
at("item-close").addEventListener("click", () => at("item").close());
at("item").addEventListener("click", (event) => event.target === at("item") && at("item").close());
at("item").addEventListener("close", () => route().item !== null && go({ ...route(), item: null }));
addEventListener("hashchange", () => model && show());
picker({
  input: at("search"),
  list: at("options"),
  note: at("search-note"),
  isPicked: (item) => route().picks.includes(String(item.item)),
  toggle: togglePick,
  say,
});
start();
