/** Both halves: pushes by the HTTP API, and connections by WebSocket. */
export * from "./push.js";
export * from "./connection.js";
