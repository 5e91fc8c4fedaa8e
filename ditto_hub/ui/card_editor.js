// The cards a person writes demonstrations on. They are the browser's own: the server reads them
// and answers beside them, and never writes into a box, so that no late answer undoes typing.
//
// Gradio calls this as a function body once the component is on the page, with `element`, `props`
// (value: the cards; labels; examples; most: cards a run takes; longest: characters of a text) and
// `trigger`. It sets `props.value` at every change, and `window.dittoCards` for the buttons.

const KEPT = "ditto-hub-cards"; // in local storage
const FEWEST = 2; // as many as the least that train, so that the page says by itself what to do
const ADVISED = 7; // at which a voice shows well: then the button adds more
const PATIENCE = 5000, SOON = 500; // milliseconds after which cards are sent anew: see `wait`
const words = props.labels[navigator.language] || props.labels.en;
const host = element.querySelector(".d-cards");
const folded = new Set(); // ids of the cards that show one line
const said = new Map(); // card id -> what the page itself says of it, until it is written on
let cards = [], before = null, drafting = null;
let version = 0, sending = 0, patience = PATIENCE, waiting = 0; // the newest cards, and their answer

const isEmpty = (card) => !card.prompt.trim() && !card.completion.trim();
const newId = () => Math.random().toString(36).slice(2, 10);
const made = (card) =>
  ({ origin: "typed", draft: null, written: null, prompt_by: "user", ...card, id: newId() });
const blank = () => made({ prompt: "", completion: "" });
const padded = (some) => [...some, ...Array.from({ length: Math.max(0, FEWEST - some.length) }, blank)];

function node(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function box(card, name, rows) {
  const area = node("textarea", {
    value: card[name], rows, maxLength: props.longest, dir: "auto", placeholder: words[name + "_about"],
  });
  area.addEventListener("input", () => {
    card[name] = area.value;
    said.delete(card.id);
    if (name === "prompt") tell(card);
    grow(card);
    publish();
  });
  area.addEventListener("paste", (event) => spread(event, card, name));
  const author = node("em", { className: "d-author", hidden: true });
  return node("label", { className: `d-card-${name}` },
    node("span", { textContent: words[name] }), author, area);
}

// Put an empty card under the last one as soon as a text is on it, so that nobody has to ask.
function grow(card) {
  if (card !== cards.at(-1) || !card.completion.trim()) return;
  if (cards.length >= Math.min(ADVISED, props.most)) return;
  cards = [...cards, blank()];
  show();
}

// Say who wrote a prompt, until the person edits it.
function tell(card) {
  const author = place(card).querySelector(".d-card-prompt .d-author");
  const theirs = card.written !== null && card.written === card.prompt;
  author.textContent = theirs ? words[`by_${card.prompt_by}`] || "" : "";
  author.hidden = !author.textContent;
}

// A button of a card; a second click of a double click is on another card, which has moved.
function press(name, sign, act) {
  const small = sign ? "d-small d-sign" : "d-small";
  const made = node("button", { type: "button", className: small, textContent: sign || words[name] });
  made.dataset.act = name;
  if (sign) made.title = words[name];
  made.addEventListener("click", (event) => { if (event.detail < 2) act(); });
  return made;
}

function laidOut(card) {
  const fold = press("fold", "\u25be", () => turn(card));
  const head = node("div", { className: "d-card-head" }, fold, node("h3"),
    node("span", { className: "d-line" }),
    press("up", "\u2191", () => move(card, -1)), press("down", "\u2193", () => move(card, 1)),
    press("copy", "\u00d72", () => copy(card)),
    press("draft", "", () => ask(card)), press("remove", "", () => take(card)));
  const change = node("div", { className: "d-change" });
  const whole = node("section", { className: "d-card" },
    head, box(card, "prompt", 2), box(card, "completion", 4), change);
  whole.card = card;
  return whole;
}

const place = (card) => [...host.children].find((one) => one.card === card);
const byId = (id) => cards.find((card) => card.id === id);

// Fold a card to a line, or unfold it.
function turn(card) {
  if (!folded.delete(card.id)) folded.add(card.id);
  show();
}

// Fold the cards with a text, where there are more than a voice needs: they come from a file.
function foldMany() {
  const full = cards.filter((card) => card.completion.trim());
  if (full.length > ADVISED) for (const card of full) folded.add(card.id);
}

// Make the page show `cards`; what is laid out already stays, and with it focus and selection.
function show() {
  for (const one of [...host.children]) if (!cards.includes(one.card)) one.remove();
  cards.forEach((card, index) => {
    const one = place(card) || laidOut(card);
    if (host.children[index] !== one) host.insertBefore(one, host.children[index] || null);
    const number = index + 1;
    const acts = {};
    for (const act of one.querySelectorAll(".d-card-head button")) {
      acts[act.dataset.act] = act;
      act.id = `show-${act.dataset.act}-${number}`;
      if (act.title) act.setAttribute("aria-label", `${act.title}: ${words.card} ${number}`);
    }
    acts.up.disabled = index === 0;
    acts.down.disabled = index === cards.length - 1;
    acts.copy.disabled = cards.length >= props.most;
    acts.draft.disabled = drafting !== null;
    one.classList.toggle("d-folded", folded.has(card.id));
    acts.fold.setAttribute("aria-expanded", String(!folded.has(card.id)));
    one.querySelector(".d-line").textContent = (card.prompt.trim() || card.completion).slice(0, 200);
    one.querySelector("h3").textContent = number;
    one.setAttribute("aria-label", `${words.card} ${number}`);
    one.querySelector(".d-card-prompt").id = `show-prompt-${number}`;
    one.querySelector(".d-card-completion").id = `show-completion-${number}`;
    one.querySelector(".d-change").id = `show-change-${number}`;
    tell(card);
  });
  undo.hidden = before === null;
}

// Tell the server what is on the cards, and keep it in the browser.
function publish() {
  version += 1;
  patience = PATIENCE;
  send();
}

function send() {
  sending += 1;
  const value = cards.map((card) => ({ ...card, version, sending, asked: card.id === drafting }));
  try { localStorage.setItem(KEPT, JSON.stringify(value)); } catch { /* full, or not allowed */ }
  props.value = value;
  wait(patience);
}

// Send the cards anew where the newest are not answered: Gradio may lose the last of several
// changes, or ask about older ones after it. A slow server is asked ever less often.
function wait(milliseconds) {
  clearTimeout(waiting);
  waiting = setTimeout(() => { patience *= 2; send(); }, milliseconds);
}

function set(next, kept = null) {
  cards = next;
  before = kept;
  say("");
  show();
  publish();
}

function say(text) { message.textContent = text; message.hidden = !text; }

function add(some) {
  const written = some ? cards.filter((card) => !isEmpty(card)) : cards;
  const next = [...written, ...(some ? some.map(made) : [blank()])];
  if (next.length > props.most) return say(words.most.replace("{n}", props.most));
  set(padded(next), before);
  if (some) { foldMany(); show(); }
}

function take(card) {
  set(padded(cards.filter((one) => one !== card)), isEmpty(card) ? before : cards);
}

// Move a card by a place; the focus stays on the button that was pressed.
function move(card, by) {
  const from = cards.indexOf(card), to = from + by;
  if (to < 0 || to >= cards.length) return;
  const pressed = document.activeElement, next = [...cards];
  next.splice(from, 1);
  next.splice(to, 0, card);
  set(next, before);
  (pressed.disabled ? place(card).querySelector("h3 ~ button:enabled") : pressed).focus();
}

function copy(card) {
  const next = [...cards];
  next.splice(cards.indexOf(card) + 1, 0, made(card));
  set(next, before);
}

// Several texts pasted into an empty box, with a line of dashes or two empty lines between them,
// go on a card each: the first here, the others after it.
function spread(event, card, name) {
  const pasted = event.clipboardData?.getData("text/plain") || "";
  const texts = pasted.replaceAll("\r\n", "\n")
    .split(/\n[ \t]*-{3,}[ \t]*(?=\n|$)|\n(?:[ \t]*\n){2,}/)
    .map((text) => text.trim()).filter(Boolean);
  if (texts.length < 2 || card[name].trim()) return;
  event.preventDefault();
  if (cards.length - 1 + texts.length > props.most) return say(words.most.replace("{n}", props.most));
  const cut = (text) => text.slice(0, props.longest);
  const mine = cards.map((one) => ({ ...one }));
  const others = texts.slice(1).map((text) => made({ ...blank(), [name]: cut(text) }));
  const next = [...cards].filter((one) => one === card || !isEmpty(one));
  next.splice(next.indexOf(card) + 1, 0, ...others);
  card[name] = cut(texts[0]);
  place(card).querySelector(`.d-card-${name} textarea`).value = card[name];
  set(padded(next), mine);
  say(words.found.replace("{n}", texts.length));
}

function replace(name) {
  const examples = name ? props.examples[name] : [];
  const written = cards.filter((card) => !isEmpty(card));
  set(padded(examples.map((card) => made({ ...card, origin: `example:${name}` }))),
    written.length ? written : null);
}

function ask(card) {
  if (drafting !== null) return;
  if (!card.prompt.trim()) return about(card, words.draft_needs);
  if (card.completion.trim() && card.completion !== card.draft) return about(card, words.draft_full);
  drafting = card.id;
  about(card, words.drafting);
  show();
  publish();
  trigger("submit"); // one of the events that Gradio lets every component have
}

function about(card, text) {
  said.set(card.id, text);
  place(card).querySelector(".d-change").replaceChildren(
    node("p", { className: "d-notice", textContent: text }));
}

// Put a draft into the box that it was asked for, unless something was written there meanwhile.
function drafted(answer) {
  const card = byId(answer?.id);
  if (drafting === null) return;
  const mine = card && answer.id === drafting;
  said.delete(drafting);
  drafting = null;
  show();
  if (!mine) return publish();
  if (!answer.text) {
    said.set(card.id, answer.about);
    place(card).querySelector(".d-change").innerHTML = answer.about;
    return publish();
  }
  if (card.completion.trim() && card.completion !== card.draft) return about(card, words.draft_full);
  card.completion = card.draft = answer.text;
  place(card).querySelector(".d-card-completion textarea").value = answer.text;
  publish();
}

// Put prompts that a model wrote on the cards that still lack one: id -> {prompt, prompt_by}.
function prompted(answer) {
  for (const [id, { prompt, prompt_by }] of Object.entries(answer || {})) {
    const card = byId(id);
    if (!card || card.prompt.trim()) continue;
    card.prompt = card.written = prompt;
    card.prompt_by = prompt_by;
    place(card).querySelector(".d-card-prompt textarea").value = prompt;
    tell(card);
  }
  if (Object.keys(answer || {}).length) publish();
}

// Show what the server says of single cards: id -> HTML; and of which version of them all.
function changes(told) {
  if (told?.version === version) {
    clearTimeout(waiting);
    patience = PATIENCE;
  } else wait(SOON);
  for (const [id, html] of Object.entries(told?.cards || {})) {
    const card = byId(id);
    if (card && !said.has(id)) place(card).querySelector(".d-change").innerHTML = html;
  }
}

// Whatever local storage holds is anybody's to write: take what is a card.
function restored() {
  let kept = [];
  try { kept = JSON.parse(localStorage.getItem(KEPT)); } catch { /* none, or none of ours */ }
  const text = (value) => typeof value === "string" ? value.slice(0, props.longest) : null;
  return (Array.isArray(kept) ? kept : []).slice(0, props.most)
    .filter((card) => text(card?.prompt) !== null && text(card?.completion) !== null)
    .map((card) => made({
      prompt: text(card.prompt), completion: text(card.completion), draft: text(card.draft),
      origin: (text(card.origin) || "typed").slice(0, 40),
      written: text(card.written), prompt_by: (text(card.prompt_by) || "user").slice(0, 40),
    }));
}

const undo = element.querySelector("#show-undo");
const message = element.querySelector("#show-message");
undo.textContent = words.undo;
undo.addEventListener("click", () => set(padded(before || []), null));
window.dittoCards = { add, replace, drafted, prompted, changes };
set(padded(restored()));
foldMany();
show();
