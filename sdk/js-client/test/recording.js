// What a client asks for, to be held against the description of the API.

/** A `fetch` that adds each operation that it is asked for to `asked`. */
export function recording(asked) {
  return (address, options) => {
    const parts = new URL(address).pathname.split("/");
    if (parts[2] === "apps" && parts.length > 4) parts.splice(3, 2, "{tenant}", "{app}");
    if (parts[2] === "tenants" && parts.length > 3) parts[3] = "{tenant}";
    if (parts.includes("sessions")) parts[parts.length - 1] = "{client}";
    if (parts.at(-2) === "versions") parts[parts.length - 1] = "{number}";
    asked.add(`${options.method.toLowerCase()} ${parts.join("/")}`);
    return fetch(address, options);
  };
}

/** The operations of a description that are for who pushes, or all others. */
export function described({ paths }, { pushes }) {
  const methods = ["get", "put", "post", "patch", "delete"];
  return Object.entries(paths).flatMap(([path, operations]) =>
    Object.entries(operations)
      .filter(([method, operation]) => methods.includes(method) && isPush(operation) === pushes)
      .map(([method]) => `${method} ${path}`));
}

function isPush(operation) {
  const schema = operation.responses["200"]?.content?.["application/json"]?.schema?.$ref ?? "";
  return ["Reached", "Results", "Answer"].includes(schema.split("/").at(-1));
}
