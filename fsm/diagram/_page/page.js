"use strict";
// Text nodes only: nothing that was said is ever read as markup, and the page's policy forbids it besides.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const run = data.run || null;
  const steps = run ? run.steps : [];
  const last = steps.length - 1;
  const root = document.documentElement;
  const $ = (id) => document.getElementById(id);
  const svg = document.querySelector("#picture > svg");
  const states = new Map(data.states.map((state) => [state.name, state]));
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)");
  const LONG = 900, LINES = 12; // characters, lines: more than that is cut until somebody wants it
  const SVG = "http://www.w3.org/2000/svg";

  function el(tag, look, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(look || {})) {
      if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
      else if (value === true) made.setAttribute(name, "");
      else if (value) made.setAttribute(name, value);
    }
    made.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
    return made;
  }

  // --- words ---------------------------------------------------------------------------------------------------------

  const whole = (count) => (count || 0).toLocaleString("en-US");
  const dollars = (price) => (price === null ? "unknown" : "$" + (price || 0).toFixed(4));
  const worked = (seconds) => {
    const value = seconds || 0;
    if (value < 0.1) return value < 0.001 ? "<1 ms" : `${Math.round(value * 1000)} ms`;
    return `${value.toFixed(1)} s`;
  };
  const moment = (at) => {
    const date = new Date(at * 1000);
    return Number.isNaN(date.getTime()) ? "" : date.toISOString().slice(0, 19).replace("T", " ") + " UTC";
  };
  const after = (seconds) => {
    if (seconds < 120) return `+${seconds.toFixed(1)} s`;
    if (seconds < 7200) return `+${Math.round(seconds / 60)} min`;
    return seconds < 172800 ? `+${Math.round(seconds / 3600)} h` : `+${Math.round(seconds / 86400)} d`;
  };

  function said(text, isCode) {
    const long = text.length > LONG || text.split("\n", LINES + 1).length > LINES;
    const words = el("div", { class: isCode ? "said code" : "said", dir: isCode ? "ltr" : "auto" });
    const show = (open) => {
      words.textContent = open || !long ? text : text.slice(0, 4 * LONG);
      words.classList.toggle("cut", long && !open);
    };
    show(false);
    if (!long) return [words];
    const more = el("button", { type: "button", class: "more", "aria-expanded": "false" }, "more");
    more.addEventListener("click", () => {
      const open = more.textContent === "more";
      show(open);
      more.textContent = open ? "less" : "more";
      more.setAttribute("aria-expanded", String(open));
    });
    return [words, more];
  }

  function named(name, kind, look) {
    const state = states.get(name);
    const known = kind || (state ? state.kind : "");
    const chip = el("button", { type: "button", class: `state-name k-${known}`, ...look }, name);
    chip.addEventListener("click", () => choose(name, ""));
    return chip;
  }

  function told(facts) {
    const list = el("dl", { class: "facts" });
    let before = "";
    for (const fact of facts) {
      const same = fact.who === before;
      before = fact.who;
      const text = fact.text || "";
      const what = fact.what || "";
      const head = what && el("div", { class: "what" }, what, fact.seconds ? `, ${worked(fact.seconds)}` : "");
      const look = (fact.is_bad ? "bad " : "") + (what === "thinks" ? "thinks" : "");
      list.append(
        el("dt", { class: `c-${fact.kind}` }, same ? "" : fact.who),
        el("dd", { class: look.trim() }, head, ...(text ? said(text, fact.is_code) : [])),
      );
    }
    return list;
  }

  // --- the step ------------------------------------------------------------------------------------------------------

  function sums(step) {
    const now = step.spent || {}, all = step.total || {};
    const shown = (value, show) => (value === 0 || value === undefined ? "–" : show(value));
    const line = (name, show, key) =>
      el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, shown(now[key], show)), el("td", {}, shown(all[key], show)));
    const head = el("tr", {}, el("th", {}, ""), el("th", { scope: "col" }, "this step"), el("th", { scope: "col" }, "so far"));
    return el("table", { class: "sums" }, el("thead", {}, head), el("tbody", {},
      line("requests", whole, "requests"),
      line("tokens in", whole, "given"),
      all.cached ? line("of them cached", whole, "cached") : "",
      line("tokens out", whole, "output"),
      line("price", dollars, "price"),
      line("work", worked, "seconds")));
  }

  function heading(step) {
    if (step.number === undefined || step.number === 0) {
      return [el("h2", {}, "Start"), el("div", { class: "way" }, el("span", { class: "quiet" }, "the run begins in"), named(step.dest))];
    }
    const effects = (step.effects || []).join(", ");
    const rule = (step.guard ? ` [${step.guard}]` : "") + (effects ? ` / ${effects}` : "");
    return [
      el("h2", {}, el("span", { class: "number" }, String(step.number)), step.event, el("span", { class: "rule" }, rule)),
      el("div", { class: "way" }, named(step.source), el("span", { class: "arrow" }, "→"), named(step.dest)),
    ];
  }

  function timing(step) {
    const since = run.began && step.number ? after(step.at - run.began) : "";
    const row = step.number && step.implied ? "standard row" : where(step);
    return el("p", { class: "quiet" }, [moment(step.at), since, row].filter(Boolean).join(" · "));
  }

  function where(step) {
    const state = states.get(step.source);
    const rows = state && state.rows ? state.rows.filter((row) => row.event === step.event) : [];
    return rows.length ? rows[0].where || "" : "";
  }

  const outcome = () => (run.end.state === run.end.reason ? run.end.state : `${run.end.state}: ${run.end.reason}`);

  function verdict() {
    const end = run.end;
    const look = end.is_over ? (end.is_ok ? "good" : "bad") : "";
    const box = el("section", { id: "verdict", class: look, "aria-label": "How it ended" });
    const word = end.is_over ? "ended in" : "stands in";
    box.append(el("h2", {}, `${word} ${outcome()}`));
    const list = el("dl", {});
    for (const [name, text] of end.told) list.append(el("dt", {}, name), el("dd", { dir: "auto" }, text));
    if (end.told.length) box.append(list);
    const all = end.total;
    const tokens = `${whole(all.given)} tokens in${all.cached ? ` (${whole(all.cached)} cached)` : ""}, ${whole(all.output)} out`;
    const price = all.price === null ? "price unknown" : dollars(all.price);
    box.append(el("p", { class: "quiet" }, `${tokens}, ${price}, ${worked(all.seconds)} of work`));
    if (end.evidence) box.append(el("details", {}, el("summary", {}, "evidence"), ...said(end.evidence, true)));
    return box;
  }

  function tell(step) {
    const parts = [...heading(step), timing(step)];
    if (step.stuck) parts.push(el("p", { class: "mark" }, "part of the cycle that the run was stuck in"));
    const facts = step.facts || [];
    if (facts.length) {
      const title = step.number ? `in ${step.source}` : "what was asked";
      parts.push(el("h3", {}, title), told(facts));
    }
    const changes = step.changes || [];
    if (changes.length) parts.push(el("h3", {}, "with the move"), ...changes.map((text) => el("p", { class: "said" }, text)));
    if (current === last) {
      if (run.end.facts.length) parts.push(el("h3", {}, `since then, in ${run.end.state}`), told(run.end.facts));
      parts.push(verdict());
    }
    if (step.number) parts.push(el("h3", {}, "cost"), sums(step));
    $("step").replaceChildren(...parts);
  }

  // --- the picture ---------------------------------------------------------------------------------------------------

  const canvas = svg.querySelector("#s1") ? svg.querySelector("#s1").parentNode : svg;
  const boxes = new Map(); // id -> group
  const arrows = new Map(); // id -> {group, label, rows, path}
  const firstAt = new Map(); // id of a box or an arrow -> the step that came there first
  const visits = new Map(); // name of a state -> numbers of the steps that led there

  function prepare() {
    const captions = new Map();
    for (const state of data.states) if (state.box) captions.set(state.box, [...(captions.get(state.box) || []), state]);
    for (const group of canvas.querySelectorAll(":scope > g[id], :scope > g > g[id]")) {
      const id = group.id;
      if (captions.has(id)) prepareBox(group, captions.get(id));
      else if (/^[er]\w+$/.test(id) && id !== "e0") (group.parentNode === canvas ? prepareArrow : prepareListed)(group);
    }
    for (const step of steps) {
      const at = step.number || 0;
      for (const id of [step.box, step.arrow && step.arrow[0]]) if (id && !firstAt.has(id)) firstAt.set(id, at);
      if (step.source && states.get(step.source) && !firstAt.has(states.get(step.source).box)) firstAt.set(states.get(step.source).box, at);
      visits.set(step.dest, [...(visits.get(step.dest) || []), at]);
    }
  }

  function prepareBox(group, [state]) {
    const outline = [...group.children].find((child) => /^(rect|path|polygon)$/.test(child.localName));
    if (outline) {
      const halo = outline.cloneNode(false);
      for (const name of ["fill", "stroke", "stroke-width", "stroke-dasharray", "class"]) halo.removeAttribute(name);
      halo.setAttribute("class", "halo");
      group.insertBefore(halo, outline);
    }
    group.classList.add("state", "part");
    group.setAttribute("tabindex", "0");
    group.setAttribute("role", "button");
    group.setAttribute("aria-label", `${state.name}, ${state.caption}`);
    group.addEventListener("keydown", (event) => {
      if (event.key === "Enter") choose(state.name, "");
    });
    group.dataset.state = state.name;
    boxes.set(group.id, group);
  }

  function prepareArrow(group) {
    const path = group.querySelector("path");
    const label = svg.querySelector(`#l${group.id}`);
    if (path) {
      const reach = path.cloneNode(false);
      for (const name of [...reach.getAttributeNames()]) if (name !== "d") reach.removeAttribute(name);
      reach.setAttribute("class", "reach");
      group.prepend(reach);
    }
    group.classList.add("part", "arrow");
    if (label) label.classList.add("part", "label");
    arrows.set(group.id, { group, label, path, rows: label ? [...label.children] : [] });
  }

  // A row in the panel beside a state: listed instead of drawn.
  function prepareListed(group) {
    group.classList.add("part", "listed");
    arrows.set(group.id, { group, label: null, path: null, rows: [] });
  }

  function mark(group, word, stuck) {
    group.classList.toggle("now", word === "now");
    group.classList.toggle("past", word === "past");
    group.classList.toggle("rest", word === "rest");
    group.classList.toggle("stuck", stuck);
  }

  function paint() {
    const step = steps[current];
    const isLoop = step.stuck || (step.event === "stuck" && current && steps[current - 1].stuck);
    const loop = new Set(isLoop ? steps.slice(0, current + 1).filter((each) => each.stuck).map((each) => each.arrow[0]) : []);
    const seen = (id) => firstAt.has(id) && firstAt.get(id) <= current;
    for (const [id, group] of boxes) mark(group, id === step.box ? "now" : seen(id) ? "past" : "rest", false);
    const [taken, line] = step.arrow || [];
    for (const [id, arrow] of arrows) {
      const word = id === taken ? "now" : seen(id) ? "past" : "rest";
      mark(arrow.group, word, loop.has(id));
      if (!arrow.label) continue;
      mark(arrow.label, word, loop.has(id));
      arrow.rows.forEach((row, place) => row.classList.toggle("row", id === taken && place === line));
    }
    if (boxes.has(step.box)) follow(boxes.get(step.box));
  }

  let dot = null;
  function travel() {
    if (dot) dot.remove();
    dot = null;
    const arrow = arrows.get((steps[current].arrow || [])[0]);
    if (!arrow || !arrow.path || calm.matches) return;
    const mine = (dot = document.createElementNS(SVG, "circle"));
    mine.id = "dot";
    mine.setAttribute("r", "6");
    const long = arrow.path.getTotalLength(), begun = performance.now(), lasts = 420;
    const move = (now) => {
      const share = Math.min(1, (now - begun) / lasts);
      const point = arrow.path.getPointAtLength(long * share * (2 - share));
      mine.setAttribute("cx", point.x);
      mine.setAttribute("cy", point.y);
      if (share < 1 && mine === dot) requestAnimationFrame(move);
      else mine.remove();
    };
    arrow.group.append(mine);
    requestAnimationFrame(move);
  }

  // --- pan and zoom --------------------------------------------------------------------------------------------------

  const view = { x: 0, y: 0, scale: 1, free: false, follows: false };
  const CLOSEST = 4, AS_IS = 1.6, LEGIBLE = 0.6;

  function contents() {
    const full = svg.viewBox.baseVal;
    if (!run || canvas === svg || wrong) return whole_;
    const box = canvas.getBBox();
    const shift = canvas.transform.baseVal.consolidate();
    const [dx, dy] = shift ? [shift.matrix.e, shift.matrix.f] : [0, 0];
    return full && box.width ? { x: box.x + dx - 16, y: box.y + dy - 16, width: box.width + 32, height: box.height + 32 } : whole_;
  }
  const given = svg.viewBox.baseVal;
  const whole_ = { x: given.x, y: given.y, width: given.width, height: given.height };
  const wrong = Boolean(svg.querySelector("#findings"));

  function place() {
    const { clientWidth: wide, clientHeight: high } = $("picture");
    svg.setAttribute("viewBox", `${view.x} ${view.y} ${wide / view.scale || 1} ${high / view.scale || 1}`);
  }

  function fit() {
    const { clientWidth: wide, clientHeight: high } = $("picture");
    const box = contents();
    view.scale = Math.min(wide / box.width, high / box.height, AS_IS) || 1;
    view.x = box.x + box.width / 2 - wide / view.scale / 2;
    view.y = box.y + box.height / 2 - high / view.scale / 2;
    view.free = view.follows = false;
    place();
  }

  // What is too big to be read as a whole is shown where the run is, and follows it.
  function home() {
    fit();
    if (!run || view.scale >= LEGIBLE) return;
    zoom(LEGIBLE / view.scale);
    view.free = false;
    view.follows = true;
    const group = boxes.get(steps[current].box);
    if (group) centre(group);
  }

  function zoom(by, x, y) {
    const frame = $("picture");
    const [px, py] = x === undefined ? [frame.clientWidth / 2, frame.clientHeight / 2] : [x, y];
    const scale = Math.min(CLOSEST, Math.max(0.05, view.scale * by));
    view.x += px / view.scale - px / scale;
    view.y += py / view.scale - py / scale;
    view.scale = scale;
    view.free = true;
    place();
  }

  // Where one has zoomed in, the state that the run is in comes into sight.
  function follow(group) {
    if (!(view.free || view.follows) || drag) return;
    const frame = $("picture").getBoundingClientRect(), box = group.getBoundingClientRect();
    const inside = box.left >= frame.left && box.right <= frame.right && box.top >= frame.top && box.bottom <= frame.bottom;
    if (!inside) centre(group);
  }

  function centre(group) {
    const frame = $("picture").getBoundingClientRect(), box = group.getBoundingClientRect();
    view.x += ((box.left + box.right) / 2 - (frame.left + frame.right) / 2) / view.scale;
    view.y += ((box.top + box.bottom) / 2 - (frame.top + frame.bottom) / 2) / view.scale;
    place();
  }

  const fingers = new Map();
  let drag = null;
  svg.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    fingers.set(event.pointerId, event);
    drag = { x: event.clientX, y: event.clientY, moved: false };
  });
  window.addEventListener("pointermove", (event) => {
    if (!drag || !fingers.has(event.pointerId)) return;
    const before = fingers.get(event.pointerId);
    if (fingers.size === 2) {
      const other = [...fingers.entries()].find(([id]) => id !== event.pointerId)[1];
      const apart = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY) || 1;
      const frame = $("picture").getBoundingClientRect();
      zoom(apart(event) / apart(before), (event.clientX + other.clientX) / 2 - frame.left, (event.clientY + other.clientY) / 2 - frame.top);
      drag.moved = true;
    } else if (drag.moved || Math.hypot(event.clientX - drag.x, event.clientY - drag.y) > 4) {
      view.x -= (event.clientX - before.clientX) / view.scale;
      view.y -= (event.clientY - before.clientY) / view.scale;
      view.free = drag.moved = true;
      svg.classList.add("dragged");
      place();
    }
    fingers.set(event.pointerId, event);
  });
  for (const name of ["pointerup", "pointercancel"]) {
    window.addEventListener(name, (event) => {
      if (!fingers.delete(event.pointerId) || fingers.size) return;
      svg.classList.remove("dragged");
      if (name === "pointerup" && drag && !drag.moved) clicked(event.target);
      drag = null;
    });
  }
  svg.addEventListener("wheel", (event) => {
    event.preventDefault();
    const frame = $("picture").getBoundingClientRect();
    zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015)), event.clientX - frame.left, event.clientY - frame.top);
  }, { passive: false });

  function clicked(target) {
    const state = target.closest && target.closest("g.state");
    if (state) return choose(state.dataset.state, "");
    const group = target.closest && target.closest("g.arrow, g.label, g.listed");
    const id = group && group.id.replace(/^l/, "");
    const owner = id && data.states.find((each) => (each.rows || []).some((row) => row.arrow && row.arrow[0] === id));
    if (owner) choose(owner.name, id);
    return undefined;
  }

  // --- a state that was clicked --------------------------------------------------------------------------------------

  let chosen = null;
  function choose(name, arrow) {
    const state = states.get(name);
    if (!state) return;
    chosen = name;
    for (const [id, group] of boxes) group.classList.toggle("chosen", id === state.box);
    $("card").replaceChildren(card(state, arrow));
    $("panel").scrollTop = 0;
    if (!root.classList.contains("has-run")) $("step").replaceChildren();
    $("live").textContent = `${state.name}, ${state.caption}`;
  }

  function unchoose() {
    if (chosen === null) return false;
    chosen = null;
    for (const group of boxes.values()) group.classList.remove("chosen");
    $("card").replaceChildren();
    if (!run) overview();
    return true;
  }

  function card(state, arrow) {
    const close = el("button", { type: "button", class: "close", "aria-label": "Close", title: "Close (Esc)", onclick: unchoose }, "×");
    const parts = [close, el("h2", { class: `c-${state.kind}` }, state.name)];
    parts.push(el("p", { class: "quiet" }, [state.caption, state.initial ? "the run starts here" : "", state.where].filter(Boolean).join(" · ")));
    if (state.facts) {
      const list = el("dl", {});
      for (const [name, text] of state.facts) list.append(el("dt", {}, name), el("dd", {}, ...said(text, false)));
      parts.push(list);
    }
    if (run) parts.push(...entered(state.name));
    if (state.tools) {
      parts.push(el("h3", {}, "tools"), el("ul", { class: "rows" }, ...state.tools.map((tool) =>
        el("li", {}, el("b", {}, tool.name), tool.note ? el("span", { class: "what" }, ` ${tool.note}`) : "",
          el("span", { class: "doc" }, tool.text || "")))));
    }
    const rows = state.rows || [];
    const own = rows.filter((row) => !row.implied), standard = rows.filter((row) => row.implied);
    if (own.length) parts.push(el("h3", {}, "leads on"), list(own, arrow));
    if (standard.length) {
      const hit = standard.some((row) => arrow && row.arrow && row.arrow[0] === arrow);
      parts.push(el("details", { open: hit }, el("summary", {}, `${standard.length} standard rows`), list(standard, arrow)));
    }
    if (!rows.length) parts.push(el("p", { class: "quiet" }, "nothing leads on from here"));
    return el("section", { class: "card", "aria-label": state.name }, ...parts);
  }

  function entered(name) {
    const at = visits.get(name) || [];
    if (!at.length) return [el("h3", {}, "never entered in this run")];
    const jumps = at.slice(0, 40).map((step) => el("button", { type: "button", onclick: () => go(step) }, String(step)));
    const more = at.length > 40 ? el("span", { class: "quiet" }, `and ${whole(at.length - 40)} more`) : "";
    return [el("h3", {}, at.length === 1 ? "entered at step" : "entered at steps"), el("div", { class: "jumps" }, ...jumps, more)];
  }

  function list(rows, arrow) {
    return el("ul", { class: "rows" }, ...rows.map((row) => {
      const rule = (row.guard ? ` [${row.guard}]` : "") + (row.effects ? ` / ${row.effects}` : "");
      const hit = arrow && row.arrow && row.arrow[0] === arrow;
      return el("li", { class: hit ? "chosen" : "" }, el("b", {}, row.event), el("span", { class: "what" }, rule, " → "), named(row.dest),
        row.doc ? el("span", { class: "doc" }, row.guard, ": ", row.doc) : "",
        row.where ? el("span", { class: "quiet" }, row.where) : "");
    }));
  }

  function overview() {
    const used = data.states.filter((state) => state.box);
    $("step").replaceChildren(el("h2", {}, "States"),
      el("p", { class: "quiet" }, "Click a state or an arrow to see its rows."),
      el("ul", { class: "overview" }, ...used.map((state) => el("li", {}, named(state.name), " ", el("span", { class: "quiet" }, state.caption)))));
  }

  // --- going through -------------------------------------------------------------------------------------------------

  let current = 0, playing = 0, noted = 0, rowNow = null;

  function go(number, look) {
    const to = Math.min(last, Math.max(0, number));
    const forward = to === current + 1;
    current = to;
    paint();
    tell(steps[current]);
    if (forward) travel();
    if (!chosen || !(look && look.quiet)) $("panel").scrollTop = 0;
    $("place").value = String(current);
    $("place").setAttribute("aria-valuetext", announced());
    $("count").textContent = `${whole(current)} / ${whole(last)}`;
    for (const id of ["first", "back"]) $(id).disabled = current === 0;
    for (const id of ["next", "last"]) $(id).disabled = current === last;
    strip();
    if (!(look && look.first)) $("live").textContent = announced();
    if (rowNow) rowNow.classList.remove("now");
    rowNow = current ? $("moves").querySelector("tbody").rows[current - 1] : null;
    if (rowNow) rowNow.classList.add("now");
    clearTimeout(noted);
    noted = setTimeout(note, 150);
    if (current === last) pause();
  }

  function announced() {
    const step = steps[current];
    const text = step.number ? `Step ${step.number} of ${last}: ${step.source}, ${step.event}, to ${step.dest}` : `Start in ${step.dest}`;
    return current === last ? `${text}. ${run.end.is_over ? "Ended" : "Stands"}: ${run.end.reason}` : text;
  }

  // Browsers allow only so many changes of an address; and some none at all to a file.
  function note() {
    try {
      history.replaceState(null, "", `#step=${current}`);
    } catch {
      /* the page works without */
    }
  }

  function asked() {
    const found = /(?:^#|[#&])step=(\d{1,9})/.exec(location.hash);
    return found ? Number(found[1]) : null;
  }

  function play() {
    if (playing) return pause();
    if (current === last) go(0);
    root.classList.add("playing");
    $("play").setAttribute("aria-label", "Pause");
    playing = setInterval(() => go(current + 1, { quiet: true }), Math.min(1400, Math.max(90, 40000 / (last || 1))));
    return undefined;
  }

  function pause() {
    clearInterval(playing);
    playing = 0;
    root.classList.remove("playing");
    $("play").setAttribute("aria-label", "Play");
  }

  // --- the line of all steps -----------------------------------------------------------------------------------------

  const MOST = 110, EDGE = 3; // pixels: the widest block; what the mark of the current one needs at both ends
  // As wide as a block, so that what is clicked is where it is drawn: a range keeps half of its thumb free at both ends.
  function strip() {
    const sheet = $("strip"), sharp = window.devicePixelRatio || 1;
    const wide = sheet.clientWidth, high = sheet.clientHeight;
    if (!wide) return;
    if (sheet.width !== Math.round(wide * sharp)) [sheet.width, sheet.height] = [Math.round(wide * sharp), Math.round(high * sharp)];
    const pen = sheet.getContext("2d");
    pen.setTransform(sharp, 0, 0, sharp, 0, 0);
    pen.clearRect(0, 0, wide, high);
    const colours = getComputedStyle(root);
    const colour = (name) => colours.getPropertyValue(name).trim();
    const known = new Map(), paper = colour("--paper"), ink = colour("--ink");
    pen.font = "bold 11px Helvetica, Arial, sans-serif";
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    const thumb = Math.min(MOST, Math.max(8, wide / steps.length));
    sheet.parentNode.style.setProperty("--thumb", `${thumb}px`);
    const gap = (wide - thumb - 2 * EDGE) / (last || 1), thick = Math.max(1, Math.min(MOST, gap - 2));
    const at = (number) => EDGE + thumb / 2 + number * gap;
    pen.fillStyle = colour("--quiet");
    pen.fillRect(at(0), high / 2 - 1, at(last) - at(0), 2);
    for (const step of steps) {
      const number = step.number || 0, state = states.get(step.dest), kind = (state ? state.kind : "Failed").toLowerCase();
      if (!known.has(kind)) known.set(kind, colour(`--${kind}-line`));
      const block = () => {
        pen.beginPath();
        pen.roundRect(at(number) - thick / 2, 8, thick, high - 16, Math.min(4, thick / 4));
        pen.fill();
      };
      pen.globalAlpha = 1;
      pen.fillStyle = paper;
      if (thick > 2) block();
      pen.globalAlpha = number <= current ? 1 : 0.28;
      pen.fillStyle = known.get(kind);
      block();
      if (thick > 21) {
        pen.globalAlpha = number <= current ? 1 : 0.65;
        pen.fillStyle = number <= current ? paper : ink;
        pen.fillText(String(number), at(number), high / 2 + 0.5);
      }
      if (step.stuck || (step.facts || []).some((fact) => fact.is_bad)) {
        pen.fillStyle = colour("--red");
        pen.fillRect(at(number) - thick / 2, high - 5, thick, 3);
      }
    }
    pen.globalAlpha = 1;
    pen.strokeStyle = ink;
    pen.lineWidth = 2;
    pen.beginPath();
    const half = Math.max(thick / 2 + 2, 3);
    pen.roundRect(at(current) - half, 4, 2 * half, high - 8, 5);
    pen.stroke();
  }

  // --- keys ----------------------------------------------------------------------------------------------------------

  const KEYS = run
    ? { ArrowLeft: () => go(current - 1), ArrowRight: () => go(current + 1), Home: () => go(0), End: () => go(last), " ": play }
    : {};
  Object.assign(KEYS, {
    "?": () => $("keys").showModal(),
    "+": () => zoom(1.25),
    "-": () => zoom(0.8),
    f: fit,
    Escape: unchoose,
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || $("keys").open) return;
    if (event.key === " " && event.target.closest("button, summary, a, [role=button]")) return;
    const act = KEYS[event.key];
    if (!act) return;
    event.preventDefault();
    if (event.key !== " ") pause();
    act();
  });

  // --- start ---------------------------------------------------------------------------------------------------------

  root.classList.add("scripted");
  prepare();
  $("closer").addEventListener("click", () => zoom(1.25));
  $("further").addEventListener("click", () => zoom(0.8));
  $("fit").addEventListener("click", fit);
  $("help").addEventListener("click", () => $("keys").showModal());
  new ResizeObserver(() => {
    if (view.free) place();
    else home();
    if (run) strip();
  }).observe($("picture"));
  if (run) {
    root.classList.add("has-run");
    svg.classList.add("stepping");
    $("place").max = String(last);
    $("place").addEventListener("input", () => go(Number($("place").value)));
    for (const [id, act] of [["first", () => go(0)], ["back", () => go(current - 1)], ["next", () => go(current + 1)], ["last", () => go(last)]]) {
      $(id).addEventListener("click", () => { pause(); act(); });
    }
    $("play").addEventListener("click", play);
    $("moves").addEventListener("click", (event) => {
      const row = event.target.closest("tr[data-step]");
      if (row) go(Number(row.dataset.step));
    });
    window.addEventListener("hashchange", () => { if (asked() !== null && asked() !== current) go(asked()); });
    window.addEventListener("beforeprint", () => { $("moves").open = true; });
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", strip);
    const end = run.end;
    $("outcome").textContent = outcome();
    $("outcome").className = end.is_over ? (end.is_ok ? "good" : "bad") : "";
    const tags = Object.entries(run.tags).map(([name, value]) => `${name}=${value}`).join(", ");
    if (tags) $("about").append(`, ${tags}`);
    go(asked() === null ? 0 : asked(), { first: true });
  } else {
    overview();
  }
  home();
})();
