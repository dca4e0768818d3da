"use strict";
// The evaluation's tabs, and its instance browser: unpack a scenario, filter, page, open one instance next to the list.
// The state of the view is in the URL after "#instances?", so that it can be linked. Text only becomes text nodes.
(() => {
  const root = document.documentElement;
  const tabs = document.querySelector("#measures .tabs");
  if (tabs) {
    const section = document.getElementById("measures");
    const show = (name) => {
      for (const panel of section.querySelectorAll(".panel")) panel.classList.toggle("shown", panel.id === name);
      for (const tab of tabs.children) tab.setAttribute("aria-pressed", String(tab.dataset.shows === name));
    };
    tabs.hidden = false;
    section.classList.add("tabbed");
    show("overview");
    tabs.addEventListener("click", (event) => { if (event.target.dataset.shows) show(event.target.dataset.shows); });
  }
  addEventListener("beforeprint", () => {
    root.dataset.theme = "light";
    document.querySelectorAll("details:not(:has(pre))").forEach((fold) => { fold.open = true; });
  });
  addEventListener("afterprint", () => { delete root.dataset.theme; });

  const section = document.getElementById("instances");
  if (!section) return;
  const PAGE = 50;
  const data = JSON.parse(document.getElementById("browser-data").textContent);
  const form = section.querySelector("form"), fields = form.elements;
  const list = section.querySelector(".list"), detail = section.querySelector(".detail");
  const count = section.querySelector(".count"), pages = section.querySelector(".pages"), split = section.querySelector(".split");
  const packed = [...section.querySelectorAll(".chunk")];
  const unpacked = new Map();
  const state = { page: 0, found: [], chunk: null, open: null };

  const make = (tag, properties = {}, ...inside) => {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (name in made) made[name] = value; else made.setAttribute(name, value);
    }
    made.append(...inside);
    return made;
  };
  const written = (value) => typeof value !== "number" ? String(value)
    : Number.isInteger(value) || Math.abs(value) >= 1000 ? value.toLocaleString("en") : value.toPrecision(3).replace(/\.?0+$/, "");
  const modelAt = (name) => data.models.findIndex((model) => model.name === name);

  // ---- unpacking
  const unpack = async (at) => {
    const text = atob(packed[at].textContent.trim());
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
    const chunk = JSON.parse(await new Response(stream).text());
    const prompts = [];
    for (const [base, shared, rest] of chunk.prompts) prompts.push(base < 0 ? rest : prompts[base].slice(0, shared) + rest);
    chunk.rows = chunk.questions.map((question, place) => ({ question, place, answers: [] }));
    const measures = new Set(data.scenarios[at].main ? [data.scenarios[at].main] : []);
    const groups = new Set(), perturbations = new Set(), shots = new Set();
    for (const answer of chunk.answers) {
      const row = chunk.rows[answer.q];
      answer.prompt = prompts[answer.p];
      answer.lead = chunk.leads[`${answer.m}/${row.question.shots || 0}/${row.question.trial || 0}`] || 0;
      row.answers[answer.m] = answer;
      for (const name of Object.keys(answer.scores || {})) measures.add(name);
    }
    for (const { question } of chunk.rows) {
      for (const [name, value] of Object.entries(question.groups || {})) if (groups.size < 500) groups.add(`${name}=${value}`);
      perturbations.add(question.perturbation || "");
      shots.add(String(question.shots || 0));
    }
    Object.assign(chunk, { measures: [...measures], groups: [...groups].sort(), perturbations: [...perturbations].sort(),
      shots: [...shots].sort((a, b) => a - b) });
    return chunk;
  };
  const chunkOf = (at) => {
    if (!unpacked.has(at)) unpacked.set(at, unpack(at));
    return unpacked.get(at);
  };

  // ---- filters
  const options = (select, values, chosen) => {
    select.replaceChildren(...values.map(([value, text]) => make("option", { value, textContent: text })));
    select.value = values.some(([value]) => value === chosen) ? chosen : values[0] ? values[0][0] : "";
  };
  const offer = (name, values, everything, titles, wanted) => {
    const label = form.querySelector(`[data-optional="${name}"]`);
    label.hidden = values.length < 2 && !(name === "group" && values.length);
    options(fields[name], [["*", everything], ...values.map((value) => [value, titles(value)])], wanted || "*");
  };
  const readable = (row, models) => {  // the searchable text of a row, cached
    const key = models.join();
    if (row.key !== key) {
      const parts = [row.question.id, ...(row.question.references || []).map((one) => one.text)];
      for (const at of models) {
        const answer = row.answers[at];
        if (answer) parts.push(answer.prompt.slice(answer.lead), ...(answer.outputs || []), ...(answer.turns || []), answer.failed || "");
      }
      row.key = key;
      row.text = parts.join("\n").toLowerCase();
    }
    return row.text;
  };
  const scoreOf = (answer, measure) => answer && answer.scores ? answer.scores[measure] : undefined;

  const matches = (row, wish) => {
    const { question } = row, own = row.answers[wish.model], other = wish.beside < 0 ? null : row.answers[wish.beside];
    if (!own && !other) return false;
    if (wish.perturbation !== "*" && (question.perturbation || "") !== wish.perturbation) return false;
    if (wish.shots !== "*" && String(question.shots || 0) !== wish.shots) return false;
    if (wish.group !== "*" && !Object.entries(question.groups || {}).some(([name, value]) => `${name}=${value}` === wish.group)) return false;
    const a = scoreOf(own, wish.measure), b = scoreOf(other, wish.measure);
    const failed = Boolean((own && own.failed) || (other && other.failed));
    if (wish.show === "failed" && !failed || wish.show === "answered" && failed) return false;
    if (["differ", "ahead", "behind"].includes(wish.show) && (a === undefined || b === undefined || a === b)) return false;
    if (wish.show === "ahead" && !(a > b) || wish.show === "behind" && !(a < b)) return false;
    if (wish.from !== "" && !(a >= Number(wish.from)) || wish.to !== "" && !(a <= Number(wish.to))) return false;
    return !wish.q || readable(row, wish.beside < 0 ? [wish.model] : [wish.model, wish.beside]).includes(wish.q);
  };
  const wishes = () => ({
    model: modelAt(fields.model.value), beside: modelAt(fields.beside.value), q: fields.q.value.trim().toLowerCase(),
    show: fields.show.value, measure: fields.measure.value, from: fields.from.value, to: fields.to.value,
    perturbation: fields.perturbation.value, group: fields.group.value, shots: fields.shots.value, order: fields.order.value,
  });
  const ordered = (rows, wish) => {
    if (!wish.order) return rows;
    const own = (row) => scoreOf(row.answers[wish.model], wish.measure), other = (row) => scoreOf(row.answers[wish.beside], wish.measure);
    const value = wish.order === "apart" ? (row) => -Math.abs(own(row) - other(row))
      : (row) => (wish.order === "low" ? own(row) : -own(row));
    const keyed = rows.map((row) => [value(row), row]);
    return keyed.sort(([a, x], [b, y]) => (Number.isFinite(a) ? a : Infinity) - (Number.isFinite(b) ? b : Infinity) || x.place - y.place)
      .map(([, row]) => row);
  };

  // ---- the list
  const badge = (answer, measure) => {
    if (!answer) return make("span", { className: "score", textContent: "–" });
    if (answer.failed) return make("span", { className: "score failed", textContent: "failed" });
    const value = scoreOf(answer, measure);
    const kind = value === 1 ? " full" : value === 0 ? " zero" : "";
    return make("span", { className: `score${kind}`, textContent: value === undefined ? "–" : written(value) });
  };
  const nameOf = ({ question }) => [question.id, question.perturbation, question.trial ? `trial ${question.trial}` : ""].filter(Boolean).join(" · ");
  const item = (row, wish) => {
    const answer = row.answers[wish.model] || row.answers[wish.beside];
    const says = answer.prompt.slice(answer.lead).replace(/\s+/g, " ").trim().slice(0, 160);
    const marks = make("span", { className: "marks" }, badge(row.answers[wish.model], wish.measure));
    if (wish.beside >= 0) marks.append(badge(row.answers[wish.beside], wish.measure));
    const button = make("button", { type: "button" }, make("span", { className: "id", textContent: nameOf(row) }), marks,
      make("span", { className: "says", textContent: says || "(empty)" }));
    button.row = row;
    if (row === state.open) button.setAttribute("aria-current", "true");
    return make("li", {}, button);
  };
  const drawList = () => {
    const wish = wishes(), from = state.page * PAGE, shown = state.found.slice(from, from + PAGE);
    list.start = from + 1;
    list.replaceChildren(...shown.map((row) => item(row, wish)));
    pages.hidden = state.found.length <= PAGE;
    pages.children[0].ariaDisabled = String(state.page === 0);  // not `disabled`, which would lose the focus
    pages.children[1].ariaDisabled = String(from + PAGE >= state.found.length);
    const total = state.chunk.rows.length.toLocaleString("en");
    count.textContent = state.found.length
      ? `${(from + 1).toLocaleString("en")} to ${(from + shown.length).toLocaleString("en")} of ${state.found.length.toLocaleString("en")} found; ${total} in all`
      : `None of ${total} instances matches.`;
  };

  // ---- one instance
  const verbatim = (text, lead, label) => {
    const shown = make("pre", { className: "verbatim", tabIndex: 0, ariaLabel: label, role: "region" });
    if (lead) shown.append(make("span", { className: "lead", textContent: text.slice(0, lead) }));
    const rest = text.slice(lead), q = fields.q.value.trim().toLowerCase(), low = rest.toLowerCase();
    let at = 0;
    for (let hit = q && low.length === rest.length ? low.indexOf(q) : -1; hit >= 0; hit = low.indexOf(q, at)) {
      shown.append(rest.slice(at, hit), make("mark", { textContent: rest.slice(hit, hit + q.length) }));
      at = hit + q.length;
    }
    shown.append(rest.slice(at));
    return shown;
  };
  const pairs = (values) => {
    const made = make("dl", { className: "pairs" });
    for (const [name, value] of Object.entries(values)) {
      const text = value !== null && typeof value === "object" ? JSON.stringify(value, null, 1) : written(value);
      made.append(make("dt", { textContent: name.replace(/_/g, " ") }), make("dd", { textContent: text }));
    }
    return made;
  };
  const referencesOf = (row, shown) => {
    const known = row.question.references || [], made = make("ol", { className: "references" });
    known.forEach((one, place) => {
      const odds = make("span", { className: "odds" });
      for (const at of shown) {
        const answer = row.answers[at], sure = answer && answer.choice_log_probs ? answer.choice_log_probs[place] : undefined;
        const chosen = answer && answer.predicted === place;
        if (sure === undefined && !chosen) continue;
        if (odds.childNodes.length) odds.append(" · ");
        const told = [shown.length > 1 ? data.models[at].title : "", sure === undefined ? "" : sure.toFixed(2).replace(/^-(?!0\.00$)/, "−").replace("-", ""), chosen ? "chosen" : ""];
        odds.append(make("span", { className: chosen ? "chosen" : "", textContent: told.filter(Boolean).join(" ") }));
      }
      made.append(make("li", { className: one.correct === false ? "" : "right" },
        make("span", { textContent: one.correct === false ? "" : "✓", title: one.correct === false ? "" : "correct" }),
        make("span", { textContent: one.text }), odds));
    });
    return made;
  };
  const heading = (text) => make("h4", { textContent: text });
  const modelPart = (at, answer, wish, samePrompt) => {
    const part = make("section", { className: "model", ariaLabel: data.models[at].title }, heading(data.models[at].title));
    if (!answer) { part.append(make("p", { className: "none", textContent: "Not evaluated on this instance." })); return part; }
    if (!samePrompt) part.append(heading("Prompt"), verbatim(answer.prompt, answer.lead, `Prompt of ${data.models[at].title}`));
    if (answer.failed) part.append(heading("Failed"), make("p", { className: "why", textContent: answer.failed }));
    const outputs = answer.outputs || [];
    if (outputs.length) part.append(heading(outputs.length > 1 ? `${outputs.length} responses` : "Response"));
    for (const text of outputs) part.append(text ? verbatim(text, 0, "Response") : make("p", { className: "empty", textContent: "(nothing)" }));
    for (const text of answer.turns || []) part.append(heading("Next response"), verbatim(text, 0, "Next response"));
    if (answer.scores) part.append(heading("Scores"), pairs(answer.scores));
    if (answer.judgement) part.append(heading("Judgement"), pairs(answer.judgement));
    if (answer.cost) part.append(heading("Cost"), pairs(answer.cost));
    return part;
  };
  const drawDetail = () => {
    const row = state.open, wish = wishes();
    detail.hidden = !row;
    split.classList.toggle("open", Boolean(row));
    split.classList.toggle("alone", !row);
    if (!row) return;
    const shown = [wish.model, wish.beside].filter((at) => at >= 0), present = shown.map((at) => row.answers[at]).filter(Boolean);
    const prompts = new Set(present.map((answer) => answer.prompt)), same = prompts.size === 1, place = state.found.indexOf(row);
    const step = (by, text) => make("button", { type: "button", textContent: text, disabled: !state.found[place + by] || place < 0,
      onclick: () => open(state.found[place + by], true) });
    const tags = Object.entries(row.question.groups || {}).map(([name, value]) => make("span", { className: "chip", textContent: `${name}: ${value}` }));
    for (const [name, value] of [["perturbed", row.question.perturbation], ["examples", row.question.shots], ["trial", row.question.trial]]) {
      if (value) tags.push(make("span", { className: "chip", textContent: `${name}: ${value}` }));
    }
    detail.replaceChildren(
      make("header", {}, make("h3", { textContent: `${fields.scenario.value} · ${row.question.id}` }), ...tags,
        make("span", { className: "steps" }, step(-1, "Previous"), step(1, "Next"),
          make("button", { type: "button", textContent: "Close", onclick: () => close() }))),
    );
    if (same) detail.append(heading(present.length > 1 ? "Prompt of both" : "Prompt"), verbatim(present[0].prompt, present[0].lead, "Prompt"));
    if ((row.question.references || []).length) {
      const scored = present.some((answer) => answer.choice_log_probs);
      detail.append(heading(scored ? "References and their log-probabilities" : "References"), referencesOf(row, shown));
    }
    detail.append(make("div", { className: "beside-models" }, ...shown.map((at) => modelPart(at, row.answers[at], wish, same))));
  };
  const open = (row, focus) => {
    state.open = row;
    const place = state.found.indexOf(row);
    if (place >= 0) state.page = Math.floor(place / PAGE);
    drawList();
    drawDetail();
    remember();
    if (focus) { detail.focus({ preventScroll: true }); detail.scrollIntoView({ block: "nearest" }); if (innerWidth < 960) detail.scrollIntoView(); }
  };
  const close = () => {
    const row = state.open;
    state.open = null;
    drawList();
    drawDetail();
    remember();
    const button = [...list.querySelectorAll("button")].find((one) => one.row === row) || list.querySelector("button");
    if (button) button.focus();
  };

  // ---- the URL
  const KEPT = ["scenario", "model", "beside", "q", "show", "measure", "from", "to", "perturbation", "group", "shots", "order"];
  const remember = () => {
    const kept = new URLSearchParams();
    for (const name of KEPT) {
      const value = fields[name].value, main = data.scenarios[fields.scenario.selectedIndex].main;
      if (value && value !== "*" && !(name === "measure" && value === main)) kept.set(name, value);
    }
    if (fields.perturbation.value === "") kept.set("perturbation", "");
    if (state.open) {
      const { question } = state.open;
      kept.set("id", question.id);
      if (question.perturbation) kept.set("variant", question.perturbation);
      if (question.trial) kept.set("trial", question.trial);
      if (question.shots) kept.set("at", question.shots);
    }
    const hash = `#instances?${kept}`;
    if (location.hash !== hash) history.replaceState(null, "", hash);
  };
  const recall = async () => {
    const [, text] = location.hash.match(/^#instances\?(.*)$/s) || [];
    if (text === undefined) return false;
    const kept = new URLSearchParams(text);
    form.reset();
    for (const name of ["scenario", "model", "beside", "q", "show", "from", "to", "order"]) if (kept.has(name)) fields[name].value = kept.get(name);
    for (const name of ["scenario", "model"]) if (fields[name].selectedIndex < 0) fields[name].selectedIndex = 0;
    for (const name of ["beside", "show", "order"]) if (fields[name].selectedIndex < 0) fields[name].value = "";
    await enter(kept);
    const wanted = kept.get("id");
    state.open = wanted === null ? null : state.chunk.rows.find(({ question }) => question.id === wanted
      && (question.perturbation || "") === (kept.get("variant") || "") && String(question.trial || 0) === (kept.get("trial") || "0")
      && (!kept.has("at") || String(question.shots || 0) === kept.get("at"))) || null;
    const place = state.found.indexOf(state.open);
    state.page = place >= 0 ? Math.floor(place / PAGE) : 0;
    drawList();
    drawDetail();
    if (wanted !== null && !state.open) count.textContent = `${fields.scenario.value} · ${wanted}: not in this page. ${count.textContent}`;
    (state.open ? detail : section).scrollIntoView();
    return true;
  };

  // ---- events
  let turn = 0;
  const enter = async (kept) => {  // unpack the chosen scenario, fill the filters, and apply them
    const at = fields.scenario.selectedIndex, mine = ++turn;
    count.textContent = `Reading ${fields.scenario.value} …`;
    let chunk;
    try { chunk = await chunkOf(at); } catch (error) { count.textContent = `${fields.scenario.value} cannot be unpacked here (${error.message}); a newer browser can.`; throw error; }
    if (mine !== turn) return;
    if (state.chunk !== chunk) state.open = null;
    state.chunk = chunk;
    options(fields.measure, chunk.measures.map((name) => [name, name.replace(/_/g, " ")]), kept ? kept.get("measure") : fields.measure.value);
    offer("perturbation", chunk.perturbations, "any", (value) => value || "unperturbed", kept && kept.get("perturbation"));
    if (kept && kept.get("perturbation") === "" && chunk.perturbations.includes("")) fields.perturbation.value = "";
    offer("group", chunk.groups, "any", (value) => value, kept && kept.get("group"));
    offer("shots", chunk.shots, "any", (value) => value, kept && kept.get("shots"));
    filter();
  };
  const filter = () => {
    const wish = wishes();
    state.found = ordered(state.chunk.rows.filter((row) => matches(row, wish)), wish);
    state.page = 0;
    drawList();
    drawDetail();
  };
  const ready = () => state.chunk ? Promise.resolve() : enter();
  let waiting = 0;
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("change", async (event) => {
    if (event.target.name === "scenario") await enter(); else { await ready(); filter(); }
    remember();
  });
  fields.q.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(async () => { await ready(); filter(); remember(); }, 150);
  });
  form.querySelector("[data-reset]").addEventListener("click", async () => {
    const { value } = fields.scenario;
    form.reset();
    fields.scenario.value = value;
    start();
    await enter();
    remember();
  });
  list.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) open(button.row, true);
  });
  list.addEventListener("keydown", (event) => {
    const buttons = [...list.querySelectorAll("button")], at = buttons.indexOf(document.activeElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: buttons.length - 1 }[event.key];
    if (at >= 0 && buttons[to]) { event.preventDefault(); buttons[to].focus(); }
  });
  detail.addEventListener("keydown", (event) => { if (event.key === "Escape") close(); });
  pages.addEventListener("click", (event) => {
    if (!event.target.dataset.page || event.target.ariaDisabled === "true") return;
    state.page += Number(event.target.dataset.page);
    drawList();
    count.scrollIntoView({ block: "nearest" });
  });
  addEventListener("hashchange", () => { recall(); });

  const start = () => { fields.beside.selectedIndex = data.models.length > 1 ? 2 : 0; };
  split.classList.add("alone");
  count.textContent = "";
  start();
  recall().then((came) => {
    if (came) return;
    const watcher = new IntersectionObserver((entries) => {
      if (entries.some((entry) => entry.isIntersecting)) { watcher.disconnect(); ready(); }
    }, { rootMargin: "800px" });
    watcher.observe(section);
  });
})();
