// The market of the library's policy `clear-exact` in plain JavaScript: the same optimum, whole tokens included
// (clear_lib/allocation/optimum.py, function solve_shared). Surge utility with v0 = 1; tokens throughout.
window.clearBook = window.clearBook || {};
clearBook.solver = (() => {
  "use strict";
  const ROUNDING = 1e-12;
  const sum = values => values.reduce((total, value) => total + value, 0);

  // Eq. 16: the decay rate from the budget per query.
  const decayRate = (perQuery, thresholds, epsilon) =>
    1 / Math.max(epsilon, perQuery - sum(thresholds) / thresholds.length);

  // Eq. 1 and its derivative, of the tokens past the threshold.
  const value = (surge, decay) => (surge > 0 ? surge * Math.exp(-decay * surge) : 0);
  const marginal = (surge, decay) => (1 - decay * surge) * Math.exp(-decay * surge);

  // Surge with the most utility per token, threshold included; at a price just below that, a query asks for it.
  const leastSurge = (threshold, decay) => 2 / decay / (1 + Math.sqrt(1 + 4 / (decay * threshold)));
  function exitPrice(threshold, decay) {
    const surge = leastSurge(threshold, decay);
    return value(surge, decay) / (threshold + surge);
  }

  // The price with the lowest dual bound: as it falls, one query after the other comes in, until demand passes the budget.
  function shadowPrice(sorted, budget, decay) {
    const n = sorted.length, total = sum(sorted);
    if (total + n / decay <= budget * (1 + ROUNDING)) return 0;
    let served = 0, fees = 0;
    for (const threshold of sorted) {
      if (served > 0 && fees + served * leastSurge(threshold, decay) > budget) break;
      fees += threshold;
      served += 1;
    }
    const last = sorted[served - 1], surge = leastSurge(last, decay);
    return fees + served * surge <= budget ? marginal((budget - fees) / served, decay) : exitPrice(last, decay);
  }

  // Whole tokens by largest remainder, ties by position; the sum is kept, rounded down.
  function wholeTokens(tokens, budget) {
    const rounded = tokens.map(Math.floor);
    const total = Math.min(sum(tokens) + 1e-6 + ROUNDING * budget, budget);
    const order = tokens.map((_, i) => i).sort((i, j) => rounded[i] - tokens[i] - (rounded[j] - tokens[j]) || i - j);
    for (const i of order.slice(0, Math.floor(total) - sum(rounded))) if (tokens[i] > 0) rounded[i] += 1;
    return rounded;
  }

  // The exact optimum: sort, add up, take the best. Served are the k smallest thresholds, with the same surge each.
  function solve(thresholds, budget, decay) {
    const order = thresholds.map((_, i) => i).sort((i, j) => thresholds[i] - thresholds[j] || i - j);
    let fees = 0, best = { served: 0, surge: 0, value: 0 };
    order.forEach((query, position) => {
      fees += thresholds[query];
      const served = position + 1, surge = Math.min((budget - fees) / served, 1 / decay);
      const total = served * value(surge, decay);
      if (total > best.value) best = { served, surge, value: total };
    });
    const shares = thresholds.map(() => 0);
    for (const query of order.slice(0, best.served)) shares[query] = thresholds[query] + best.surge;
    const price = shadowPrice(order.map(query => thresholds[query]), budget, decay);
    return { price, tokens: wholeTokens(shares, budget) };
  }

  // Total demand as pieces of a curve: in each piece the same queries are served, with the surge that a price leaves.
  function demandPieces(thresholds, decay, points = 12) {
    const sorted = [...thresholds].sort((a, b) => a - b);
    let fees = 0;
    return sorted.map((threshold, i) => {
      fees += threshold;
      const from = leastSurge(threshold, decay);
      const to = i + 1 < sorted.length ? leastSurge(sorted[i + 1], decay) : 1 / decay;
      return Array.from({ length: points }, (_, k) => {
        const surge = from + ((to - from) * k) / (points - 1);
        return { price: Math.max(marginal(surge, decay), 0), tokens: fees + (i + 1) * surge };
      });
    });
  }

  return { sum, decayRate, value, solve, demandPieces };
})();
