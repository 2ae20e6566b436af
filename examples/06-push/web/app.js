// A shop and three devices of two customers on one page. A device is a WebSocket that has logged in with a ticket of the
// shop; the shop's own side is plain HTTP. What the plugin says is described in plugin/src/lib.rs.

const DEVICES = [
  { name: "Ann's phone", user: "ann" },
  { name: "Ann's laptop", user: "ann" },
  { name: "Bob's phone", user: "bob" },
];
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;
const SHOWN = 5;

const $ = (id) => document.getElementById(id);
const copy = (id) => $(id).content.firstElementChild.cloneNode(true);

async function post(path, body) {
  const answer = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  const said = await answer.json();
  if (!answer.ok) throw new Error(said.error);
  return said;
}

class Device {
  #socket = null;
  #attempts = 0;
  #timer = 0;
  #section = copy("device");
  #wanted = true;

  constructor({ name, user }) {
    this.user = user;
    this.#section.querySelector("h2").textContent = name;
    this.#section.dataset.device = name;
    this.#section.querySelector("input").onchange = ({ target }) => (target.checked ? this.connect() : this.leave());
    $("devices").append(this.#section);
    this.connect();
  }

  /** Gets a ticket and logs in with it; once more, after a growing pause, if that fails or ends. */
  async connect() {
    this.#wanted = true;
    clearTimeout(this.#timer);
    this.#show("connecting");
    let login;
    try {
      login = await post("tickets", { user: this.user });
    } catch {
      return this.#again();
    }
    if (!this.#wanted) return;
    const socket = new WebSocket(login.ws);
    this.#socket = socket;
    socket.onopen = () => socket.send(JSON.stringify({ type: "login", ticket: login.ticket }));
    socket.onmessage = (event) => this.#heard(JSON.parse(event.data));
    socket.onclose = () => { if (socket === this.#socket) this.#again(); };
  }

  leave() {
    this.#wanted = false;
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
    this.#show("offline");
  }

  #again() {
    this.#socket = null;
    if (!this.#wanted) return;
    this.#show("connecting");
    const longest = Math.min(FIRST_WAIT_MS * 2 ** this.#attempts, LONGEST_WAIT_MS);
    this.#attempts += 1;
    // Half of the pause is chance, so that a server that comes back does not meet everybody at once.
    this.#timer = setTimeout(() => this.connect(), longest * (0.5 + Math.random() / 2));
  }

  #heard(message) {
    if (message.type === "welcome") {
      this.#attempts = 0;
      this.#show("online");
    } else {
      this.#say(message.text ?? message.message);
    }
  }

  // Text is only ever set as text.
  #say(text) {
    const item = document.createElement("li");
    const time = new Date().toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit" });
    item.append(Object.assign(document.createElement("time"), { textContent: time }), ` ${text}`);
    const log = this.#section.querySelector("ol");
    log.querySelector(".quiet")?.remove();
    log.prepend(item);
    while (log.childElementCount > SHOWN) log.lastElementChild.remove();
  }

  #show(state) {
    this.#section.dataset.state = state;
  }
}

async function ship(order, whose, button) {
  button.disabled = true;
  const parcel = Math.random().toString(36).slice(2);
  try {
    const { reached } = await post("ship", { order, parcel });
    const devices = `${reached} device${reached === 1 ? "" : "s"} of ${whose} heard of it`;
    $("told").textContent = reached ? `Order ${order}: ${devices}.` : `Order ${order}: ${whose} is not on-line; send an e-mail.`;
  } catch (error) {
    $("told").textContent = error.message;
  }
  button.disabled = false;
}

const { orders, customers } = await (await fetch("orders")).json();
for (const [number, { what, customer }] of Object.entries(orders)) {
  const item = copy("order");
  item.querySelector(".what").textContent = what;
  item.querySelector(".whose").textContent = `for ${customers[customer]}`;
  const button = item.querySelector("button");
  button.dataset.order = number;
  button.onclick = () => ship(number, customers[customer], button);
  $("orders").append(item);
}
for (const device of DEVICES) new Device(device);
