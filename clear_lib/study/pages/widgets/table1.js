// Table 1 by choice: stream, budget, measure, policies, intervals; one picture, one table.
(() => {
  "use strict";
  const { plot } = clearBook;
  const MARKS = {
    o: "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0", s: "M-4,-4h8v8h-8z", D: "M0,-5l5,5l-5,5l-5,-5z", "^": "M0,-5l5,9h-10z",
    v: "M0,5l5,-9h-10z", "<": "M-5,0l9,-5v10z", d: "M0,-5l3,5l-3,5l-3,-5z", P: "M-1.5,-5h3v3.5h3.5v3h-3.5v3.5h-3v-3.5h-3.5v-3h3.5z", X: "M-4,-4l8,8M4,-4l-8,8",
  };
  const DASHES = { "-": "", "--": "6 3", ":": "2 3", "-.": "6 3 2 3" };
  const one = (number, sign) => (number === null ? "" : (sign && number > 0 ? "+" : "") + number.toFixed(1));
  const between = (low, high, sign) => (low === null ? "" : `${one(low, sign)} to ${one(high, sign)}`);

  function mark(policy, x, y, open) {
    const fill = open || policy.marker === "X" ? "none" : policy.color;
    const style = `fill:${fill};stroke:${policy.color};stroke-width:1.5`;
    return plot.element("path", { d: MARKS[policy.marker] || MARKS.o, transform: `translate(${x},${y})`, style });
  }

  function line(svg, policy, cells, key, open, x, y) {
    const there = cells.filter(cell => cell[key] !== null), points = there.map(cell => [x(cell.scarcity), y(cell[key])]);
    const dash = open ? "1 4" : DASHES[policy.dashes] ?? "";
    const style = `stroke:${policy.color};stroke-width:1.6;stroke-dasharray:${dash || "none"}`;
    svg.append(plot.element("path", { d: plot.path(points), style }));
    for (const [left, top] of points) svg.append(mark(policy, left, top, open));
  }

  // Keys of the interval and of the paper's number that belong to a measure.
  const KEYS = { ours: ["low", "high", "paper"], gain: ["gain_low", "gain_high", "paper_gain"] };

  function draw(node, data, chosen) {
    const width = Math.max(node.clientWidth, 260), height = 340, [low, high, paper] = KEYS[chosen.measure];
    const frame = { left: 44, right: width - 14, top: 26, bottom: height - 44 };
    const shown = [chosen.measure, ...(chosen.intervals ? [low, high] : []), ...(chosen.paper ? [paper] : [])];
    const values = chosen.cells.flatMap(cell => shown.map(key => cell[key])).filter(value => value !== null);
    const [bottom, top] = [Math.min(0, ...values) * 1.08, Math.max(1, ...values) * 1.08];
    const logs = data.budgets.map(budget => Math.log(budget.scarcity)), margin = 0.25;
    const along = plot.scale(Math.min(...logs) - margin, Math.max(...logs) + margin, frame.left, frame.right);
    const x = scarcity => along(Math.log(scarcity)), y = plot.scale(bottom, top, frame.bottom, frame.top);
    const svg = plot.element("svg", { width, height, "aria-hidden": "true" });
    if (chosen.budget !== "all") svg.append(plot.element("line", { x1: x(chosen.budget), x2: x(chosen.budget), y1: frame.top, y2: frame.bottom, class: "budget" }));
    svg.append(plot.axes(frame,
      { scale: x, ticks: data.budgets.map(budget => budget.scarcity), format: tick => tick.toFixed(2), label: "budget / mean length" },
      { scale: y, ticks: plot.ticks(bottom, top, 5), label: chosen.title }));
    if (bottom < 0) svg.append(plot.element("line", { x1: frame.left, x2: frame.right, y1: y(0), y2: y(0), class: "axis" }));
    chosen.policies.forEach((policy, i) => {
      const cells = chosen.cells.filter(cell => cell.policy === policy.name);
      const aside = 4 * (i - (chosen.policies.length - 1) / 2); // so that intervals stand beside each other
      const near = scarcity => x(scarcity) + aside;
      for (const cell of chosen.intervals ? cells.filter(cell => cell[low] !== null) : []) {
        const ends = { x1: near(cell.scarcity), x2: near(cell.scarcity), y1: y(cell[low]), y2: y(cell[high]) };
        svg.append(plot.element("line", { ...ends, style: `stroke:${policy.color};stroke-width:1.5` }));
      }
      if (chosen.paper) line(svg, policy, cells, paper, true, near, y);
      line(svg, policy, cells, chosen.measure, false, near, y);
    });
    node.replaceChildren(svg);
  }

  function fill(table, data, chosen) {
    const rows = chosen.cells.filter(cell => chosen.budget === "all" || cell.scarcity === chosen.budget);
    const heads = ["policy", "tokens (paper's)", "accuracy", ...(chosen.intervals ? ["95%"] : []), ...(chosen.paper ? ["paper"] : []),
      "gain", ...(chosen.intervals ? ["95%"] : []), ...(chosen.paper ? ["paper's gain"] : [])];
    const head = plot.html("tr");
    for (const text of heads) head.append(plot.html("th", { scope: "col" }, text));
    table.querySelector("thead").replaceChildren(head);
    const best = {}; // of those that could be used: an oracle knows the answers
    for (const cell of rows) if (!cell.policy.startsWith("oracle")) best[cell.scarcity] = Math.max(best[cell.scarcity] ?? 0, cell.ours);
    table.querySelector("tbody").replaceChildren(...rows.map(cell => {
      const made = plot.html("tr"), policy = chosen.policies.find(each => each.name === cell.policy);
      const texts = [`${cell.tokens} (${cell.paper_tokens})`, one(cell.ours), ...(chosen.intervals ? [between(cell.low, cell.high)] : []),
        ...(chosen.paper ? [one(cell.paper)] : []), one(cell.gain, true),
        ...(chosen.intervals ? [between(cell.gain_low, cell.gain_high, true)] : []), ...(chosen.paper ? [one(cell.paper_gain, true)] : [])];
      made.append(plot.html("th", { scope: "row" }, policy.label), ...texts.map(text => plot.html("td", {}, text)));
      if (!cell.policy.startsWith("oracle") && cell.ours === best[cell.scarcity]) made.classList.add("best");
      return made;
    }));
    table.querySelector("caption").textContent = `${chosen.where}; best in bold, oracles aside`;
  }

  function choices(root, data) {
    const find = selector => root.querySelector(selector);
    const options = (select, pairs) => select.append(...pairs.map(([value, text]) => plot.html("option", { value }, text)));
    options(find("#table1-stream"), data.streams.map(stream => [stream.name, stream.label]));
    const budgets = data.budgets.map(({ scarcity, tokens, paper_tokens }) =>
      [scarcity, `${tokens} tokens per query, ${scarcity.toFixed(2)} of the mean length (the paper's ${paper_tokens})`]);
    options(find("#table1-budget"), [...budgets, ["all", "all of them"]]);
    find(".policies").append(...data.policies.map(policy => {
      const label = plot.html("label"), box = plot.html("input", { type: "checkbox", name: "policy", value: policy.name });
      if (policy.at_first) box.setAttribute("checked", "");
      const glyph = plot.element("svg", { width: 14, height: 14, viewBox: "-7 -7 14 14", "aria-hidden": "true", style: "display:inline" });
      glyph.append(mark(policy, 0, 0, false));
      label.append(box, " ", glyph, ` ${policy.label}`);
      return label;
    }));
  }

  function read(root, data) {
    const find = selector => root.querySelector(selector), selects = name => find(`#table1-${name}`);
    const ticked = new Set([...root.querySelectorAll("[name=policy]:checked")].map(box => box.value));
    const stream = selects("stream").value, budget = selects("budget").value;
    const text = name => selects(name).selectedOptions[0].textContent;
    return {
      measure: selects("measure").value,
      budget: budget === "all" ? budget : Number(budget),
      intervals: find("[name=intervals]").checked,
      paper: find("[name=paper]").checked,
      policies: data.policies.filter(policy => ticked.has(policy.name)),
      cells: data.cells.filter(cell => cell.stream === stream && ticked.has(cell.policy)),
      title: text("measure"),
      where: budget === "all" ? `${text("stream")}, all budgets` : `${text("stream")}, ${text("budget")}`,
    };
  }

  function start(root) {
    const data = JSON.parse(root.querySelector("script[type='application/json']").textContent);
    const find = selector => root.querySelector(selector);
    choices(root, data);
    const render = () => draw(find(".lines"), data, read(root, data));
    function update() {
      const chosen = read(root, data);
      fill(find(".cells"), data, chosen);
      find("figcaption").textContent = `${chosen.title[0].toUpperCase() + chosen.title.slice(1)} by budget, ${find("#table1-stream").selectedOptions[0].textContent} stream. ${data.made}`;
      find(".lines").setAttribute("aria-label", `${chosen.title} by budget of ${chosen.policies.map(policy => policy.label).join(", ")}; the table below has the numbers.`);
      find(".said").textContent = `${chosen.policies.length} policies, ${chosen.where}.`;
      render();
    }
    find("form").addEventListener("input", update);
    find("form").addEventListener("submit", event => event.preventDefault());
    find("form").reset();
    update();
    plot.onResize(find(".pictures"), render);
    root.dataset.ready = "true";
  }

  document.querySelectorAll(".clear-book.table1:not([data-ready])").forEach(start);
})();
