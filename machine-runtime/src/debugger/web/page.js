"use strict";

// What is looked at: the address after the `#`, so that it can be shared.
// m: machine, at: entry (none: live), hide, group, q: filters, tab, state, only: what the tab shows.
const KEYS = ["m", "at", "hide", "group", "q", "tab", "state", "only"];
const $ = (id) => document.getElementById(id);

function cursor() {
  const hash = new URLSearchParams(location.hash.slice(1));
  const found = {};
  for (const key of KEYS) if (hash.get(key)) found[key] = hash.get(key);
  return found;
}

function go(change, replace) {
  const next = { ...cursor(), ...change };
  const hash = new URLSearchParams();
  for (const key of KEYS) if (next[key] !== undefined && next[key] !== null && next[key] !== "") hash.set(key, next[key]);
  const address = "#" + hash.toString();
  if (address === location.hash) return;
  if (replace) history.replaceState(null, "", address); else history.pushState(null, "", address);
  show();
}

async function ask(path, params) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) if (value !== undefined && value !== null && value !== "") query.set(name, value);
  const answer = await fetch(path + "?" + query);
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.error || answer.statusText);
  return body;
}

// Whatever was told is text: no markup is made of it.
function el(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key === "onclick") made.addEventListener("click", value);
    else if (value !== undefined && value !== null && value !== false) made.setAttribute(key, value);
  }
  for (const child of children.flat()) if (child !== null && child !== undefined) made.append(child instanceof Node ? child : document.createTextNode(String(child)));
  return made;
}

function clock(wall) {
  if (wall === null || wall === undefined) return "";
  return new Date(wall / 1000).toISOString().slice(11, 23);
}

function apart(micros) {
  const sign = micros < 0 ? "−" : "+", length = Math.abs(micros);
  if (length < 1000) return sign + length + " µs";
  if (length < 1e6) return sign + (length / 1e3).toFixed(1) + " ms";
  return sign + (length / 1e6).toFixed(1) + " s";
}

const nanos = (n) => apart(n / 1000).slice(1);
const filters = (at) => ({ hide: at.hide, group: at.group, q: at.q });

// Where the cursor is and what is near, as it was last shown.
let shown = null;
let version = null;
let asked = 0;

function machines(told, at) {
  $("machines").replaceChildren(...told.machines.map((one) => {
    const state = one.connection.state === "connected" ? null
      : el("span", { class: "lost", title: one.connection.why }, " " + one.connection.state);
    const behind = one.behind ? el("span", { class: "bad" }, " −" + one.behind) : null;
    const facts = `rev ${one.revision ?? "—"}, ${one.active ?? 0} of ${one.states} active`
      + (one.dropped ? `, ${one.dropped} dropped` : "")
      + (one.process_dropped ? `, ${one.process_dropped} dropped of its process` : "") + (one.errors ? `, ${one.errors} errors` : "");
    return el("li", { class: "depth-" + Math.min(one.depth, 3) },
      el("button", { "aria-current": String(one.id) === at.m, "data-machine": one.id, title: `${one.program} on ${one.host}, pid ${one.pid}`,
        onclick: () => go({ m: one.id, at: undefined, state: undefined, ...(at.at && shown ? { at: one.at ?? undefined } : {}) }) },
        el("strong", {}, one.name), state, behind, el("br"), el("small", {}, facts)));
  }));
}

function timeline(told, wall) {
  const svg = $("timeline"), space = "http://www.w3.org/2000/svg";
  const columns = told.shown.length, most = Math.max(1, ...told.shown);
  const wide = 400 / Math.max(1, columns);
  const parts = [];
  const bar = (kind, x, high) => {
    const made = document.createElementNS(space, "rect");
    for (const [name, value] of [["class", kind], ["x", x], ["y", 48 - high], ["width", wide * .9], ["height", high]]) made.setAttribute(name, value);
    parts.push(made);
  };
  told.shown.forEach((count, i) => {
    if (count) bar("bar", i * wide, Math.max(2, 44 * count / most));
    if (told.canceled[i]) bar("canceled", i * wide, 6);
    if (told.errors[i]) bar("error", i * wide, 6);
  });
  if (wall !== null && told.to >= told.from) {
    const made = document.createElementNS(space, "line");
    const x = 400 * Math.min(1, Math.max(0, (wall - told.from) / Math.max(1, told.to - told.from)));
    for (const [name, value] of [["class", "cursor"], ["x1", x], ["x2", x], ["y1", 0], ["y2", 48]]) made.setAttribute(name, value);
    parts.push(made);
  }
  svg.replaceChildren(...parts);
  svg.onclick = async (event) => {
    const box = svg.getBoundingClientRect();
    const at = told.from + Math.round((told.to - told.from) * (event.clientX - box.left) / box.width);
    const now = cursor();
    const near = await ask("api/list", { machine: now.m, wall: at, rows: 1, ...filters(now) });
    if (near.at !== null) go({ at: near.at });
  };
}

function what(row) {
  if (row.kind === "dropped") return [el("span", { class: "bad" }, `${row.dropped} frames were lost`)];
  if (row.kind === "key") return [el("span", { class: "dim" }, "all states told")];
  const names = row.called.join(", ") + (row.more ? ` and ${row.more} more` : "");
  if (row.kind === "followed") return [el("span", { class: "dim" }, `followed from ${row.from}: `), names];
  return [row.op + " ", names, row.cause === "call" ? null : el("small", {}, " " + row.cause),
    row.accepted ? null : el("span", { class: "bad" }, " " + row.reason)];
}

function list(told, at) {
  const place = told.place === null ? "—" : told.place + 1;
  $("place").textContent = `${place} of ${told.shown}` + (told.shown < told.held ? `, ${told.held} held` : "");
  $("rows").replaceChildren(...told.rows.map((row) => el("tr", {
    "aria-selected": row.at === told.at, "data-at": row.at, onclick: () => go({ at: row.at }),
  }, el("td", { class: "time" }, clock(row.wall)), el("td", { class: "number" }, row.revision),
    el("td", { class: row.error ? "bad" : null }, ...what(row)),
    el("td", { class: "number" }, row.changes ? "Δ" + row.changes : ""))));
  const selected = $("rows").querySelector("[aria-selected=true]");
  if (selected) selected.scrollIntoView({ block: "nearest" });
  for (const box of $("filters").querySelectorAll("input[type=checkbox]")) {
    box.nextElementSibling.textContent = told.hidden[box.value] || "";
  }
  $("previous").disabled = told.previous === null;
  $("next").disabled = told.next === null;
  $("previous-trouble").disabled = told.previous_trouble === null;
  $("next-trouble").disabled = told.next_trouble === null;
  $("live").setAttribute("aria-pressed", String(!at.at));
}

const heading = (text) => el("h3", {}, text);
const stateLink = (name) => el("a", { href: "#", onclick: (event) => { event.preventDefault(); go({ tab: "states", state: name }); } }, name);

function table(rows) {
  return el("table", {}, el("tbody", {}, rows.map((cells) => el("tr", {}, cells.map((cell) => el("td", {}, cell))))));
}

function related(title, all) {
  if (!all.length) return [];
  return [heading(title), table(all.map((one) => [
    el("a", { href: "#", onclick: (event) => { event.preventDefault(); go({ m: one.machine, at: one.from }); } },
      `${one.name} ${one.from}` + (one.to > one.from ? `–${one.to}` : "")), one.tie, apart(one.after)]))];
}

const tabs = {
  async entry(at) {
    const told = await ask("api/entry", { machine: at.m, at: at.at });
    const parts = [el("p", {}, new Date(told.wall / 1000).toISOString(), el("br"), el("small", {}, told.position),
      told.sure ? null : el("span", { class: "bad" }, " frames before it were lost"))];
    if (told.kind === "transition") {
      parts.push(el("p", {}, el("strong", {}, `${told.op} ${told.called.join(", ")}`), el("br"),
        `transition ${told.sequence}, by ${told.cause}: `,
        told.accepted ? el("span", { class: "on" }, `executed, revision ${told.revision}`) : el("span", { class: "bad" }, "canceled: " + told.reason)));
      if (told.left_out.length) parts.push(el("p", {}, "left out by handlers: " + told.left_out.join(", ")));
    } else {
      parts.push(el("p", {}, el("strong", {}, told.kind), told.from === undefined ? null : ` from revision ${told.from}`,
        told.dropped === undefined ? null : `: ${told.dropped} frames were lost`));
    }
    if (told.changes && told.changes.length) parts.push(heading("Changes"), table(told.changes.map((one) =>
      [stateLink(one.state), `${one.before} → ${one.after}`, el("span", { class: one.after % 2 ? "on" : "dim" }, one.after % 2 ? "active" : "inactive")])));
    if (told.steps && told.steps.length) parts.push(heading("Relations" + (told.guessed ? ` (a guess: ${told.guessed})` : "")),
      el("ol", {}, told.steps.map((one) => el("li", { class: one.refused ? "bad" : null }, one.relation ? el("small", {}, one.relation + " ") : null, one.text))));
    if (told.no_steps) parts.push(heading("Relations"), el("p", { class: "dim" }, told.no_steps));
    if (told.handlers && told.handlers.length) parts.push(heading("Handlers"), table(told.handlers.map((one) =>
      [one.phase, one.state || "", "after " + nanos(one.after), nanos(one.took)])));
    if (told.payloads && told.payloads.length) parts.push(heading("Payloads"), ...told.payloads.map((one) =>
      el("pre", {}, `${one.state}: ${one.text === null ? `(${one.len} bytes)` : one.text}`)));
    if (told.queue && told.queue.length) parts.push(heading("Waiting"), table(told.queue.map((one) => [one.op, one.called.join(", "), one.cause])));
    parts.push(...related("Caused by", told.causes), ...related("Led to", told.effects));
    if (told.took) parts.push(heading("Times"), el("p", {}, `relations and negotiation ${nanos(told.took[0])}, final handlers ${nanos(told.took[1])}; `
      + `${told.waiting[0]} waited before, ${told.waiting[1]} after; ${told.released} released`));
    if (told.trace) parts.push(heading("Trace"), el("p", {}, `${told.trace.trace} span ${told.trace.span}`));
    return parts;
  },
  async states(at) {
    const told = await ask("api/states", { machine: at.m, at: at.at, group: at.group, q: at.state ? undefined : at.q });
    const parts = [];
    if (at.state) {
      const why = await ask("api/why", { machine: at.m, at: at.at, state: at.state });
      const line = (title, names) => names.length ? el("p", {}, title + " ", names.flatMap((name, i) => [i ? ", " : "", stateLink(name)])) : null;
      parts.push(el("p", {}, el("strong", {}, why.state), ` is ${why.active ? "active" : "inactive"}, tick ${why.tick}` + (why.auto ? ", auto" : "")),
        line("blocked by", why.blocked_by), line("requires the inactive", why.missing), line("required by", why.required_by),
        el("p", {}, el("button", { disabled: why.previous === null, onclick: () => go({ at: why.previous }) }, "previous change"), " ",
          el("button", { disabled: why.next === null, onclick: () => go({ at: why.next }) }, "next change"), " ",
          el("button", { onclick: () => go({ tab: "graph" }) }, "diagram")));
    }
    parts.push(heading("Groups"), table(told.groups.map((one) => [
      el("a", { href: "#", onclick: (event) => { event.preventDefault(); go({ group: one.name }); } }, one.name),
      (one.sets > 1 ? one.sets + " × " : "") + (one.one_of ? "one of " : "") + one.states / one.sets, `${one.active} active`])));
    parts.push(heading(at.group || at.q ? "States" : "Active states"), table(told.states.map((one) => [
      stateLink(one.name), el("span", { class: one.active ? "on" : "dim" }, one.active ? "active" : "inactive"), "tick " + one.tick])));
    if (told.left) parts.push(el("p", { class: "dim" }, `and ${told.left} more`));
    return parts;
  },
  async lens(at) {
    const told = await ask("api/lens", { machine: at.m, at: at.at });
    return [el("p", {}, `${told.name} at ${told.position}`), table([["node", "revision", "after", "behind", "states"].map((text) => el("strong", {}, text)),
      ...told.nodes.map((one) => [
        el("a", { href: "#", class: "depth-" + Math.min(3, one.depth - 1), onclick: (event) => { event.preventDefault(); go({ m: one.machine, at: one.at ?? undefined }); } }, one.name),
        one.revision ?? "—", one.lag === null ? (one.reached ? "" : "not reached") : apart(one.lag), one.behind ?? "—",
        one.wrong === null ? el("span", { class: "dim" }, "not known") : one.wrong === 0 ? el("span", { class: "on" }, "same")
          : el("span", { class: "bad" }, `${one.wrong} differ: ` + one.differences.map((d) => `${d.state} ${d.root}/${d.node}`).join(", "))])])];
  },
  async graph(at) {
    const query = new URLSearchParams({ machine: at.m, at: at.at });
    for (const name of ["group", "state", "only"]) if (at[name]) query.set(name, at[name]);
    return [at.state || at.group ? el("p", {}, el("button", { onclick: () => go({ state: undefined, group: undefined, only: undefined }) }, "whole schema")) : null,
      await picture("graph.svg?" + query, "States and relations")];
  },
  async sequence(at) {
    return [await picture("sequence.svg?" + new URLSearchParams({ machine: at.m, at: at.at }), "What happened in the transition")];
  },
  async log(at) {
    const told = await ask("api/log", { machine: at.m, wall: at.wall });
    const levels = ["", "error", "warn", "info", "debug", "trace"];
    return [table(told.lines.map((one) => [clock(one.wall), el("span", { class: one.level <= 2 ? "bad" : "dim" }, levels[one.level] || one.level),
      el("small", {}, one.target), one.text]))];
  },
};

async function picture(address, alt) {
  const made = el("img", { alt, src: address });
  try {
    await made.decode();
  } catch (_broken) {
    const answer = await fetch(address);
    if (!answer.ok) throw new Error((await answer.json()).error);
  }
  return el("a", { href: address, target: "_blank", rel: "noopener", title: "alone, as large as it is" }, made);
}

async function show() {
  const mine = ++asked;
  const stale = () => mine !== asked;
  try {
    let at = cursor();
    const before = await ask("api/machines", {});
    if (stale()) return;
    version = before.version;
    if (!before.machines.length) {
      $("status").textContent = "nothing was told yet";
      document.body.dataset.ready = "empty";
      return;
    }
    if (!before.machines.some((one) => String(one.id) === at.m)) {
      go({ m: before.machines[0].id }, true);
      return;
    }
    for (const box of $("filters").querySelectorAll("input[type=checkbox]")) box.checked = (at.hide || "").split(",").includes(box.value);
    for (const [id, key] of [["group", "group"], ["text", "q"]]) if (document.activeElement !== $(id)) $(id).value = at[key] || "";
    const [near, line] = await Promise.all([
      ask("api/list", { machine: at.m, at: at.at, ...filters(at) }),
      ask("api/timeline", { machine: at.m, columns: 200, ...filters(at) }),
    ]);
    if (stale()) return;
    const row = near.rows.find((one) => one.at === near.at);
    const entry = near.at === null ? null : row || await ask("api/entry", { machine: at.m, at: near.at });
    const wall = entry ? entry.wall : null;
    const told = at.at ? await ask("api/machines", { wall }) : before;
    if (stale()) return;
    shown = near;
    machines(told, at);
    list(near, at);
    timeline(line, wall);
    const tab = tabs[at.tab] ? at.tab : "entry";
    for (const button of $("tabs").children) button.setAttribute("aria-selected", String(button.dataset.tab === tab));
    const detail = near.at === null ? [] : await tabs[tab]({ ...at, at: near.at, wall });
    if (stale()) return;
    $("detail").replaceChildren(...detail.filter(Boolean));
    $("problem").textContent = "";
    $("status").textContent = at.at ? clock(wall) : "live";
    document.body.dataset.ready = "1";
  } catch (error) {
    if (stale()) return;
    $("problem").textContent = error.message;
    document.body.dataset.ready = "problem";
  }
}

// Who looks at what was is not moved; who is live comes along.
async function poll() {
  try {
    const told = await ask("api/machines", {});
    if (told.version !== version) {
      if (cursor().at) version = told.version;
      await show();
    } else if ($("status").dataset.lost) {
      await show();
    }
    delete $("status").dataset.lost;
  } catch (error) {
    $("status").textContent = "the debugger does not answer";
    $("status").dataset.lost = "1";
  }
  setTimeout(poll, 1000);
}

async function groups() {
  const at = cursor();
  if (!at.m) return;
  try {
    const told = await ask("api/states", { machine: at.m });
    $("groups").replaceChildren(...told.groups.map((one) => el("option", { value: one.name })));
  } catch (_none) {
    // They are only suggestions.
  }
}

const to = (key) => { if (shown && shown[key] !== null && shown[key] !== undefined) go({ at: shown[key] }); };
const moves = {
  first: () => to("first"), previous: () => to("previous"), next: () => to("next"),
  "previous-trouble": () => to("previous_trouble"), "next-trouble": () => to("next_trouble"), live: () => go({ at: undefined }),
};
const keys = { Home: "first", ArrowLeft: "previous", ArrowRight: "next", X: "previous-trouble", x: "next-trouble", End: "live" };

for (const [id, move] of Object.entries(moves)) $(id).addEventListener("click", move);
for (const button of $("tabs").children) button.addEventListener("click", () => go({ tab: button.dataset.tab }));
$("filters").addEventListener("submit", (event) => event.preventDefault());
$("filters").addEventListener("change", () => {
  const boxes = [...$("filters").querySelectorAll("input[type=checkbox]:checked")];
  go({ hide: boxes.map((box) => box.value).join(","), group: $("group").value, q: $("text").value });
});
$("group").addEventListener("focus", groups);
document.addEventListener("keydown", (event) => {
  if (event.target.tagName === "INPUT" || event.ctrlKey || event.altKey || event.metaKey) return;
  if (keys[event.key]) { event.preventDefault(); moves[keys[event.key]](); }
});
addEventListener("popstate", show);
addEventListener("hashchange", show);
show().then(poll);
