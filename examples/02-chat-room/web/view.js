// What is on the page. Text is only ever set as text, never as HTML.

const SHOWN_MAX = 500;
const PEOPLE_MAX = 200;
const TOGETHER_MS = 3 * 60_000;
const NEAR_THE_END_PX = 48;

export const $ = (id) => document.getElementById(id);

const log = $("log");
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const calendar = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });

/** An element with a class and children: elements, or text. */
export function make(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

const name = (text) => make("bdi", "name", text);

// Everybody has a colour, out of the id.
function tint(element, id) {
  let hash = 0;
  for (const c of id) hash = (hash * 31 + c.codePointAt(0)) >>> 0;
  element.style.setProperty("--hue", String(hash % 360));
  return element;
}

function avatar(id, who) {
  const face = tint(make("span", "face", [...who.trim()][0]?.toUpperCase() ?? "?"), id);
  face.setAttribute("aria-hidden", "true");
  return face;
}

// === The log ===

let last = null; // The last entry: what comes next may belong to it.
let atEnd = true;
let unread = 0;

/** Empties the log and shows these entries. */
export function showLog(entries) {
  log.replaceChildren();
  last = null;
  entries.forEach(append);
  read();
  toEnd();
}

/** Adds an entry: `{kind: "said", id, name, text, time, mine}` or `{kind: "note", text, time}`. */
export function addEntry(entry) {
  const seen = (atEnd && !document.hidden) || entry.mine || entry.kind === "note";
  if (!seen) {
    if (unread === 0) startOfUnread();
    unread += 1;
  }
  append(entry);
  if (atEnd || entry.mine) toEnd();
  if (entry.mine) read();
  showUnread();
}

function append(entry) {
  const day = calendar.format(entry.time);
  if (!last || calendar.format(last.time) !== day) insert(make("li", "line day", day));
  insert(entry.kind === "said" ? message(entry) : make("li", "line note", entry.text));
  last = entry;
  while (log.childElementCount > SHOWN_MAX) log.firstElementChild.remove();
}

// Above what is on its way and not confirmed yet.
function insert(item) {
  log.insertBefore(item, log.querySelector(".pending"));
}

function message(entry) {
  const together = last?.kind === "said" && last.id === entry.id && last.name === entry.name &&
    entry.time - last.time < TOGETHER_MS;
  const item = make("li", `message${entry.mine ? " mine" : ""}${together ? " together" : ""}`);
  const time = make("time", "", clock.format(entry.time));
  time.dateTime = new Date(entry.time).toISOString();
  const head = make("p", "head", tint(name(entry.name), entry.id), " ", time);
  item.append(avatar(entry.id, entry.name), make("div", "bubble", head, said(entry.text)));
  return item;
}

function said(text) {
  const paragraph = make("p", "text", ...withLinks(text));
  paragraph.dir = "auto";
  return paragraph;
}

function withLinks(text) {
  return text.split(/(https?:\/\/[^\s<>"']+[^\s<>"'.,;:!?)\]}])/).map((part, index) => {
    if (index % 2 === 0 || !URL.canParse(part)) return part;
    const link = make("a", "", part);
    link.href = part;
    link.target = "_blank";
    link.rel = "noopener noreferrer nofollow";
    return link;
  });
}

/** Shows a message that is on its way. `confirm()` takes it away, `fail(again)` offers to send it again. */
export function addPending(text) {
  const state = make("p", "head quiet", "sending …");
  const item = make("li", "message mine pending", make("div", "bubble", state, said(text)));
  log.append(item);
  toEnd();
  return {
    confirm: () => item.remove(),
    fail(why, again) {
      const button = make("button", "small", "Send again");
      button.type = "button";
      button.onclick = () => { item.remove(); again(); };
      item.classList.add("failed");
      state.replaceChildren(`${why} `, button);
    },
  };
}

function toEnd() {
  log.scrollTop = log.scrollHeight;
  atEnd = true;
}

function startOfUnread() {
  log.querySelector(".unread")?.remove();
  insert(make("li", "line unread", "New"));
}

function read() {
  unread = 0;
  showUnread();
}

function showUnread() {
  $("newer").hidden = unread === 0 || atEnd;
  $("newer").textContent = `${unread} new message${unread === 1 ? "" : "s"} ↓`;
  const room = $("room").textContent;
  document.title = `${unread ? `(${unread}) ` : ""}${room} · Chat room`;
}

function look() {
  atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < NEAR_THE_END_PX;
  if (atEnd && !document.hidden) read();
  else showUnread();
}

log.addEventListener("scroll", look, { passive: true });
document.addEventListener("visibilitychange", look);
$("newer").addEventListener("click", () => { toEnd(); read(); });
// A phone's keyboard makes the log smaller: what was at its end stays there.
new ResizeObserver(() => { if (atEnd) toEnd(); }).observe(log);

// === Who and where ===

/** Shows the present room and the known ones. */
export function showRooms(present, rooms, go) {
  $("room").textContent = present;
  const item = (room) => {
    const button = make("button", "", make("bdi", "", room));
    button.type = "button";
    if (room === present) button.setAttribute("aria-current", "true");
    button.onclick = () => go(room);
    return make("li", "", button);
  };
  const sorted = [...rooms].sort((a, b) => a.localeCompare(b));
  $("rooms").replaceChildren(...sorted.map(item));
  $("known-rooms").replaceChildren(...sorted.map((room) => new Option(room)));
  showUnread();
}

/** Shows who is here: names by id. */
export function showPeople(people, me) {
  const sorted = [...people].sort(([, a], [, b]) => a.localeCompare(b));
  const item = ([id, who]) => {
    const item = make("li", "", avatar(id, who), tint(name(who), id));
    if (id === me) item.append(make("span", "quiet", "you"));
    return item;
  };
  const items = sorted.slice(0, PEOPLE_MAX).map(item);
  if (sorted.length > PEOPLE_MAX) items.push(make("li", "quiet", `and ${sorted.length - PEOPLE_MAX} more`));
  $("people").replaceChildren(...items);
  $("here").textContent = sorted.length ? `${sorted.length} here` : "";
}

// === The connection ===

let countdown = 0;

/** Shows how the connection is: `connecting`, `online` or `offline` with the seconds until the next try. */
export function showLink(state, seconds = 0) {
  clearInterval(countdown);
  document.documentElement.dataset.state = state;
  $("send").disabled = state !== "online";
  $("retry").hidden = state !== "offline";
  const text = { connecting: "Connecting …", online: "Online", offline: "Offline" };
  $("link-text").textContent = text[state];
  if (state !== "offline" || seconds < 2) return;
  const until = Date.now() + seconds * 1000;
  const show = () => {
    const left = Math.max(0, Math.ceil((until - Date.now()) / 1000));
    // Outside of the status region: nobody wants to hear the seconds read out.
    $("retry").textContent = `Try now (${left} s)`;
  };
  countdown = setInterval(show, 500);
  show();
}

let troubleTimer = 0;

/** Tells what went wrong, for a while. */
export function showTrouble(text) {
  clearTimeout(troubleTimer);
  $("trouble").textContent = text;
  $("trouble").hidden = !text;
  if (text) troubleTimer = setTimeout(() => showTrouble(""), 8_000);
}

// === The drawer of a narrow screen, and the colours ===

/** Opens or closes the drawer. */
export function drawer(open) {
  document.body.classList.toggle("drawer", open);
  $("menu").setAttribute("aria-expanded", String(open));
  $("shade").hidden = !open;
}

$("menu").addEventListener("click", () => drawer(!document.body.classList.contains("drawer")));
$("shade").addEventListener("click", () => drawer(false));
addEventListener("keydown", (event) => { if (event.key === "Escape") drawer(false); });

export const memory = {
  get(key) { try { return localStorage.getItem(key) ?? ""; } catch { return ""; } },
  set(key, value) { try { localStorage.setItem(key, value); } catch { /* A private window: then not. */ } },
};

function dye(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
}

dye(memory.get("theme"));
$("theme").addEventListener("click", () => {
  const chosen = document.documentElement.dataset.theme;
  const dark = chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  dye(dark ? "light" : "dark");
  memory.set("theme", document.documentElement.dataset.theme);
});
