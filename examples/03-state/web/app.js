// Shows what the plugin says: see plugin/src/lib.rs. How a page reconnects well: ../02-chat-room/web/connection.js.

const $ = (id) => document.getElementById(id);
const show = (id, text) => { $(id).textContent = String(text); };
const rows = new Map(); // By worker and slot.
let socket;

const answers = {
  hello({ id, worker, slot }) {
    show("id", id);
    show("slot", `${worker}/${slot}`);
  },
  visited({ yours, here }) {
    show("yours", yours);
    show("here", here);
  },
  tick({ worker, slot, restarted, ticks, visits }) {
    const name = `${worker}/${slot}`;
    if (name === $("slot").textContent) show("here", visits);
    if (!rows.has(name)) {
      rows.set(name, $("slots").insertRow());
      for (let cell = 0; cell < 4; cell += 1) rows.get(name).insertCell();
    }
    const texts = [name, `${ticks} s`, visits, restarted ? "after a crash" : "with the worker"];
    texts.forEach((text, cell) => { rows.get(name).cells[cell].textContent = String(text); });
  },
  error: ({ message }) => show("link", message),
};

function connected(yes) {
  show("link", yes ? "Connected." : "Not connected, trying again …");
  $("visit").disabled = $("crash").disabled = !yes;
}

function connect() {
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/`);
  socket.onopen = () => connected(true);
  socket.onmessage = (event) => {
    const message = JSON.parse(event.data);
    answers[message.type]?.(message);
  };
  socket.onclose = () => {
    connected(false);
    rows.clear();
    $("slots").replaceChildren();
    ["yours", "here"].forEach((id) => show(id, 0)); // A new connection is a new client with a new session.
    setTimeout(connect, 1_000);
  };
}

$("visit").onclick = () => socket.send("visit");
$("crash").onclick = () => socket.send("crash");
connect();
