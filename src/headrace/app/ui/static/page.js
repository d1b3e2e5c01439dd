// Writes snapshots into the page. All that comes from outside is written as text, never as HTML.
"use strict";
(() => {
  const LOST_MS = 5000;
  const WORDS = { ok: "ok", warning: "look", error: "act", unknown: "unknown" };
  const SVG = "http://www.w3.org/2000/svg";
  const pageName = document.body.dataset.page;
  let last = null, at = 0;

  // -- small parts ---------------------------------------------------------------------------------------------------
  const byId = (id) => document.getElementById(id);
  const set = (element, text) => { if (element && element.textContent !== text) element.textContent = text; };
  const mark = (element, name) => { if (element && element.dataset.mark !== name) element.dataset.mark = name; };
  const make = (tag, classes, text) => {
    const made = document.createElement(tag);
    if (classes) made.className = classes;
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const number = (value, digits = 0) => value === null || value === undefined ? "–"
    : value.toLocaleString("en", { maximumFractionDigits: digits });
  const short = (value) => value === null || value === undefined ? "–"
    : value >= 1e6 ? (value / 1e6).toFixed(1) + "M" : value >= 1e4 ? (value / 1e3).toFixed(1) + "k" : number(value, value < 10 ? 1 : 0);
  const bytes = (value) => value === null ? "–" : value >= 1e9 ? (value / 1e9).toFixed(1) + " GB"
    : value >= 1e6 ? (value / 1e6).toFixed(1) + " MB" : (value / 1e3).toFixed(1) + " kB";
  const span = (us) => {
    const seconds = Math.max(0, us / 1e6);
    return seconds < 90 ? Math.round(seconds) + " s" : seconds < 5400 ? Math.round(seconds / 60) + " min"
      : seconds < 129600 ? (seconds / 3600).toFixed(1) + " h" : (seconds / 86400).toFixed(1) + " days";
  };
  const age = (us, now) => us === null || us === undefined ? "never" : span(now - us) + " ago";
  const time = (us) => us === null || us === undefined ? "–" : new Date(us / 1000).toISOString().slice(0, 16).replace("T", " ") + " UTC";
  const sum = (rows, name) => rows.some((row) => row[name] === null) ? null : rows.reduce((total, row) => total + row[name], 0);
  const most = (rows, name) => rows.reduce((found, row) => row[name] === null ? found : Math.max(found ?? row[name], row[name]), null);
  const least = (rows, name) => rows.reduce((found, row) => row[name] === null ? found : Math.min(found ?? row[name], row[name]), null);

  // -- tables: cells are changed in place, so that a selection or a focus stays ----------------------------------------
  function fill(table, rows) {
    const body = table.tBodies[0];
    while (body.rows.length > rows.length) body.deleteRow(-1);
    rows.forEach((cells, place) => {
      const row = body.rows[place] || body.insertRow();
      cells.forEach((cell, column) => {
        const { text, kind, name } = typeof cell === "string" ? { text: cell } : cell;
        const found = row.cells[column] || row.insertCell();
        set(found, text);
        found.className = kind || "";
        if (name) mark(found, name);
      });
    });
    byId("none").hidden = rows.length > 0;
    table.hidden = rows.length === 0;
  }
  const num = (text) => ({ text, kind: "number" });
  const state = (name, text) => ({ text, name });

  const partitionState = (each) => each.stopped !== null ? state("error", "stopped: " + each.stopped)
    : each.observed_us === null ? state("error", "no worker") : each.is_silent ? state("unknown", "silent") : state("ok", "read");

  const tables = {
    views: (found, now) => found.views.map((each) => [
      each.view.split("@")[0] + " " + (each.view.split("@")[1] || "").slice(0, 8),
      each.is_silent ? state("unknown", "silent") : each.catching_up ? state("warning", "catching up") : state("ok", "live"),
      num(number(each.rate, 1)), num(number(each.behind)), num(age(each.clock_us, now)), num(number(each.entities)), num(bytes(each.bytes)),
      num(age(each.observed_us, now)),
    ]),
    streams: (found, now) => found.partitions.map((each) => [
      each.topic, num(String(each.partition)), partitionState(each), num(number(each.rate, 1)), num(number(each.lag)),
      num(number(each.unlogged)), num(age(each.available_us, now)), num(number(each.rejected)), num(number(each.late)),
      each.worker || "–", num(age(each.observed_us, now)),
    ]),
    applications: (found, now) => found.applications.map((each) => [
      each.application, each.model,
      each.is_silent ? state("unknown", each.observed_us === null ? "no heartbeat" : "silent")
        : each.version === each.live ? state("ok", "live version") : state("warning", "behind"),
      num(each.version === null ? "–" : "v" + each.version), num(each.live === null ? "–" : "v" + each.live), num(number(each.rate, 1)),
      num(age(each.observed_us, now)), num(time(each.acknowledged_us)), { text: each.error || "", kind: "said" },
    ]),
  };

  // -- now -------------------------------------------------------------------------------------------------------------
  function sentences(found, now, lost) {
    for (const [name, each] of Object.entries(found.now)) {
      const box = document.querySelector(`[data-sentence="${name}"]`);
      const shown = lost ? "unknown" : each.mark;
      mark(box, shown);
      set(box.querySelector(".mark"), WORDS[shown]);
      const since = each.since_us === null ? "" : ", since " + time(each.since_us);
      set(box.querySelector(".said"), (lost ? "when it was heard last: " : "") + each.said + since);
      set(box.querySelector(".age"), each.told_us === null ? "nobody has told" : "told " + age(each.told_us, now));
    }
  }
  function note(id, text, name) {
    const box = document.querySelector(`#flow [data-node="${CSS.escape(id)}"]`);
    if (!box) return;
    set(box.querySelector("[data-note]"), text);
    mark(box, name);
  }
  function flow(found, now) {
    for (const [topic, parts] of group(found.partitions, (each) => each.topic)) {
      const wrong = parts.some((each) => each.stopped !== null || each.observed_us === null || each.is_silent);
      const rate = sum(parts, "rate");
      note("topic:" + topic, wrong ? parts.filter((each) => each.is_silent || each.observed_us === null || each.stopped !== null).length
        + " of " + parts.length + " not read" : `${short(rate)}/s · lag ${short(sum(parts, "lag"))}`, wrong ? "error" : "ok");
      for (const edge of document.querySelectorAll(`#flow [data-edge^="${CSS.escape("topic:" + topic)} "]`))
        edge.toggleAttribute("data-moves", rate > 0);
    }
    for (const [view, parts] of group(found.views, (each) => each.view.split("@")[0])) {
      const silent = parts.some((each) => each.is_silent), catching = parts.some((each) => each.catching_up);
      const fresh = least(parts, "clock_us");
      note("view:" + view, silent ? "not told for " + span(now - least(parts, "observed_us"))
        : catching ? short(most(parts, "behind")) + " behind" : fresh === null ? "no event yet" : "newest " + age(fresh, now),
      silent ? "unknown" : catching ? "warning" : "ok");
    }
    for (const each of found.models)
      note("model:" + each.model, each.run ? "trains: " + each.run.phase : (each.version === null ? "no version" : "v" + each.version)
        + (each.progress === null ? "" : ` · ${each.held} ${Math.round(each.progress * 100)} %`), each.error ? "error" : "ok");
    for (const [application, rows] of group(found.applications, (each) => each.application)) {
      const heard = rows.every((each) => !each.is_silent), live = rows.every((each) => each.version === each.live);
      note("application:" + application, rows.map((each) => "v" + (each.version ?? "?")).join(", ") + (heard ? "" : " · no heartbeat"),
        !heard ? "unknown" : live ? "ok" : "warning");
    }
  }
  function group(rows, by) {
    const found = new Map();
    for (const row of rows) found.set(by(row), [...(found.get(by(row)) || []), row]);
    return found;
  }
  function news(found) {
    const told = [];
    for (const model of found.models) {
      for (const each of model.versions) told.push([each.at_us, `${model.model} v${each.version} was published: ${each.reason}`]);
      for (const each of model.runs) if (each.outcome !== "published") told.push([each.t_us, `a run of ${model.model} was ${each.outcome}: ${each.reason}`]);
    }
    for (const each of found.checks) if (each.severity !== "ok") told.push([each.at_us, `${each.check} of ${each.subject}: ${each.findings[0]?.found || each.severity}`]);
    told.sort((one, other) => other[0] - one[0]);
    const list = byId("news"), shown = told.slice(0, 5).map(([us, text]) => time(us) + " · " + text);
    if (!shown.length) shown.push("nothing was published, refused or found yet");
    while (list.children.length > shown.length) list.lastChild.remove();
    shown.forEach((text, place) => set(list.children[place] || list.appendChild(make("li")), text));
  }

  // -- models ----------------------------------------------------------------------------------------------------------
  function models(found, now) {
    const place = byId("models");
    const told = JSON.stringify([found.models, Math.floor(now / 5e6)]);
    if (place.dataset.told === told) return;
    place.dataset.told = told;
    place.replaceChildren(...found.models.map((each) => card(each, now)));
    if (!found.models.length) place.append(make("p", "", "No model is known yet."));
  }
  function card(model, now) {
    const made = make("section", "model");
    made.append(make("h2", "", `${model.model}: ${model.version === null ? "no version is live" : `version ${model.version} is live since ${time(model.since_us)}`}`));
    const say = (text, classes) => made.append(make("p", classes, text));
    if (model.pinned) say("Pinned: " + model.pinned);
    if (model.waiting !== null) say(`Version ${model.waiting} passed its gate and waits for a person.`);
    if (model.run) say(`A run is going on: ${model.run.phase} for ${span(now - model.run.phase_us)}, because of ${model.run.rule}: ${model.run.reason} (told ${age(model.run.observed_us, now)})`);
    if (model.error) say("The rules cannot be judged: " + model.error);
    say(model.reason === null ? "Nothing was decided yet." : `Last decision, ${age(model.decided_us, now)}: ${model.reason}`);
    if (model.rules.length) made.append(make("h3", "", "How far each rule is from a new version"));
    for (const rule of model.rules) made.append(ruleBar(rule));
    if (model.versions.length) made.append(make("h3", "", "Versions"), versions(model));
    const others = model.runs.filter((run) => run.outcome !== "published");
    if (others.length) made.append(make("h3", "", "Runs that published nothing"));
    for (const run of others.slice(0, 5)) say(`${time(run.t_us)} · ${run.outcome} · ${run.rule}: ${run.reason}`);
    return made;
  }
  function ruleBar(rule) {
    const made = make("div", "rule"), bar = make("progress");
    bar.max = 1;
    bar.value = Math.min(1, Math.max(0, rule.progress));
    bar.setAttribute("aria-label", rule.rule);
    made.append(make("span", "", rule.rule), bar, make("span", "", Math.round(rule.progress * 100) + " %"), make("span", "reason", rule.reason));
    return made;
  }
  function versions(model) {
    const box = make("div", "scroll"), table = make("table"), head = table.createTHead().insertRow();
    box.tabIndex = 0;
    box.setAttribute("role", "region");
    box.setAttribute("aria-label", "Versions of " + model.model);
    for (const title of ["Version", "Status", "Published", "Because", "Gain at the gate", "Interval"]) {
      const cell = make("th", "", title);
      cell.scope = "col";
      head.append(cell);
    }
    const bound = Math.max(0, ...model.versions.flatMap((each) => [Math.abs(each.gain_low ?? 0), Math.abs(each.gain_high ?? 0)]));
    const body = table.createTBody();
    for (const each of [...model.versions].reverse()) {
      const row = body.insertRow();
      row.append(make("td", "", "v" + each.version), make("td", "", each.status), make("td", "", time(each.at_us)), make("td", "said", `${each.rule}: ${each.reason}`));
      const gain = each.gain === null ? "not compared" : `${each.gain.toFixed(4)} ${each.metric} (${each.gain_low?.toFixed(4)} to ${each.gain_high?.toFixed(4)})`;
      row.append(make("td", "number", gain));
      const cell = row.appendChild(make("td"));
      if (each.gain !== null && each.gain_low !== null && bound > 0) cell.append(whisker(each, bound));
    }
    box.append(table);
    return box;
  }
  function whisker(each, bound) {
    const x = (value) => 60 + 54 * value / bound;
    const made = document.createElementNS(SVG, "svg");
    const draw = (tag, values) => {
      const part = document.createElementNS(SVG, tag);
      for (const [name, value] of Object.entries(values)) part.setAttribute(name, value);
      made.append(part);
    };
    for (const [name, value] of Object.entries({ viewBox: "0 0 120 20", width: 120, height: 20, role: "img", class: "whisker",
      "aria-label": `gain from ${each.gain_low.toFixed(4)} to ${each.gain_high.toFixed(4)}` })) made.setAttribute(name, value);
    draw("line", { x1: 60, x2: 60, y1: 0, y2: 20, stroke: "currentColor", "stroke-opacity": 0.4, "stroke-dasharray": "2 2" });
    draw("line", { x1: x(each.gain_low), x2: x(each.gain_high), y1: 10, y2: 10, stroke: "currentColor", "stroke-width": 2 });
    draw("circle", { cx: x(each.gain), cy: 10, r: 4, fill: "currentColor" });
    return made;
  }

  // -- the stream ------------------------------------------------------------------------------------------------------
  function render() {
    const passed = performance.now() - at, lost = !last || passed > LOST_MS;
    document.body.toggleAttribute("data-lost", lost);
    if (!last) return;
    const now = last.at_us + passed * 1000;
    const broken = last.topics.filter((each) => each.error !== null);
    set(byId("connection"), lost ? `this page has heard nothing for ${span(passed * 1000)}: all numbers are from then`
      : broken.length ? "Kafka cannot be read: " + broken[0].error : "live, at " + new Date(now / 1000).toISOString().slice(11, 19) + " UTC");
    if (pageName === "now") { sentences(last, now, lost); flow(last, now); news(last); }
    if (pageName === "models") models(last, now);
    if (tables[pageName]) fill(byId(pageName), tables[pageName](last, now));
  }
  const source = new EventSource("/events");
  source.onmessage = (event) => { last = JSON.parse(event.data); at = performance.now(); render(); };
  setInterval(render, 1000);
})();
