// The market you can touch: three sliders, the solver, two pictures and two tables.
(() => {
  "use strict";
  const { solver, plot } = clearBook;
  const ROW = 19, OUTCOMES = { solved: "solved", short: "stopped short", wrong: "wrong answer", none: "abandoned" };

  // All numbers for one setting of the sliders; nothing of the page in it.
  function clear(data, perQuery, epsilon, noise) {
    const queries = data.queries, n = queries.length, budget = perQuery * n;
    const forecasts = queries.map(query => query.length * Math.exp(noise * query.error));
    const decay = solver.decayRate(perQuery, forecasts, epsilon);
    const { price, tokens } = solver.solve(forecasts, budget, decay);
    const judge = granted => {
      const outcomes = queries.map((query, i) =>
        granted[i] === 0 ? "none" : granted[i] < query.length ? "short" : query.correct ? "solved" : "wrong");
      const count = outcome => outcomes.filter(each => each === outcome).length;
      const utility = solver.sum(granted.map((amount, i) => solver.value(amount - forecasts[i], decay)));
      const solved = count("solved"), abandoned = count("none");
      return { granted, outcomes, utility, served: n - abandoned, abandoned, finished: solved + count("wrong"), solved };
    };
    return { budget, perQuery, forecasts, decay, price, market: judge(tokens), uniform: judge(queries.map(() => perQuery)) };
  }

  const whole = number => Math.round(number).toLocaleString("en");
  const digits = number => (number === 0 ? "0" : Number(number.toPrecision(3)).toString());

  function fillScore(body, state) {
    const both = [state.market, state.uniform], counts = name => both.map(side => side[name]);
    const rows = {
      "price λ": [digits(state.price), "none"], served: counts("served"), abandoned: counts("abandoned"),
      utility: counts("utility").map(whole), finished: counts("finished"), solved: counts("solved"),
    };
    body.replaceChildren(...Object.entries(rows).map(([name, texts]) => {
      const made = plot.html("tr");
      made.append(plot.html("th", { scope: "row" }, name), ...texts.map(text => plot.html("td", {}, text)));
      return made;
    }));
  }

  function fillList(body, data, state) {
    body.replaceChildren(...data.queries.map((query, i) => {
      const made = plot.html("tr", { class: state.market.granted[i] ? "served" : "abandoned" });
      made.append(plot.html("th", { scope: "row" }, query.name));
      const numbers = [state.forecasts[i], query.length, state.market.granted[i]].map(whole);
      const outcomes = [state.market, state.uniform].map(side => OUTCOMES[side.outcomes[i]]);
      for (const text of [query.tier, ...numbers, ...outcomes]) made.append(plot.html("td", {}, text));
      return made;
    }));
  }

  // One row of the picture: the curve, the bar of tokens, and where the solution ends.
  function drawQuery(group, query, i, state, x, frame) {
    const foot = frame.top + (i + 1) * ROW, peak = solver.value(1 / state.decay, state.decay);
    const granted = state.market.granted[i], from = state.forecasts[i], tail = 6 / state.decay, points = [];
    for (let k = 0; k <= 24; k++) {
      const surge = (k / 24) ** 2 * tail;
      points.push([x(from + surge), foot - 3 - (ROW - 6) * solver.value(surge, state.decay) / peak]);
    }
    const look = granted ? "served" : "abandoned";
    group.append(plot.element("path", { d: plot.path(points), class: `hump ${look}` }));
    group.append(plot.element("rect", { x: frame.left, y: foot - 4, width: x(granted) - frame.left, height: 3, class: "bar" }));
    if (granted) group.append(plot.element("circle", { cx: x(granted), cy: foot - 2.5, r: 3.5, class: "bar" }));
    const end = { x: x(query.length), y: foot, "text-anchor": "middle", class: "end" };
    group.append(plot.element("text", end, query.correct ? "|" : "×"));
  }

  function drawQueries(node, data, state, width) {
    const n = data.queries.length;
    const frame = { left: 24, right: width - 84, top: 22, bottom: 26 + n * ROW };
    const x = plot.scale(0, data.longest, frame.left, frame.right);
    const svg = plot.element("svg", { width, height: frame.bottom + 40, "aria-hidden": "true" });
    const room = plot.element("clipPath", { id: "market-room" });
    room.append(plot.element("rect", { x: 0, y: 0, width: frame.right + 6, height: frame.bottom + 2 }));
    svg.append(room, plot.axes(frame, { scale: x, ticks: plot.ticks(0, data.longest, width < 500 ? 3 : 6), label: "tokens" }));
    const group = plot.element("g", { "clip-path": "url(#market-room)" });
    data.queries.forEach((query, i) => drawQuery(group, query, i, state, x, frame));
    const given = x(state.perQuery);
    group.append(plot.element("line", { x1: given, x2: given, y1: frame.top, y2: frame.bottom, class: "uniform" }));
    svg.append(group);
    const say = (left, row, text, anchor = "middle") =>
      svg.append(plot.element("text", { x: left, y: frame.top + row * ROW - 3, "text-anchor": anchor }, text));
    say(frame.right + 30, 0, "CLEAR");
    say(frame.right + 66, 0, "Unif.");
    data.queries.forEach((query, i) => {
      say(12, i + 1, query.name);
      [state.market, state.uniform].forEach((side, column) =>
        say(frame.right + 30 + 36 * column, i + 1, side.outcomes[i] === "solved" ? "✓" : "–"));
    });
    node.replaceChildren(svg);
  }

  function drawDemand(node, state, width) {
    const height = Math.min(Math.max(240, width * 0.7), 340);
    const frame = { left: 56, right: width - 12, top: 26, bottom: height - 42 };
    const pieces = solver.demandPieces(state.forecasts, state.decay), highest = Math.max(pieces[0][0].price, state.price) * 1.05;
    const most = Math.max(pieces.at(-1).at(-1).tokens, state.budget) * 1.05;
    const x = plot.scale(0, highest, frame.left, frame.right), y = plot.scale(0, most, frame.bottom, frame.top);
    const svg = plot.element("svg", { width, height, "aria-hidden": "true" });
    svg.append(plot.axes(frame, { scale: x, ticks: plot.ticks(0, highest, 4), label: "price λ (utility per token)" },
      { scale: y, ticks: plot.ticks(0, most, 4), label: "tokens" }));
    const points = pieces.flatMap(piece => [...piece.map(point => [x(point.price), y(point.tokens)]), null]);
    svg.append(plot.element("path", { d: plot.path(points), class: "curve" }));
    const level = y(state.budget);
    svg.append(plot.element("line", { x1: frame.left, x2: frame.right, y1: level, y2: level, class: "budget" }));
    svg.append(plot.element("text", { x: frame.right, y: level - 5, "text-anchor": "end" }, "budget"));
    svg.append(plot.element("circle", { cx: x(state.price), cy: level, r: 5, class: "price" }));
    node.replaceChildren(svg);
  }

  function start(root) {
    const find = selector => root.querySelector(selector), data = JSON.parse(find("script[type='application/json']").textContent);
    const [budget, epsilon, noise] = ["budget", "epsilon", "noise"].map(name => find(`#market-${name}`));
    budget.max = data.most;
    epsilon.max = data.epsilons.length - 1;
    for (const [slider, value] of [[budget, data.start.budget], [epsilon, data.start.epsilon], [noise, 1]]) slider.setAttribute("value", value);
    const table = find("details"), rooms = [find(".queries"), find(".demand")];
    let state, later, widths;

    const tell = (slider, text) => {
      slider.setAttribute("aria-valuetext", text);
      find(`output[for='${slider.id}']`).textContent = text;
    };
    const draw = () => {
      drawQueries(rooms[0], data, state, widths[0]);
      drawDemand(rooms[1], state, widths[1]);
    };
    const measure = () => (widths = rooms.map(room => Math.max(room.clientWidth, 240)));
    function update() {
      state = clear(data, Number(budget.value), data.epsilons[epsilon.value], Number(noise.value));
      tell(budget, `${whole(state.perQuery)} tokens, ${(state.perQuery / data.reference).toFixed(2)} of the mean length`);
      tell(epsilon, `${whole(data.epsilons[epsilon.value])} ${data.epsilons[epsilon.value] === 1 ? "token" : "tokens"}; decay β = ${digits(state.decay)}`);
      tell(noise, { 0: "0: the true lengths", 1: "1: as this model's predictor errs" }[noise.value] || `${Number(noise.value)} times its errors`);
      fillScore(find(".score tbody"), state);
      if (table.open) fillList(find(".list tbody"), data, state);
      draw();
      clearTimeout(later); // a screen reader is told when the hand rests
      later = setTimeout(() => {
        const { market, uniform } = state;
        find(".said").textContent = `Price ${digits(state.price)}. CLEAR serves ${market.served}, abandons ${market.abandoned} and ` +
          `solves ${market.solved}. Uniform solves ${uniform.solved}.`;
      }, 400);
    }

    find("form").addEventListener("input", update);
    table.addEventListener("toggle", update);
    find("form").addEventListener("submit", event => event.preventDefault());
    find("form").addEventListener("reset", () => setTimeout(update));
    find("form").reset();
    measure();
    update();
    plot.onResize(find(".pictures"), () => { measure(); draw(); });
    root.dataset.ready = "true";
  }

  document.querySelectorAll(".clear-book.market:not([data-ready])").forEach(start);
})();
