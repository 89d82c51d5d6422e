// What the pictures on these pages share: SVG elements, scales, and axes with round ticks. Sizes in CSS pixels.
window.clearBook = window.clearBook || {};
clearBook.plot = (() => {
  "use strict";
  function element(name, attributes = {}, text = null) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== null) made.textContent = text;
    return made;
  }

  function html(name, attributes = {}, text = null) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== null) made.textContent = text;
    return made;
  }

  const scale = (low, high, from, to) => value => from + ((value - low) / (high - low)) * (to - from);

  // Round numbers between two, about `count` of them.
  function ticks(low, high, count) {
    const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find(factor => factor * power >= rough);
    const found = [];
    for (let k = Math.ceil(low / step); k * step <= high + 1e-9 * step; k++) found.push(Number((k * step).toPrecision(12)));
    return found;
  }

  // A path through points; `null` lifts the pen.
  function path(points) {
    let drawn = "", down = false;
    for (const point of points) {
      if (point) drawn += `${down ? "L" : "M"}${point[0].toFixed(1)},${point[1].toFixed(1)}`;
      down = Boolean(point);
    }
    return drawn;
  }

  // Axes along the left and the bottom of a frame {left, right, top, bottom}: `x` and `y` have {scale, ticks, label, format}.
  function axes(frame, x, y) {
    const group = element("g", { class: "axes" });
    const format = axis => axis.format || (value => value.toLocaleString("en"));
    const line = (x1, y1, x2, y2, look) => group.append(element("line", { x1, y1, x2, y2, class: look }));
    for (const tick of x.ticks) {
      line(x.scale(tick), frame.bottom, x.scale(tick), frame.bottom + 4, "axis");
      group.append(element("text", { x: x.scale(tick), y: frame.bottom + 17, "text-anchor": "middle" }, format(x)(tick)));
    }
    for (const tick of y ? y.ticks : []) {
      line(frame.left, y.scale(tick), frame.right, y.scale(tick), "grid");
      group.append(element("text", { x: frame.left - 6, y: y.scale(tick) + 4, "text-anchor": "end" }, format(y)(tick)));
    }
    line(frame.left, frame.bottom, frame.right, frame.bottom, "axis");
    const middle = (frame.left + frame.right) / 2;
    group.append(element("text", { x: middle, y: frame.bottom + 34, "text-anchor": "middle" }, x.label));
    if (y && y.label) group.append(element("text", { x: frame.left, y: frame.top - 8, "text-anchor": "start" }, y.label));
    return group;
  }

  // Call `draw` whenever the room for a picture has another width. Reading a width makes the browser lay the page out,
  // so it is read here, once, and not when a slider moves.
  function onResize(node, draw) {
    let width = 0;
    new ResizeObserver(() => {
      if (Math.abs(node.clientWidth - width) < 2) return;
      width = node.clientWidth;
      draw();
    }).observe(node);
  }

  return { element, html, scale, ticks, path, axes, onResize };
})();
