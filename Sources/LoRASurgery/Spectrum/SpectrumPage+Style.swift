extension SpectrumPage {
  /// Colours are variables, so that the browser's scheme changes them without the script.
  static let style = #"""
    :root {
      --page: #f7f8fa; --card: #ffffff; --ink: #1b1f27; --soft: #59616e; --line: #e1e5eb;
      --grid: #e9ecf1; --accent: #2563c9; --low: #eef3fb; --high: #12408f; --on-high: #ffffff;
      --c0: #2563c9; --c1: #d4500c; --c2: #23803a; --c3: #9334b0; --c4: #0a7a8c; --c5: #c2255c;
      --c6: #8a6700; --c7: #6b7280;
    }
    @media (prefers-color-scheme: dark) {
      :root {
        --page: #12151a; --card: #1a1e25; --ink: #e7eaef; --soft: #9aa4b2; --line: #2c323c;
        --grid: #262c35; --accent: #78aaff; --low: #222a36; --high: #8fc1ff; --on-high: #0d1726;
        --c0: #78aaff; --c1: #ff9a5c; --c2: #6fd487; --c3: #d58af0; --c4: #45c8da; --c5: #ff8fae;
        --c6: #e8c04a; --c7: #97a0ad;
      }
    }
    * { box-sizing: border-box; }
    body {
      margin: 0; background: var(--page); color: var(--ink);
      font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
      font-variant-numeric: tabular-nums;
    }
    main { max-width: 1240px; margin: 0 auto; padding: 28px 24px 56px; }
    h1 { font-size: 26px; line-height: 1.2; margin: 0; letter-spacing: -0.01em; }
    h2 { font-size: 17px; margin: 0; }
    p { margin: 4px 0 0; color: var(--soft); overflow-wrap: anywhere; }
    section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
    section { padding: 18px 20px; margin-top: 18px; min-width: 0; }
    #control {
      position: sticky; top: 0; z-index: 5; display: flex; flex-wrap: wrap; align-items: center;
      gap: 10px 28px; padding: 12px 20px; box-shadow: 0 4px 14px rgb(0 0 0 / 0.06);
    }
    #control label { display: flex; flex: 1 1 260px; align-items: center; gap: 12px; }
    #control input { flex: 1; min-width: 90px; accent-color: var(--accent); margin: 0; }
    #control output { font-weight: 650; }
    #rank-shown { min-width: 3ch; text-align: right; }
    .fact { color: var(--soft); white-space: nowrap; }
    .fact output { color: var(--ink); }
    #chart { position: relative; margin-top: 12px; touch-action: pan-y; }
    svg { display: block; width: 100%; overflow: visible; }
    svg text { fill: var(--soft); font-size: 12px; }
    .grid { stroke: var(--grid); }
    .mark { stroke: var(--accent); stroke-dasharray: 4 4; }
    .curve { fill: none; stroke-width: 1.6; stroke-opacity: 0.6; stroke-linejoin: round; }
    .dimmed .curve { stroke-opacity: 0.1; }
    .dimmed .curve.strong { stroke-opacity: 0.95; stroke-width: 2.2; }
    .curve.hover, .dimmed .curve.hover { stroke-opacity: 1; stroke-width: 3.2; }
    .c0 { stroke: var(--c0); background: var(--c0); } .c1 { stroke: var(--c1); background: var(--c1); }
    .c2 { stroke: var(--c2); background: var(--c2); } .c3 { stroke: var(--c3); background: var(--c3); }
    .c4 { stroke: var(--c4); background: var(--c4); } .c5 { stroke: var(--c5); background: var(--c5); }
    .c6 { stroke: var(--c6); background: var(--c6); } .c7 { stroke: var(--c7); background: var(--c7); }
    #dot { fill: var(--card); stroke-width: 2.5; background: none; }
    #legend { display: flex; flex-wrap: wrap; gap: 6px; margin-top: 12px; }
    #legend button {
      display: flex; align-items: center; gap: 7px; max-width: 100%; font: inherit; font-size: 13px; padding: 3px 10px;
      color: inherit; background: none; border: 1px solid var(--line); border-radius: 99px; cursor: pointer;
    }
    #legend button[aria-pressed="true"] { border-color: var(--accent); background: var(--low); }
    #legend i { flex: none; width: 12px; height: 3px; border-radius: 2px; }
    #legend span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
    #tip {
      position: fixed; z-index: 9; display: none; max-width: min(380px, calc(100vw - 16px)); padding: 8px 11px;
      pointer-events: none; color: var(--ink); background: var(--card); border: 1px solid var(--line);
      border-radius: 7px; box-shadow: 0 6px 22px rgb(0 0 0 / 0.2); font-size: 13px; overflow-wrap: anywhere;
    }
    #tip b { display: block; font-weight: 600; }
    .scroll { overflow-x: auto; margin-top: 12px; }
    table { border-collapse: collapse; }
    .heat { border-collapse: separate; border-spacing: 2px; font-size: 12px; }
    .heat th { font-weight: 400; color: var(--soft); padding: 0 4px; }
    .heat tbody th {
      position: sticky; left: 0; z-index: 1; min-width: 190px; max-width: 260px; padding-right: 12px; background: var(--card);
      text-align: left; overflow: hidden; text-overflow: ellipsis; white-space: nowrap;
    }
    .heat td { min-width: 30px; height: 30px; padding: 0 3px; text-align: center; border-radius: 4px; }
    .heat td.cell {
      background: color-mix(in oklab, var(--high) calc(var(--v) * 100%), var(--low)); cursor: default;
    }
    .heat td.cell.deep { color: var(--on-high); }
    @media (prefers-color-scheme: dark) { .heat td.cell.middle { color: var(--on-high); } }
    .heat thead th:first-child { position: sticky; left: 0; text-align: left; background: var(--card); }
    .heat td.cell:hover { outline: 2px solid var(--ink); }
    .roomy .heat td { min-width: 64px; height: 36px; font-size: 13px; }
    .scale { display: flex; align-items: center; gap: 8px; margin-top: 12px; color: var(--soft); font-size: 12px; }
    .scale i { width: 160px; height: 9px; border-radius: 5px;
      background: linear-gradient(90deg in oklab, var(--low), var(--high)); }
    .list { width: 100%; font-size: 13.5px; }
    #rules .list { max-width: 680px; }
    .list th, .list td {
      padding: 5px 10px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line);
    }
    .list thead th { padding-left: 4px; padding-right: 4px; font-weight: 600; color: var(--soft); }
    .list th:first-child, .list td:first-child {
      position: sticky; left: 0; text-align: left; background: var(--card); max-width: 380px;
      overflow: hidden; text-overflow: ellipsis; padding-left: 0;
    }
    .list tbody tr:hover td { background: var(--low); }
    .list thead button { font: inherit; color: inherit; background: none; border: 0; padding: 2px 6px; cursor: pointer; }
    .list thead th:first-child button { padding-left: 0; }
    .list th[aria-sort] button { color: var(--accent); }
    .list th[aria-sort="ascending"] button::after { content: " ↑"; }
    .list th[aria-sort="descending"] button::after { content: " ↓"; }
    .head { display: flex; flex-wrap: wrap; gap: 8px 20px; align-items: baseline; justify-content: space-between; }
    #filter {
      font: inherit; font-size: 14px; color: inherit; background: var(--page); border: 1px solid var(--line);
      border-radius: 6px; padding: 4px 10px; width: min(100%, 280px);
    }
    :focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
    @media (max-width: 620px) {
      main { padding: 18px 12px 40px; }
      section { padding: 14px; margin-top: 12px; }
      #control { padding: 10px 14px; gap: 4px 18px; font-size: 14px; }
      .list td, .list th { padding-left: 7px; padding-right: 7px; }
      #matrices th:first-child, #matrices td:first-child {
        min-width: 40vw; white-space: normal; overflow-wrap: anywhere;
      }
      .heat tbody th, .roomy .heat tbody th {
        min-width: 34vw; max-width: 38vw; white-space: normal; overflow-wrap: anywhere; line-height: 1.25;
      }
      .roomy .heat td { min-width: 30px; height: 32px; font-size: 12px; }
    }
    """#
}
