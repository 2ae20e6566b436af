// Shows the counter, and that its connection is never closed while the code behind it changes. What the server says is
// described in plugin/src/lib.rs. The page knows the messages of all three versions, so it need not be loaded again.
// How a page reconnects well: ../02-chat-room/web/connection.js.

const $ = (id) => document.getElementById(id);
const show = (id, text) => { $(id).textContent = String(text); };
const SHOWN = 5;

let socket;
let since = 0; // When the present connection was opened.
let connections = 0;
let changes = 0;
let version = 0; // Of the code that answered last.
let calm = 0; // The timer that ends a rush on this page, should the server's word of it be missed.

const answers = {
  now({ version, code, total, scores, rush }) {
    changed(version, code);
    show("total", total);
    showScores(scores);
    showRush(rush === true);
  },
  clicked({ name, points = 1, total, version, scores }) {
    changed(version);
    show("total", total);
    showScores(scores);
    if (connections && $("clicks").querySelector(".quiet")) $("clicks").replaceChildren();
    $("clicks").prepend(line(name, `+${points}`));
    while ($("clicks").childElementCount > SHOWN) $("clicks").lastElementChild.remove();
  },
  rush: ({ rush, seconds }) => showRush(rush, seconds),
  error: ({ message }) => trouble(message),
};

function changed(now, code) {
  if (code) show("code", code);
  show("version", now);
  if (version && now !== version) {
    changes += 1;
    show("changes", changes);
    $("code").classList.remove("new");
    void $("code").offsetWidth; // So that the animation begins anew.
    $("code").classList.add("new");
  }
  version = now;
}

// Text is only ever set as text.
function line(name, figure) {
  const item = document.createElement("li");
  item.append(document.createElement("bdi"), document.createElement("span"));
  item.children[0].textContent = name;
  item.children[1].textContent = String(figure);
  return item;
}

// Version 1 of the code has no list.
function showScores(scores) {
  $("highest").hidden = !scores?.length;
  $("scores").replaceChildren(...(scores ?? []).map(({ name, clicks }) => line(name, clicks)));
}

function showRush(rush, seconds = 0) {
  clearTimeout(calm);
  document.documentElement.toggleAttribute("data-rush", rush);
  show("rush", rush ? "Rush! Every click counts double." : "");
  if (rush && seconds) calm = setTimeout(() => showRush(false), (seconds + 2) * 1_000);
}

function trouble(text) {
  show("trouble", text);
  $("trouble").hidden = !text;
}

// === The connection ===

function state(name) {
  document.documentElement.dataset.state = name;
  $("click").disabled = name !== "online";
  if (name === "offline") show("link", "lost, trying again …");
  else showSince();
}

function showSince() {
  if (socket?.readyState !== WebSocket.OPEN) return;
  const seconds = Math.floor((Date.now() - since) / 1_000);
  const span = seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  show("link", `open since ${new Date(since).toLocaleTimeString()} (${span})`);
}

function connect() {
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/`);
  socket.onopen = () => {
    since = Date.now();
    show("reconnects", connections);
    connections += 1;
    tellName();
    state("online");
  };
  socket.onmessage = (event) => {
    const message = JSON.parse(event.data);
    answers[message.type]?.(message);
  };
  socket.onclose = () => {
    showRush(false);
    state("offline");
    setTimeout(connect, 500 + Math.random() * 1_000);
  };
}

function send(message) {
  if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

// === The person ===

const memory = {
  get() { try { return localStorage.getItem("name") ?? ""; } catch { return ""; } },
  set(name) { try { localStorage.setItem("name", name); } catch { /* A private window: then not. */ } },
};

function tellName() {
  const name = $("name").value.trim();
  if (name) send({ type: "name", name });
}

$("name").value = new URLSearchParams(location.search).get("name") ?? memory.get();
$("name").onchange = () => { memory.set($("name").value.trim()); tellName(); };
$("name").onkeydown = (event) => { if (event.key === "Enter") $("name").blur(); };
$("click").onclick = () => { trouble(""); send({ type: "click" }); };

setInterval(showSince, 1_000);
connect();
