extension SpectrumPage {
  /// The page without its contents, which the script puts in.
  static let body = #"""
    <main>
    <header><h1>Spectrum of a fine-tune</h1><p id="models"></p><p id="summary"></p></header>
    <section id="control">
    <label>Rank <output id="rank-shown"></output><input id="rank" type="range" min="1" value="1" aria-label="Rank"></label>
    <span class="fact">energy captured <output id="captured"></output></span>
    <span class="fact">adapter <output id="cost"></output></span>
    </section>
    <section><h2>Energy captured by rank</h2><p>One curve for each changed matrix; the steeper, the fewer ranks it needs.</p>
    <div id="chart"></div><div id="legend"></div></section>
    <section id="heat"><h2>Energy captured, projection by layer</h2><p>At the rank chosen above.</p>
    <div id="layers"></div><div class="scroll" id="outside"></div>
    <div class="scale"><span>0 %</span><i></i><span>100 %</span></div></section>
    <section><h2>What the rules of extract choose</h2><div class="scroll" id="rules"></div></section>
    <section><div class="head"><h2>Changed matrices</h2>
    <input id="filter" type="search" placeholder="Part of a name" aria-label="Filter by name"></div>
    <div class="scroll" id="matrices"></div></section>
    </main>
    <div id="tip" role="status"></div>

    """#

  /// Builds the page from the data; text reaches it through `textContent` alone.
  static let script = #"""
    "use strict";
    const data = JSON.parse(document.getElementById("data").textContent);
    const matrices = data.matrices;
    const $ = id => document.getElementById(id);
    const el = (tag, attributes = {}, ...children) => {
      const node = document.createElement(tag);
      for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
      node.append(...children);
      return node;
    };
    const svg = (tag, attributes = {}, text) => {
      const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
      for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
      if (text !== undefined) node.textContent = text;
      return node;
    };
    const groupBy = (list, key) => {
      const groups = new Map();
      for (const item of list) {
        if (!groups.has(key(item))) groups.set(key(item), []);
        groups.get(key(item)).push(item);
      }
      return groups;
    };

    // Names may break after their dots.
    const breakable = name => name.split(".").flatMap((part, index) => index === 0 ? [part] : [".", el("wbr"), part]);

    const percent = x => x === null ? "–" : (x > 0.9995 && x < 1 ? ">99.9" : (100 * x).toFixed(1)) + " %";
    const number = x => x === null ? "–" : x === 0 ? "0"
      : Math.abs(x) < 1e-3 || Math.abs(x) >= 1e6 ? x.toExponential(2) : x.toPrecision(4);
    const bytes = n => {
      for (const unit of ["B", "kB", "MB", "GB"]) {
        if (n < 999.5) return (unit === "B" ? n : n.toPrecision(3)) + " " + unit;
        n /= 1000;
      }
      return n.toPrecision(3) + " TB";
    };
    const energyAt = (m, rank) => rank < 1 ? 0 : m.energy[Math.min(rank, m.energy.length) - 1];
    const weigh = (list, rank) => {
      let sum = 0, total = 0;
      for (const m of list) { sum += m.norm * m.norm * energyAt(m, rank); total += m.norm * m.norm; }
      return total > 0 ? sum / total : 0;
    };
    const costAt = rank => matrices.reduce((sum, m) => sum + Math.min(rank, m.side) * m.perRank, 0);

    const longest = Math.max(1, ...matrices.map(m => m.energy.length));
    let rank = Math.min(16, longest);

    // The projections that change most get a colour of their own; the last colour is everybody else's.
    const projections = [...groupBy(matrices, m => m.layer === null ? "outside the layers" : m.projection)];
    const weight = list => list.reduce((sum, m) => sum + m.norm * m.norm, 0);
    const ranked = [...projections].filter(p => p[0] !== "outside the layers")
      .sort((a, b) => weight(b[1]) - weight(a[1]));
    const colours = new Map(ranked.slice(0, 7).map((p, index) => [p[0], index]));
    const group = m => {
      const name = m.layer === null ? "outside the layers" : m.projection;
      return colours.has(name) ? name : ranked.length > 7 || m.layer !== null ? "others" : name;
    };
    const colour = name => "c" + (colours.has(name) ? colours.get(name) : 7);

    const tip = $("tip");
    const showTip = (event, title, ...lines) => {
      tip.replaceChildren(el("b", {}, title), ...lines.map(line => el("div", {}, line)));
      tip.style.display = "block";
      const box = tip.getBoundingClientRect();
      const left = Math.min(event.clientX + 14, innerWidth - box.width - 8);
      const below = event.clientY + 16;
      tip.style.left = Math.max(8, left) + "px";
      tip.style.top = (below + box.height > innerHeight ? event.clientY - box.height - 12 : below) + "px";
    };
    const hideTip = () => { tip.style.display = "none"; };

    let emphasised = null;
    const drawChart = () => {
      const holder = $("chart");
      const width = holder.clientWidth, height = width < 560 ? 260 : 380;
      const left = 44, right = 10, top = 8, bottom = 40;
      const x = r => left + (longest === 1 ? 0.5 : Math.log(r) / Math.log(longest)) * (width - left - right);
      const y = e => top + (1 - e) * (height - top - bottom);
      const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img",
        "aria-label": "Energy captured by rank, a curve for each matrix" });
      for (let step = 0; step <= 4; step++) {
        const e = step / 4;
        picture.append(svg("line", { class: "grid", x1: left, x2: width - right, y1: y(e), y2: y(e) }),
          svg("text", { x: left - 8, y: y(e) + 4, "text-anchor": "end" }, 100 * e + " %"));
      }
      const ticks = [];
      for (let r = 1; r <= longest; r *= 2) ticks.push(r);
      for (const r of ticks) {
        picture.append(svg("line", { class: "grid", x1: x(r), x2: x(r), y1: top, y2: height - bottom }),
          svg("text", { x: x(r), y: height - bottom + 18, "text-anchor": "middle" }, String(r)));
      }
      picture.append(svg("text", { x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle" },
        "rank (logarithmic)"));
      const curves = matrices.map(m => {
        const points = m.energy.map((e, index) => `${x(index + 1).toFixed(1)},${y(e).toFixed(1)}`);
        // A matrix with fewer ranks keeps what it has.
        points.push(`${x(longest).toFixed(1)},${y(m.energy[m.energy.length - 1] ?? 0).toFixed(1)}`);
        const strong = emphasised === group(m) ? " strong" : "";
        return svg("polyline", { class: "curve " + colour(group(m)) + strong, points: points.join(" ") });
      });
      picture.append(...curves);
      picture.classList.toggle("dimmed", emphasised !== null);
      picture.append(svg("line", { class: "mark", x1: x(rank), x2: x(rank), y1: top, y2: height - bottom }));
      const dot = svg("circle", { id: "dot", r: 5, visibility: "hidden" });
      picture.append(dot);
      const leave = () => {
        curves.forEach(curve => curve.classList.remove("hover"));
        dot.setAttribute("visibility", "hidden");
        hideTip();
      };
      picture.addEventListener("pointerleave", leave);
      picture.addEventListener("pointermove", event => {
        const box = picture.getBoundingClientRect();
        const share = (event.clientX - box.left - left) / (width - left - right);
        const r = Math.round(Math.max(1, Math.min(longest, longest ** share)));
        let best = -1, distance = 28;
        matrices.forEach((m, index) => {
          if (emphasised !== null && group(m) !== emphasised) return;
          const gap = Math.abs(y(energyAt(m, r)) - (event.clientY - box.top));
          if (gap < distance) { distance = gap; best = index; }
        });
        leave();
        if (best < 0) return;
        const m = matrices[best];
        curves[best].classList.add("hover");
        dot.setAttribute("class", colour(group(m)));
        dot.setAttribute("cx", x(r));
        dot.setAttribute("cy", y(energyAt(m, r)));
        dot.setAttribute("visibility", "visible");
        showTip(event, m.name, `rank ${r}: ${percent(energyAt(m, r))}, ${bytes(Math.min(r, m.side) * m.perRank)}`,
          r <= m.values.length ? `singular value ${number(m.values[r - 1])}` : "no further singular value");
      });
      holder.replaceChildren(picture);
    };

    const drawLegend = () => {
      const names = [...new Set(matrices.map(group))]
        .sort((a, b) => (colours.get(a) ?? 9) - (colours.get(b) ?? 9));
      $("legend").replaceChildren(...names.map(name => {
        const button = el("button", { type: "button", "aria-pressed": String(emphasised === name), title: name },
          el("i", { class: colour(name) }), el("span", {}, name));
        button.addEventListener("click", () => {
          emphasised = emphasised === name ? null : name;
          drawLegend();
          drawChart();
        });
        return button;
      }));
    };

    // Cells are made once; the slider only gives them other values.
    const cells = [];
    const cell = (list, title) => {
      const node = el("td", { class: "cell" });
      const update = () => {
        const share = weigh(list, rank);
        node.style.setProperty("--v", share);
        node.classList.toggle("middle", share > 0.45);
        node.classList.toggle("deep", share > 0.6);
        // A hundred is said of what is captured whole.
        node.textContent = Math.min(share < 0.9995 ? 99 : 100, Math.round(100 * share));
      };
      node.addEventListener("pointermove", event => showTip(event, title,
        `rank ${rank}: ${percent(weigh(list, rank))}`,
        list.length > 1 ? `${list.length} matrices` : `${list[0].shape} ${list[0].dtype}`));
      node.addEventListener("pointerleave", hideTip);
      cells.push(update);
      return node;
    };
    const natural = new Intl.Collator("en", { numeric: true });
    const drawHeat = () => {
      const inside = matrices.filter(m => m.layer !== null);
      // One map for each sequence of layers: an encoder and a decoder count for themselves.
      const stem = layer => layer.slice(0, layer.lastIndexOf(".") + 1);
      let widest = 0;
      for (const [start, members] of groupBy(inside, m => stem(m.layer))) {
        const layers = [...new Set(members.map(m => m.layer))].sort(natural.compare);
        widest = Math.max(widest, layers.length);
        const table = el("table", { class: "heat" });
        table.append(el("thead", {}, el("tr", {}, el("th", { title: start }, ...breakable(start)),
          ...layers.map(l => el("th", { title: l, scope: "col" }, l.slice(start.length))))));
        const rows = el("tbody");
        for (const [projection, list] of groupBy(members, m => m.projection)) {
          const byLayer = groupBy(list, m => m.layer);
          rows.append(el("tr", {}, el("th", { title: projection, scope: "row" }, ...breakable(projection)),
            ...layers.map(l => byLayer.has(l)
              ? cell(byLayer.get(l), byLayer.get(l).length > 1 ? l + "." + projection : byLayer.get(l)[0].name)
              : el("td"))));
        }
        table.append(rows);
        $("layers").append(el("div", { class: "scroll" }, table));
      }
      $("heat").classList.toggle("roomy", widest <= 14);
      const outside = matrices.filter(m => m.layer === null);
      if (outside.length > 0) {
        $("outside").append(el("table", { class: "heat" }, el("tbody", {}, ...outside.map(m =>
          el("tr", {}, el("th", { title: m.name, scope: "row" }, ...breakable(m.projection)), cell([m], m.name))))));
      }
    };

    const drawRules = () => {
      const range = p => p.least === null ? "–" : p.least === p.largest ? String(p.least) : `${p.least}–${p.largest}`;
      const count = data.policies.some(p => p.undecided > 0) ? 5 : 4;
      const row = (tag, texts) => el("tr", {}, ...texts.slice(0, count).map(text => el(tag, {}, String(text))));
      const table = el("table", { class: "list" },
        el("thead", {}, row("th", ["rule", "ranks", "size", "captured", "undecided"])));
      table.append(el("tbody", {}, ...data.policies.map(p => row("td", [p.option, range(p),
        p.least === null ? "–" : bytes(p.bytes), percent(p.captured), p.undecided || ""]))));
      $("rules").append(table);
    };

    const ruleColumn = (option, title) => {
      const index = data.policies.findIndex(p => p.option === option);
      return { title, value: m => m.ranks[index], text: m => m.ranks[index] ?? `>${m.values.length}`,
        hint: "rank that " + option + " chooses" };
    };
    const columns = [
      { title: "tensor", value: m => m.name, text: m => m.name },
      { title: "shape", value: m => m.side, text: m => m.shape, hint: "sorted by the shorter side" },
      { title: "delta", value: m => m.norm, text: m => number(m.norm), hint: "Frobenius norm" },
      { title: "stable", value: m => m.stable, text: m => m.stable.toFixed(1), hint: "stable rank" },
      { title: "effective", value: m => m.effective, text: m => m.effective === null ? "–" : m.effective.toFixed(1),
        hint: "effective rank, where all singular values are known" },
      ruleColumn("--energy 0.5", "50 %"), ruleColumn("--energy 0.9", "90 %"),
      ruleColumn("--energy 0.95", "95 %"), ruleColumn("--energy 0.99", "99 %"),
      { title: "captured", value: m => energyAt(m, rank), text: m => percent(energyAt(m, rank)),
        hint: "at the rank chosen above" },
      { title: "size", value: m => Math.min(rank, m.side) * m.perRank,
        text: m => bytes(Math.min(rank, m.side) * m.perRank), hint: "factors at the rank chosen above" },
    ];
    let sorting = { column: 2, up: false };
    const drawTable = () => {
      const wanted = $("filter").value.toLowerCase();
      const key = columns[sorting.column].value;
      const shown = matrices.filter(m => m.name.toLowerCase().includes(wanted)).sort((a, b) => {
        const [p, q] = [key(a), key(b)];
        if (p === null || q === null) return (p === null) - (q === null);
        const order = typeof p === "string" ? natural.compare(p, q) : p - q;
        return sorting.up ? order : -order;
      });
      const head = el("tr", {}, ...columns.map((column, index) => {
        const button = el("button", { type: "button", title: column.hint ?? "" }, column.title);
        button.addEventListener("click", () => {
          sorting = { column: index, up: sorting.column === index ? !sorting.up : index === 0 };
          drawTable();
        });
        const th = el("th", { scope: "col" }, button);
        if (sorting.column === index) th.setAttribute("aria-sort", sorting.up ? "ascending" : "descending");
        return th;
      }));
      const rows = shown.map(m => el("tr", {}, ...columns.map((column, index) =>
        index === 0 ? el("td", { title: m.name }, ...breakable(m.name)) : el("td", {}, String(column.text(m))))));
      $("matrices").replaceChildren(el("table", { class: "list" }, el("thead", {}, head), el("tbody", {}, ...rows)));
    };

    const update = () => {
      $("rank-shown").textContent = rank;
      $("captured").textContent = percent(weigh(matrices, rank));
      $("cost").textContent = bytes(costAt(rank));
      cells.forEach(refresh => refresh());
      drawChart();
      drawTable();
    };
    $("models").textContent = `${data.tuned} against ${data.base}`;
    $("summary").textContent = `${data.tensors} tensors, ${data.changed} differ, ${matrices.length} of them matrices; `
      + `norm of the difference ${number(data.deltaNorm)}`
      + (data.fullBytes > 0 ? `; ${bytes(data.fullBytes)} of other changed tensors, which extract keeps in full` : "")
      + `. lora-surgery ${data.version}`;
    $("rank").max = longest;
    $("rank").value = rank;
    $("rank").addEventListener("input", event => { rank = Number(event.target.value); update(); });
    $("filter").addEventListener("input", drawTable);
    addEventListener("resize", drawChart);
    drawHeat();
    drawRules();
    drawLegend();
    update();
    """#
}
