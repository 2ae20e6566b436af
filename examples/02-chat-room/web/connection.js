// A WebSocket that comes back: it knows nothing of chats.

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 30_000;
const OPEN_WITHIN_MS = 10_000;
const SILENT_FOR_MS = 25_000;
const ANSWER_WITHIN_MS = 10_000;

/**
 * Connects, and connects again whenever the connection is lost, with growing pauses.
 *
 * `onMessage(object)` gets what the server says, `onLost(seconds)` that the connection is gone and how long the pause
 * is, `onTrying()` that it is over. `probe()` is called when the server has been silent for long: it asks for anything,
 * and if no answer comes the connection counts as lost. (A browser may take minutes to notice a dead network.)
 */
export class Connection {
  #handlers;
  #socket = null;
  #attempts = 0;
  #timer = 0;
  #watch = 0;

  constructor(handlers) {
    this.#handlers = handlers;
    addEventListener("online", () => this.retry());
    addEventListener("offline", () => this.#lost());
    this.#open();
  }

  /** Sends an object; false if there is no connection. */
  send(object) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(JSON.stringify(object));
    return true;
  }

  /** Ends a pause. */
  retry() {
    if (this.#socket) return;
    clearTimeout(this.#timer);
    this.#open();
  }

  #open() {
    this.#handlers.onTrying();
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/`);
    this.#socket = socket;
    this.#expectWithin(OPEN_WITHIN_MS);
    // A socket that was given up may still report: only the present one counts.
    const mine = (then) => (event) => socket === this.#socket && then(event);
    socket.onmessage = mine((event) => this.#received(event.data));
    socket.onclose = mine(() => this.#lost());
  }

  #received(data) {
    this.#attempts = 0;
    clearTimeout(this.#watch);
    this.#watch = setTimeout(() => {
      this.#expectWithin(ANSWER_WITHIN_MS);
      this.#handlers.probe();
    }, SILENT_FOR_MS);
    const message = parsed(data);
    if (message) this.#handlers.onMessage(message);
  }

  #expectWithin(ms) {
    clearTimeout(this.#watch);
    this.#watch = setTimeout(() => this.#lost(), ms);
  }

  #lost() {
    if (!this.#socket) return;
    const socket = this.#socket;
    this.#socket = null;
    socket.close();
    clearTimeout(this.#watch);
    // Half of the pause is random, so that a server that restarts does not meet everybody at once.
    const longest = Math.min(FIRST_WAIT_MS * 2 ** this.#attempts, LONGEST_WAIT_MS);
    const wait = longest / 2 + Math.random() * (longest / 2);
    this.#attempts += 1;
    this.#timer = setTimeout(() => this.#open(), wait);
    this.#handlers.onLost(wait / 1000);
  }
}

function parsed(data) {
  try {
    const message = JSON.parse(data);
    return message && typeof message.type === "string" ? message : null;
  } catch {
    return null;
  }
}
