// Two chats of two companies on one port. Each is asked for an answer ten times a second, and how long that takes is drawn:
// an attack on one is not to be seen at the other. What the server says is described in plugin/src/lib.rs.

const EVERY_MS = 100;
const SPAN_MS = 30_000;
const SHOWN = 6;
/// The top of the picture.
const SCALE_MS = 1_000;

class Chat {
  constructor(section) {
    this.section = section;
    this.waiting = new Map(); // When each ping was sent, by its number.
    this.answers = []; // [when, how long]
    this.number = 0;
    this.connections = 0;
    section.querySelector("form").onsubmit = (event) => {
      event.preventDefault();
      const input = section.querySelector("input");
      if (input.value.trim()) this.send({ type: "say", text: input.value.trim() });
      input.value = "";
    };
    this.connect();
    setInterval(() => this.ping(), EVERY_MS);
  }

  show(what, text) {
    this.section.querySelector(`.${what}`).textContent = text;
  }

  connect() {
    const protocol = location.protocol === "https:" ? "wss" : "ws";
    this.socket = new WebSocket(`${protocol}://${location.host}${this.section.dataset.path}`);
    this.socket.onopen = () => {
      this.show("reconnects", this.connections);
      this.connections += 1;
      this.section.dataset.state = "online";
    };
    this.socket.onmessage = (event) => this.heard(JSON.parse(event.data));
    this.socket.onclose = () => {
      this.section.dataset.state = "offline";
      this.waiting.clear();
      setTimeout(() => this.connect(), 500 + Math.random() * 1_000);
    };
  }

  send(message) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  ping() {
    if (this.socket.readyState !== WebSocket.OPEN) return;
    this.number += 1;
    this.waiting.set(this.number, performance.now());
    this.send({ type: "ping", number: this.number });
  }

  heard(message) {
    if (message.type === "welcome") this.section.querySelector("h1").textContent = message.company;
    if (message.type === "said") this.say(message.text);
    if (message.type === "error") this.say(message.message);
    if (message.type === "pong" && this.waiting.has(message.number)) {
      const now = performance.now();
      this.answers.push([now, now - this.waiting.get(message.number)]);
      // Turns are in order: one that failed takes its ping with it.
      for (const number of this.waiting.keys()) if (number <= message.number) this.waiting.delete(number);
    }
  }

  // Text is only ever set as text.
  say(text) {
    const log = this.section.querySelector("ol");
    const item = document.createElement("li");
    item.textContent = text.length > 80 ? `${text.slice(0, 80)}…` : text;
    log.append(item);
    while (log.childElementCount > SHOWN) log.firstElementChild.remove();
  }

  draw(now) {
    while (this.answers.length && this.answers[0][0] < now - SPAN_MS) this.answers.shift();
    const last = this.answers.at(-1);
    const [oldest] = this.waiting.values();
    const overdue = oldest === undefined ? 0 : now - oldest;
    this.section.dataset.late = String(overdue > SCALE_MS / 2);
    this.show("now", overdue > SCALE_MS / 2 ? `none for ${(overdue / 1_000).toFixed(1)} s` : last ? ms(last[1]) : "…");
    this.show("worst", this.answers.length ? ms(Math.max(overdue, ...this.answers.map(([, took]) => took))) : "…");

    const canvas = this.section.querySelector("canvas");
    const pen = canvas.getContext("2d");
    const style = getComputedStyle(this.section);
    // From 1 ms at the bottom to a second at the top, by decades.
    const height = (took) => canvas.height * (1 - Math.min(1, Math.max(0, Math.log10(took) / Math.log10(SCALE_MS))));
    pen.clearRect(0, 0, canvas.width, canvas.height);
    pen.strokeStyle = style.getPropertyValue("--edge");
    for (const took of [1, 10, 100]) {
      pen.beginPath();
      pen.moveTo(0, height(took) - 1);
      pen.lineTo(canvas.width, height(took) - 1);
      pen.stroke();
    }
    pen.fillStyle = style.getPropertyValue(this.section.dataset.late === "true" ? "--warn" : "--accent");
    for (const [when, took] of this.answers) {
      const x = canvas.width * (1 - (now - when) / SPAN_MS);
      pen.fillRect(x - 1, height(took), 2, canvas.height - height(took));
    }
  }
}

const ms = (time) => `${time < 10 ? time.toFixed(1) : Math.round(time)} ms`;

const chats = [...document.querySelectorAll("section")].map((section) => new Chat(section));
const [, globex] = chats;
let attack;
for (const button of document.querySelectorAll("[data-attack]")) {
  button.onclick = () => {
    attack = button.dataset.attack;
    globex.send({ type: "attack", how: attack });
  };
}
setInterval(() => {
  if (attack && document.getElementById("again").checked) globex.send({ type: "attack", how: attack });
}, EVERY_MS);

function draw() {
  const now = performance.now();
  chats.forEach((chat) => chat.draw(now));
  requestAnimationFrame(draw);
}
draw();
