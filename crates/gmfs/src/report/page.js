(() => {
  "use strict";
  const id = (name) => document.getElementById(name);

  // The cell under the pointer, the finger or the arrow keys says what it holds.
  const map = id("map");
  if (map) {
    const cells = [...map.children];
    let at = -1;
    const show = (next) => {
      if (next < 0 || next >= cells.length) return;
      if (at >= 0) cells[at].classList.remove("on");
      at = next;
      cells[at].classList.add("on");
      id("cell").textContent = cells[at].title;
    };
    const pointed = (event) => show(cells.indexOf(event.target));
    map.addEventListener("pointerover", pointed);
    map.addEventListener("click", pointed);
    map.addEventListener("keydown", (event) => {
      const first = cells[0].offsetTop;
      const columns = cells.findIndex((cell) => cell.offsetTop > first);
      const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns };
      if (!(event.key in steps)) return;
      event.preventDefault();
      show(at < 0 ? 0 : at + steps[event.key]);
    });
  }

  // The files whose paths have all words that are looked for. The words are in the address too: #q=WORDS.
  const query = id("q");
  if (query) {
    id("search").hidden = false;
    const rows = [...document.querySelectorAll("#files tbody tr")].map((row) => [row, row.cells[0].textContent.toLowerCase()]);
    const filter = () => {
      const words = query.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const [row, text] of rows) {
        row.hidden = !words.every((word) => text.includes(word));
        if (!row.hidden) shown += 1;
      }
      id("shown").textContent = `${shown} of ${rows.length} shown`;
    };
    const read = () => {
      const hash = location.hash;
      if (!hash.startsWith("#q=")) return;
      try {
        query.value = decodeURIComponent(hash.slice(3));
      } catch {
        query.value = hash.slice(3);
      }
    };
    query.addEventListener("input", () => {
      history.replaceState(null, "", query.value ? `#q=${encodeURIComponent(query.value)}` : "#files");
      filter();
    });
    addEventListener("hashchange", () => {
      read();
      filter();
    });
    read();
    filter();
  }
})();
