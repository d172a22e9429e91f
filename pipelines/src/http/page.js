"use strict";

const make = (tag, text, kind) => {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (kind) node.className = kind;
  return node;
};

const follow = (api, value) => {
  const path = value && value.$ref;
  return path ? path.slice(2).split("/").reduce((at, key) => at[key], api) : value;
};

const typeOf = (api, schema) => {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map((s) => typeOf(api, s)).join(" or ");
  if (schema.enum) return schema.enum.map((v) => JSON.stringify(v)).join(" | ");
  if (schema.oneOf) return schema.oneOf.map((s) => typeOf(api, s)).join(" | ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.type === "array") return `list of ${typeOf(api, schema.items)}`;
  return [].concat(schema.type || "anything").join(" or ") + (schema.format ? ` (${schema.format})` : "");
};

const fields = (api, schema) => {
  const whole = follow(api, schema);
  if (!whole || !whole.properties) return make("p", typeOf(api, schema));
  const table = make("table");
  for (const [name, field] of Object.entries(whole.properties)) {
    const row = table.insertRow();
    row.insertCell().append(make("code", name + ((whole.required || []).includes(name) ? "" : "?")));
    row.insertCell().append(make("code", typeOf(api, field)));
    row.insertCell().textContent = field.description || (follow(api, field) || {}).description || "";
  }
  return table;
};

const operation = (api, path, method, op) => {
  const box = make("details");
  const head = make("summary");
  const rule = op.security[0] || {};
  const who = rule.api_key ? rule.api_key.join(", ") : rule.signature ? "signed" : "open";
  head.append(make("span", who, "who"), make("span", method, "method"), make("code", path), make("br"), make("span", op.summary));
  const body = make("div");
  if (op.parameters.length) {
    const table = make("table");
    for (const p of op.parameters) {
      const row = table.insertRow();
      row.insertCell().append(make("code", p.name + (p.required ? "" : "?")));
      row.insertCell().textContent = `${p.in}, ${typeOf(api, p.schema)}`;
      row.insertCell().textContent = p.description || "";
    }
    body.append(make("h4", "Parameters"), table);
  }
  for (const [format, content] of Object.entries((op.requestBody || {}).content || {})) {
    body.append(make("h4", `Body (${format})`), fields(api, content.schema));
  }
  for (const [status, answer] of Object.entries(op.responses)) {
    const real = follow(api, answer);
    body.append(make("h4", `${status}: ${real.description}`));
    for (const content of Object.values(real.content || {})) {
      if (content.schema) body.append(fields(api, content.schema));
    }
  }
  box.append(head, body);
  box.dataset.text = box.textContent.toLowerCase();
  return box;
};

const draw = (api) => {
  document.getElementById("about").textContent = `Version ${api.info.version}. ${api.info.description}`;
  const main = document.getElementById("api");
  main.textContent = "";
  for (const tag of api.tags) {
    main.append(make("h2", tag.name), make("p", tag.description));
    for (const [path, methods] of Object.entries(api.paths)) {
      for (const [method, op] of Object.entries(methods)) {
        if (op.tags[0] === tag.name) main.append(operation(api, path, method, op));
      }
    }
  }
  main.append(make("h2", "schemas"));
  for (const [name, schema] of Object.entries(api.components.schemas)) {
    const box = make("details");
    const body = make("div");
    body.append(make("p", schema.description || ""), fields(api, schema));
    box.append(make("summary", name), body);
    box.dataset.text = box.textContent.toLowerCase();
    main.append(box);
  }
  document.getElementById("find").addEventListener("input", (event) => {
    const words = event.target.value.toLowerCase().split(/\s+/);
    for (const box of main.querySelectorAll("details")) {
      box.hidden = !words.every((word) => box.dataset.text.includes(word));
    }
  });
};

fetch("openapi.json")
  .then((answer) => answer.json())
  .then(draw)
  .catch((error) => { document.getElementById("api").textContent = `The description cannot be read: ${error}`; });
