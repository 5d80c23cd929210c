// The live page. It listens to /events and draws; what came from requests (names
// of models, errors) only ever becomes text, never markup.
"use strict";

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const maxPoints = 300;

let history = []; // points of the charts
let paused = false; // the list of requests is held by the button
let hovering = false; // and by who points at it
let selected = null; // id of the request that is explained
let selectedOpen = false; // it is under way: there will be more to say
let latest = null; // view

// el makes an element: el("td", {class: "num"}, "text", child, …).
function el(tag, attributes, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value !== null && value !== undefined && value !== false) e.setAttribute(name, value === true ? "" : value);
  }
  for (const c of children.flat(Infinity)) {
    if (c !== null && c !== undefined) e.append(c); // strings become text nodes
  }
  return e;
}

// Figures. null: not known.
const ms = (v) => v == null ? "–" : v >= 9950 ? (v / 1000).toFixed(1) + " s" : v >= 995 ? (v / 1000).toFixed(2) + " s" : Math.round(v) + " ms";
const share = (v) => v == null ? "–" : Math.round(v * 100) + " %";
const count = (v) => v == null ? "–" : Math.round(v).toLocaleString("en");

// bar is a horizontal bar of parts {width: 0..1, class}.
function bar(...parts) {
  const b = el("div", { class: "bar", "aria-hidden": "true" });
  for (const p of parts) b.append(el("i", { class: p.class }));
  setBar(b, ...parts);
  return b;
}
function setBar(b, ...parts) {
  parts.forEach((p, i) => { b.children[i].style.width = Math.min(1, Math.max(0, p.width || 0)) * 100 + "%"; });
}

function drawTiles(v) {
  const tiles = [
    ["TTFT p90, last 60 s", (f) => ms(f.now.ttftP90Ms)],
    ["TPOT p90, last 60 s", (f) => ms(f.now.tpotP90Ms)],
    ["Prefix hits, last 60 s", (f) => [share(f.now.prefixHitShare), f.now.prefixHitError == null ? null : el("small", {}, `predicted within ${share(f.now.prefixHitError)}`)]],
    ["Requests answered", (f) => [count(f.total.requests), f.total.failed + f.total.shed ? el("small", {}, `${count(f.total.shed)} refused, ${count(f.total.failed)} failed`) : null]],
  ];
  $("tiles").replaceChildren(...tiles.map(([title, figure]) =>
    el("div", { class: "panel tile" }, el("h3", {}, title), el("dl", {}, v.fleets.map((f, i) => [
      el("dt", { class: `c${i}${i ? "" : " first"}`, title: f.policy }, f.policy),
      el("dd", { class: i ? null : "first" }, figure(f)),
    ])))));
  const p = v.replay;
  let note = p ? `Replaying ${p.sessions} recorded sessions: ${count(p.done)} of ${count(p.turns)} turns.` : "";
  if (v.skipped) note += ` ${count(v.skipped)} arrivals were left out: too many requests are open.`;
  $("progress").textContent = note;
}

// The fleets' tables are built once, and then only their figures change.
let fleetRows = [];

function buildFleets(v) {
  const most = v.fleets.map((f) => f.endpoints.length).join();
  if ($("fleets").dataset.shape === most) return;
  $("fleets").dataset.shape = most;
  $("fleets").classList.toggle("single", v.fleets.length === 1);
  fleetRows = [];
  $("fleets").replaceChildren(...v.fleets.map((f, i) => {
    const heat = el("table", { class: "heat" });
    const body = el("tbody");
    const rows = f.endpoints.map((e) => {
      const row = {
        inFlight: el("span"), running: el("small"), load: bar({}, { class: "wait" }),
        kv: el("span"), kvBar: bar({}), share: el("span"), routed: el("small"), shareBar: bar({}), adapters: el("td", { class: "narrow wide num" }),
      };
      body.append(el("tr", {}, el("th", { scope: "row" }, e.id),
        el("td", {}, el("div", { class: "split" }, row.inFlight, row.running), row.load),
        el("td", {}, row.kv, row.kvBar),
        el("td", {}, el("div", { class: "split" }, row.share, row.routed), row.shareBar),
        row.adapters));
      return row;
    });
    fleetRows.push(rows);
    rows.heat = heat;
    return el("article", { class: `panel fleet c${i}` },
      el("h2", {}, f.policy, " ", el("small", {}, i ? "the same requests, an identical fleet" : f.gateways.length > 1 ? `${f.gateways.length} gateways` : "this gateway")),
      el("table", {}, el("thead", {}, el("tr", {}, ["Server", "In flight", "KV cache", "Share of requests"].map((t) => el("th", { scope: "col" }, t)),
        el("th", { scope: "col", class: "narrow wide num" }, "LoRA"))), body),
      el("p", { class: "note heat-title" }, "Where the requests of each model go, in percent, last 60 s"), heat);
  }));
}

function drawFleets(v) {
  buildFleets(v);
  const most = Math.max(8, ...v.fleets.flatMap((f) => f.endpoints.map((e) => Math.max(e.inFlight, (e.running || 0) + (e.waiting || 0)))));
  v.fleets.forEach((f, i) => f.endpoints.forEach((e, j) => {
    const row = fleetRows[i][j];
    row.inFlight.textContent = e.inFlight;
    row.running.textContent = e.waiting == null ? "not read yet" : `${e.running} run` + (e.waiting ? `, ${e.waiting} wait` : "");
    setBar(row.load, { width: (e.running || 0) / most }, { width: (e.waiting || 0) / most });
    row.kv.textContent = share(e.kvUsage);
    setBar(row.kvBar, { width: e.kvUsage });
    row.share.textContent = share(e.share);
    row.routed.textContent = count(e.routed);
    setBar(row.shareBar, { width: e.share * f.endpoints.length / 2.5 });
    row.adapters.textContent = (e.adapters || []).length || "–";
    row.adapters.title = (e.adapters || []).join(", ");
  }));
  v.fleets.forEach((f, i) => drawHeat(fleetRows[i].heat, f));
}

// The table of gateways has a row for what each one knows, and a column for of whom.
let gatewayRows = [];

function buildGateways(gateways) {
  const table = $("gateways").querySelector("table");
  const act = (name, what) => fetch(`/api/gateways/${name}/${what}`, { method: "POST" });
  gatewayRows = gateways.map((g, i) => {
    const row = { state: el("span"), cells: gateways.map((_, j) => el("td", { class: i === j ? "own" : null })), stop: null };
    row.cut = el("button", { type: "button" });
    row.cut.addEventListener("click", () => act(g.name, row.cut.value));
    if (i) { // the first has this page
      row.stop = el("button", { type: "button" });
      row.stop.addEventListener("click", () => act(g.name, row.stop.value));
    }
    row.tr = el("tr", {}, el("th", { scope: "row" }, g.name, el("small", {}, row.state)), row.cells, el("td", {}, row.cut, row.stop));
    return row;
  });
  table.replaceChildren(el("thead", {}, el("tr", {}, ["", ...gateways.map((g) => g.name), ""].map((t) => el("th", { scope: "col" }, t)))),
    el("tbody", {}, gatewayRows.map((r) => r.tr)));
}

function drawGateways(v) {
  const gateways = v.fleets[0].gateways;
  $("gateways").hidden = gateways.length < 2;
  if (gateways.length < 2) return;
  if (gatewayRows.length !== gateways.length) buildGateways(gateways);
  $("gateways-note").textContent = v.shared
    ? "Requests in flight: each gateway’s own, and what it has heard that the others have, with the age of that. Requests go to them in turn."
    : "Requests in flight. The gateways share nothing (-share=false): each knows its own alone. Requests go to them in turn.";
  gateways.forEach((g, i) => {
    const row = gatewayRows[i], runs = g.state === "running" || g.state === "cut off";
    row.tr.classList.toggle("off", !runs);
    row.state.textContent = g.state;
    row.cells.forEach((cell, j) => {
      const p = i === j ? null : g.peers.find((p) => p.name === gateways[j].name && p.alive);
      cell.replaceChildren(...(i === j ? [runs || g.inFlight ? count(g.inFlight) : "–"] : p ? [count(p.inFlight), el("small", {}, ms(p.ageMs) + " ago")] : ["–"]));
    });
    const button = (b, value, text, off) => {
      if (!b) return;
      b.value = value;
      if (b.textContent !== text) b.textContent = text;
      b.disabled = off;
    };
    button(row.stop, g.state === "stopped" ? "start" : "stop", g.state === "stopped" ? "Start" : "Stop", g.state === "stopping");
    button(row.cut, g.state === "cut off" ? "join" : "cut", g.state === "cut off" ? "Join" : "Cut off", !runs || !v.shared);
  });
}

// A rollout moves the model chat to another adapter. What can be done about it depends on its phase.
const starts = [["good", "A good adapter"], ["errors", "One that fails"], ["slow", "A slow one"], ["empty", "One with empty answers"]];
let rolling = false; // a button was pressed that was not answered yet

function rolloutButton(path, text, off) {
  const b = el("button", { type: "button", "data-act": path, disabled: off || rolling }, text);
  b.addEventListener("click", async () => {
    rolling = true;
    b.disabled = true;
    const answer = await fetch(`/api/rollout/${path}`, { method: "POST" });
    rolling = false;
    $("rollout-note").textContent = answer.ok ? "" : (await answer.json()).error.message;
  });
  return b;
}

// redraw replaces the children of e only if what they show has changed, so that buttons can be pressed.
function redraw(e, shows, children) {
  const shape = JSON.stringify(shows) || "";
  if (e.dataset.shape === shape) return;
  e.dataset.shape = shape;
  e.replaceChildren(...children().flat());
}

function drawRollout(v) {
  const r = v.rollout, over = !r || r.phase === "Done" || r.phase === "Failed";
  redraw($("rollout-starts"), [over, rolling], () => [el("span", { class: "note" }, "Roll out"), starts.map(([kind, text]) => rolloutButton(`start?adapter=${kind}`, text, !over))]);
  $("rollout-body").hidden = !r;
  if (!r) {
    $("rollout-note").textContent ||= "The next LoRA adapter comes onto the servers without traffic, gets some, then more, and is judged by how its requests end against those of the present one. Choose what it is to be like.";
    return;
  }
  const moving = r.phase === "Loading" || r.phase === "Stepping" || r.phase === "Finishing";
  redraw($("rollout-acts"), [r.phase, !!r.paused, rolling], () => over ? [] : [
    r.paused ? rolloutButton("resume", "Resume", !moving) : rolloutButton("pause", "Pause", !moving),
    rolloutButton("promote", "Promote", r.phase !== "Stepping"), rolloutButton("abort", "Abort", r.phase === "Aborting")]);
  const state = r.paused ? "paused" : r.phase.toLowerCase();
  $("rollout-state").textContent = `${r.plan.stable} → ${r.plan.canary} (${r.adapter}): ${state}`;
  $("rollout").dataset.phase = r.phase || "";
  const [stable, canary] = r.targets;
  redraw($("rollout-weights"), [stable.target, canary.target], () => r.targets.map((t) => el("div", { class: t.role }, el("i"), el("span"))));
  r.targets.forEach((t, i) => {
    const part = $("rollout-weights").children[i];
    part.style.flexGrow = t.weight;
    part.classList.toggle("none", !t.weight);
    part.querySelector("span").textContent = `${t.target} ${Math.round(t.weight)} %`;
    part.title = `${t.requests} requests in this step, ${t.errors} failed, ${t.inFlight} in flight`;
  });
  const servers = Object.entries(r.servers || {}).map(([what, n]) => `${n} ${what}`).join(", ");
  $("rollout-steps").textContent = [
    `Step ${r.step + 1} of ${r.plan.steps.length}`, `servers: ${servers}`, ...r.targets.map((t) => `${t.target}: ${count(t.requests)} requests, ${count(t.errors)} failed, ${count(t.inFlight)} in flight`),
    r.paused && `paused: ${r.paused}`, r.holding && `waits: ${r.holding}`, r.trouble && `trouble: ${r.trouble}`, !r.leads && r.leader && `judged by ${r.leader}`,
  ].filter(Boolean).join(" · ");
  const figure = (m, x) => x == null ? "–" : m === "ttft" || m === "tpot" ? ms(x * 1000) : m === "length" ? count(x) : (x * 100).toFixed(1) + " %";
  redraw($("rollout-verdicts"), [r.verdicts, canary.target], () => !r.verdicts ? [] : [
    el("thead", {}, el("tr", {}, ["Judged by", stable.target, canary.target, "Verdict"].map((t) => el("th", { scope: "col" }, t)))),
    el("tbody", {}, (r.verdicts || []).map((m) => el("tr", { class: m.result === "failed" ? "bad" : null }, el("th", { scope: "row" }, m.metric),
      el("td", {}, figure(m.metric, m.stable)), el("td", {}, figure(m.metric, m.canary)), el("td", {}, m.result + (m.warnOnly ? " (warning only)" : ""), el("small", {}, m.reason)))))]);
  redraw($("rollout-events"), r.events, () => (r.events || []).toReversed().map((e) => el("li", {}, el("b", {}, e.kind), " " + e.text)));
}

// drawHeat draws a row for each model and a cell for each server: the darker, the
// more of the model's requests went there.
function drawHeat(table, f) {
  const shape = f.models.map((m) => m.model).join("\n");
  if (table.dataset.shape !== shape) {
    table.dataset.shape = shape;
    table.replaceChildren(
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Model"), f.endpoints.map((e) => el("th", { scope: "col" }, e.id.replace(/^server-/, ""))))),
      el("tbody", {}, f.models.map((m) => el("tr", {}, el("th", { scope: "row" }, m.model), f.endpoints.map(() => el("td", {}, el("i"), el("span")))))));
  }
  const most = Math.max(0.4, 2.5 / f.endpoints.length);
  f.models.forEach((m, i) => m.shares.forEach((s, j) => {
    const [back, text] = table.tBodies[0].rows[i].cells[j + 1].children;
    back.style.opacity = Math.min(1, s / most) * 0.5;
    text.textContent = f.endpoints.length > 12 ? "" : m.requests ? Math.round(s * 100) : "";
  }));
}

// chart draws lines [{values, color, dash}] over the same times, with marks in a format
// and up to least at least.
function chart(svg, lines, times, format = ms, least = 1) {
  const box = svg.getBoundingClientRect();
  const [w, h, left, bottom, top] = [Math.max(200, box.width), box.height || 170, 52, 20, 8];
  svg.setAttribute("viewBox", `0 0 ${w} ${h}`);
  const node = (tag, attributes, text) => {
    const n = document.createElementNS(SVG, tag);
    for (const [k, v] of Object.entries(attributes)) n.setAttribute(k, v);
    if (text !== undefined) n.textContent = text;
    return n;
  };
  const all = lines.flatMap((l) => l.values).filter((v) => v != null);
  const max = niceMax(Math.max(least, ...all));
  const end = times.at(-1) || 0;
  const span = Math.max(60e3, end - (times[0] || 0));
  const x = (t) => left + (w - left - 4) * (1 - (end - t) / span);
  const y = (v) => top + (h - top - bottom) * (1 - v / max);
  const nodes = [];
  for (const part of [0, 0.5, 1]) {
    nodes.push(node("line", { class: "grid", x1: left, x2: w, y1: y(part * max), y2: y(part * max) }),
      node("text", { x: left - 8, y: y(part * max) + 4, "text-anchor": "end" }, part ? format(part * max) : "0"));
  }
  nodes.push(node("text", { x: left, y: h - 4 }, `${Math.round(span / 1000)} s ago`), node("text", { x: w - 4, y: h - 4, "text-anchor": "end" }, "now"));
  for (const l of lines) {
    let d = "", pen = "M";
    l.values.forEach((v, i) => {
      if (v == null) { pen = "M"; return; }
      d += `${pen}${x(times[i]).toFixed(1)} ${y(v).toFixed(1)}`;
      pen = "L";
    });
    nodes.push(node("path", { d, class: `${l.color}${l.dash ? " dash" : ""}` }));
  }
  svg.replaceChildren(...nodes);
}

// niceMax rounds up to 1, 2 or 5 times a power of ten, and some between.
function niceMax(v) {
  const power = 10 ** Math.floor(Math.log10(v));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((f) => f * power).find((m) => m >= v);
}

function drawCharts(v) {
  const times = history.map((p) => Date.parse(p.at));
  for (const [id, p50, p90] of [["chart-ttft", "ttftP50Ms", "ttftP90Ms"], ["chart-tpot", "tpotP50Ms", "tpotP90Ms"]]) {
    const lines = [];
    for (let i = v.fleets.length - 1; i >= 0; i--) { // the policy's on top
      lines.push({ values: history.map((p) => p.fleets[i][p50]), color: "c" + i, dash: true }, { values: history.map((p) => p.fleets[i][p90]), color: "c" + i });
    }
    chart($(id), lines, times);
  }
  const bands = v.fleets[0].admission ? v.fleets[0].bands : [];
  if (bands.length) {
    chart($("chart-queue"), bands.map((b, i) => ({ values: history.map((p) => p.queued ? p.queued[b.priority] : null), color: "b" + i % 6 })), times, count, 20);
  }
  if ($("queue-legend").children.length !== bands.length) {
    $("queue-legend").replaceChildren(...bands.map((b, i) => el("span", { class: "b" + i % 6 }, el("i"), b.name)));
  }
  document.querySelectorAll("[data-legend]").forEach((legend) => {
    if (legend.children.length) return;
    v.fleets.forEach((f, i) => legend.append(el("span", { class: `c${i}` }, el("i"), `${f.policy} p90`), el("span", { class: `c${i}` }, el("i", { class: "dash" }), "p50")));
  });
}

// plural writes a count of things.
const plural = (n, thing) => `${count(n)} ${thing}${n === 1 ? "" : "s"}`;

// drawAdmission draws what becomes of the requests of each band. Without admission control
// nobody waits to be admitted.
function drawAdmission(v) {
  const [f, other] = v.fleets, a = f.admission;
  $("admission").classList.toggle("off", !a);
  $("pool-state").textContent = !a ? "" : `the servers are ${a.saturation == null ? "–" : share(a.saturation)} full` +
    (a.queued ? `; ${plural(a.queued, "request")} wait${a.queued === 1 ? "s" : ""}, for ${ms(a.oldestMs)} at most` : "; nobody waits");
  $("admission-note").textContent = !a ? "Admission control is off: every request is sent on at once, and waits where it was sent."
    : "While not all fit, the highest band goes first, and tenants of a band share equally. A server has room for a band while it is less full than the band’s ceiling.";
  const cell = (value, small, attributes) => el("td", attributes, value, small ? el("small", {}, small) : null);
  const reasons = (b) => Object.entries(b.reasons || {}).filter(([why]) => why !== "queue_timeout").sort(([, m], [, n]) => n - m)
    .map(([why, n]) => b.refused === n ? why : `${count(n)} ${why}`).join(", ");
  const head = ["Band", a && "Waiting", a && "Waited", "TTFT p90", "Served", "Refused", a && "Expired", a && "Have room"].filter(Boolean);
  const cameTo = (b) => b.queued + b.running + b.served + b.failed + b.cancelled + b.refused + b.expired;
  const came = f.bands.reduce((sum, b) => sum + cameTo(b), 0);
  const rows = f.bands.map((b, i) => {
    const theirs = other && other.bands.find((o) => o.priority === b.priority);
    const part = came ? share(cameTo(b) / came) + " of requests" : "";
    const ttft = cell(ms(b.now.ttftP90Ms), theirs && `${other.policy} ${ms(theirs.now.ttftP90Ms)}`, { class: "now" });
    const name = el("th", { scope: "row", class: "b" + i % 6 }, el("span", {}, b.name), el("small", {}, part));
    const served = cell(count(b.served), b.failed ? count(b.failed) + " failed" : ""), refused = cell(count(b.refused), reasons(b));
    if (!a) return el("tr", {}, name, ttft, served, refused);
    return el("tr", {}, name,
      cell(count(b.queued), b.queued ? "for " + ms(b.oldestMs) : "", { class: "now" }),
      cell(ms(b.waitP50Ms), b.waitP90Ms == null ? "" : "p90 " + ms(b.waitP90Ms)),
      ttft, served, refused,
      cell(count(b.expired), b.expired ? "waited in vain" : ""),
      cell(b.room == null ? "–" : `${b.room} of ${a.endpoints}`, b.ceiling ? `below ${share(b.ceiling)}` : ""));
  });
  $("bands").replaceChildren(el("thead", {}, el("tr", {}, head.map((t) => el("th", { scope: "col" }, t)))), el("tbody", {}, rows));
}

// The rows of requests are kept by id, so that focus survives the next view.
const rows = new Map();

function requestRow(r) {
  let row = rows.get(r.id);
  if (!row) {
    row = { cells: [el("td"), el("td"), el("td"), el("td", { class: "num wide" }), el("td", { class: "num" }), el("td", { class: "num" })] };
    row.button = el("button", { type: "button" }, "#" + r.id);
    row.tag = el("span");
    row.cells[0].append(row.button, row.tag);
    row.tr = el("tr", { "data-id": r.id }, row.cells);
    row.tr.addEventListener("click", () => explain(r.id, true));
    rows.set(r.id, row);
  }
  const bad = r.outcome === "failed" || r.outcome === "cancelled";
  row.tag.className = bad ? "tag bad" : r.yours ? "tag" : "";
  row.tag.textContent = bad ? r.outcome : r.yours ? "yours" : "";
  row.button.setAttribute("aria-label", `Request ${r.id}: why ${r.endpoint || r.outcome}?`);
  row.cells[1].textContent = r.model.length > 26 ? r.model.slice(0, 25) + "…" : r.model;
  row.cells[1].title = r.target === r.model ? r.model : `${r.model}, sent as ${r.target}`;
  if (r.outcome === "queued") row.cells[2].replaceChildren(el("span", { class: "tag wait" }, r.outcome));
  else if (r.outcome === "refused") row.cells[2].replaceChildren(el("span", { class: "tag bad", title: "refused" }, r.reason));
  else row.cells[2].textContent = r.endpoint || "–";
  row.cells[3].textContent = count(r.promptTokens);
  row.cells[4].textContent = r.cachedTokens == null ? "" : share(r.promptTokens ? r.cachedTokens / r.promptTokens : null);
  row.cells[4].title = r.predictedTokens == null ? "" : `${count(r.predictedTokens)} tokens predicted, ${r.cachedTokens == null ? "none reported yet" : count(r.cachedTokens) + " found"}`;
  row.cells[5].textContent = r.ttft == null ? (r.outcome === "running" || r.outcome === "queued" ? "…" : "–") : ms(r.ttft);
  row.cells[5].title = r.waited == null ? "" : `waited ${ms(r.waited)} to be let in`;
  row.tr.classList.toggle("chosen", r.id === selected);
  return row.tr;
}

function drawRequests(v) {
  $("policy-name").textContent = "policy " + v.fleets[0].policy;
  const body = $("requests").tBodies[0];
  const choosing = hovering || body.querySelector(":focus-visible");
  $("pause").textContent = paused ? "Held" : choosing ? "Held while you choose" : "Hold the list";
  if (paused || choosing && body.rows.length) return;
  const focus = document.activeElement;
  body.replaceChildren(...v.requests.map(requestRow));
  if (focus && focus !== document.activeElement && body.contains(focus)) focus.focus({ preventScroll: true });
  const shown = new Set(v.requests.map((r) => r.id));
  for (const id of rows.keys()) if (!shown.has(id)) rows.delete(id);
}

async function explain(id, scroll) {
  selected = id;
  for (const [other, row] of rows) row.tr.classList.toggle("chosen", other === id);
  const panel = $("explanation");
  let answer;
  try {
    const response = await fetch("/api/requests/" + id);
    answer = await response.json();
    if (!response.ok) throw new Error(answer.error.message);
  } catch (e) {
    if (selected !== id) return;
    selectedOpen = false;
    if (panel.dataset.id !== String(id)) panel.replaceChildren(el("h2", {}, "Why that server?"), el("p", { class: "error" }, String(e.message || e)));
    return;
  }
  if (selected !== id) return; // another was chosen meanwhile
  const r = answer.request;
  selectedOpen = r.outcome === "queued" || r.outcome === "running";
  const state = r.outcome === "queued" ? null : r.outcome + r.ttft; // what is before one that waits is another each time
  if (state === null || panel.dataset.id !== String(id) || panel.dataset.state !== state) panel.replaceChildren(...explanation(answer));
  panel.dataset.id = id;
  panel.dataset.state = state;
  if (scroll && window.innerWidth <= 900) panel.scrollIntoView({ behavior: "smooth", block: "start" });
}

// seconds writes the seconds of a cost, which may be less than none.
const seconds = (s) => (s <= -5e-4 ? "−" : "") + ms(Math.abs(s) * 1000);

// columnsOf returns the columns of a table of terms. Servers need not have the same
// terms: the parts of a cost that is unknown are unknown too. Names may repeat.
function columnsOf(candidates) {
  const columns = new Map();
  const rows = candidates.map((c) => {
    const seen = {};
    const row = new Map();
    for (const t of c.Terms || []) {
      const name = (t.Cost ? "cost " : "score ") + t.Scorer;
      seen[name] = (seen[name] || 0) + 1;
      const key = `${name} ${seen[name]}`;
      if (!columns.has(key)) columns.set(key, t);
      row.set(key, t);
    }
    return row;
  });
  return { keys: [...columns.keys()], first: [...columns.values()], rows };
}

// lengths cuts what counts on one side into parts {width, faded}. What the other side
// takes off, such as a cost below 0, fades the end: the rest is as long as the sum.
function lengths(amounts) {
  let left = Math.max(0, amounts.reduce((sum, a) => sum + a, 0));
  return amounts.map((a) => {
    const width = Math.max(0, a), solid = Math.min(width, left);
    left -= solid;
    return [{ width: solid }, { width: width - solid, faded: true }];
  });
}

const fact = (name, value) => el("span", {}, name, el("b", {}, value));

// waiting returns what to show of how a request was let in, or is waiting to be. The
// report is of when it came, or of now if it waits.
function waiting(r, a) {
  if (r.outcome === "refused") {
    return [el("p", { class: "error" }, `${r.reason}: ${r.error}.` +
      (r.retryAfter ? ` The client was told to try again in ${plural(Math.ceil(r.retryAfter), "second")}.` : ""))];
  }
  if (!a) return [];
  const servers = `${a.Room} of ${plural(a.Candidates, "server")} ${a.Room === 1 ? "is" : "are"} less than ${share(a.Ceiling)} full`;
  if (a.Verdict === "admitted" && r.waited == null) return [el("p", { class: "note" }, `Let in at once, in band ${a.Band}: ${servers}.`)];
  const now = r.outcome === "queued";
  const mean = a.Saturation == null ? "" : ` In the mean they are ${share(a.Saturation)} full.`;
  const tenant = r.tenant || "requests without a tenant";
  return [
    el("p", { class: "note" }, (now ? `It waits for room, in band ${a.Band}, since ${ms(a.Waited / 1e6)}. ` : `It waited ${ms(r.waited)} to be let in, in band ${a.Band}. When it came: `) +
      (a.Detail || servers) + "." + mean),
    el("div", { class: "facts" }, el("span", {}, now ? "before it are" : "before it were"),
      fact("of higher bands", count(a.Higher)), fact("of other tenants", count(a.OtherTenants)), fact("of its own", count(a.OwnTenant)),
      now ? fact("may wait another", ms(a.Left / 1e6)) : null, a.Expected ? fact(now ? "expected" : "was expected to wait", ms(a.Expected / 1e6)) : null),
    el("p", { class: "note" }, `Tenants of a band share by tokens, and who was served the fewest is next: ${tenant} ${now ? "has" : "had"} ${count(a.Counter)}, the one whose turn it ${now ? "is" : "was"} ${count(a.Least)}.`),
  ];
}

// sessionButton shows below what became of the session of a request so far.
function sessionButton(r) {
  const button = el("button", { type: "button", title: "What became of it?" }, r.session);
  button.addEventListener("click", async () => {
    const place = $("story");
    try {
      const response = await fetch("/explain?" + new URLSearchParams({ tenant: r.tenant || "", session: r.session }));
      if (!response.ok) throw new Error(await response.text());
      place.replaceChildren(...story(await response.json()));
    } catch (e) {
      place.replaceChildren(el("p", { class: "error" }, String(e.message || e)));
    }
  });
  return button;
}

// story returns a table of the requests of a session, in the order in which they came.
function story(s) {
  const head = ["Turn", "Server", "Prompt", "Cached", "expected", "Waited", "TTFT", "Total", "End"];
  return [
    el("p", { class: "note" }, `Session ${s.session}: ${plural(s.requests, "request")} so far.`),
    el("div", { class: "terms", tabindex: "0", role: "region", "aria-label": "Requests of the session" }, el("table", {},
      el("thead", {}, el("tr", {}, head.map((t) => el("th", { scope: "col" }, t)))),
      el("tbody", {}, (s.steps || []).map((t) => el("tr", {}, [
        String(t.turn), t.endpoint || "–", count(t.promptTokens), t.cachedTokens == null ? "–" : count(t.cachedTokens), count(t.expectedCachedTokens),
        t.waited ? ms(t.waited) : "", ms(t.ttft), ms(t.duration), t.reason || (t.finish ? `${t.outcome}, ${t.finish}` : t.outcome),
      ].map((text) => el("td", {}, text))))))),
  ];
}

// explanation returns what to show of a decision.
function explanation({ request: r, policy, admission: a, explanation: x, peers }) {
  const why = r.endpoint ? `Why ${r.endpoint}? ` : r.outcome === "queued" ? "Why does it wait? " : `Why was it ${r.outcome}? `;
  const out = [
    el("h2", {}, why, el("small", {}, `request #${r.id}, policy ${policy}` + (latest && latest.fleets[0].gateways.length > 1 && r.gateway ? `, by ${r.gateway}` : ""))),
    el("div", { class: "facts" },
      fact("model", r.target === r.model ? r.model : `${r.model} → ${r.target}`),
      fact("priority", String(r.priority)), r.tenant ? fact("tenant", r.tenant) : null,
      fact("prompt", count(r.promptTokens) + " tokens"),
      fact("cached", r.cachedTokens == null ? "–" : count(r.cachedTokens)),
      r.predictedTokens == null ? null : fact("predicted", count(r.predictedTokens)),
      fact("output", r.outputTokens == null ? "–" : count(r.outputTokens)),
      fact("TTFT", ms(r.ttft)), fact("total", ms(r.total)), fact("state", r.outcome),
      r.session ? fact("session", sessionButton(r)) : null, r.program ? fact("program", r.program) : null),
    el("div", { id: "story" }),
    ...waiting(r, a),
  ];
  if (r.error && r.outcome !== "refused") out.push(el("p", { class: "error" }, r.error));
  if (!x || !x.Candidates) return out;
  const { keys, first, rows: terms } = columnsOf(x.Candidates);
  // Scores count for a server; costs, which are in seconds, against it. A policy of
  // costs alone shows its total in seconds too, and the least is best.
  const hasScores = first.some((t) => !t.Cost), hasCosts = first.some((t) => t.Cost);
  const sides = [hasScores ? false : null, hasCosts ? true : null].filter((s) => s !== null); // false: scores, true: costs
  const amounts = (row, cost) => keys.map((k) => !row.get(k) || !!row.get(k).Cost !== cost ? 0 : row.get(k).Contribution * (cost ? -1 : 1));
  const longest = Math.max(1e-9, ...terms.flatMap((row) => sides.map((side) => amounts(row, side).reduce((sum, a) => sum + Math.max(0, a), 0))));
  const colored = (e, i) => { e.style.cssText = `--c: var(--t${i % 8 + 1})`; return e; };
  const key = (i) => [colored(el("span", { class: "key" }), i), first[i].Scorer];
  if (x.Dropped && x.Dropped.length) out.push(el("p", { class: "error" }, "left out, for they failed: " + x.Dropped.join(", ")));
  out.push(el("p", { class: "note" }, hasScores && hasCosts
    ? "Scores, weight × score, count for a server; costs, in seconds, against it. The highest total wins."
    : hasCosts
    ? "What the request costs at each server, itself and the others there, in weighted seconds. Lower is better: the lowest total wins."
    : hasScores
    ? "Each term is weight × score. The highest total wins."
    : x.Candidates.every((c) => c.FilteredBy)
    ? "The filters left no server."
    : "This policy does not score; its picker takes one of the servers that the filters left."));
  if (keys.length) out.push(el("p", { class: "legend parts" }, keys.map((_, i) => el("span", {}, key(i)))));

  const head = el("tr", {}, el("th", { scope: "col" }, "Server"), el("th", { scope: "col" }, hasCosts && !hasScores ? "Cost" : "Total"),
    first.map((t, i) => el("th", { scope: "col" }, key(i), el("small", {}, t.Cost ? "seconds" : "weight " + t.Weight))));
  const order = x.Candidates.map((c, i) => ({ c, row: terms[i] }))
    .sort(({ c: a }, { c: b }) => !!a.FilteredBy - !!b.FilteredBy || b.Total - a.Total || (a.Rank || 99) - (b.Rank || 99));
  const body = order.map(({ c, row }) => {
    const rank = c.Rank === 1 ? "chosen" : c.Rank ? `fallback ${c.Rank - 1}` : "";
    const name = el("th", { scope: "row" }, c.ID, rank ? el("small", {}, rank) : null, ((peers || {})[c.ID] || []).map((p) => el("small", {}, p)));
    if (c.FilteredBy) {
      return el("tr", { class: "out" }, name, el("td", { colspan: keys.length + 1 }, `struck out by ${c.FilteredBy}`, c.FilterDetail ? el("small", {}, c.FilterDetail) : null));
    }
    const stacks = sides.map((side) => el("div", { class: "stack", "aria-hidden": "true" }, lengths(amounts(row, side)).flatMap((parts, i) => parts.map((p) => {
      const part = colored(el("i", { class: p.faded ? "faded" : null }), i);
      part.style.width = p.width / longest * 100 + "%";
      return part;
    }))));
    return el("tr", { class: c.Rank === 1 ? "chosen" : null }, name,
      el("td", { class: "total" }, !keys.length ? "–" : hasScores ? c.Total.toFixed(2) : seconds(-c.Total), stacks),
      keys.map((k, i) => {
        const t = row.get(k);
        if (!t) return el("td", { class: "term" }, "–");
        const detail = (t.Unknown ? "unknown, the mean counts" : "") + (t.Unknown && t.Detail ? "; " : "") + (t.Detail || "");
        const b = colored(bar({ width: t.Cost ? -t.Contribution / longest : t.Used }), i);
        return el("td", { class: "term", title: t.Cost ? null : `${t.Weight} × ${t.Used.toFixed(3)}` },
          t.Cost ? seconds(-t.Contribution) : t.Contribution.toFixed(2), b, detail ? el("small", {}, detail) : null);
      }));
  });
  out.push(el("div", { class: "terms", tabindex: "0", role: "region", "aria-label": "Terms of each server" }, el("table", {}, el("thead", {}, head), el("tbody", {}, body))));
  return out;
}

function draw(v) {
  latest = v;
  drawTiles(v);
  drawFleets(v);
  drawGateways(v);
  drawRollout(v);
  $("scaling").textContent = v.fleets[0].scaling.join(" ");
  drawAdmission(v);
  drawCharts(v);
  drawRequests(v);
  if (selected && selectedOpen) explain(selected, false);
}

function status(state, text) {
  $("status").dataset.state = state;
  $("status").textContent = text;
}

function connect() {
  const events = new EventSource("/events"); // it reconnects by itself
  events.addEventListener("history", (e) => { history = JSON.parse(e.data).slice(0, -1); });
  events.addEventListener("view", (e) => {
    const v = JSON.parse(e.data);
    history.push(v.point);
    if (history.length > maxPoints) history.shift();
    status("live", `live, ${clock(v.uptimeSeconds)}`);
    draw(v);
  });
  events.onerror = () => {
    status("lost", "gateway gone, trying again");
    if (events.readyState === EventSource.CLOSED) { // it gave up: a status that was not 200
      events.close();
      setTimeout(connect, 2000);
    }
  };
}

const clock = (s) => s < 3600 ? `${Math.floor(s / 60)}:${String(Math.floor(s % 60)).padStart(2, "0")}` : `${Math.floor(s / 3600)} h ${Math.floor(s / 60 % 60)} min`;

$("curl").textContent = `curl ${location.origin}/v1/chat/completions \\\n  -d '{"model":"chat","messages":[{"role":"user","content":"hi"}]}'`;
$("pause").addEventListener("click", () => {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", String(paused));
  if (latest) drawRequests(latest);
});
// A list that runs away under the pointer cannot be chosen from.
$("list").addEventListener("pointerenter", () => { hovering = true; });
$("list").addEventListener("pointerleave", () => { hovering = false; });
let resizing;
window.addEventListener("resize", () => { clearTimeout(resizing); resizing = setTimeout(() => latest && drawCharts(latest), 100); });
connect();
