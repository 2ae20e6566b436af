// The chat: what is said to the server and what its answers mean. The protocol is described at the top of
// plugin/src/lib.rs.
//
// /?name=Ann#garden comes in as Ann, into the garden, without asking.

import { Connection } from "./connection.js";
import {
  $, addEntry, addPending, drawer, memory, showLink, showLog, showPeople, showRooms, showTrouble,
} from "./view.js";

const LOBBY = "lobby";
const KEPT_MAX = 500;
const ROOMS_MAX = 50;

const me = { id: "", name: new URLSearchParams(location.search).get("name") ?? "", room: roomOfAddress(), in: false };
const people = new Map(); // Names by id.
const rooms = new Set([LOBBY]);
const kept = new Map(); // Entries by room, as long as the page is open.
let asked = []; // What the server has not answered yet, oldest first: it answers in order.

const connection = new Connection({
  onMessage: (message) => answers[message.type]?.(message),
  onTrying: () => showLink("connecting"),
  onLost(seconds) {
    showLink("offline", seconds);
    if (me.in) note("Connection lost.");
    me.in = false;
    people.clear();
    showPeople(people, me.id);
    const open = asked;
    asked = [];
    open.forEach((request) => request.refused("Not confirmed.", true));
  },
  probe: () => ask({ type: "who" }, () => {}),
});

// === What the server says ===

const answers = {
  welcome(message) {
    me.id = message.id;
    message.rooms.forEach((room) => rooms.add(room));
    showRooms(me.room, rooms, goTo);
    if (me.name) join();
    else openDoor();
  },

  joined({ id, name, room }) {
    if (id === me.id) {
      cameInto(room, name);
    } else if (room === me.room) {
      people.set(id, name);
      showPeople(people, me.id);
      note(`${name} came in.`);
    }
  },

  left({ id, name, room }) {
    if (room !== me.room || id === me.id) return;
    people.delete(id);
    showPeople(people, me.id);
    note(`${name} left.`);
  },

  renamed({ id, name, old, room }) {
    if (room !== me.room) return;
    if (id === me.id) {
      answered("rename");
      call(name);
    }
    people.set(id, name);
    showPeople(people, me.id);
    note(`${old} is ${name} now.`);
  },

  said({ id, name, text, time }) {
    const mine = id === me.id;
    if (mine) answered("say");
    keep({ kind: "said", id, name, text, time, mine });
  },

  who({ room, members }) {
    answered("join", "room", "who");
    if (room !== me.room) return;
    people.clear();
    members.forEach(({ id, name }) => people.set(id, name));
    showPeople(people, me.id);
  },

  error({ message }) {
    const request = asked.shift();
    if (request) request.refused(message, false);
    else showTrouble(message);
  },
};

function cameInto(room, name) {
  const again = room === me.room && kept.has(room);
  me.room = room;
  me.in = true;
  call(name);
  rooms.add(room);
  people.clear();
  showRooms(room, rooms, goTo);
  showLink("online");
  closeDoor();
  history.replaceState(null, "", `#${encodeURIComponent(room)}`);
  if (!again) showLog(kept.get(room) ?? []);
  note(again ? "Back again." : `You are in ${room}.`);
}

function call(name) {
  me.name = name;
  memory.set("name", name);
  $("rename").elements.name.value = name;
}

// === What is asked of the server ===

// Sends a request; `refused(why, lost)` is called if it is refused, or if the connection is lost before the answer.
function ask(request, refused) {
  if (!connection.send(request)) return false;
  asked.push({ type: request.type, refused });
  return true;
}

// The oldest request of these kinds is done.
function answered(...types) {
  const at = asked.findIndex((request) => types.includes(request.type));
  if (at >= 0) asked.splice(at, 1)[0].done?.();
}

function complain(why, lost) {
  if (!lost) showTrouble(why);
}

function join() {
  const refused = (why, lost) => { if (!lost) openDoor(why); };
  if (!ask({ type: "join", name: me.name, room: me.room }, refused)) openDoor("Not connected yet.");
}

function goTo(room) {
  drawer(false);
  if (room === me.room || !me.in) return;
  ask({ type: "room", room }, complain);
}

function say(text) {
  const pending = addPending(text);
  const failed = (why) => pending.fail(why, () => say(text));
  if (!ask({ type: "say", text }, failed)) return failed("Not sent.");
  asked.at(-1).done = () => pending.confirm();
}

// === What the person does ===

function openDoor(why = "") {
  const { name, room } = $("join").elements;
  name.value ||= me.name || memory.get("name");
  room.value ||= me.room;
  $("refusal").textContent = why;
  $("refusal").hidden = !why;
  if (!$("door").open) $("door").showModal();
  name.select();
}

function closeDoor() {
  if (!$("door").open) return;
  $("door").close();
  // Not on a phone: its keyboard would cover half of the room.
  if (matchMedia("(pointer: fine)").matches) draft.focus();
}

$("door").addEventListener("cancel", (event) => event.preventDefault());

$("join").addEventListener("submit", (event) => {
  event.preventDefault();
  const { name, room } = event.target.elements;
  me.name = name.value.trim();
  me.room = room.value.trim() || LOBBY;
  join();
});

$("open-room").addEventListener("submit", (event) => {
  event.preventDefault();
  const { room } = event.target.elements;
  if (room.value.trim()) goTo(room.value.trim());
  room.value = "";
});

$("rename").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = event.target.elements.name.value.trim();
  if (name && name !== me.name && !ask({ type: "rename", name }, complain)) showTrouble("Not connected.");
  drawer(false);
});

const draft = $("draft");

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = draft.value.trim();
  if (!text || !me.in) return;
  draft.value = "";
  fit();
  say(text);
  draft.focus();
});

draft.addEventListener("keydown", (event) => {
  // Not while an input method puts a character together: Enter ends that then.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("composer").requestSubmit();
});

draft.addEventListener("input", fit);

function fit() {
  draft.style.height = "auto";
  draft.style.height = `${draft.scrollHeight + 2}px`;
}

$("retry").addEventListener("click", () => connection.retry());
addEventListener("hashchange", () => goTo(roomOfAddress()));

function roomOfAddress() {
  try {
    return decodeURIComponent(location.hash.slice(1)).trim() || LOBBY;
  } catch {
    return LOBBY;
  }
}

// === What is kept ===

function note(text) {
  keep({ kind: "note", text, time: Date.now() });
}

function keep(entry) {
  const entries = kept.get(me.room) ?? [];
  entries.push(entry);
  if (entries.length > KEPT_MAX) entries.shift();
  kept.set(me.room, entries);
  if (kept.size > ROOMS_MAX) kept.delete([...kept.keys()].find((room) => room !== me.room));
  addEntry(entry);
}
