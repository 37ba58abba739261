// What the page asks of the server. Every failure is a ServerError whose message is a sentence to show.

export class ServerError extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

export const about = () => ask("explorer/about");

export const findItems = (query, signal) =>
  ask(`explorer/items?limit=8&query=${encodeURIComponent(query)}`, { signal });

export const userHistory = (user, signal) => ask(`explorer/users/${encodeURIComponent(user)}`, { signal });

export const forUser = (user, signal) => invoke({ users: [user] }, signal);

export const forVisitor = (history, signal) => invoke({ history }, signal);

export const similarTo = (item, signal) => invoke({ items: [item], similar: true }, signal);

// Titles of ids: the popular items among just these, for a visitor of whom nothing is known.
export async function describe(items, catalogue, signal) {
  if (!items.length) return [];
  const k = Math.min(items.length, catalogue);
  return (await invoke({ history: [], candidates: items, k }, signal)).items;
}

// A function that gives the signal for the next request, and cancels the request before it.
export function latest() {
  let controller;
  return () => {
    controller?.abort();
    controller = new AbortController();
    return controller.signal;
  };
}

async function invoke(request, signal) {
  const body = JSON.stringify({ ...request, describe: true });
  const headers = { "Content-Type": "application/json" };
  const answer = await ask("invocations", { method: "POST", body, headers, signal });
  return answer.recommendations[0];
}

async function ask(path, options) {
  let response, text;
  try {
    response = await fetch(path, options);
    text = await response.text();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError("The server cannot be reached. Check that it is running, then try again.");
  }
  const document = parsed(text);
  if (response.ok && document) return document;
  const sentence = document?.error?.message ?? `The server answered with status ${response.status} and no reason.`;
  throw new ServerError(sentence, response.status);
}

function parsed(text) {
  try {
    return JSON.parse(text, exactIds);
  } catch {
    return null;
  }
}

// An integer id beyond 2^53 stays as it was written, as a string, which the server takes as well.
function exactIds(_, value, context) {
  return Number.isInteger(value) && !Number.isSafeInteger(value) ? (context?.source ?? value) : value;
}
