// Draws /api/openapi.json. Every text is set as text, never as markup: nothing in the document can run.

const make = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
};

// `code` and **bold** of the document's texts.
const prose = (text) =>
  text.split(/(`[^`]+`|\*\*[^*]+\*\*)/).map((part) =>
    part.startsWith("`") ? make("code", {}, part.slice(1, -1))
      : part.startsWith("**") ? make("b", {}, part.slice(2, -2)) : part);

class Schemas {
  constructor(components) { this.components = components; }

  resolve(value) {
    let found = value;
    while (found?.$ref) found = found.$ref.slice(2).split("/").reduce((at, key) => at[key], { components: this.components });
    return found ?? {};
  }

  // "string (uuid), null" or "CartItem[]".
  type(schema) {
    if (!schema) return "any";
    if (schema.$ref) return schema.$ref.split("/").pop();
    const options = schema.anyOf ?? schema.oneOf;
    if (options) return options.map((option) => this.type(option)).join(" or ");
    if (schema.const !== undefined) return JSON.stringify(schema.const);
    if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" or ");
    if (schema.type === "array") return `${this.type(schema.items)}[]`;
    return [schema.type ?? "any", schema.format && `(${schema.format})`].filter(Boolean).join(" ");
  }

  limits(schema) {
    const options = [schema, ...(schema.anyOf ?? [])];
    const words = [["minLength", "at least", " characters"], ["maxLength", "at most", " characters"], ["minimum", "from", ""],
      ["maximum", "up to", ""], ["minItems", "at least", " items"], ["maxItems", "at most", " items"], ["default", "default", ""]];
    const said = words.flatMap(([key, before, after]) => {
      const holder = options.find((option) => option[key] !== undefined && option[key] !== null);
      return holder ? [`${before} ${JSON.stringify(holder[key])}${after}`] : [];
    });
    return said.join(", ");
  }

  // A value as a client would send or get it.
  example(schema, depth = 0) {
    const found = this.resolve(schema);
    if (found.default !== undefined && found.default !== null) return found.default;
    if (found.const !== undefined) return found.const;
    if (found.enum) return found.enum[0];
    const options = found.anyOf ?? found.oneOf;
    if (options) return this.example(options.find((option) => option.type !== "null") ?? options[0], depth);
    const formats = { "date-time": "2026-11-24T09:30:00Z", date: "2026-11-24", uuid: "019a0000-0000-7000-8000-000000000001", email: "robin@example.com" };
    switch (found.type) {
      case "object": {
        if (depth > 4) return {};
        const own = Object.entries(found.properties ?? {}).map(([name, field]) => [name, this.example(field, depth + 1)]);
        return Object.fromEntries(own);
      }
      case "array": return depth > 4 ? [] : [this.example(found.items, depth + 1)];
      case "string": return formats[found.format] ?? "text";
      case "integer": return found.minimum ?? 1;
      case "number": return found.minimum ?? 1.5;
      case "boolean": return true;
      default: return null;
    }
  }

  table(schema) {
    const found = this.resolve(schema);
    const rows = Object.entries(found.properties ?? {}).map(([name, field]) => {
      const must = (found.required ?? []).includes(name);
      const about = [field.description ?? this.resolve(field).description, this.limits(field)].filter(Boolean).join(" · ");
      return row(name, must, this.type(field), about);
    });
    return rows.length ? make("table", {}, rows) : make("p", { class: "quiet" }, this.type(schema));
  }
}

const row = (name, must, type, about) =>
  make("tr", {},
    make("td", {}, make("code", {}, name), must ? make("span", { class: "must", title: "required" }, " *") : null),
    make("td", {}, make("p", {}, type), about ? make("p", { class: "quiet" }, ...prose(about)) : null));

const block = (text) => {
  const copy = make("button", { class: "copy", type: "button" }, "Copy");
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text);
    copy.textContent = "Copied";
    setTimeout(() => { copy.textContent = "Copy"; }, 1500);
  });
  return make("pre", {}, copy, make("code", {}, text));
};

const json = (value) => JSON.stringify(value, null, 2);

const command = (method, path, operation, schemas) => {
  const parts = [`curl -X ${method} '${location.origin}${path}'`];
  if (operation.security?.length) parts.push("-H 'Authorization: Bearer TOKEN'");
  for (const parameter of operation.parameters ?? []) {
    if (parameter.in === "header" && parameter.required) parts.push(`-H '${parameter.name}: a-new-key-for-each-intent'`);
  }
  const body = operation.requestBody?.content["application/json"];
  if (body) parts.push("-H 'Content-Type: application/json'", `-d '${JSON.stringify(schemas.example(body.schema))}'`);
  return parts.join(" \\\n  ");
};

const inside = (method, path, operation, schemas) => {
  const parts = [make("p", { class: "who" }, ...prose(operation.description ?? ""))];
  const parameters = operation.parameters ?? [];
  if (parameters.length) {
    parts.push(make("h3", {}, "Parameters"), make("table", {}, parameters.map((parameter) => {
      const about = [parameter.description, schemas.limits(parameter.schema)].filter(Boolean).join(" · ");
      return row(parameter.name, parameter.required, `${parameter.in}, ${schemas.type(parameter.schema)}`, about);
    })));
  }
  for (const [media, content] of Object.entries(operation.requestBody?.content ?? {})) {
    parts.push(make("h3", {}, "Body ", make("span", { class: "quiet" }, media)), schemas.table(content.schema));
    if (media === "application/json") parts.push(block(json(schemas.example(content.schema))));
  }
  for (const [status, response] of Object.entries(operation.responses)) {
    if (status >= "400") continue;
    const [media, content] = Object.entries(response.content ?? {})[0] ?? [];
    parts.push(make("h3", {}, `${status} `, make("span", { class: "quiet" }, response.description)));
    if (media === "application/json") parts.push(schemas.table(content.schema), block(json(schemas.example(content.schema))));
    else if (media) parts.push(make("p", { class: "quiet" }, media));
  }
  const refusals = Object.entries(operation.responses).filter(([status]) => status >= "400");
  parts.push(make("h3", {}, "Refusals"), make("table", {}, refusals.map(([status, response]) =>
    make("tr", {}, make("td", {}, make("code", {}, status)), make("td", {}, ...prose(schemas.resolve(response).description))))));
  parts.push(make("h3", {}, "From a terminal"), block(command(method, path, operation, schemas)));
  return make("div", { class: "inside" }, parts);
};

const route = (method, path, operation, schemas) => {
  const name = make("span", { class: "path" }, path.split(/({\w+})/).map((part) => (part.startsWith("{") ? make("i", {}, part) : part)));
  const badge = operation["x-permission"] ? `${operation["x-access"]}: ${operation["x-permission"]}` : operation["x-access"];
  const summary = make("summary", {}, make("span", { class: `method ${method.toLowerCase()}` }, method), name,
    make("span", { class: "says" }, ...prose(operation.summary ?? "")), make("span", { class: "badge" }, badge));
  const element = make("details", { class: "route", id: operation.operationId }, summary);
  // Drawn when it is opened: there may be a few hundred.
  element.addEventListener("toggle", () => {
    if (element.open && element.childElementCount === 1) element.append(inside(method, path, operation, schemas));
  });
  return element;
};

const introduce = (info) => {
  document.getElementById("version").textContent = info.version;
  const lines = info.description.trim().split("\n").filter(Boolean);
  const items = lines.filter((line) => line.startsWith("- ")).map((line) => make("li", {}, ...prose(line.slice(2))));
  const texts = lines.filter((line) => !line.startsWith("- ")).map((line) => make("p", {}, ...prose(line)));
  document.getElementById("intro").replaceChildren(make("h2", {}, info.title), ...texts, make("ul", {}, items),
    make("p", {}, make("a", { href: "/api/openapi.json" }, "openapi.json")));
};

const draw = (api) => {
  const schemas = new Schemas(api.components);
  introduce(api.info);
  const groups = new Map(api.tags.map((tag) => [tag.name, []]));
  for (const [path, item] of Object.entries(api.paths)) {
    for (const [method, operation] of Object.entries(item)) groups.get(operation.tags[0]).push([method.toUpperCase(), path, operation]);
  }
  const drawn = [];
  const index = document.getElementById("index"), routes = document.getElementById("routes");
  routes.replaceChildren();
  for (const [tag, entries] of groups) {
    const [side, heading] = [make("h2", {}, tag), make("h2", {}, tag)];
    index.append(side);
    routes.append(heading);
    const group = { side, heading, entries: [] };
    for (const [method, path, operation] of entries) {
      const element = route(method, path, operation, schemas);
      const link = make("a", { href: `#${operation.operationId}`, title: `${method} ${path}` },
        make("span", { class: `method ${method.toLowerCase()}` }, method), make("span", {}, `\u200e${path.replace("/api", "")}`));
      index.append(link);
      routes.append(element);
      group.entries.push({ text: `${method} ${path} ${operation.summary} ${operation.description}`.toLowerCase(), element, link });
    }
    drawn.push(group);
  }
  return drawn;
};

const searching = (drawn) => {
  const search = document.getElementById("search"), count = document.getElementById("count");
  const narrow = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const group of drawn) {
      let any = false;
      for (const { text, element, link } of group.entries) {
        const match = words.every((word) => text.includes(word));
        element.hidden = link.hidden = !match;
        any ||= match;
        shown += match ? 1 : 0;
      }
      group.side.hidden = group.heading.hidden = !any;
    }
    count.textContent = `${shown} ${shown === 1 ? "route" : "routes"}`;
  };
  search.addEventListener("input", narrow);
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && document.activeElement !== search) { event.preventDefault(); search.focus(); }
    if (event.key === "Escape" && document.activeElement === search) { search.value = ""; narrow(); search.blur(); }
  });
  narrow();
};

const follow = () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target?.matches("details.route")) {
    target.open = true;
    target.scrollIntoView();
  }
  for (const link of document.querySelectorAll("nav a")) {
    if (link.getAttribute("href") === location.hash) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
};

try {
  const answer = await fetch("/api/openapi.json");
  if (!answer.ok) throw new Error(`/api/openapi.json answered ${answer.status}`);
  searching(draw(await answer.json()));
  addEventListener("hashchange", follow);
  follow();
} catch (error) {
  document.getElementById("routes").replaceChildren(make("p", { role: "alert" }, `The document cannot be shown: ${error.message}`));
}
